"""Building blocks against their formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganseg_jax import geometry
from ganseg_jax.models import blocks
from ganseg_jax.models.blocks import StyleMap
from ganseg_jax.models.initialise import init_variables


def random(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def leaky(x):
    return np.where(x > 0, x, 0.2 * x)


def conv3x3(x, layer):
    """3x3 convolution in numpy, zero padding."""
    height, width = x.shape[1:3]
    x = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    out = sum(
        x[:, i : i + height, j : j + width] @ np.asarray(layer["kernel"])[i, j]
        for i in range(3)
        for j in range(3)
    )
    return out + layer["bias"]


def normalized(x):
    axes = tuple(range(x.ndim - 1))
    return (x - x.mean(axes)) / np.sqrt(x.var(axes) + 1e-5)


def with_random_biases(variables):
    """Biases start at zero, where a test would not see them."""
    return jax.tree_util.tree_map_with_path(
        lambda path, x: x + (0.3 * random(*x.shape) if path[-1].key == "bias" else 0), variables
    )


def style_map(parts, channels, size=4, batch=2):
    return StyleMap(random(batch, size, size, parts), random(batch, parts, channels, seed=1))


def test_batch_norm_in_training_by_hand():
    norm, x = blocks.BatchNorm(), 3 * random(2, 3, 3, 2) + 5
    params = {"scale": np.float32([2, 3]), "bias": np.float32([-1, 1])}
    stats = {"mean": np.float32([1, 2]), "var": np.float32([4, 5])}
    out, changed = norm.apply(
        {"params": params, "batch_stats": stats}, x, train=True, mutable=["batch_stats"]
    )
    expected = normalized(x) * params["scale"] + params["bias"]
    np.testing.assert_allclose(out, expected, atol=1e-4)
    mean, unbiased = x.mean((0, 1, 2)), x.var((0, 1, 2), ddof=1)
    changed = changed["batch_stats"]
    np.testing.assert_allclose(changed["mean"], 0.9 * stats["mean"] + 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(changed["var"], 0.9 * stats["var"] + 0.1 * unbiased, rtol=1e-4)


def test_batch_norm_in_evaluation_by_hand():
    norm, x = blocks.BatchNorm(use_affine=False), random(2, 3, 3, 2)
    stats = {"mean": np.float32([1, 2]), "var": np.float32([4, 5])}
    out = norm.apply({"batch_stats": stats}, x, train=False)
    np.testing.assert_allclose(out, (x - stats["mean"]) / np.sqrt(stats["var"] + 1e-5), atol=1e-5)


def test_batch_norm_statistics_are_float32_for_bfloat16():
    norm, x = (
        blocks.BatchNorm(use_affine=False, dtype=jnp.bfloat16),
        jnp.full((2, 64, 64, 1), 301.0),
    )
    stats = {"mean": np.zeros(1, np.float32), "var": np.ones(1, np.float32)}
    out, changed = norm.apply({"batch_stats": stats}, x, train=True, mutable=["batch_stats"])
    assert out.dtype == jnp.bfloat16
    np.testing.assert_allclose(changed["batch_stats"]["mean"], [30.1], rtol=1e-6)


@pytest.mark.parametrize(("parts", "channels"), [(2, 8), (3, 11)], ids=["rank-K", "map"])
@pytest.mark.parametrize("form", ["here", "on TPUs"])
def test_style_conv_is_the_convolution_of_the_map(parts, channels, form, request):
    if form == "on TPUs":
        request.getfixturevalue("tpu_forms")
    style = style_map(parts, channels)
    layer = blocks.StyleConv(5, 2)
    variables = with_random_biases(init_variables(layer, 0, style))
    expected = features_by_hand(style, variables["params"], 2)
    for found, hidden in zip(layer.apply(variables, style), expected, strict=True):
        np.testing.assert_allclose(found, hidden, atol=1e-4)


def features_by_hand(style, layer, count):
    """The style's hidden features, one set for each modulation."""
    if isinstance(style, StyleMap):
        x = conv3x3(np.einsum("bhwk,bke->bhwe", style.weights, style.embeddings), layer)
    else:
        x = style @ layer["kernel"] + layer["bias"]
    return np.split(leaky(x), count, -1)


def modulated(x, hidden, p):
    """(1 + gamma) norm(x) + beta, of a map (SPADE) or of one vector per image (AdaIN)."""
    layer = p["modulation"]
    if hidden.ndim == 4:
        modulation = conv3x3(hidden, layer)
    else:
        modulation = np.asarray(hidden @ layer["kernel"] + layer["bias"])[:, None, None]
    gamma, beta = np.split(modulation, 2, -1)
    return (1 + gamma) * normalized(x) + beta


STYLES = {"SPADE": style_map(1, 8), "AdaIN": random(2, 5)}


@pytest.mark.parametrize("style", STYLES.values(), ids=STYLES.keys())
@pytest.mark.parametrize("features", [3, 5, 2])
def test_residual_block_by_hand(features, style):
    x, layer = random(2, 4, 4, 3), blocks.ModulatedResBlock(features, 6)
    variables = with_random_biases(init_variables(layer, 0, x, style, train=True))
    p = variables["params"]
    hidden = features_by_hand(style, p["style"]["layer"], 2 if features == 3 else 3)
    h = conv3x3(leaky(modulated(x, hidden[0], p["modulate_0"])), p["conv_0"])
    assert h.shape[-1] == min(3, features)
    h = conv3x3(leaky(modulated(h, hidden[1], p["modulate_1"])), p["conv_1"])
    shortcut = x
    if features == 3:
        assert "conv_shortcut" not in p
    else:
        shortcut = conv3x3(modulated(x, hidden[2], p["modulate_shortcut"]), p["conv_shortcut"])
    out, _ = layer.apply(variables, x, style, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(out, shortcut + h, atol=5e-3)


def test_background_block_by_hand():
    x, style = random(2, 4, 4, 3), STYLES["AdaIN"]
    layer = blocks.AdaINConvBlock(4, 6)
    variables = with_random_biases(init_variables(layer, 0, x, style, train=True))
    p = variables["params"]
    (hidden,) = features_by_hand(style, p["style"]["layer"], 1)
    expected = conv3x3(leaky(modulated(x, hidden, p["modulate"])), p["conv"])
    out, _ = layer.apply(variables, x, style, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(out, expected, atol=1e-3)


def test_mlp_by_hand():
    x, layer = random(2, 3), blocks.MLP(features=2, hidden=4, layers=2)
    p = with_random_biases(init_variables(layer, 0, x))["params"]
    assert p.keys() == {"hidden_0", "hidden_1", "out"}
    h = x
    for name in ("hidden_0", "hidden_1"):
        h = leaky(h @ p[name]["kernel"] + p[name]["bias"])
    expected = h @ p["out"]["kernel"] + p["out"]["bias"]
    np.testing.assert_allclose(layer.apply({"params": p}, x), expected, atol=1e-5)


@pytest.mark.parametrize("crop", [1, 2, 4])
@pytest.mark.parametrize("kind", ["residual", "with_shortcut", "background"])
def test_pixels_left_out_change_nothing_else(kind, crop):
    make = blocks.AdaINConvBlock if kind == "background" else blocks.ModulatedResBlock
    features = 3 if kind == "residual" else 4
    x = random(2, 10, 10, 3)
    style = StyleMap(random(2, 10, 10, 2), random(2, 2, 9))
    style = random(2, 9) if kind == "background" else style
    whole, cropped = make(features, 8), make(features, 8, crop)
    variables = with_random_biases(init_variables(whole, 1, x, style, train=True))

    def loss(block, left_out, variables, x):
        y, statistics = block.apply(variables, x, style, train=True, mutable=["batch_stats"])
        y = geometry.crop(y, left_out)
        return jnp.sum(jnp.sin(y)), (y, statistics)

    results = [
        jax.value_and_grad(loss, (2, 3), has_aux=True)(block, left_out, variables, x)
        for block, left_out in ((whole, crop), (cropped, 0))
    ]
    assert results[1][0][1][0].shape == (2, 10 - 2 * crop, 10 - 2 * crop, features)
    # Values, running statistics, and gradients with respect to all parameters and the input.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), results[0], results[1]
    )

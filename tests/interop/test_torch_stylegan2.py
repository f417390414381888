"""Conversion of StyleGAN2 checkpoints in PyTorch naming, and parity with the published model."""

import json
import pathlib
import zlib

import jax
import numpy as np
import pytest

from ganseg_jax.errors import UserError
from ganseg_jax.interop.torch_stylegan2 import load_generator
from ganseg_jax.models.stylegan2 import channels_at

GOLDENS = pathlib.Path(__file__).parent.parent / "parity" / "goldens"


def filled(shapes):
    """The golden file's weights: a function of each entry's name."""
    state = {}
    for name, shape in shapes.items():
        x = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
        if name.endswith("modulation.bias"):
            x = 1 + 0.1 * x
        elif name.startswith("style.") and name.endswith("weight"):
            x = x / 0.01
        elif name.endswith("noise.weight") or name.endswith("bias"):
            x = 0.1 * x
        elif name.endswith("kernel"):
            x = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 16
        state[name] = x.astype(np.float32)
    return state


@pytest.fixture(scope="module")
def golden():
    return dict(np.load(GOLDENS / "stylegan2_32.npz"))


@pytest.fixture(scope="module")
def state_dict():
    return filled(json.loads((GOLDENS / "stylegan2_32_shapes.json").read_text()))


def relative(actual, expected):
    return np.abs(actual - expected).max() / np.abs(expected).max()


def test_parity_with_the_published_model(golden, state_dict):
    module, variables = load_generator({"g_ema": state_dict, "latent_avg": golden["latent_avg"]})

    @jax.jit
    def run(variables, z, truncation):
        w = module.apply(variables, z, method="map_latents")
        image, state = module.apply(
            variables, z, capture_intermediates=True, mutable=["intermediates"]
        )
        return w, image, state["intermediates"], module.apply(variables, z, truncation=truncation)

    w, image, activations, truncated = run(variables, golden["z"], 0.7)
    assert relative(w, golden["w"]) < 1e-4
    assert relative(np.transpose(image, (0, 3, 1, 2)), golden["image"]) < 1e-4
    truncated = np.transpose(truncated, (0, 3, 1, 2))
    assert relative(truncated, golden["image_truncation_0_7"]) < 1e-4
    names = [name for name in golden if name.startswith("activation/")]
    assert len(names) == module.num_convs
    for name in names:
        layer = name.removeprefix("activation/").replace(".", "_")
        actual = np.transpose(activations[layer]["__call__"][0], (0, 3, 1, 2))[:, ::8]
        if layer.startswith("convs"):
            actual = actual[:, :, ::2, ::2]
        assert relative(actual, golden[name]) < 1e-4, name


def shapes_of(size, multiplier, style_dim=4, mapping_layers=2):
    """Shapes of a checkpoint of any size, with the widths of the published architecture."""
    shapes = {"input.input": (1, channels_at(4, multiplier), 4, 4)}
    for i in range(1, mapping_layers + 1):
        shapes[f"style.{i}.weight"] = (style_dim, style_dim)
        shapes[f"style.{i}.bias"] = (style_dim,)

    def add(name, inputs, outputs, kernel):
        shapes[f"{name}.conv.weight"] = (1, outputs, inputs, kernel, kernel)
        shapes[f"{name}.conv.modulation.weight"] = (inputs, style_dim)
        shapes[f"{name}.conv.modulation.bias"] = (inputs,)
        if kernel == 3:
            shapes[f"{name}.noise.weight"] = (1,)
            shapes[f"{name}.activate.bias"] = (outputs,)
        else:
            shapes[f"{name}.bias"] = (1, 3, 1, 1)

    last = channels_at(4, multiplier)
    add("conv1", last, last, 3)
    add("to_rgb1", last, 3, 1)
    side, level = 8, 0
    while side <= size:
        channels = channels_at(side, multiplier)
        add(f"convs.{2 * level}", last, channels, 3)
        add(f"convs.{2 * level + 1}", channels, channels, 3)
        add(f"to_rgbs.{level}", channels, 3, 1)
        shapes[f"convs.{2 * level}.conv.blur.kernel"] = (4, 4)
        shapes[f"to_rgbs.{level}.upsample.kernel"] = (4, 4)
        last, side, level = channels, 2 * side, level + 1
    for i in range(2 * level + 1):
        noise_side = 4 * 2 ** ((i + 1) // 2)
        shapes[f"noises.noise_{i}"] = (1, 1, noise_side, noise_side)
    return shapes


def zero_checkpoint(shapes):
    """A checkpoint that takes no memory: zeros broadcast to their shapes, and the real filters."""
    kernel = np.outer([1, 3, 3, 1], [1, 3, 3, 1]).astype(np.float32) / 16
    return {
        name: kernel if name.endswith("kernel") else np.broadcast_to(np.float32(0), shape)
        for name, shape in shapes.items()
    }


@pytest.mark.parametrize("size,multiplier", [(32, 2), (64, 1), (256, 2), (1024, 1), (1024, 2)])
def test_size_multiplier_and_depth_are_read_off_the_checkpoint(size, multiplier):
    module, variables = load_generator(zero_checkpoint(shapes_of(size, multiplier)))
    assert (module.size, module.channel_multiplier) == (size, multiplier)
    assert (module.style_dim, module.mapping_layers) == (4, 2)
    keys = {"params": jax.random.key(0), "noise": jax.random.key(1)}
    expected = jax.eval_shape(module.init, keys, np.zeros((1, 4), np.float32))
    assert jax.tree.map(np.shape, variables) == jax.tree.map(lambda x: x.shape, dict(expected))


@pytest.fixture
def small():
    return zero_checkpoint(shapes_of(32, 2))


def test_mean_latent_beside_or_among_the_names(small):
    mean = np.arange(4, dtype=np.float32)
    _, beside = load_generator({"g_ema": small, "latent_avg": mean})
    _, among = load_generator({**small, "latent_avg": mean[None]})
    for variables in (beside, among):
        np.testing.assert_array_equal(variables["latent_statistics"]["w_mean"], mean)


@pytest.mark.parametrize(
    "change,message",
    [
        ({"convs.1.conv.modulation.bias": None}, r"lacks entry 'convs\.1\.conv\.modulation\.bias'"),
        (
            {"conv1.activate.bias": np.zeros(7)},
            r"'conv1\.activate\.bias' has shape \(7,\).*\(512,\)",
        ),
        ({"extra.weight": np.zeros(1)}, "no place for entry 'extra.weight'"),
        ({"style.1.weight": None, "style.2.weight": None}, r"no 'style\.\*' entries"),
        ({"convs.2.conv.blur.kernel": np.ones((4, 4))}, r"filter 'convs\.2\.conv\.blur\.kernel'"),
        ({"latent_avg": np.zeros(3)}, r"'latent_avg' has shape \(3,\).*\(4,\)"),
    ],
)
def test_what_does_not_fit_is_named(small, change, message):
    broken = {name: x for name, x in {**small, **change}.items() if x is not None}
    with pytest.raises(UserError, match=message):
        load_generator(broken)


def test_unknown_channel_multiplier_is_named():
    checkpoint = zero_checkpoint(shapes_of(64, 2))
    checkpoint["convs.7.conv.weight"] = np.zeros((1, 96, 96, 3, 3))
    with pytest.raises(
        UserError, match=r"'convs\.3\.conv\.weight' has 512 channels at 16 px.* 384"
    ):
        load_generator(checkpoint)


def test_checkpoint_without_stored_noise_has_none(small):
    without = {name: x for name, x in small.items() if not name.startswith("noises.")}
    module, variables = load_generator(without)
    assert variables["noise"]["noise_0"].shape == module.noise_shape(0)
    assert not np.any(variables["noise"]["noise_0"])

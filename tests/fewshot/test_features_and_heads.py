"""Features captured inside generators, and heads that never upsample them all."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganseg_jax.config import few_shot as schema
from ganseg_jax.fewshot import features as ft
from ganseg_jax.fewshot import heads, train
from ganseg_jax.geometry import resize_bilinear
from ganseg_jax.latents import sample_latents
from ganseg_jax.models.generator import Generator
from ganseg_jax.models.initialise import init_variables
from ganseg_jax.models.stylegan2 import StyleGAN2Generator


class TinyGenerator(nn.Module):
    """Any linen generator: two maps of different sizes, one of them in a submodule."""

    @nn.compact
    def __call__(self, latents, *, train):
        x = nn.Dense(4 * 4 * 3, name="start")(latents).reshape(-1, 4, 4, 3)
        x = nn.Conv(5, (3, 3), name="first")(x)
        shared = nn.Conv(5, (1, 1), name="shared")
        x = shared(shared(x))
        return nn.Conv(2, (3, 3), name="second")(
            jax.image.resize(x, (*x.shape[:1], 8, 8, 5), "nearest")
        )


@pytest.fixture(scope="module")
def tiny():
    module = TinyGenerator()
    latents = jax.random.normal(jax.random.key(0), (2, 6))
    return module, module.init(jax.random.key(1), latents, train=False), latents


def test_features_are_the_outputs_of_the_named_layers(tiny):
    module, variables, latents = tiny
    output, (first, second) = ft.generate(module, variables, latents, ["first", "second"])
    assert first.shape == (2, 4, 4, 5)
    np.testing.assert_array_equal(second, output)
    layers = [ft.Layer("first", margin=1), "second"]
    _, (cropped, averaged) = ft.generate(module, variables, latents, layers, max_size=4)
    np.testing.assert_array_equal(cropped, first[:, 1:3, 1:3])
    assert averaged.shape == (2, 4, 4, 2)
    np.testing.assert_allclose(averaged[1, 2, 3], second[1, 4:6, 6:8].mean((0, 1)), rtol=1e-5)


@pytest.mark.parametrize(
    "layer,message",
    [
        ("third", "no layer 'third'; its layers: first, second, shared, start"),
        ("shared", "called 2 times"),
        ("start", "no map"),
    ],
)
def test_layers_that_cannot_be_features_are_named(tiny, layer, message):
    module, variables, latents = tiny
    with pytest.raises(ValueError, match=message):
        ft.generate(module, variables, latents, [layer])


def test_maps_must_divide():
    with pytest.raises(ValueError, match="6x6 pixels cannot be averaged to 4x4"):
        ft.average_down(jnp.zeros((1, 6, 6, 1)), 4)


@pytest.fixture(scope="module")
def ganseg():
    module = Generator(
        num_parts=2,
        points_per_part=3,
        noise_dim=8,
        embedding_dim=4,
        stage_sizes=(8, 8, 16),
        stage_channels=(8, 6, 4),
        margin=2,
        spade_hidden=4,
    )
    latents = sample_latents(jax.random.key(0), 2, 8)
    return module, init_variables(module, 1, latents, train=False), latents


@pytest.mark.parametrize(
    "groups,channels",
    [
        ((), [4, 4, 3, 6, 4, 4, 6, 4, 4]),
        (("mask",), [4, 4, 3]),
        (("background", "foreground"), [6, 4, 4, 6, 4, 4]),
    ],
)
@pytest.mark.parametrize("margin", [0, 2, 5])
def test_named_layers_of_ganseg(ganseg, groups, channels, margin):
    """The maps fit the image, whatever the stages compute beyond it."""
    module, variables, latents = ganseg
    module = module.clone(margin=margin)
    layers = ft.named_layers(module, groups)
    output, maps = jax.jit(lambda v, z: ft.generate(module, v, z, layers))(variables, latents)
    sizes = [8, 8, 16] * (len(channels) // 3)
    assert [x.shape for x in maps] == [(2, s, s, c) for s, c in zip(sizes, channels, strict=True)]
    if groups == ("mask",):  # the last mask block's output is what the masks are the softmax of
        np.testing.assert_allclose(jax.nn.softmax(maps[-1]), output.masks, atol=1e-5)


def test_named_layers_of_stylegan2_have_5056_channels():
    module = StyleGAN2Generator(size=1024)
    layers = ft.named_layers(module)

    def run(key, w):
        variables = module.init(key, w)
        return ft.generate(module, variables, w, layers, max_size=512, method="synthesize")[1]

    maps = jax.eval_shape(run, jax.random.key(0), jnp.zeros((1, 512)))
    assert sum(x.shape[-1] for x in maps) == 5056
    assert maps[0].shape == (1, 8, 8, 512) and maps[-1].shape == (1, 512, 512, 32)


def test_unknown_groups_are_named(ganseg):
    with pytest.raises(ValueError, match="has the groups .*not 'image'"):
        ft.named_layers(ganseg[0], ["image"])
    with pytest.raises(ValueError, match="no groups"):
        ft.named_layers(StyleGAN2Generator(size=32), ["mask"])
    with pytest.raises(ValueError, match="no named layers for TinyGenerator"):
        ft.named_layers(TinyGenerator())


def random_maps(batch=2):
    shapes = [(4, 4, 7), (4, 4, 3), (8, 8, 5), (16, 16, 2), (16, 16, 4)]
    keys = jax.random.split(jax.random.key(0), len(shapes))
    return tuple(jax.random.normal(key, (batch, *s)) for key, s in zip(keys, shapes, strict=True))


def concatenated(maps):
    """The representation written out: all maps at the size of the largest."""
    return jnp.concatenate([resize_bilinear(x, *ft.largest(maps)) for x in maps], axis=-1)


def naive_cnn(params, maps):
    x = concatenated(maps) @ params["projection"]["weights"]["kernel"]
    x = x + params["projection"]["weights"]["bias"]
    dilations = [2, 4, 8, 1, 2, 4, 8, 1]
    for i, dilation in enumerate(dilations):
        layer = params[f"conv_{i}"]
        x = jax.lax.conv_general_dilated(
            jax.nn.leaky_relu(x, 0.01),
            layer["kernel"],
            (1, 1),
            "SAME",
            rhs_dilation=(dilation, dilation),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        x = x + layer["bias"]
    return x


def naive_mlp(params, maps):
    x = concatenated(maps) @ params["dense_0"]["kernel"] + params["dense_0"]["bias"]
    for i in (1, 2):
        x = jax.nn.relu(x) @ params[f"dense_{i}"]["kernel"] + params[f"dense_{i}"]["bias"]
    return x


@pytest.mark.parametrize(
    "head,naive", [(heads.CNNHead(3), naive_cnn), (heads.MLPHead(3, (20, 10), 4), naive_mlp)]
)
def test_heads_equal_the_written_out_concatenation(head, naive):
    maps = random_maps()
    params = head.init(jax.random.key(1), maps)["params"]
    params = jax.tree.map(lambda x: x + 0.01, params)  # biases other than zero
    weights = jax.random.normal(jax.random.key(2), (2, 16, 16, 3))

    @jax.jit
    def both(params):
        fast = jax.value_and_grad(lambda p: jnp.sum(head.apply({"params": p}, maps) * weights))
        slow = jax.value_and_grad(lambda p: jnp.sum(naive(p, maps) * weights))
        return head.apply({"params": params}, maps), naive(params, maps), fast(params), slow(params)

    logits, expected, fast, slow = both(params)
    np.testing.assert_allclose(logits, expected, atol=2e-5 * np.abs(expected).max())
    for a, b in zip(jax.tree.leaves(fast), jax.tree.leaves(slow), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4 * np.abs(b).max())


@pytest.mark.parametrize("kind", ["cnn", "mlp"])
def test_heads_take_in_the_statistics_of_their_features(kind):
    """A head of standardised features, with its statistics in the first layer, reads raw ones."""
    scales = (100.0, 1.0, 0.01, 1.0, 5.0)
    maps = tuple(s * x + 3 * s for s, x in zip(scales, random_maps(), strict=True))
    maps = (*maps[:-1], maps[-1].at[..., 0].set(7.0))  # one channel that never changes
    by = ft.statistics(maps)
    standardized = ft.standardize(maps, by)
    for x in standardized:
        deviations = np.std(x, (0, 1, 2))
        np.testing.assert_allclose(np.mean(x, (0, 1, 2)), 0, atol=1e-5)
        assert np.all((abs(deviations - 1) < 1e-4) | (deviations == 0))
    assert np.std(standardized[-1][..., 0]) == 0
    head = heads.make_head(kind, 3, (20, 10))
    params = jax.tree.map(lambda x: x + 0.01, head.init(jax.random.key(1), standardized)["params"])
    expected = head.apply({"params": params}, standardized)
    found = head.apply({"params": heads.on_raw_features(kind, params, by)}, maps)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_head_sizes_of_the_paper():
    maps = tuple(jnp.zeros((1, 8, 8, c)) for c in (30, 20))
    cnn, mlp = (
        jax.eval_shape(heads.make_head(kind, 4).init, jax.random.key(0), maps)["params"]
        for kind in ("cnn", "mlp")
    )
    assert cnn["projection"]["weights"]["kernel"].shape == (50, 128)
    widths = [128, 64, 64, 64, 64, 64, 64, 32, 4]
    for i in range(8):
        assert cnn[f"conv_{i}"]["kernel"].shape == (3, 3, widths[i], widths[i + 1])
    shapes = [mlp[f"dense_{i}"]["kernel"].shape for i in range(3)]
    assert shapes == [(50, 2000), (2000, 200), (200, 4)]
    assert heads.make_head("mlp", 4, [8, 6]).hidden == (8, 6)
    with pytest.raises(ValueError, match="'cnn', 'mlp'"):
        heads.make_head("transformer", 4)


STYLEGAN2_SIZES = (8, 8, 16, 16, 32, 32, 64, 64, 128, 128, 256, 256, 256, 256, 256, 256)
STYLEGAN2_CHANNELS = (*[512] * 8, 256, 256, 128, 128, 64, 64, 32, 32)


@pytest.mark.parametrize("kind", ["cnn", "mlp"])
def test_ten_shot_step_with_5056_channels_at_256_px_stays_under_4_gb(kind):
    maps = tuple(
        jax.ShapeDtypeStruct((10, size, size, channels), jnp.float32)
        for size, channels in zip(STYLEGAN2_SIZES, STYLEGAN2_CHANNELS, strict=True)
    )
    assert sum(STYLEGAN2_CHANNELS) == 5056
    head = heads.make_head(kind, 11)
    optimizer = train.make_optimizer(schema.Head(), 10)
    key = jax.random.key(0)
    one = tuple(np.broadcast_to(np.float32(0), (1, *x.shape[1:])) for x in maps)
    state = train.init_state(head, optimizer, one, seed=0)
    labels = jax.ShapeDtypeStruct((10, 256, 256), jnp.int32)
    compiled = train.train_step.lower(head, optimizer, state, maps, labels, key).compile()
    memory = compiled.memory_analysis()
    peak = memory.argument_size_in_bytes + memory.temp_size_in_bytes
    features = (
        4 * 10 * sum(s * s * c for s, c in zip(STYLEGAN2_SIZES, STYLEGAN2_CHANNELS, strict=True))
    )
    assert features < peak < 4e9


def test_small_images_get_the_head_that_sees_single_pixels():
    kinds = [schema.settings_for(size, "auto", {}).head_kind for size in (32, 64, 128, 1024)]
    assert kinds == ["mlp"] * 2 + ["cnn"] * 2
    assert schema.settings_for(32, "auto", {"head_kind": "cnn"}).head_kind == "cnn"
    # What an input pixel changes: 61 x 61 pixels of the CNN's output.
    head = heads.CNNHead(2, channels=(1,) * 8)
    maps = (jnp.zeros((1, 81, 81, 1)),)
    shapes = jax.eval_shape(head.init, jax.random.key(0), maps)
    params = jax.tree.map(lambda x: jnp.full(x.shape, float(len(x.shape) > 1)), shapes)
    changed = head.apply(params, (maps[0].at[0, 40, 40, 0].set(1.0),)) != head.apply(params, maps)
    rows, cols = jnp.nonzero(changed[0, ..., 0])
    assert (rows.min(), rows.max(), cols.min(), cols.max()) == (10, 70, 10, 70)

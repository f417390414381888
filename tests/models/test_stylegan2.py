"""StyleGAN2: sizes, modulation, filters, noise and truncation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

from ganseg_jax.models import stylegan2


def small_generator(**settings):
    module = stylegan2.StyleGAN2Generator(size=8, style_dim=16, mapping_layers=2, **settings)
    keys = {"params": jax.random.key(0), "noise": jax.random.key(1)}
    variables = jax.jit(module.init)(keys, jnp.zeros((1, 16)))
    return module, variables


@pytest.fixture(scope="module")
def generator():
    return small_generator()


def test_published_size_has_the_published_number_of_parameters():
    module = stylegan2.StyleGAN2Generator(size=1024)
    keys = {"params": jax.random.key(0), "noise": jax.random.key(1)}
    shapes = jax.eval_shape(module.init, keys, jnp.zeros((1, 512)))
    count = sum(x.size for x in jax.tree.leaves(shapes["params"]))
    assert count == 30_370_060  # Karras et al. 2020, configuration F at 1024 px


@pytest.mark.parametrize("size,multiplier", [(32, 2), (128, 1), (256, 2), (1024, 1)])
def test_image_and_channels_by_size(size, multiplier):
    module = stylegan2.StyleGAN2Generator(size=size, channel_multiplier=multiplier)

    def run(keys, z):
        variables = module.init(keys, z)
        return module.apply(variables, z, capture_intermediates=True, mutable=["intermediates"])

    keys = {"params": jax.random.key(0), "noise": jax.random.key(1)}
    image, state = jax.eval_shape(run, keys, jnp.zeros((2, 512)))
    assert image.shape == (2, size, size, 3)
    last = state["intermediates"][f"convs_{module.num_convs - 2}"]["__call__"][0]
    expected = {(32, 2): 512, (128, 1): 128, (256, 2): 128, (1024, 1): 16}[size, multiplier]
    assert last.shape == (2, size, size, expected)


def test_size_must_be_a_power_of_two():
    module = stylegan2.StyleGAN2Generator(size=48)
    with pytest.raises(ValueError, match="power of two"):
        module.init(jax.random.key(0), jnp.zeros((1, 512)))


@pytest.mark.parametrize("taps", [(1.0, 3.0, 3.0, 1.0), (1.0, 2.0, 1.0), (1.0, 2.0)])
def test_upsampling_is_zero_insertion_and_fir(taps):
    x = np.random.default_rng(0).standard_normal((1, 5, 4, 2)).astype(np.float32)
    kernel = 2 * np.array(taps) / np.sum(taps)
    expected = x
    for axis in (1, 2):
        # Full convolution of the zero-filled signal, then the part that is aligned with the input.
        full = scipy.signal.upfirdn(kernel, expected, up=2, axis=axis)
        start = len(taps) - 1 - ((len(taps) - 1) // 2 + 1)
        length = 2 * x.shape[axis]
        full = np.concatenate([full, np.zeros_like(np.take(full, [0], axis))], axis)
        expected = np.take(full, range(start, start + length), axis)
    actual = stylegan2.upsample(jnp.asarray(x), taps)
    np.testing.assert_allclose(actual, expected, atol=1e-5)


@pytest.mark.parametrize("upsample_taps", [None, (1.0, 3.0, 3.0, 1.0)])
def test_modulation_equals_one_modulated_kernel_for_each_image(upsample_taps):
    conv = stylegan2.ModulatedConv(5, 3, upsample_taps=upsample_taps)
    x = jax.random.normal(jax.random.key(0), (2, 6, 6, 4))
    w = jax.random.normal(jax.random.key(1), (2, 3))
    variables = conv.init(jax.random.key(2), x, w)
    params = variables["params"]
    style = w @ params["modulation"]["kernel"] / np.sqrt(3) + params["modulation"]["bias"]
    images = []
    for i in range(2):
        kernel = params["kernel"] / np.sqrt(4 * 9) * style[i][None, None, :, None]
        kernel /= np.sqrt(np.sum(kernel**2, axis=(0, 1, 2)) + 1e-8)
        if upsample_taps is None:
            y = jax.lax.conv_general_dilated(
                x[i : i + 1], kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
        else:
            y = jax.lax.conv_transpose(
                x[i : i + 1],
                kernel[::-1, ::-1],
                (2, 2),
                "VALID",
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            )
            y = jnp.pad(y, [(0, 0), (1, 1), (1, 1), (0, 0)])
            fir = np.outer(upsample_taps, upsample_taps) / 64 * 4
            y = np.stack(
                [scipy.signal.convolve2d(y[0, :, :, c], fir, "valid") for c in range(5)], -1
            )[None]
        images.append(y)
    np.testing.assert_allclose(conv.apply(variables, x, w), np.concatenate(images), atol=2e-5)


def test_noise_stored_given_and_random(generator):
    module, variables = generator
    params = jax.tree_util.tree_map_with_path(
        lambda path, x: x + 1.0 if "noise_strength" in str(path) else x, variables["params"]
    )
    variables = {**variables, "params": params}
    z = jax.random.normal(jax.random.key(3), (2, 16))
    apply = jax.jit(module.apply)
    random = jax.jit(lambda variables, z, key: module.apply(variables, z, rngs={"noise": key}))
    stored = apply(variables, z)
    given = [variables["noise"][f"noise_{i}"] for i in range(module.num_convs)]
    np.testing.assert_allclose(apply(variables, z, noise=given), stored, atol=1e-5)
    none = apply(variables, z, noise=[jnp.zeros_like(n) for n in given])
    assert np.abs(none - stored).max() > 1e-2
    first, again, other = (random(variables, z, jax.random.key(seed)) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-2
    # Each image of the batch has noise of its own.
    same = random(variables, z[:1].repeat(2, 0), jax.random.key(5))
    assert np.abs(same[0] - same[1]).max() > 1e-2


def test_truncation_moves_w_towards_the_mean(generator):
    module, variables = generator
    mean = stylegan2.random_styles(module, variables, jax.random.key(4), 64).mean(0)
    variables = {**variables, "latent_statistics": {"w_mean": mean}}
    z = jax.random.normal(jax.random.key(3), (2, 16))
    w = module.apply(variables, z, method="map_latents")
    apply = jax.jit(module.apply)
    expected = module.apply(variables, mean + 0.5 * (w - mean), method="synthesize")
    np.testing.assert_allclose(apply(variables, z, truncation=0.5), expected, atol=1e-5)
    at_mean = apply(variables, z, truncation=0.0)
    np.testing.assert_allclose(at_mean[0], at_mean[1], atol=1e-5)


def test_one_style_for_each_layer(generator):
    module, variables = generator
    z = jax.random.normal(jax.random.key(3), (2, 16))
    w = module.apply(variables, z, method="map_latents")
    extended = jnp.repeat(w[:, None], module.num_styles, axis=1)
    synthesize = jax.jit(lambda variables, w: module.apply(variables, w, method="synthesize"))
    base = synthesize(variables, w)
    np.testing.assert_allclose(synthesize(variables, extended), base, atol=1e-5)
    for i in range(module.num_styles):
        changed = synthesize(variables, extended.at[:, i].add(1.0))
        assert np.abs(changed - base).max() > 1e-3, f"style {i} is not used"
    with pytest.raises(ValueError, match="w\\+ needs 4 styles"):
        module.apply(variables, extended[:, :3], method="synthesize")


def test_bfloat16_stays_close(generator):
    module, variables = generator
    z = jax.random.normal(jax.random.key(3), (2, 16))
    exact = jax.jit(module.apply)(variables, z)
    low = jax.jit(module.clone(dtype=jnp.bfloat16).apply)(variables, z)
    assert low.dtype == jnp.float32
    assert np.abs(low - exact).max() < 0.05 * np.abs(exact).max()

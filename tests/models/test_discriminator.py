"""The discriminator: published widths, formula, independence of images, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganseg_jax.models.discriminator import Discriminator, DiscriminatorBlock, default_channels
from ganseg_jax.models.initialise import init_variables

IMAGES = np.random.default_rng(0).uniform(-1, 1, (3, 8, 8, 3)).astype(np.float32)
TINY = Discriminator(channels=(4, 6), hidden=5)


@pytest.fixture(scope="module")
def variables():
    return init_variables(TINY, 0, IMAGES)


def test_published_channels():
    assert default_channels(128) == (64, 128, 256, 512, 512, 512)
    assert default_channels(256) == (64, 128, 256, 512, 512, 512, 512)
    assert default_channels(16) == (64, 128, 256)
    for size in (2, 48):
        with pytest.raises(ValueError, match=f"power of two from 4 up, not {size}"):
            default_channels(size)


@pytest.mark.parametrize("size", [4, 32, 128])
def test_last_map_has_two_pixels_a_side(size):
    module = Discriminator(default_channels(size))
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    shapes = jax.eval_shape(module.init, jax.random.key(0), images)["params"]
    assert shapes["hidden"]["kernel"].shape == (4 * module.channels[-1], 512)


def test_block_by_hand():
    def convolve(x, layer, stride, pad):
        kernel = layer["kernel"]
        layout = ("NHWC", "HWIO", "NHWC")
        pads = [(pad, pad)] * 2
        return jax.lax.conv_general_dilated(x, kernel, (stride, stride), pads, None, None, layout)

    def leaky(x):
        return np.where(x > 0, x, 0.2 * np.asarray(x))

    block = DiscriminatorBlock(4)
    block_variables = init_variables(block, 0, IMAGES)
    p = block_variables["params"]
    x = leaky(convolve(IMAGES, p["conv_0"], 1, 1))
    x = leaky(convolve(x, p["conv_1"], 1, 1))
    x = convolve(x, p["conv_2"], 2, 1) + convolve(IMAGES, p["conv_shortcut"], 2, 0)
    np.testing.assert_allclose(block.apply(block_variables, IMAGES), x / np.sqrt(2), atol=1e-4)


def test_every_image_is_judged_by_itself(variables):
    together = TINY.apply(variables, IMAGES)
    alone = [TINY.apply(variables, IMAGES[i : i + 1])[0] for i in range(3)]
    assert together.shape == (3,) and np.ptp(together) > 1e-3
    np.testing.assert_allclose(together, np.stack(alone), rtol=1e-4, atol=1e-5)


def test_every_parameter_has_a_gradient(variables):
    gradients = jax.jit(jax.grad(lambda v: jnp.sum(TINY.apply(v, IMAGES) ** 2)))(variables)
    for path, gradient in jax.tree_util.tree_leaves_with_path(gradients):
        assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0, path


def test_logits_are_float32_in_bfloat16(variables):
    half = TINY.clone(dtype=jnp.bfloat16).apply(variables, IMAGES)
    assert half.dtype == jnp.float32
    np.testing.assert_allclose(half, TINY.apply(variables, IMAGES), atol=0.1)

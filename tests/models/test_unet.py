"""The U-Net: sizes, any image size, joining of encoder and decoder."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganseg_jax.models.initialise import init_variables
from ganseg_jax.models.unet import UNet, upsample_to


@pytest.fixture(scope="module")
def small():
    network = UNet(3, width=4, depth=2)
    image = jax.ShapeDtypeStruct((1, 16, 16, 3), jnp.float32)
    return network, init_variables(network, 0, image, train=False)


def test_published_channels():
    network = UNet(10)
    image = jnp.zeros((1, 32, 32, 3))
    shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), image, train=False))["params"]
    down = [shapes[f"down_{i}"]["conv_1"]["kernel"].shape[-1] for i in range(5)]
    assert down == [64, 128, 256, 512, 512]
    up = [shapes[f"up_{i}"]["conv_0"]["kernel"].shape[-2:] for i in reversed(range(4))]
    assert up == [(1024, 256), (512, 128), (256, 64), (128, 64)]


@pytest.mark.parametrize("height,width", [(16, 16), (17, 23), (4, 31)])
def test_any_size_from_one_set_of_weights(small, height, width):
    network, variables = small
    image = jax.random.normal(jax.random.key(0), (2, height, width, 3))
    logits = jax.jit(lambda v, x: network.apply(v, x, train=False))(variables, image)
    assert logits.shape == (2, height, width, 3) and logits.dtype == jnp.float32
    assert np.isfinite(logits).all()


def test_too_small_images_are_refused(small):
    network, variables = small
    with pytest.raises(ValueError, match="3x16 pixels are too small to be halved 2 times"):
        network.apply(variables, jnp.zeros((1, 3, 16, 3)), train=False)


def test_odd_sides_repeat_the_last_pixels():
    x = jnp.arange(6.0).reshape(1, 2, 3, 1)
    odd = upsample_to(x, 5, 7)
    np.testing.assert_array_equal(odd[:, :4, :6], upsample_to(x, 4, 6))
    np.testing.assert_array_equal(odd[:, 4], odd[:, 3])
    np.testing.assert_array_equal(odd[:, :, 6], odd[:, :, 5])


def test_every_level_reaches_the_output(small):
    network, variables = small
    image = jax.random.normal(jax.random.key(0), (1, 16, 16, 3))

    def loss(params):
        logits = network.apply(
            {**variables, "params": params}, image, train=True, mutable=["batch_stats"]
        )
        return jnp.sum(jnp.square(logits[0]))

    gradients = jax.jit(jax.grad(loss))(variables["params"])
    for name, block in gradients.items():
        kernel = block["kernel"] if name == "classes" else block["conv_0"]["kernel"]
        assert np.abs(kernel).max() > 0, name

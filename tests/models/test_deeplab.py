"""The segmenter: its size, its behaviour on odd image sizes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganseg_jax.models.deeplab import DeepLabV3

SMALL = {
    "backbone": "resnet18",
    "width": 0.125,
    "output_stride": 4,
    "stem_pool": False,
    "atrous_rates": (1, 2, 3),
}


def count(tree):
    return sum(x.size for x in jax.tree.leaves(tree))


def shapes_of(module, size=32):
    return jax.eval_shape(
        lambda key: module.init(key, jnp.zeros((1, size, size, 3)), train=False),
        jax.random.key(0),
    )


def test_published_size():
    assert count(shapes_of(DeepLabV3(9))["params"]) == 39_635_785


def test_width_scales_every_layer():
    narrow = shapes_of(DeepLabV3(9, width=0.25))["params"]
    assert narrow["backbone"]["layer4_2"]["conv3"]["kernel"].shape == (1, 1, 128, 512)
    assert narrow["head_conv"]["kernel"].shape == (3, 3, 64, 64)


@pytest.fixture(scope="module")
def small():
    module = DeepLabV3(3, **SMALL)
    init = jax.jit(lambda key: module.init(key, jnp.zeros((1, 16, 16, 3)), train=False))
    return module, init(jax.random.key(0))


@pytest.mark.parametrize("shape", [(16, 16), (13, 21)])
def test_logits_have_the_images_size(small, shape):
    module, variables = small
    images = jax.random.uniform(jax.random.key(1), (2, *shape, 3), minval=-1.0)
    logits = module.apply(variables, images, train=False)
    assert logits.shape == (2, *shape, 3)
    assert logits.dtype == jnp.float32
    assert float(jnp.std(logits)) > 0


def test_training_mode_moves_statistics_and_drops_out(small):
    module, variables = small
    images = jax.random.uniform(jax.random.key(1), (2, 16, 16, 3), minval=-1.0)

    @jax.jit
    def run(key):
        return module.apply(
            variables, images, train=True, rngs={"dropout": key}, mutable=["batch_stats"]
        )

    first, updates = run(jax.random.key(2))
    again, _ = run(jax.random.key(2))
    other, _ = run(jax.random.key(3))
    np.testing.assert_array_equal(first, again)
    assert float(jnp.max(jnp.abs(first - other))) > 1e-4
    moved = jax.tree.map(
        lambda a, b: float(jnp.max(jnp.abs(a - b))),
        updates["batch_stats"],
        variables["batch_stats"],
    )
    assert min(jax.tree.leaves(moved)) > 0


def test_bfloat16_compute_keeps_float32_parameters_and_logits(small):
    module, variables = small
    half = DeepLabV3(3, **SMALL, dtype=jnp.bfloat16)
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(shapes_of(half)))
    images = jax.random.uniform(jax.random.key(1), (2, 16, 16, 3), minval=-1.0)
    exact, rough = (
        jax.jit(functools.partial(network.apply, train=False))(variables, images)
        for network in (module, half)
    )
    assert rough.dtype == jnp.float32
    error = float(jnp.max(jnp.abs(rough - exact)) / jnp.max(jnp.abs(exact)))
    assert 0 < error < 0.1


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"backbone": "vgg"}, "vgg"), ({"output_stride": 3}, "output_stride 3")],
)
def test_wrong_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        shapes_of(DeepLabV3(3, **{**SMALL, **settings}))

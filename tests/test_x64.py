"""With `jax_enable_x64`, as research code often sets it, everything stays float32 and the same."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganseg_jax import load_segmenter, sample_latents
from ganseg_jax.models.build import build_generator
from ganseg_jax.models.initialise import init_variables
from ganseg_jax.training import gan, segmenter
from tests.one_stage import WITH_ONE_STAGE
from tests.tiny_config import config_with

CONFIG = config_with(**WITH_ONE_STAGE)


def both_ways(compute):
    """Returns what a function gives without and with 64-bit types, on the host."""
    results = []
    for enabled in (False, True):
        with jax.enable_x64(enabled):
            results.append(jax.device_get(compute()))
    return results


def assert_same(compute, **tolerance):
    narrow, wide = both_ways(compute)
    assert jax.tree.map(lambda x: x.dtype, narrow) == jax.tree.map(lambda x: x.dtype, wide)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), narrow, wide)


def test_latents():
    assert_same(lambda: sample_latents(jax.random.key(0), 3, 8), rtol=0)


def test_generator():
    generator = build_generator(CONFIG)

    def sample():
        latents = sample_latents(jax.random.key(0), 2, generator.noise_dim)
        variables = init_variables(generator, 0, latents, train=False)
        return jax.jit(functools.partial(generator.apply, train=False))(variables, latents)

    assert_same(sample, rtol=1e-4, atol=1e-5)


def test_segmenter_with_refinement():
    photos = np.random.default_rng(0).integers(0, 255, (1, 64, 64, 3), np.uint8)
    assert_same(lambda: load_segmenter("people").probabilities(photos), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stage", ["gan", "segmenter"])
def test_updates(stage):
    def update():
        images = jnp.linspace(-1, 1, 2 * 16 * 16 * 3, dtype=jnp.float32).reshape(2, 16, 16, 3)
        latents = sample_latents(jax.random.key(0), 2, CONFIG.model.noise_dim)
        if stage == "gan":
            networks = gan.Gan.of(CONFIG)
            state = gan.init_state(networks, 0)
            step = jax.jit(lambda state: gan.update(networks, state, images, latents, latents))
        else:
            networks = segmenter.Segmentation.of(CONFIG)
            state = segmenter.init_state(networks, 0)
            labels = jnp.zeros((2, 16, 16), jnp.int32)
            key = jax.random.key(1)
            step = jax.jit(lambda state: segmenter.update(networks, state, images, labels, key))
        state, metrics = step(state)
        return jax.tree.map(lambda x: x.dtype, state), metrics

    # Flax draws dropout with 64-bit numbers then, so the segmenter's losses differ a little.
    (types, metrics), (wide_types, wide_metrics) = both_ways(update)
    assert types == wide_types
    assert {x.dtype for x in wide_metrics.values()} == {np.dtype(np.float32)}
    assert wide_metrics.keys() == metrics.keys()
    assert all(map(np.isfinite, wide_metrics.values()))
    if stage == "gan":
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-3), metrics, wide_metrics)

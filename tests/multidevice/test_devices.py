"""The same training on one device and on several."""

import functools

import jax
import jax.flatten_util
import numpy as np
import pytest

from configs import tiny
from ganseg_jax import prng, settings
from ganseg_jax.training import gan, partition

STEPS = 6


@functools.cache
def trained(count):
    """Parameters after six steps, and the losses of the first, on `count` devices."""
    config = tiny.get_config()
    networks = settings.build_gan(config)
    mesh = partition.make_mesh(jax.devices()[:count])
    whole, split = partition.replicated(mesh), partition.batch_split(mesh)
    step = jax.jit(
        functools.partial(gan.step, networks),
        in_shardings=(whole, whole, split),
        out_shardings=whole,
    )
    root = partition.place_key(prng.root_key(0), whole)
    state = partition.place(gan.init_state(networks, 0), whole)
    rng = np.random.default_rng(0)
    first = None
    for _ in range(STEPS):
        images = rng.integers(0, 256, (8, 16, 16, 3), dtype=np.uint8)
        batch = partition.global_batch({"image": images}, mesh)
        state, metrics = step(root, state, batch)
        first = first or jax.device_get(metrics)
    return jax.device_get((state.generator, state.discriminator)), first


@pytest.mark.parametrize("count", [2, 4])
def test_several_devices_compute_what_one_does(count):
    alone, first_alone = trained(1)
    together, first_together = trained(count)
    for name, value in first_alone.items():
        np.testing.assert_allclose(first_together[name], value, rtol=1e-5, atol=1e-6)
    # As whole vectors: a bias before a batch normalisation has no gradient but rounding, whose sign
    # is all that Adam's first steps look at.
    for one, several in zip(alone, together, strict=True):
        a, b = (jax.flatten_util.ravel_pytree(tree)[0] for tree in (one, several))
        assert np.linalg.norm(a - b) <= 2e-3 * np.linalg.norm(a)

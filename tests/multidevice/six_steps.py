"""Six training steps of `configs/tiny.py` on the first COUNT devices; also a program of its own.

python -m tests.multidevice.six_steps COUNT FILE
"""

import functools
import sys

import jax
import jax.flatten_util
import numpy as np

from ganseg_jax import prng
from ganseg_jax.training import gan, partition
from tests.one_stage import WITH_ONE_STAGE
from tests.tiny_config import config_with

STEPS = 6


@functools.cache
def trained(count):
    """(generator, discriminator) as vectors after six steps, and the losses of the first."""
    config = config_with(**WITH_ONE_STAGE)
    networks = gan.Gan.of(config)
    mesh = partition.make_mesh(jax.devices()[:count])
    whole, split = partition.replicated(mesh), partition.batch_split(mesh)
    step = jax.jit(
        functools.partial(gan.step, networks, batch_sharding=split),
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
    both = jax.device_get((state.generator, state.discriminator))
    return [jax.flatten_util.ravel_pytree(tree)[0] for tree in both], first


if __name__ == "__main__":
    vectors, losses = trained(int(sys.argv[1]))
    np.savez(sys.argv[2], *vectors, **losses)

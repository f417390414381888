"""Training batches drawn on the devices, from a set that lies there decoded.

What a step sees is a pure function of key and step, so that nothing is to be saved or restored, and
is the same on any number of devices and processes.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, UInt8

from ganseg_jax import prng


def batch_indices(
    key: jax.Array, step: Int[Array, ""], batch_size: int, count: int
) -> Int[Array, "b"]:
    """Returns which of `count` images a step takes: each epoch is another permutation.

    A batch may span two epochs, so no image is skipped.

    Args:
      key: of the whole run.
      step: from 0.
      batch_size: at most `count`.
      count: size of the set.
    """
    position = step * batch_size + jnp.arange(batch_size)
    first = position[0] // count

    def order(epoch: jax.Array) -> Int[Array, "n"]:
        draws = jax.random.bits(jax.random.fold_in(key, epoch), (count,))
        return jnp.argsort(draws)

    within = order(first)[position % count]

    def across() -> Int[Array, "b"]:
        return jnp.where(position // count == first, within, order(first + 1)[position % count])

    # Sorting twice is for the steps that need it.
    return jax.lax.cond(position[-1] // count == first, lambda: within, across)


def draw_batch(
    key: jax.Array,
    step: Int[Array, ""],
    images: UInt8[Array, "n s s 3"],
    batch_size: int,
    flip: bool,
    sharding: jax.sharding.Sharding | None = None,
) -> dict[str, UInt8[Array, "b s s 3"]]:
    """Draws the batch of a step, inside the compiled step.

    Args:
      key: of the whole run.
      step: from 0.
      images: the whole set.
      batch_size: at most n.
      flip: mirror each image with probability 1/2.
      sharding: how the batch is split over the devices; None leaves it open.
    """
    index = batch_indices(prng.stream(key, "order"), step, batch_size, len(images))
    mirrored = jax.random.bernoulli(prng.step_key(key, step, "augment"), shape=(batch_size,))
    if sharding is not None:
        # Each device takes its own images out of its own copy.
        index, mirrored = jax.lax.with_sharding_constraint((index, mirrored), sharding)
    batch = images[index]  # [B, S, S, 3]
    if flip:
        batch = jnp.where(mirrored[:, None, None, None], batch[:, :, ::-1], batch)
    return {"image": batch}

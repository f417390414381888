"""The program that gives each pixel of small photos its probabilities, in JAX."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ganseg_jax import pixels, refinement
from ganseg_jax.precision import Precision, of_products

REFINED_PIXELS = 2**15
"""Pixels that are refined at a time; each takes kilobytes."""


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def predict(
    module: nn.Module,
    refine: bool,
    precision: Precision,
    groups: tuple[int, ...] | None,
    variables: Any,
    images: Array,
) -> Array:
    """Returns the probabilities of the classes, (B, S, S, C).

    Args:
      module: a network from images in [-1, 1] to logits.
      refine: bring the probabilities to the edges of each photo's colours.
      precision: how exactly an accelerator multiplies.
      groups: for each class of the network, the class that it counts as; None if each is its own.
      variables: of the network.
      images: in [0, 255], (B, S, S, 3).
    """
    x = pixels.to_unit_range(images)
    with of_products(precision):
        logits: Any = module.apply(variables, x, train=False)
    probabilities = jax.nn.softmax(logits.astype(jnp.float32))
    if refine:
        probabilities = _refined(x, probabilities)
    if groups is None:
        return probabilities
    member = pixels.membership(groups)
    return jnp.einsum("bhwi,io->bhwo", probabilities, member, precision="highest")


def _refined(x: Array, probabilities: Array) -> Array:
    # A number of photos that is not known yet cannot be split into equal blocks.
    known = isinstance(x.shape[0], int)
    at_once = max(1, REFINED_PIXELS // (x.shape[1] * x.shape[2])) if known else None
    return jax.lax.map(
        lambda given: refinement.refine(*jax.tree.map(lambda a: a[None], given))[0],
        (x, probabilities),
        batch_size=at_once,
    )

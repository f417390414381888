"""Segmentations of photos brought to the edges of their colours.

A network that has learned from generated images knows about where a photo's parts are; where
exactly they end, the photo itself says. Each class of each photo gets a model of its own colours,
from the pixels that the network gives it, as foreground and background do in GrabCut (Rother,
Kolmogorov and Blake, SIGGRAPH 2004), here a density estimated with kernels; and neighbours of the
same colour are drawn to the same class, as in mean-field inference in conditional random fields
(Kraehenbuehl and Koltun, NIPS 2011). In each of `ITERATIONS`

    q_k(i) ~ p_k(i)^PRIOR f_k(c_i) exp(SMOOTHNESS sum_j w_ij q_k(j)),  summing to 1 over k,
    f_k(c) = sum_j q_k(j) exp(-|c - c_j|^2 / (2 COLOR_WIDTH^2)) / sum_j q_k(j),
    w_ij   = exp(-EDGE |c_i - c_j|^2) / |i - j|  within RADIUS pixels along both axes,

where p are the network's probabilities, c colours in [0, 1], and q begins as p.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ganseg_jax.precision import EXACT
from ganseg_jax.refinement_constants import (
    COLOR_WIDTH,
    EDGE,
    ITERATIONS,
    LEAST,
    MOST_REFERENCES,
    PRIOR,
    RADIUS,
    SMOOTHNESS,
    neighbors,
)


def refine(
    images: Float[Array, "b h w 3"], probabilities: Float[Array, "b h w c"]
) -> Float[Array, "b h w c"]:
    """Moves the edges of segmentations to those of the images.

    Memory: up to 4096 bytes for each pixel of each image, for its similarity to 1024 others.

    Args:
      images: in [-1, 1].
      probabilities: of the classes, summing to 1.

    Returns:
      Probabilities of the same classes.
    """
    colors = (images.astype(jnp.float32) + 1) / 2
    probabilities = probabilities.astype(jnp.float32)
    num = len(images)
    rows, cols = (_references(size) for size in images.shape[1:3])

    def of_references(x: Float[Array, "b h w d"]) -> Float[Array, "b r d"]:
        return x[:, rows, cols].reshape(num, -1, x.shape[-1])

    pixels, references = colors.reshape(num, -1, 3), of_references(colors)
    distance = (
        jnp.sum(pixels**2, -1)[:, :, None]
        + jnp.sum(references**2, -1)[:, None]
        - 2 * jnp.einsum("bic,bjc->bij", pixels, references, precision=EXACT)
    )
    similarity = jnp.exp(-distance / (2 * COLOR_WIDTH**2))  # [b, h * w, r]
    offsets = neighbors()
    affinity = [
        jnp.exp(-EDGE * jnp.sum((near - colors) ** 2, -1, keepdims=True)) / math.hypot(*offset)
        for offset, near in zip(offsets, _shifted(colors, offsets), strict=True)
    ]
    prior = PRIOR * jnp.log(jnp.maximum(probabilities, LEAST))

    def iterate(_: int, q: Array) -> Array:
        given = of_references(q)
        summed = jnp.einsum("bij,bjk->bik", similarity, given, precision=EXACT)
        density = summed / (given.sum(1) + 1e-3)[:, None]
        color = jnp.log(density + LEAST).reshape(probabilities.shape)
        around = sum(w * near for w, near in zip(affinity, _shifted(q, offsets), strict=True))
        return jax.nn.softmax(prior + color + SMOOTHNESS * around)

    return jax.lax.fori_loop(0, ITERATIONS, iterate, probabilities)


def _references(size: int) -> slice:
    """Returns the rows or columns, of `size`, whose pixels colour models are made of."""
    stride = -(-size // MOST_REFERENCES)
    return slice(stride // 2, None, stride)


def _shifted(
    x: Float[Array, "b h w d"], offsets: list[tuple[int, int]]
) -> list[Float[Array, "b h w d"]]:
    """Returns for each offset what every pixel finds there; beyond the image what its edge has."""
    height, width = x.shape[1:3]
    edge = ((0, 0), (RADIUS, RADIUS), (RADIUS, RADIUS), (0, 0))
    wide = jnp.pad(x, edge, mode="edge")
    return [wide[:, RADIUS + row :, RADIUS + col :][:, :height, :width] for row, col in offsets]

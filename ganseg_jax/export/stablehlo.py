"""Segmenters as StableHLO: one artefact of `jax.export` for CPUs, GPUs and TPUs.

The whole way from photo bytes to labels is in it. Resizing is the arithmetic that `graph.resizing`
describes, whose products are exact on every platform.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import export
from jaxtyping import Array, Float, Int

from ganseg_jax import rules
from ganseg_jax.errors import UserError
from ganseg_jax.pixels import ROWS_MAY_BE_FIRST, WEIGHT_BITS
from ganseg_jax.precision import EXACT
from ganseg_jax.segmenter import Segmenter

PLATFORMS = ("cpu", "cuda", "tpu")


@rules.usual()
def artefact(segmenter: Segmenter) -> bytes:
    """Returns the serialised program: `jax.export.deserialize(artefact).call(photos)`.

    It takes uint8 (N, H, W, 3) and returns labels, int32 (N, H, W), and probabilities, float32
    (N, H, W, C). N is 1 or more, H and W are from 1 to `longest_side`; calling it with others
    raises a ValueError that names the side. The weights are in it.

    Raises:
      UserError: flatbuffers is not installed, or the segmenter has no size of its own.
    """
    if segmenter.image_size is None:
        raise UserError("StableHLO is written for segmenters with an image_size: set it")
    size: int = segmenter.image_size
    variables = jax.tree.map(jnp.asarray, segmenter.variables)

    def segment(photos: Array) -> tuple[Array, Array]:
        small = shrink_bytes(photos, size)
        seen = segmenter.apply(variables, small)
        probabilities = resize(seen, *photos.shape[1:3])
        return jnp.argmax(probabilities, -1).astype(jnp.int32), probabilities

    most = longest_side(size)
    limits = [f"h <= {most}", f"w <= {most}"]
    batch, height, width = export.symbolic_shape("n, h, w", constraints=limits)
    photos = jax.ShapeDtypeStruct((batch, height, width, 3), jnp.uint8)
    program = export.export(jax.jit(segment), platforms=PLATFORMS)(photos)
    try:
        return bytes(program.serialize())
    except ImportError as error:
        raise UserError('StableHLO needs flatbuffers: pip install "ganseg-jax[export]"') from error


def longest_side(size: int) -> int:
    """Returns the longest side of a photo, in pixels, that can be resized to `size` in int32.

    Twice the sum of the weights, 2 * 2 n^2 / S, must fit.
    """
    return min(math.isqrt(2**29 * size), 2**29 // size)


def shrink_bytes(photos: Array, size: int) -> Array:
    """Resizes uint8 photos (N, H, W, 3) to (N, S, S, 3), float32 values of whole numbers."""
    height, width = (jnp.asarray(side, jnp.int32) for side in photos.shape[1:3])
    rows_first = (height > size) & (height + size > 2 * width) & ROWS_MAY_BE_FIRST
    return jax.lax.cond(
        rows_first,
        lambda x: _shrink_axis(_shrink_axis(x, size, 1), size, 2),
        lambda x: _shrink_axis(_shrink_axis(x, size, 2), size, 1),
        photos.astype(jnp.float32),
    )


def _shrink_axis(photos: Array, size: int, axis: int) -> Array:
    total = jnp.int32(2 ** (sum(WEIGHT_BITS) - 1))
    pieces = _pieces(_weights(photos.shape[axis], size))
    for piece, bits in zip(
        pieces, (WEIGHT_BITS[1] + WEIGHT_BITS[2], WEIGHT_BITS[2], 0), strict=True
    ):
        summed = _along(photos, piece.astype(jnp.float32), axis).astype(jnp.int32)
        total = total + summed * jnp.int32(2**bits)
    return (total // jnp.int32(2 ** sum(WEIGHT_BITS))).astype(jnp.float32)


def resize(maps: Array, height: Any, width: Any) -> Array:
    """Resizes maps (N, h, w, C) to a size that may be symbolic."""
    for axis, side in ((2, width), (1, height)):
        weights = _weights(maps.shape[axis], side).astype(jnp.float32)
        maps = _along(maps, weights / jnp.sum(weights, 1, keepdims=True), axis)
    return maps


def _weights(before: Any, after: Any) -> Int[Array, "after before"]:
    """Returns w(o, i) of `graph.resizing`, whole numbers."""
    n, m = (jnp.asarray(side, jnp.int32) for side in (before, after))
    inputs = (2 * jnp.arange(before, dtype=jnp.int32) + 1) * m
    outputs = (2 * jnp.arange(after, dtype=jnp.int32) + 1) * n
    distance = jnp.abs(inputs[None] - outputs[:, None])
    return jnp.maximum(2 * jnp.maximum(n, m) - distance, 0)


def _pieces(weights: Array) -> list[Array]:
    """Returns round(2^22 w(o, i) / sum_i w(o, i)) in three pieces, the highest first.

    It divides bit by bit, so that nothing is larger than twice the sum: int32 is all there is.
    """
    total = jnp.sum(weights, 1, keepdims=True)
    pieces, left = [], weights
    for bits in WEIGHT_BITS:
        piece = left // total
        left = left - piece * total
        for _ in range(bits):
            left = 2 * left
            bit = (left >= total).astype(jnp.int32)
            piece, left = 2 * piece + bit, left - bit * total
        pieces.append(piece)
    pieces[-1] = pieces[-1] + (2 * left >= total)
    return pieces


def _along(x: Array, matrix: Float[Array, "after before"], axis: int) -> Array:
    """Multiplies the rows or columns of (N, H, W, C) with a matrix."""
    equation = "ih,nhwc->niwc" if axis == 1 else "jw,nhwc->nhjc"
    return jnp.einsum(equation, matrix, x, precision=EXACT)

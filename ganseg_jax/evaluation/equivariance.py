"""How exactly masks and image follow when all points move (GANSeg, appendix E).

All points are moved by a whole number of pixels while everything else, the background included,
stays as it is; masks and foreground should then move by as many pixels. Zero padding that reaches
past the margin and a grid whose pitch does not halve from stage to stage keep them from it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ganseg_jax.geometry import GridKind
from ganseg_jax.latents import Latents
from ganseg_jax.models.generator import Generator
from ganseg_jax.precision import EXACT, of_products

DecodeFn = Callable[[Float[Array, "b k p 2"]], tuple[Array, Array]]

FOREGROUND = 0.95
"""Share of foreground from which a pixel of the image counts as such."""

_DIRECTIONS = ((1, 0), (0, 1), (-1, 0), (0, -1))


@dataclass(frozen=True)
class EquivarianceErrors:
    """Holds errors by shift and by the distance of a pixel from the border.

    A pixel's distance is the smaller of those before and after the move, 0 for the outermost
    pixels. NaN where nothing was compared.

    Attributes:
      shifts: (T,) pixels.
      masks: (T, D) share of a pixel that went to another class than before: half the sum over the
        classes of the absolute difference, in [0, 1].
      image: (T, D) mean absolute difference of the image, which lies in [-1, 1], over the pixels
        that are foreground to `FOREGROUND` before and after, since the background stays.
    """

    shifts: np.ndarray
    masks: Float[np.ndarray, "t d"]
    image: Float[np.ndarray, "t d"]

    def beyond(self, distance: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns errors of masks and image, (T,) each, averaged from `distance` inwards."""
        return (
            mean_where_measured(self.masks[:, distance:], 1),
            mean_where_measured(self.image[:, distance:], 1),
        )


def decoder(
    module: Generator, variables: Mapping, latents: Latents
) -> tuple[Float[Array, "b k p 2"], DecodeFn]:
    """Returns a batch's points, and the rest of the generator as a function of points.

    Returns:
      (points, decode); `decode(points)` gives (masks, image), background and styles fixed.
    """
    points: Any = module.apply(variables, latents.z_point, method="points")
    embeddings, background_style = module.apply(
        variables, latents.z_app, latents.z_bg_app, method="styles"
    )

    @jax.jit
    def decode(points):
        with of_products(EXACT):
            output: Any = module.apply(
                variables,
                points,
                embeddings,
                background_style,
                latents.u_bg_pos,
                train=False,
                method="decode",
            )
        return output.masks, output.image

    return points, decode


def equivariance_errors(
    decode: DecodeFn,
    points: Float[Array, "b k p 2"],
    shifts: Sequence[int],
    grid: GridKind = "corners",
) -> EquivarianceErrors:
    """Moves all points by each shift up, down, left and right, and compares with the moved output.

    Args:
      decode: points -> (masks (B, S, S, K+1), image (B, S, S, 3)); see `decoder`.
      points: (B, K, P, 2), (row, col) in [-1, 1].
      shifts: whole pixels, 1 or more and less than S.
      grid: the generator's, which says how much of [-1, 1] a pixel is.

    Raises:
      ValueError: for a shift that leaves nothing to compare.
    """
    masks, image = map(np.asarray, decode(points))
    size = image.shape[1]
    pitch = 2 / (size - 1) if grid == "corners" else 2 / size
    bins = (size + 1) // 2
    mask_errors = np.full((len(shifts), bins), np.nan)
    image_errors = np.full((len(shifts), bins), np.nan)
    for index, shift in enumerate(shifts):
        if not 1 <= shift < size:
            raise ValueError(f"shift {shift} must lie between 1 and {size - 1} pixels")
        sums = np.zeros((4, bins))
        for direction in _DIRECTIONS:
            move = shift * np.array(direction)
            moved = decode(points + jnp.asarray(move * pitch, jnp.float32))
            sums += _compared(masks, image, np.asarray(moved[0]), np.asarray(moved[1]), move)
        with np.errstate(invalid="ignore"):
            mask_errors[index] = sums[0] / sums[1]
            image_errors[index] = sums[2] / sums[3]
    return EquivarianceErrors(np.asarray(shifts), mask_errors, image_errors)


def all_foreground(module: Generator, variables: Mapping) -> dict:
    """Returns variables with which no pixel is background: the whole image is compared.

    Untrained masks are nowhere sure of the foreground; this takes the background's share away.
    """
    changed: dict = jax.tree.map(np.array, dict(variables))
    last = f"block_{len(module.stage_sizes) - 1}"
    changed["params"]["mask_generator"][last]["conv_1"]["bias"][0] = -30.0
    return changed


def errors_of_both_grids(
    module: Generator, variables: Mapping, latents: Latents, shifts: Sequence[int]
) -> dict[str, EquivarianceErrors]:
    """Returns errors by grid, "corners" and "centers", of the same weights, which fit both."""
    errors = {}
    for grid in get_args(GridKind):
        points, decode = decoder(module.clone(grid=grid), variables, latents)
        errors[grid] = equivariance_errors(decode, points, shifts, grid)
    return errors


def mean_where_measured(values: Float[np.ndarray, "t d"], axis: int) -> np.ndarray:
    """Returns the mean over an axis of what is not NaN; NaN if all is."""
    measured = np.isfinite(values)
    total = np.where(measured, values, 0).sum(axis)
    return np.where(measured.any(axis), total / np.maximum(measured.sum(axis), 1), np.nan)


def _compared(
    masks: np.ndarray,
    image: np.ndarray,
    moved_masks: np.ndarray,
    moved_image: np.ndarray,
    move: np.ndarray,
) -> np.ndarray:
    """Sums by distance: mask error, pixels, image error in the foreground, its pixels; (4, D)."""
    size = image.shape[1]
    before = tuple(slice(max(0, -step), size - max(0, step)) for step in move)
    after = tuple(slice(max(0, step), size - max(0, -step)) for step in move)

    def cut(maps, where):
        return maps[:, where[0], where[1]].astype(np.float64)

    mask_error = np.abs(cut(masks, before) - cut(moved_masks, after)).sum(-1) / 2  # [B, h, w]
    image_error = np.abs(cut(image, before) - cut(moved_image, after)).mean(-1)
    shares = np.minimum(1 - cut(masks, before)[..., 0], 1 - cut(moved_masks, after)[..., 0])
    foreground = (shares >= FOREGROUND).astype(np.float64)
    edge = np.minimum(np.arange(size), np.arange(size)[::-1])
    distance = np.minimum(edge[:, None], edge[None, :])
    nearer = np.minimum(distance[before], distance[after])
    index = np.broadcast_to(nearer, mask_error.shape).ravel()
    bins = (size + 1) // 2
    values = (mask_error, np.ones_like(mask_error), image_error * foreground, foreground)
    return np.stack([np.bincount(index, value.ravel(), minlength=bins) for value in values])

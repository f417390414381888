"""Pixel grids, heatmaps, centres of mass, resizing and cropping.

Coordinates are (row, col), -1 at the first and 1 at the last pixel of the image; maps are NHWC.
A map of size n with margin m has n + 2m pixels a side.
"""

from collections.abc import Mapping
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ganseg_jax.precision import EXACT

GridKind = Literal["corners", "centers"]


def pixel_axis(size: int, margin: int = 0, kind: GridKind = "corners") -> Float[Array, "n"]:
    """Returns the coordinates of one side's pixels, with `margin` more pixels at both ends.

    Args:
      size: pixels of the side, without the margin.
      margin: further pixels at each end, at the same pitch.
      kind: "corners" puts -1 and 1 on the centres of the first and last pixel (pitch
        2 / (size - 1), GANSeg's published grid); "centers" puts them on the outer edges of these
        pixels (pitch 2 / size), so that the pitch halves exactly when the size doubles.

    Returns:
      float32 (size + 2 * margin,).
    """
    index = jnp.arange(-margin, size + margin, dtype=jnp.float32)
    if kind == "corners":
        return index * (2.0 / (size - 1)) - 1.0
    if kind == "centers":
        return (2.0 * index + 1.0) / size - 1.0
    raise ValueError(f"grid must be 'corners' or 'centers', not {kind!r}")


def pixel_grid(size: int, margin: int = 0, kind: GridKind = "corners") -> Float[Array, "n n 2"]:
    """Returns (row, col) of every pixel of a square map; arguments as for `pixel_axis`."""
    axis = pixel_axis(size, margin, kind)
    return jnp.stack(jnp.meshgrid(axis, axis, indexing="ij"), axis=-1)


def squared_distances(
    grid: Float[Array, "n n 2"], centers: Float[Array, "b k 2"]
) -> Float[Array, "b n n k"]:
    """Returns the squared distance of every pixel to every part centre, in coordinate units."""
    rows = jnp.square(grid[None, :, 0, None, 0] - centers[:, None, :, 0])  # [B, n, K]
    cols = jnp.square(grid[None, 0, :, None, 1] - centers[:, None, :, 1])  # [B, n, K]
    return rows[:, :, None, :] + cols[:, None, :, :]


def gaussian_heatmaps(
    grid: Float[Array, "n n 2"], centers: Float[Array, "b k 2"], variance: Float[Array, "b k"]
) -> Float[Array, "b n n k"]:
    """Returns exp(-||p - x_k||^2 / sigma_k^2), in [0, 1] (GANSeg eq. 2)."""
    return jnp.exp(-squared_distances(grid, centers) / variance[:, None, None, :])


def linear_heatmaps(
    grid: Float[Array, "n n 2"], centers: Float[Array, "b k 2"], scale: Float[Array, "b k"]
) -> Float[Array, "b n n k"]:
    """Returns max(0, 1 - ||p - x_k|| / tau_k), in [0, 1] (the released models' other heatmap)."""
    squared = squared_distances(grid, centers)
    # The root has no gradient at zero, which a pixel exactly on a centre would hit.
    positive = squared > 0
    distance = jnp.where(positive, jnp.sqrt(jnp.where(positive, squared, 1.0)), 0.0)
    return jnp.maximum(0.0, 1.0 - distance / scale[:, None, None, :])


def mass_centers(
    maps: Float[Array, "b n n k"], kind: GridKind = "corners", epsilon: float = 1e-6
) -> Float[Array, "b k 2"]:
    """Returns each map's centre of mass in [-1, 1]; the image's centre if the map is empty."""
    axis = pixel_axis(maps.shape[1], kind=kind)
    mass = jnp.sum(maps, axis=(1, 2)) + epsilon  # [B, K]
    rows = jnp.einsum("bhwk,h->bk", maps, axis, precision=EXACT) / mass
    cols = jnp.einsum("bhwk,w->bk", maps, axis, precision=EXACT) / mass
    return jnp.stack([rows, cols], axis=-1)


def crop(x: Float[Array, "b h w c"], margin: int) -> Float[Array, "b i j c"]:
    """Removes `margin` pixels on each side."""
    return x[:, margin : x.shape[1] - margin, margin : x.shape[2] - margin, :]


def _upsample_axis(x: Array, axis: int) -> Array:
    length = x.shape[axis]
    first = jax.lax.slice_in_dim(x, 0, 1, axis=axis)
    last = jax.lax.slice_in_dim(x, length - 1, length, axis=axis)
    before = jnp.concatenate([first, jax.lax.slice_in_dim(x, 0, length - 1, axis=axis)], axis)
    after = jnp.concatenate([jax.lax.slice_in_dim(x, 1, length, axis=axis), last], axis)
    pairs = jnp.stack([0.25 * before + 0.75 * x, 0.75 * x + 0.25 * after], axis=axis + 1)
    return pairs.reshape(x.shape[:axis] + (2 * length,) + x.shape[axis + 1 :])


def upsample_2x(x: Float[Array, "b h w c"]) -> Float[Array, "b 2*h 2*w c"]:
    """Upsamples bilinearly by exactly 2 (half-pixel centres, edges replicated)."""
    return _upsample_axis(_upsample_axis(x, 1), 2)


def upsample_2x_inside(x: Float[Array, "b h w c"], margin: int) -> Float[Array, "b i j c"]:
    """Returns `crop(upsample_2x(x), margin)`.

    On TPUs, if no edge is replicated, as one depthwise transposed convolution, which need not
    interleave the pixels of two maps.
    """
    if not margin:
        return upsample_2x(x)
    channels = x.shape[-1]

    def transposed(x: Array) -> Array:
        taps = jnp.array([0.25, 0.75, 0.75, 0.25], x.dtype)
        kernel = jnp.broadcast_to((taps[:, None] * taps)[..., None, None], (4, 4, 1, channels))
        return jax.lax.conv_general_dilated(
            x,
            kernel,
            window_strides=(1, 1),
            padding=[(2 - margin, 2 - margin)] * 2,
            lhs_dilation=(2, 2),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=channels,
            precision=EXACT,
        )

    upsampled: Array = jax.lax.platform_dependent(
        x, tpu=transposed, default=lambda x: crop(upsample_2x(x), margin)
    )
    return upsampled


def unread_by_upsampling(margin: int) -> int:
    """Returns how many pixels on each side of x `crop(upsample_2x(x), margin)` does not read."""
    # One pixel of context is all that bilinear interpolation reads.
    return max(0, (margin - 1) // 2)


def resize_bilinear(x: Float[Array, "b h w c"], height: int, width: int) -> Array:
    """Resizes bilinearly with half-pixel centres and no antialiasing, as PyTorch does."""
    if x.shape[1:3] == (height, width):
        return x
    shape = (x.shape[0], height, width, x.shape[3])
    return jax.image.resize(x, shape, method="bilinear", antialias=False)


def pad_edges(x: Float[Array, "b h w c"], margin: int) -> Float[Array, "b i j c"]:
    """Adds `margin` pixels on each side, copies of the nearest edge pixel."""
    return repeat_edges(x, {1: (margin, margin), 2: (margin, margin)})


def repeat_edges(
    x: Float[Array, "b h w c"], counts: Mapping[int, tuple[int, int]]
) -> Float[Array, "b i j c"]:
    """Adds copies of the outermost rows and columns.

    `jnp.pad` slices every axis, also a batch that the caller has split over devices, which JAX
    refuses on meshes with explicit axes.

    Args:
      x: maps.
      counts: axis -> the number of copies before and after.
    """
    for axis, (before, after) in counts.items():
        first = jax.lax.slice_in_dim(x, 0, 1, axis=axis)
        last = jax.lax.slice_in_dim(x, -1, None, axis=axis)
        copies = [jnp.repeat(first, before, axis), x, jnp.repeat(last, after, axis)]
        x = jnp.concatenate(copies, axis) if before or after else x
    return x

"""Pixels as numbers, and images, probabilities and label maps at other sizes."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import PIL
from jaxtyping import Float, Integer, Shaped, UInt8
from PIL import Image

if TYPE_CHECKING:  # Data sets are prepared without JAX.
    import jax

Pixels = TypeVar("Pixels", np.ndarray, "jax.Array")

HALF_RANGE = 127.5
"""Half of the range of a byte: 0 is -1, 255 is 1."""

UNLABELLED = 255
"""Value of pixels of a label map that nobody labelled; every measure and loss leaves them out."""

WEIGHT_BITS = (7, 8, 7)
"""Pillow rounds the weights of bytes, in resizing, to 22 bits. In three pieces of so many, from the
highest on, all products are exact sums of whole numbers, even in float32 with factors rounded to
bfloat16. `graph.resizing` has the equation."""

ROWS_MAY_BE_FIRST = int(PIL.__version__.split(".")[0]) >= 13
"""Pillow resizes the columns of a photo first, rounds to bytes, and then the rows. From version 13
on, a photo of H x W that becomes S x S is resized the other way round if H > S and H + S > 2 W, and
bytes differ by one (findings/pillow_resizes_tall_images_rows_first.sh)."""

_PIXELS_AT_ONCE = 2**22


def membership(groups: Sequence[int]) -> Float[np.ndarray, "i o"]:
    """Returns 1 where a class i counts as class o = groups[i], else 0."""
    return np.eye(max(groups) + 1, dtype=np.float32)[np.array(groups)]


def to_unit_range(images: Pixels) -> Pixels:
    """Returns uint8 images as float32 in [-1, 1]."""
    return images.astype(np.float32) * np.float32(1 / HALF_RANGE) - np.float32(1)


def to_uint8(images: Pixels) -> Pixels:
    """Returns images in [-1, 1] as uint8, other values clipped, NaN as middle grey."""
    xp: Any = np
    if not isinstance(images, np.ndarray):
        import jax.numpy as xp
    finite = xp.nan_to_num(images.astype(np.float32), nan=0.0)
    return xp.round((xp.clip(finite, -1, 1) + 1) * np.float32(HALF_RANGE)).astype(np.uint8)


def shrink(
    image: UInt8[np.ndarray, "h w 3"],
    size: int,
    box: tuple[float, float, float, float] | None = None,
) -> UInt8[np.ndarray, "s s 3"]:
    """Resizes a photo to what a network sees: bilinear, antialiased, without keeping its aspect.

    Args:
      image: RGB.
      size: S, in pixels.
      box: the part to keep, (left, top, right, bottom) as fractions of the image's sides.
    """
    if box is None and image.shape[:2] == (size, size):
        return image
    return shrink_image(Image.fromarray(image), size, box)


def shrink_image(
    image: Image.Image, size: int, box: tuple[float, float, float, float] | None = None
) -> UInt8[np.ndarray, "s s 3"]:
    """Does as `shrink` with an image of Pillow, which may be too large to be copied."""
    width, height = image.size
    edges = (
        None if box is None else (box[0] * width, box[1] * height, box[2] * width, box[3] * height)
    )
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box=edges))


def resize_plane(
    plane: Float[np.ndarray, "h w"], height: int, width: int, rows: slice = slice(None)
) -> Float[np.ndarray, "i j"]:
    """Resizes one channel: bilinear, antialiased if it becomes smaller.

    Args:
      plane: the channel.
      height: of the whole result.
      width: likewise.
      rows: the rows of the result to return.
    """
    if plane.shape == (height, width):
        return plane[rows]
    first, last, _ = rows.indices(height)
    scale = plane.shape[0] / height
    part = (0, first * scale, plane.shape[1], last * scale)
    image = Image.fromarray(np.ascontiguousarray(plane, np.float32))
    return np.asarray(image.resize((width, last - first), Image.Resampling.BILINEAR, box=part))


def resize_probabilities(
    probabilities: Float[np.ndarray, "h w c"], height: int, width: int
) -> Float[np.ndarray, "i j c"]:
    """Resizes the probabilities of all classes."""
    planes = np.moveaxis(probabilities, -1, 0)
    return np.stack([resize_plane(plane, height, width) for plane in planes], -1)


def most_probable(
    probabilities: Float[np.ndarray, "h w c"],
    height: int,
    width: int,
    dtype: type[np.integer] = np.int32,
) -> Integer[np.ndarray, "i j"]:
    """Returns the most probable class of every pixel at another size.

    The result is the argmax of `resize_probabilities`, but where it enlarges, only pixels near
    borders are computed: four neighbours that agree decide for everything between them, since
    bilinear interpolation takes means of them.
    """
    if height < probabilities.shape[0] or width < probabilities.shape[1]:
        return _every_most_probable(probabilities, height, width, dtype)
    if (height, width) == probabilities.shape[:2]:
        return probabilities.argmax(-1).astype(dtype)
    planes = np.moveaxis(probabilities, -1, 0)
    wide = np.stack([resize_plane(plane, len(plane), width) for plane in planes])  # [C, h, W]
    agreed, labels_between = _agreement(probabilities)
    (above, down), (before, _) = (
        _neighbors(old, new)
        for old, new in zip(probabilities.shape[:2], (height, width), strict=True)
    )
    labels_between = labels_between.astype(dtype)
    labels = np.empty((height, width), dtype)
    starts = np.flatnonzero(np.diff(above, prepend=-2))
    for first, last in zip(starts, [*starts[1:], height], strict=True):
        row = above[first]
        labels[first:last] = labels_between[row + 1, before + 1]
        open_columns = np.flatnonzero(~agreed[row + 1, before + 1])
        if len(open_columns):
            upper = wide[:, max(row, 0), open_columns]
            lower = wide[:, min(row + 1, wide.shape[1] - 1), open_columns]
            found = _between_rows(upper, lower, down[first:last], dtype)
            labels[first:last, open_columns] = found
    return labels


def _neighbors(old: int, new: int) -> tuple[Integer[np.ndarray, "n"], Float[np.ndarray, "n"]]:
    """Returns the pixel before each new one, from -1 on, and how far that lies behind it."""
    place = (np.arange(new) + 0.5) * (old / new) - 0.5
    before = np.floor(place).astype(int)
    return before, place - before


_CERTAIN = 1e-5
"""Classes that are closer than this are compared pixel by pixel, since float32 rounds."""


def _agreement(
    probabilities: Float[np.ndarray, "h w c"],
) -> tuple[Shaped[np.ndarray, "k l"], Integer[np.ndarray, "k l"]]:
    """Returns whether all four pixels around each point between them agree, and on which class.

    Outside, pixels are those at the edge, so that there is a row and a column more than pixels.
    """
    edge = ((1, 1), (1, 1))
    best = np.pad(probabilities.argmax(-1), edge, mode="edge")
    ordered = np.partition(probabilities, -2, axis=-1)
    sure = np.pad(ordered[..., -1] - ordered[..., -2] > _CERTAIN, edge, mode="edge")
    same = (best[1:] == best[:-1]) & sure[1:] & sure[:-1]
    agreed = same[:, 1:] & same[:, :-1] & (best[1:, 1:] == best[1:, :-1])
    return agreed, best[:-1, :-1]


def _between_rows(
    upper: Float[np.ndarray, "c n"],
    lower: Float[np.ndarray, "c n"],
    down: Float[np.ndarray, "m"],
    dtype: type[np.integer],
) -> Integer[np.ndarray, "m n"]:
    """Returns the most probable classes between two rows of pixels, at shares `down` of the way."""
    # A class that nowhere exceeds what another has at least cannot be the most probable.
    least = np.minimum(upper, lower).max(0)
    possible = np.flatnonzero((np.maximum(upper, lower) >= least).any(1))
    shares = np.stack([1 - down, down], 1)
    labels = np.full((len(down), upper.shape[1]), possible[0], dtype)
    best = None
    for label in possible:
        rows = np.stack([upper[label], lower[label]]).astype(np.float64)
        values = (shares @ rows).astype(np.float32)
        if best is None:
            best = values
            continue
        np.copyto(labels, label, where=values > best, casting="unsafe")
        np.maximum(best, values, out=best)
    return labels


def _every_most_probable(
    probabilities: Float[np.ndarray, "h w c"], height: int, width: int, dtype: type[np.integer]
) -> Integer[np.ndarray, "i j"]:
    """Does so for every pixel, one class of some rows at a time, which bounds the memory."""
    labels = np.zeros((height, width), dtype)
    rows = max(1, _PIXELS_AT_ONCE // width)
    for first in range(0, height, rows):
        band = labels[first : first + rows]
        best = np.full(band.shape, -np.inf, np.float32)
        for label, plane in enumerate(np.moveaxis(probabilities, -1, 0)):
            resized = resize_plane(plane, height, width, slice(first, first + rows))
            better = resized > best
            band[better], best[better] = label, resized[better]
    return labels


_MOST_ASPECT = 0.02
"""How far the aspects of a mask and its image may differ, as a logarithm."""


def same_aspect(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Says whether two (height, width) are of one image, resized."""
    return abs(math.log(size[1] * other[0] / (size[0] * other[1]))) <= _MOST_ASPECT


def resize_labels(
    labels: Shaped[np.ndarray, "*n h w"], height: int, width: int
) -> Shaped[np.ndarray, "*n i j"]:
    """Resizes label maps: each pixel takes the label of the nearest one (half-pixel centres)."""
    rows, cols = (
        np.minimum(((np.arange(new) + 0.5) * old / new).astype(int), old - 1)
        for old, new in zip(labels.shape[-2:], (height, width), strict=True)
    )
    return labels[..., rows[:, None], cols]

"""Pixels of polygons, discs and boxes, and the polygons of pixels."""

import base64
import binascii
import functools
import io
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from PIL import Image

from ganseg_jax.data.annotations.common import Size


def inside_polygon(points: Float[np.ndarray, "p 2"], size: Size) -> Bool[np.ndarray, "h w"]:
    """Returns the pixels whose centre lies inside a polygon of (x, y) points (even-odd rule)."""
    y, x = np.arange(size[0])[:, None] + 0.5, np.arange(size[1])[None] + 0.5
    inside = np.zeros(size, bool)
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
        low, high = min(y0, y1), max(y0, y1)
        first, last = (int(np.clip(np.ceil(v - 0.5), 0, size[0])) for v in (low, high))
        if first == last:
            continue
        rows = y[first:last]
        inside[first:last] ^= x < x0 + (rows - y0) * ((x1 - x0) / (y1 - y0))
    return inside


COCO_GRID = 5
"""Points of COCO's grid to a pixel; outlines are followed on it."""


def inside_coco_polygon(points: Float[np.ndarray, "p 2"], size: Size) -> Bool[np.ndarray, "h w"]:
    """Returns the pixels of a polygon of (x, y) points as COCO's own tools draw it.

    These follow the outline on a grid of fifths of a pixel, and take from each column's centre
    line the rows at which it is crossed (`rleFrPoly` of pycocotools). Figures on COCO-like sets are
    of such masks; they differ from `inside_polygon` in some pixels of the outline. An outline that
    goes far beyond the image is drawn by that: following it could take any time and memory.
    """
    height, width = size
    if np.abs(points).max() > 10 * max(size) + 1_000:
        return inside_polygon(points, size)
    corners = np.trunc(COCO_GRID * np.asarray(points, np.float64) + 0.5).astype(np.int64)
    walk = [_grid_line(*edge) for edge in zip(corners, np.roll(corners, -1, axis=0), strict=True)]
    x, y = np.concatenate(walk).T
    steps = np.flatnonzero(x[1:] != x[:-1])
    column = (np.minimum(x[steps], x[steps + 1]) + 0.5) / COCO_GRID - 0.5
    row = (np.minimum(y[steps], y[steps + 1]) + 0.5) / COCO_GRID - 0.5
    met = (column == np.floor(column)) & (column >= 0) & (column <= width - 1)
    row = np.ceil(np.clip(row[met], 0, height)).astype(np.int64)
    crossings = column[met].astype(np.int64) * height + row
    counts = np.bincount(crossings, minlength=height * width + 1)[: height * width]
    return (np.cumsum(counts) % 2 == 1).reshape(width, height).T


def _grid_line(start: Int[np.ndarray, "2"], end: Int[np.ndarray, "2"]) -> Int[np.ndarray, "n 2"]:
    """Returns the grid's points of an edge, ends included, one a step of its longer axis.

    The shorter axis is rounded as seen from the end with the lower coordinate, so that two polygons
    that share an edge share its points.
    """
    along = 0 if abs(end[0] - start[0]) >= abs(end[1] - start[1]) else 1
    low, high = (end, start) if start[along] > end[along] else (start, end)
    length = int(high[along] - low[along])
    slope = (high[1 - along] - low[1 - along]) / length if length else 0.0
    steps = np.arange(length + 1)
    points = np.empty((length + 1, 2), np.int64)
    points[:, along] = low[along] + steps
    points[:, 1 - along] = np.trunc(low[1 - along] + slope * steps + 0.5)
    return points if low is start else points[::-1]


def inside_ellipse(
    center: tuple[float, float], radii: tuple[float, float], size: Size, degrees: float = 0.0
) -> Bool[np.ndarray, "h w"]:
    """Returns the pixels whose centre lies inside an ellipse, (x, y), turned clockwise."""
    y, x = np.arange(size[0])[:, None] + 0.5 - center[1], np.arange(size[1]) + 0.5 - center[0]
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    along, across = x * cos + y * sin, y * cos - x * sin
    rx, ry = (max(abs(r), 1e-9) for r in radii)
    inside: np.ndarray = np.square(along / rx) + np.square(across / ry) <= 1
    return inside


def box_corners(
    left: float,
    top: float,
    right: float,
    bottom: float,
    degrees: float = 0.0,
    pivot: tuple[float, float] | None = None,
) -> Float[np.ndarray, "4 2"]:
    """Returns the corners of a box turned clockwise about a point, by default its centre."""
    corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.float64)
    middle = corners.mean(0) if pivot is None else np.array(pivot)
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return (corners - middle) @ np.array([[cos, sin], [-sin, cos]]) + middle


def nested(rings: Sequence[Float[np.ndarray, "_ 2"]], size: Size) -> Bool[np.ndarray, "h w"]:
    """Returns the union of polygons, in which a ring that lies inside the others is a hole."""
    region = np.zeros(size, bool)
    for ring in sorted(rings, key=lambda ring: -abs(_area(ring))):
        inside = inside_polygon(ring, size)
        region = region | inside if (inside & ~region).any() else region ^ inside
    return region


def pasted(
    patch: Bool[np.ndarray, "i j"], left: int, top: int, size: Size
) -> Bool[np.ndarray, "h w"]:
    """Returns a region given by its bounding box, cut off at the image's borders."""
    region = np.zeros(size, bool)
    rows = slice(max(0, top), max(0, min(size[0], top + patch.shape[0])))
    cols = slice(max(0, left), max(0, min(size[1], left + patch.shape[1])))
    region[rows, cols] = (
        patch[rows.start - top : rows.stop - top, cols.start - left : cols.stop - left]
        if rows.stop > rows.start and cols.stop > cols.start
        else False
    )
    return region


def png_mask(data: bytes, most: int = 1 << 26) -> Bool[np.ndarray, "h w"]:
    """Returns the pixels that are set in a PNG: opaque where it has alpha, else not 0.

    Raises:
      ValueError: it is no image, or one of more than `most` pixels.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > most:
                raise ValueError(f"a mask of {image.width}x{image.height} pixels is too large")
            if image.has_transparency_data:
                return np.asarray(image.convert("RGBA"))[..., 3] > 0
            channels = np.asarray(image).reshape(image.height, image.width, -1)
            return np.asarray(channels.any(-1))
    except Exception as error:  # Pillow's decoders raise many kinds for damaged files.
        raise ValueError(f"its mask is no image: {error}") from error


def base64_bytes(text: str) -> bytes:
    """Decodes base64 text.

    Raises:
      ValueError: it is none.
    """
    try:
        return base64.b64decode(text, validate=False)
    except (binascii.Error, TypeError) as error:
        raise ValueError(f"its mask is no base64 text: {error}") from error


def crop(region: Bool[np.ndarray, "h w"]) -> tuple[Bool[np.ndarray, "i j"], int, int]:
    """Returns a region that is not empty as (pixels of its bounding box, left, top)."""
    rows, cols = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
    top, left = int(rows[0]), int(cols[0])
    return region[top : rows[-1] + 1, left : cols[-1] + 1], left, top


def outlines(region: Bool[np.ndarray, "h w"]) -> list[list[tuple[int, int]]]:
    """Returns the closed outlines of a region along its pixels' edges, as (x, y) corners.

    `nested` gives the region back pixel for pixel.
    """
    padded = np.pad(region, 1)
    following: dict[tuple[int, int], list[tuple[int, int]]] = {}
    # Directed edges with the region on their right: top, right, bottom, left.
    for shift, start, end in (
        ((-1, 0), (0, 0), (1, 0)),
        ((0, 1), (1, 0), (1, 1)),
        ((1, 0), (1, 1), (0, 1)),
        ((0, -1), (0, 1), (0, 0)),
    ):
        beside = np.roll(padded, (-shift[0], -shift[1]), (0, 1))
        for y, x in np.argwhere(padded & ~beside) - 1:
            begin = (int(x) + start[0], int(y) + start[1])
            following.setdefault(begin, []).append((int(x) + end[0], int(y) + end[1]))
    rings = []
    for begin in sorted(following):
        while begin in following:
            rings.append(_follow(begin, following))
    return rings


def polygons(region: Bool[np.ndarray, "h w"]) -> list[list[tuple[int, int]]]:
    """Returns a polygon for each connected piece of a region, as (x, y) corners, holes and all.

    For tools whose polygons have no holes: cuts without width lead from the outer ring to each hole
    and back. `inside_polygon` of all gives the region back pixel for pixel. Cuts run along the
    pixels' edges, so that none meets a pixel's centre.
    """
    rings = outlines(region)
    outer = [ring for ring in rings if _area(ring) > 0]
    found = [list(ring) for ring in outer]
    for hole in (ring for ring in rings if _area(ring) < 0):
        (x0, y0), (x1, y1) = hole[0], hole[1]
        dx, dy = int(np.sign(x1 - x0)), int(np.sign(y1 - y0))
        # The hole is on the left of its ring: this is the centre of its first pixel.
        center = (x0 + (dx + dy) / 2, y0 + (dy - dx) / 2)
        around = [i for i, ring in enumerate(outer) if _surrounds(ring, center)]
        index = min(around, key=lambda i: _area(outer[i]))
        start = outer[index][0]
        corner = (hole[0][0], start[1])
        found[index] += [start, corner, *hole, hole[0], corner]
    return found


def _surrounds(ring: list[tuple[int, int]], point: tuple[float, float]) -> bool:
    """Says whether a ring along the pixels' edges goes around a pixel's centre."""
    corners = np.asarray(ring, np.float64)
    ends = np.roll(corners, -1, axis=0)
    upright = (corners[:, 0] == ends[:, 0]) & (corners[:, 0] > point[0])
    low, high = np.minimum(corners[:, 1], ends[:, 1]), np.maximum(corners[:, 1], ends[:, 1])
    return bool((upright & (low < point[1]) & (point[1] < high)).sum() % 2)


def _follow(
    begin: tuple[int, int], following: dict[tuple[int, int], list[tuple[int, int]]]
) -> list[tuple[int, int]]:
    """Takes the edges of a closed ring out of `following`; returns the corners where it turns."""
    ring, here = [], begin
    before: tuple[int, int] | None = None
    while before is None or here != begin:
        choices = following[here]
        # Where two pixels touch at a corner, turning right keeps each ring simple.
        step = choices[0]
        if len(choices) > 1 and before is not None:
            step = max(choices, key=functools.partial(_turn, before, here))
        choices.remove(step)
        if not choices:
            del following[here]
        if before is None or _turn(before, here, step):
            ring.append(here)
        before, here = here, step
    return ring


def _turn(a: tuple[int, int], b: tuple[int, int], c: tuple[int, int]) -> int:
    return (b[0] - a[0]) * (c[1] - b[1]) - (b[1] - a[1]) * (c[0] - b[0])


def _area(ring: Sequence | np.ndarray) -> float:
    x, y = np.asarray(ring, np.float64).T
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)

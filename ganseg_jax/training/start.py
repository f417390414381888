"""Where the parts begin."""

import itertools
import math
from typing import Literal

import numpy as np
from jaxtyping import Float


def spread_start(
    num_parts: int, radius: float, layout: Literal["disc", "column"] = "disc"
) -> Float[np.ndarray, "k 2"]:
    """K places, (row, col), evenly around the image's centre, alike left and right.

    A column runs from the top down. On a disc, from five places on, the first is the centre; the
    others are on rings, whose numbers of places grow as their radii do. Each ring has one place at
    the top.

    Args:
      num_parts: K.
      radius: of the disc, or half the column's height, in [-1, 1] coordinates; 0 puts all in the
        centre.
      layout: "disc", or "column" for things that stand upright.
    """
    if layout == "column":
        rows = radius * (2 * np.arange(num_parts) + 1 - num_parts) / max(num_parts - 1, 1)
        return np.stack([rows, np.zeros(num_parts)], -1)
    centers = 1 if num_parts == 1 or num_parts >= 5 else 0
    around = num_parts - centers
    # At most eight places on the inner ring, whose radius is the distance between rings.
    rings = next(n for n in itertools.count(1) if 4 * n * (n + 1) >= around)
    ends = np.round(around * np.cumsum(np.arange(rings + 1)) / (rings * (rings + 1) / 2))
    places = [np.zeros((centers, 2))]
    for ring, count in enumerate(np.diff(ends).astype(int), start=1):
        angle = 2 * math.pi * np.arange(count) / max(count, 1)
        up_and_right = np.stack([-np.cos(angle), np.sin(angle)], -1)
        places.append(radius * ring / rings * up_and_right)
    return np.concatenate(places)

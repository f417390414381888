"""The constants of `refinement`, without JAX; the equations stand there."""

import itertools

ITERATIONS = 5
PRIOR = 0.5
"""Exponent of the network's probabilities."""
COLOR_WIDTH = 0.06
"""Standard deviation of the kernels, where a channel's colours are 0 to 1."""
SMOOTHNESS = 0.5
EDGE = 20.0
"""How much less pixels of different colours are drawn together."""
RADIUS = 2
"""Of the neighbourhood, in pixels."""

MOST_REFERENCES = 32
"""Rows and columns of the grid of pixels of which colour models are made."""
LEAST = 1e-4
"""What probabilities and densities are at least, so that no pixel decides alone."""


def neighbors() -> list[tuple[int, int]]:
    """Returns where a pixel's neighbours are, as (rows, columns) away from it."""
    along = range(-RADIUS, RADIUS + 1)
    return [offset for offset in itertools.product(along, along) if offset != (0, 0)]

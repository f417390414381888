"""Level 1: points, and what is read off them and off the styles."""

import itertools
import math
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ganseg_jax.models.blocks import MLP
from ganseg_jax.models.initialise import Initialiser, standard_normal, zeros
from ganseg_jax.precision import EXACT

PART_SCALES = ("std", "norm_variance", "mean_abs")
PartScale = Literal["std", "norm_variance", "mean_abs"] | float
PointLayout = Literal["disc", "column", "row", "auto"]


def part_scales(points: Float[Array, "b k p 2"], kind: PartScale) -> Float[Array, "b k"]:
    """Returns the extent of each part, in the form that its heatmap divides distances by.

    Args:
      points: (row, col) of the P points of each part.
      kind: "std", the paper's eq. 1, returned squared (sigma_k^2): sum of squared distances to
        the part centre over (P - 1)^2; "norm_variance" (released, Gaussian heatmap): unbiased
        variance of the distances to the centre + 1e-6; "mean_abs" (released, linear heatmap):
        mean absolute deviation over points and coordinates + 1e-6; a number: that number.
    """
    if isinstance(kind, int | float):
        return jnp.full(points.shape[:2], kind, jnp.float32)
    count = points.shape[2]
    offsets = points - jnp.mean(points, axis=2, keepdims=True)  # [B, K, P, 2]
    if kind == "mean_abs":
        return jnp.mean(jnp.abs(offsets), axis=(2, 3)) + 1e-6
    squared = jnp.sum(jnp.square(offsets), axis=-1)  # [B, K, P]
    if kind == "std":
        # A floor well below a pixel: P coinciding points would divide by zero.
        return jnp.sum(squared, axis=-1) / (count - 1) ** 2 + 1e-6
    if kind == "norm_variance":
        # The root's gradient is infinite where a point lies exactly on the centre.
        distances = jnp.sqrt(jnp.maximum(squared, 1e-12))
        return jnp.var(distances, axis=-1, ddof=1) + 1e-6
    raise ValueError(
        f"part_scale must be 'std', 'norm_variance', 'mean_abs' or a number, not {kind!r}"
    )


def spread_start(
    num_parts: int, radius: float, layout: PointLayout = "disc"
) -> Float[np.ndarray, "k 2"]:
    """Returns K places, (row, col), evenly around the image's centre, alike left and right.

    A column runs from the top down, a row from left to right. On a disc, from five places on, the
    first is the centre; the others are on rings, whose numbers of places grow as their radii do.
    Each ring has one place at the top.

    Args:
      num_parts: K.
      radius: of the disc, or half the column's height or the row's width, in [-1, 1] coordinates;
        0 puts all in the centre.
      layout: "disc", "column" for things that stand upright, "row" for things that lie. "auto" is
        as "disc": it says that a run chooses its layout, after which it is one of the others.
    """
    if layout in ("column", "row"):
        along = radius * (2 * np.arange(num_parts) + 1 - num_parts) / max(num_parts - 1, 1)
        across = np.zeros(num_parts)
        return np.stack([along, across] if layout == "column" else [across, along], -1)
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


class PointGenerator(nn.Module):
    """Makes the K parts' P points from z_point: tanh(MLP / divisor), in full float32.

    Before training the part centres lie spread over `spread` of half the image, in a `layout`: if
    they happen to lie close together, one part takes most of the object. 0 leaves them to chance.
    """

    num_parts: int
    points_per_part: int
    hidden: int
    layers: int
    divisor: float
    spread: float = 0.0
    layout: PointLayout = "disc"

    def start(self) -> Initialiser:
        """Returns the initial bias of the MLP's last layer."""
        if not self.spread:
            return zeros
        places = spread_start(self.num_parts, self.spread, self.layout)
        each = np.repeat(places[:, None], self.points_per_part, 1)  # [K, P, 2]
        biases = np.float32(self.divisor * np.arctanh(each)).reshape(-1)
        return Initialiser("constant", tuple(biases.tolist()))

    @nn.compact
    def __call__(self, z_point: Float[Array, "b d"]) -> Float[Array, "b k p 2"]:
        count = self.num_parts * self.points_per_part
        mlp = MLP(2 * count, self.hidden, self.layers, self.start(), EXACT, name="mlp")
        out = mlp(z_point)
        points = jnp.tanh(out / self.divisor)
        return points.reshape(-1, self.num_parts, self.points_per_part, 2)


class PartEmbeddings(nn.Module):
    """Makes part embeddings w_k = w_k^const * MLP_app(z_app), elementwise."""

    num_parts: int
    features: int
    hidden: int
    layers: int = 3

    @nn.compact
    def __call__(self, z_app: Float[Array, "b d"]) -> Float[Array, "b k e"]:
        shape = (self.num_parts, self.features)
        constant = self.param("constant", standard_normal, shape, jnp.float32)
        dynamic = MLP(self.features, self.hidden, self.layers, name="mlp")(z_app)
        return constant * dynamic[:, None, :]

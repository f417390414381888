"""Level 2: from points to part masks."""

from collections.abc import Sequence
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ganseg_jax import geometry
from ganseg_jax.models.blocks import ModulatedResBlock, StyleMap
from ganseg_jax.models.generator.stages import LearnedStart, OffsetEncoding, through_stages
from ganseg_jax.models.initialise import Initialiser, zeros


class MaskGenerator(nn.Module):
    """Makes masks (background first) and heatmaps, at image size, from points.

    `background_start` is the logit by which the background leads the parts before training. Without
    it, masks of an untrained generator put parts everywhere, and some never leave the border.
    """

    num_parts: int
    stage_sizes: Sequence[int]
    start_channels: int
    hidden_channels: int
    margin: int
    spade_hidden: int
    heatmap: Literal["gaussian", "linear"]
    grid: geometry.GridKind
    use_points: bool = True
    background_start: float = 0.0
    dtype: Any = jnp.float32

    def background_first(self) -> Initialiser:
        """Returns the initial bias of the masks' logits, with the background ahead of the parts."""
        return Initialiser("constant", (self.background_start, *[0.0] * self.num_parts))

    @nn.compact
    def __call__(
        self,
        points: Float[Array, "b k p 2"],
        scales: Float[Array, "b k"],
        embeddings: Float[Array, "b k e"],
        *,
        train: bool,
    ) -> tuple[Float[Array, "b s s m"], Float[Array, "b s s k"]]:
        batch = embeddings.shape[0]
        centers = jnp.mean(points, axis=2)
        make_heatmaps = {
            "gaussian": geometry.gaussian_heatmaps,
            "linear": geometry.linear_heatmaps,
        }[self.heatmap]
        grids = {n: geometry.pixel_grid(n, self.margin, self.grid) for n in self.stage_sizes}
        heatmaps = {n: make_heatmaps(grid, centers, scales) for n, grid in grids.items()}

        first = self.stage_sizes[0]
        if self.use_points:
            encoding = OffsetEncoding(self.start_channels, dtype=self.dtype, name="start")
            x = encoding(points.reshape(batch, -1, 2), grids[first])
        else:
            start = LearnedStart(
                self.start_channels, first + 2 * self.margin, dtype=self.dtype, name="start"
            )
            x = start(batch)
        last = len(self.stage_sizes) - 1

        def block(i: int, size: int, unread: int, x: Array) -> Array:
            layer = ModulatedResBlock(
                self.hidden_channels if i < last else self.num_parts + 1,
                self.spade_hidden,
                unread,
                bias_init=zeros if i < last else self.background_first(),
                dtype=self.dtype,
                name=f"block_{i}",
            )
            if self.use_points:
                return layer(x, StyleMap(heatmaps[size], embeddings), train=train)
            return layer(x, jnp.mean(embeddings, axis=1), train=train)

        x = through_stages(x, self.stage_sizes, self.margin, block)
        masks = jax.nn.softmax(x.astype(jnp.float32), axis=-1)
        return masks, geometry.crop(heatmaps[self.stage_sizes[-1]], self.margin)

"""What all levels of the generator share: how their maps begin, and how they grow in stages.

A stage works on square maps of one size, which reach `margin` pixels beyond the image on each side.
The next stage has the same size or twice as much.
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from ganseg_jax import geometry
from ganseg_jax.models.blocks import dense
from ganseg_jax.models.initialise import standard_normal
from ganseg_jax.precision import EXACT


class OffsetEncoding(nn.Module):
    """Encodes differences d of given positions to each pixel: [sin(pi FC(d)), cos(pi FC(d))].

    The linear layer is applied to positions and pixels apart and the results are subtracted, so the
    differences (2 numbers for each position and pixel) are never stored.
    """

    channels: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, positions: Float[Array, "b n 2"], grid: Float[Array, "h w 2"]
    ) -> Float[Array, "b h w c"]:
        batch, count = positions.shape[:2]
        layer = dense(self.channels // 2, name="offsets", precision=EXACT)
        from_positions = layer(positions.reshape(batch, 2 * count))  # [B, C/2]
        kernel = nn.meta.unbox(layer.variables["params"]["kernel"]).reshape(count, 2, -1)
        from_pixels = jnp.einsum("hwi,nic->hwc", grid, kernel, precision=EXACT)
        phase = jnp.pi * (from_positions[:, None, None, :] - from_pixels)
        return jnp.concatenate([jnp.sin(phase), jnp.cos(phase)], axis=-1).astype(self.dtype)


class LearnedStart(nn.Module):
    """Learns a constant that replaces the encoding (the paper's ablation without points)."""

    channels: int
    size: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, batch: int) -> Float[Array, "b n n c"]:
        shape = (self.size, self.size, self.channels)
        start = self.param("start", standard_normal, shape, jnp.float32)
        return jnp.broadcast_to(start, (batch, *shape)).astype(self.dtype)


def unread_pixels(size: int, next_size: int | None, margin: int) -> int:
    """Returns the pixels on each side of a stage's result that nothing reads; blocks omit them."""
    if next_size is None:
        return margin
    return 0 if next_size == size else geometry.unread_by_upsampling(margin)


def stage_margins(sizes: Sequence[int], margin: int) -> tuple[int, ...]:
    """Returns the pixels by which each stage's result reaches beyond the image, on each side.

    Args:
      sizes: of the image in each stage, in pixels.
      margin: what the stages begin with, in pixels.
    """
    following = [*sizes[1:], None]
    return tuple(
        margin - unread_pixels(n, m, margin) for n, m in zip(sizes, following, strict=True)
    )


def to_next_stage(x: Array, size: int, next_size: int | None, margin: int) -> Array:
    """Upsamples a map without its `unread_pixels` if the size doubles."""
    if next_size in (None, size):
        return x
    unread = geometry.unread_by_upsampling(margin)
    return geometry.upsample_2x_inside(x, margin - 2 * unread)


def through_stages(
    x: Float[Array, "b h w c"],
    sizes: Sequence[int],
    margin: int,
    block: Callable[[int, int, int, Array], Array],
) -> Float[Array, "b s s f"]:
    """Applies one block a stage and upsamples between the stages.

    Args:
      x: the first stage's map, with its margin.
      sizes: of the image in each stage, in pixels.
      margin: pixels beyond the image on each side.
      block: (index of the stage, its size, pixels on each side to leave out, map) -> map.

    Returns:
      The last stage's map, without margin.
    """
    for i, (size, following) in enumerate(zip(sizes, [*sizes[1:], None], strict=True)):
        x = block(i, size, unread_pixels(size, following, margin), x)
        x = to_next_stage(x, size, following, margin)
    return x

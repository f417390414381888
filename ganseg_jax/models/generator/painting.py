"""Level 3: from masks and styles to the image."""

from collections.abc import Sequence
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from ganseg_jax import geometry
from ganseg_jax.models.blocks import AdaINConvBlock, ModulatedResBlock, StyleMap, conv, leaky_relu
from ganseg_jax.models.generator.stages import LearnedStart, OffsetEncoding, through_stages


class ForegroundGenerator(nn.Module):
    """Makes the foreground's feature map F, at image size, from masks and embeddings."""

    stage_sizes: Sequence[int]
    stage_channels: Sequence[int]
    out_channels: int
    margin: int
    spade_hidden: int
    grid: geometry.GridKind
    use_points: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        part_centers: Float[Array, "b k 2"],
        masks: Float[Array, "b s s m"],
        embeddings: Float[Array, "b m e"],
        *,
        train: bool,
    ) -> Float[Array, "b s s e"]:
        sizes, margin = self.stage_sizes, self.margin
        if self.use_points:
            encoding = OffsetEncoding(self.stage_channels[0], dtype=self.dtype, name="start")
            x = encoding(part_centers, geometry.pixel_grid(sizes[0], margin, self.grid))
        else:
            start = LearnedStart(
                self.stage_channels[0], sizes[0] + 2 * margin, dtype=self.dtype, name="start"
            )
            x = start(masks.shape[0])
        resized = {
            n: geometry.pad_edges(geometry.resize_bilinear(masks, n, n), margin) for n in set(sizes)
        }
        outputs = [*self.stage_channels[1:], self.out_channels]

        def block(i: int, size: int, unread: int, x: Array) -> Array:
            layer = ModulatedResBlock(
                outputs[i], self.spade_hidden, unread, dtype=self.dtype, name=f"block_{i}"
            )
            return layer(x, StyleMap(resized[size], embeddings), train=train)

        return through_stages(x, sizes, margin, block)


class BackgroundGenerator(nn.Module):
    """Makes the background's feature map B, at image size, from position and style."""

    stage_sizes: Sequence[int]
    stage_channels: Sequence[int]
    out_channels: int
    margin: int
    hidden: int
    grid: geometry.GridKind
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, position: Float[Array, "b 2"], style: Float[Array, "b e"], *, train: bool
    ) -> Float[Array, "b s s e"]:
        sizes, margin = self.stage_sizes, self.margin
        start = OffsetEncoding(self.stage_channels[0], dtype=self.dtype, name="start")
        x = start(position[:, None, :], geometry.pixel_grid(sizes[0], margin, self.grid))
        outputs = [*self.stage_channels[1:], self.out_channels]

        def block(i: int, size: int, unread: int, x: Array) -> Array:
            layer = AdaINConvBlock(
                outputs[i], self.hidden, unread, dtype=self.dtype, name=f"block_{i}"
            )
            return layer(x, style, train=train)

        return through_stages(x, sizes, margin, block)


class ImageHead(nn.Module):
    """Computes tanh(head(LeakyReLU(features))): two 3x3 convolutions, or a single 1x1."""

    kind: Literal["two_layer", "single"]
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b s s e"]) -> Float[Array, "b s s 3"]:
        x = leaky_relu(x)
        if self.kind == "two_layer":
            x = leaky_relu(conv(x.shape[-1], dtype=self.dtype, name="conv_0")(x))
            x = conv(3, dtype=self.dtype, name="conv_1")(x)
        else:
            x = conv(3, kernel_size=1, dtype=self.dtype, name="conv_0")(x)
        return jnp.tanh(x.astype(jnp.float32))

"""Residual networks (He et al. 2016) as dense feature extractors.

The bottleneck variant puts the stride on its 3x3 convolution ("v1.5").  Names of blocks and layers
are those of the usual PyTorch models, so that converted weights are easy to follow.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from ganseg_jax.models.blocks import BatchNorm
from ganseg_jax.models.convolution import Conv
from ganseg_jax.models.initialise import Initialiser, he_fan_out

STAGE_CHANNELS = (64, 128, 256, 512)
STAGE_BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet50": (3, 4, 6, 3)}


def scale_channels(channels: int, width: float) -> int:
    """Returns the channels at a fraction `width` of the published: a multiple of 8, >= 8."""
    return max(8, int(round(channels * width / 8)) * 8)


def _conv(
    like: "_Block | ResNet",
    features: int,
    size: int,
    name: str,
    stride: int = 1,
    dilation: int = 1,
) -> Conv:
    """Returns a convolution with the weights and type of the module that it is part of."""
    return Conv(
        features,
        size,
        stride,
        dilation,
        use_bias=False,
        kernel_init=like.kernel_init,
        dtype=like.dtype,
        name=name,
    )


def _with_shortcut(like: "_Block", x: Array, y: Array, *, train: bool) -> Float[Array, "b i j f"]:
    """Adds a block's input, projected if the block says so, to what its convolutions made of it."""
    if like.project:
        x = _conv(like, like.out_channels, 1, "downsample_conv", like.stride)(x)
        x = BatchNorm(dtype=like.dtype, name="downsample_bn")(x, train=train)
    return nn.relu(x + y)


class _Block(nn.Module):
    """Holds what both kinds of blocks are told."""

    channels: int
    out_channels: int
    stride: int = 1
    dilation: int = 1
    project: bool = False
    kernel_init: Initialiser = he_fan_out
    dtype: Any = jnp.float32


class BasicBlock(_Block):
    """Applies two 3x3 convolutions and a shortcut."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b i j f"]:
        y = _conv(self, self.channels, 3, "conv1", self.stride, self.dilation)(x)
        y = nn.relu(BatchNorm(dtype=self.dtype, name="bn1")(y, train=train))
        y = _conv(self, self.out_channels, 3, "conv2", dilation=self.dilation)(y)
        y = BatchNorm(dtype=self.dtype, name="bn2")(y, train=train)
        return _with_shortcut(self, x, y, train=train)


class Bottleneck(_Block):
    """Applies 1x1, 3x3 (strided, dilated) and 1x1 convolutions and a shortcut."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b i j f"]:
        y = _conv(self, self.channels, 1, "conv1")(x)
        y = nn.relu(BatchNorm(dtype=self.dtype, name="bn1")(y, train=train))
        y = _conv(self, self.channels, 3, "conv2", self.stride, self.dilation)(y)
        y = nn.relu(BatchNorm(dtype=self.dtype, name="bn2")(y, train=train))
        y = _conv(self, self.out_channels, 1, "conv3")(y)
        y = BatchNorm(dtype=self.dtype, name="bn3")(y, train=train)
        return _with_shortcut(self, x, y, train=train)


class ResNet(nn.Module):
    """Applies a residual network without its classifier.

    Strides are spent from the input on until the features are `output_stride` times smaller than
    the image; each later stage is dilated instead, its first block keeping the dilation of the
    stage before (Chen et al. 2017, "Rethinking atrous convolution").

    Attributes:
      kind: "resnet50" (bottleneck blocks) or "resnet18" (basic blocks).
      width: fraction of the published number of channels.
      output_stride: 2, 4, 8, 16 or 32 (2 only without `stem_pool`).
      stem_pool: the 3x3 max pool of stride 2 behind the first convolution; leave it out for images
        of 32 or 64 pixels.
      kernel_init: of all convolutions.
      dtype: type of the computation.
    """

    kind: str = "resnet50"
    width: float = 1.0
    output_stride: int = 8
    stem_pool: bool = True
    kernel_init: Initialiser = he_fan_out
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 3"], *, train: bool) -> Float[Array, "b i j f"]:
        if self.kind not in STAGE_BLOCKS:
            raise ValueError(f"backbone {self.kind!r} is none of {', '.join(STAGE_BLOCKS)}")
        least = 4 if self.stem_pool else 2
        allowed = [s for s in (2, 4, 8, 16, 32) if s >= least]
        if self.output_stride not in allowed:
            raise ValueError(
                f"output_stride {self.output_stride} is none of {allowed} "
                f"(with stem_pool={self.stem_pool})"
            )
        block, expansion = (Bottleneck, 4) if self.kind == "resnet50" else (BasicBlock, 1)
        channels = [scale_channels(c, self.width) for c in STAGE_CHANNELS]
        x = _conv(self, channels[0], 7, "conv1", stride=2)(x.astype(self.dtype))
        x = nn.relu(BatchNorm(dtype=self.dtype, name="bn1")(x, train=train))
        if self.stem_pool:
            x = nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        reached, dilation = least, 1
        for stage, (width, count) in enumerate(
            zip(channels, STAGE_BLOCKS[self.kind], strict=True), start=1
        ):
            stride, first_dilation = 1, dilation
            if stage > 1 and reached < self.output_stride:
                stride, reached = 2, reached * 2
            elif stage > 1:
                dilation *= 2
            for i in range(count):
                out = width * expansion
                x = block(
                    channels=width,
                    out_channels=out,
                    stride=stride if i == 0 else 1,
                    dilation=first_dilation if i == 0 else dilation,
                    project=i == 0 and (stride != 1 or x.shape[-1] != out),
                    kernel_init=self.kernel_init,
                    dtype=self.dtype,
                    name=f"layer{stage}_{i}",
                )(x, train=train)
        return x


def stage_names(kind: str) -> Sequence[str]:
    """Returns the names of the residual blocks in order, e.g. `layer1_0`."""
    return [
        f"layer{stage}_{i}"
        for stage, count in enumerate(STAGE_BLOCKS[kind], start=1)
        for i in range(count)
    ]

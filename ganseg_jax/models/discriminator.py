"""The discriminator of GANSeg: strided residual blocks and two linear layers."""

import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from ganseg_jax import rules
from ganseg_jax.models.blocks import conv, dense, leaky_relu


def default_channels(image_size: int) -> tuple[int, ...]:
    """Returns 64, 128, 256, then 512: as many blocks as bring `image_size` to 2 pixels."""
    blocks = int(math.log2(image_size)) - 1
    if 2 ** (blocks + 1) != image_size or blocks < 1:
        raise ValueError(f"image_size must be a power of two from 4 up, not {image_size}")
    return tuple(min(64 * 2**i, 512) for i in range(blocks))


class DiscriminatorBlock(nn.Module):
    """Computes (three 3x3 convolutions + 1x1 shortcut) / sqrt(2), halving the size."""

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h/2 w/2 f"]:
        shortcut = conv(
            self.features, kernel_size=1, stride=2, dtype=self.dtype, name="conv_shortcut"
        )(x)
        x = leaky_relu(conv(self.features, dtype=self.dtype, name="conv_0")(x))
        x = leaky_relu(conv(self.features, dtype=self.dtype, name="conv_1")(x))
        x = conv(self.features, stride=2, dtype=self.dtype, name="conv_2")(x)
        return (x + shortcut) * (1 / math.sqrt(2))


class Discriminator(nn.Module):
    """Maps images to one logit each.

    Attributes:
      channels: of each block; `default_channels(image_size)` gives the published ones.
      hidden: units of the linear layer before the logit.
      dtype: type to compute in; the logits are float32.
    """

    channels: Sequence[int] = (64, 128, 256, 512, 512, 512)
    hidden: int = 512
    dtype: Any = jnp.float32

    @nn.compact
    @rules.usual(types=False)
    def __call__(self, images: Float[Array, "b s s 3"]) -> Float[Array, "b"]:
        x = images.astype(self.dtype)
        for i, features in enumerate(self.channels):
            x = DiscriminatorBlock(features, dtype=self.dtype, name=f"block_{i}")(x)
        x = x.reshape(x.shape[0], -1)  # [B, 2 * 2 * C]
        x = leaky_relu(dense(self.hidden, dtype=self.dtype, name="hidden")(x))
        return dense(1, dtype=self.dtype, name="logit")(x)[:, 0].astype(jnp.float32)

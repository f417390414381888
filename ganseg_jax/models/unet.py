"""U-Net (Ronneberger et al. 2015) with bilinear upsampling, for any image size.

The network that auto-shot segmentation trains (Tritrong et al., CVPR 2021, section 3.3).
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ganseg_jax import geometry, rules
from ganseg_jax.models.blocks import BatchNorm
from ganseg_jax.models.convolution import Conv


class DoubleConv(nn.Module):
    """Applies twice: 3x3 convolution, batch normalisation, ReLU."""

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h w f"]:
        for i in range(2):
            x = Conv(self.features, dtype=self.dtype, name=f"conv_{i}")(x)
            x = jax.nn.relu(BatchNorm(dtype=self.dtype, name=f"norm_{i}")(x, train=train))
        return x


class UNet(nn.Module):
    """Joins encoder and decoder at every size.

    Attributes:
      num_classes: background included.
      width: channels at full size; they double with each halving, up to 8 times as many (64 to
        512 by default).
      depth: number of halvings. Images of any size from 2^depth pixels a side fit.
      dtype: type to compute in; logits are float32.
    """

    num_classes: int
    width: int = 64
    depth: int = 4
    dtype: Any = jnp.float32

    @nn.compact
    @rules.usual(types=False)
    def __call__(
        self, images: Float[Array, "b h w 3"], *, train: bool
    ) -> Float[Array, "b h w classes"]:
        """Returns logits of images in [-1, 1]."""
        height, width = images.shape[1:3]
        if min(height, width) < 2**self.depth:
            raise ValueError(
                f"images of {height}x{width} pixels are too small to be halved {self.depth} times"
            )
        channels = [self.width * min(2**i, 8) for i in range(self.depth + 1)]
        x = images.astype(self.dtype)
        skips = []
        for i, count in enumerate(channels):
            x = DoubleConv(count, dtype=self.dtype, name=f"down_{i}")(x, train=train)
            if i < self.depth:
                skips.append(x)
                x = nn.max_pool(x, (2, 2), (2, 2))
        for i, skip in reversed(list(enumerate(skips))):
            x = jnp.concatenate([skip, upsample_to(x, skip.shape[1], skip.shape[2])], axis=-1)
            count = channels[max(i - 1, 0)]
            x = DoubleConv(count, dtype=self.dtype, name=f"up_{i}")(x, train=train)
        logits = Conv(self.num_classes, kernel_size=1, dtype=self.dtype, name="classes")(x)
        return logits.astype(jnp.float32)


def upsample_to(x: Float[Array, "b h w c"], height: int, width: int) -> Array:
    """Doubles the size, and repeats the last row or column if the halved side was odd."""
    x = geometry.upsample_2x(x)
    missing = {1: (0, height - x.shape[1]), 2: (0, width - x.shape[2])}
    return geometry.repeat_edges(x, missing)

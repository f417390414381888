"""Inception-v3 as the Frechet Inception distance is measured with (Heusel et al. 2017).

It is the network of the TensorFlow release, which differs from Szegedy et al. 2016: average pools
leave the padding out of their mean, the last block's pooling branch takes the maximum, and there
are 1008 classes.  It is only ever evaluated, never trained.  Layers have the names of the PyTorch
conversion in common use.
"""

from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ganseg_jax import geometry
from ganseg_jax.models.initialise import ones, zeros

INPUT_SIZE = 299


@flax.struct.dataclass
class InceptionFeatures:
    """Computes activations at several depths, float32.

    Attributes:
      block0: behind the first max pool, 64 channels.
      pre_aux: behind Mixed_6e, 768 channels.
      pool3: the mean over positions that the Frechet distance is measured on.
      logits: of the 1008 classes.
    """

    block0: Float[Array, "b 73 73 64"]
    pre_aux: Float[Array, "b 17 17 768"]
    pool3: Float[Array, "b 2048"]
    logits: Float[Array, "b 1008"]


def _max_pool(x: Array, stride: int = 2, pad: int = 0) -> Array:
    return nn.max_pool(x, (3, 3), strides=(stride, stride), padding=((pad, pad), (pad, pad)))


def _mean_pool(x: Array) -> Array:
    return nn.avg_pool(x, (3, 3), padding=((1, 1), (1, 1)), count_include_pad=False)


class FrozenBatchNorm(nn.Module):
    """Normalises by stored statistics alone, as one multiplication and one addition.

    Its variables are those of `blocks.BatchNorm`.
    """

    epsilon: float = 1e-3
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "*b c"]) -> Float[Array, "*b c"]:
        shape = (x.shape[-1],)
        mean = self.variable("batch_stats", "mean", zeros, None, shape)
        var = self.variable("batch_stats", "var", ones, None, shape)
        scale = self.param("scale", ones, shape, jnp.float32)
        bias = self.param("bias", zeros, shape, jnp.float32)
        factor = scale * jax.lax.rsqrt(var.value + self.epsilon)
        offset = bias - mean.value * factor
        return (x.astype(jnp.float32) * factor + offset).astype(self.dtype)


class ConvUnit(nn.Module):
    """Applies a convolution without bias, batch normalisation, ReLU."""

    features: int
    size: tuple[int, int] = (1, 1)
    stride: int = 1
    pad: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b i j f"]:
        pads = [(n // 2, n // 2) if self.pad else (0, 0) for n in self.size]
        x = nn.Conv(
            self.features,
            self.size,
            strides=self.stride,
            padding=pads,
            use_bias=False,
            dtype=self.dtype,
            name="conv",
        )(x)
        return nn.relu(FrozenBatchNorm(dtype=self.dtype, name="bn")(x))


class Mixed(nn.Module):
    """Applies parallel branches: the common part of the five kinds below."""

    dtype: Any = jnp.float32

    def unit(self, x, name, features, size=(1, 1), stride=1, pad=True):
        """Applies one `ConvUnit`; a square size may be given as one number."""
        size = (size, size) if isinstance(size, int) else size
        return ConvUnit(features, size, stride, pad, self.dtype, name=name)(x)


class MixedA(Mixed):
    """Applies, at 35 x 35: 1x1, 5x5, two 3x3, mean pool (Mixed_5b to 5d)."""

    pool_features: int = 64

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w f"]:
        wide = self.unit(x, "branch5x5_1", 48)
        deep = self.unit(x, "branch3x3dbl_1", 64)
        deep = self.unit(deep, "branch3x3dbl_2", 96, 3)
        branches = [
            self.unit(x, "branch1x1", 64),
            self.unit(wide, "branch5x5_2", 64, 5),
            self.unit(deep, "branch3x3dbl_3", 96, 3),
            self.unit(_mean_pool(x), "branch_pool", self.pool_features),
        ]
        return jnp.concatenate(branches, -1)


class MixedB(Mixed):
    """Reduces 35 x 35 to 17 x 17 (Mixed_6a)."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b i j f"]:
        deep = self.unit(x, "branch3x3dbl_1", 64)
        deep = self.unit(deep, "branch3x3dbl_2", 96, 3)
        branches = [
            self.unit(x, "branch3x3", 384, 3, stride=2, pad=False),
            self.unit(deep, "branch3x3dbl_3", 96, 3, stride=2, pad=False),
            _max_pool(x),
        ]
        return jnp.concatenate(branches, -1)


class MixedC(Mixed):
    """Applies, at 17 x 17: 1x1, 7x7 in two steps, twice 7x7, mean pool (Mixed_6b to 6e)."""

    middle: int = 128

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w f"]:
        row, col, middle = (1, 7), (7, 1), self.middle
        once = self.unit(x, "branch7x7_1", middle)
        once = self.unit(once, "branch7x7_2", middle, row)
        twice = self.unit(x, "branch7x7dbl_1", middle)
        for i, size in enumerate((col, row, col), start=2):
            twice = self.unit(twice, f"branch7x7dbl_{i}", middle, size)
        branches = [
            self.unit(x, "branch1x1", 192),
            self.unit(once, "branch7x7_3", 192, col),
            self.unit(twice, "branch7x7dbl_5", 192, row),
            self.unit(_mean_pool(x), "branch_pool", 192),
        ]
        return jnp.concatenate(branches, -1)


class MixedD(Mixed):
    """Reduces 17 x 17 to 8 x 8 (Mixed_7a)."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b i j f"]:
        short = self.unit(x, "branch3x3_1", 192)
        long = self.unit(x, "branch7x7x3_1", 192)
        long = self.unit(long, "branch7x7x3_2", 192, (1, 7))
        long = self.unit(long, "branch7x7x3_3", 192, (7, 1))
        branches = [
            self.unit(short, "branch3x3_2", 320, 3, stride=2, pad=False),
            self.unit(long, "branch7x7x3_4", 192, 3, stride=2, pad=False),
            _max_pool(x),
        ]
        return jnp.concatenate(branches, -1)


class MixedE(Mixed):
    """Applies, at 8 x 8: 1x1, split 3x3, deep split 3x3, pool (Mixed_7b mean, 7c maximum)."""

    use_max_pool: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w f"]:
        row, col = (1, 3), (3, 1)
        short = self.unit(x, "branch3x3_1", 384)
        deep = self.unit(x, "branch3x3dbl_1", 448)
        deep = self.unit(deep, "branch3x3dbl_2", 384, 3)
        pooled = _max_pool(x, stride=1, pad=1) if self.use_max_pool else _mean_pool(x)
        branches = [
            self.unit(x, "branch1x1", 320),
            self.unit(short, "branch3x3_2a", 384, row),
            self.unit(short, "branch3x3_2b", 384, col),
            self.unit(deep, "branch3x3dbl_3a", 384, row),
            self.unit(deep, "branch3x3dbl_3b", 384, col),
            self.unit(pooled, "branch_pool", 192),
        ]
        return jnp.concatenate(branches, -1)


class FIDInception(nn.Module):
    """Maps images to Inception features.

    Attributes:
      dtype: type of the computation; published distances were measured in float32.
    """

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Float[Array, "b h w 3"]) -> InceptionFeatures:
        """Returns features of images in [0, 1] of any size, resized to 299 x 299 bilinearly."""

        def unit(x, name, features, size=1, **settings):
            return ConvUnit(features, (size, size), dtype=self.dtype, name=name, **settings)(x)

        images = images.astype(jnp.float32)
        x = geometry.resize_bilinear(images, INPUT_SIZE, INPUT_SIZE)
        x = (2.0 * x - 1.0).astype(self.dtype)
        x = unit(x, "Conv2d_1a_3x3", 32, 3, stride=2, pad=False)
        x = unit(x, "Conv2d_2a_3x3", 32, 3, pad=False)
        x = unit(x, "Conv2d_2b_3x3", 64, 3)
        block0 = _max_pool(x)
        x = unit(block0, "Conv2d_3b_1x1", 80)
        x = unit(x, "Conv2d_4a_3x3", 192, 3, pad=False)
        x = _max_pool(x)
        for name, features in (("Mixed_5b", 32), ("Mixed_5c", 64), ("Mixed_5d", 64)):
            x = MixedA(self.dtype, features, name=name)(x)
        x = MixedB(self.dtype, name="Mixed_6a")(x)
        middles = {"Mixed_6b": 128, "Mixed_6c": 160, "Mixed_6d": 160, "Mixed_6e": 192}
        for name, middle in middles.items():
            x = MixedC(self.dtype, middle, name=name)(x)
        pre_aux = x
        x = MixedD(self.dtype, name="Mixed_7a")(x)
        x = MixedE(self.dtype, name="Mixed_7b")(x)
        x = MixedE(self.dtype, use_max_pool=True, name="Mixed_7c")(x)
        pool3 = jnp.mean(x.astype(jnp.float32), axis=(1, 2))
        logits = nn.Dense(1008, name="fc")(pool3)
        return InceptionFeatures(
            block0=block0.astype(jnp.float32),
            pre_aux=pre_aux.astype(jnp.float32),
            pool3=pool3,
            logits=logits,
        )

"""Building blocks shared by the networks: normalisation, modulation, residual blocks.

Every block takes `dtype`, the type it computes in; parameters stay float32, and so do the
statistics of batch normalisation. Activations are NHWC.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

LEAKY_SLOPE = 0.2

# He et al. 2015 for a leaky ReLU of slope 0.2: variance 2 / ((1 + 0.2^2) fan_in).
he_normal = jax.nn.initializers.variance_scaling(
    2.0 / (1.0 + LEAKY_SLOPE**2), "fan_in", "normal"
)


def leaky_relu(x: Array) -> Array:
    """LeakyReLU of slope 0.2, the only activation of the published GAN."""
    return jax.nn.leaky_relu(x, LEAKY_SLOPE)


class BatchNorm(nn.Module):
    """Batch normalisation over all axes but the last, with PyTorch's conventions.

    The running variance is the unbiased one, while the batch is normalised by the biased one.
    Under `jax.jit` with a batch split over devices the mean is taken over the global batch, so
    the statistics are global by construction.

    Attributes:
      use_affine: learn a scale and an offset per channel.
      momentum: share of the old running average kept in each step.
      epsilon: added to the variance.
      dtype: type of the result; statistics are always float32.
    """

    use_affine: bool = True
    momentum: float = 0.9
    epsilon: float = 1e-5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "*b c"], *, train: bool) -> Float[Array, "*b c"]:
        channels = x.shape[-1]
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,), jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, (channels,), jnp.float32)
        x = x.astype(jnp.float32)
        if train:
            axes = tuple(range(x.ndim - 1))
            mean = jnp.mean(x, axes)
            var = jnp.mean(jnp.square(x - mean), axes)
            if not self.is_initializing():
                count = x.size // channels
                unbiased = var * (count / max(count - 1, 1))
                keep = self.momentum
                running_mean.value = keep * running_mean.value + (1 - keep) * mean
                running_var.value = keep * running_var.value + (1 - keep) * unbiased
        else:
            mean, var = running_mean.value, running_var.value
        factor = jax.lax.rsqrt(var + self.epsilon)
        if self.use_affine:
            factor *= self.param("scale", nn.initializers.ones, (channels,), jnp.float32)
        x = (x - mean) * factor
        if self.use_affine:
            x += self.param("bias", nn.initializers.zeros, (channels,), jnp.float32)
        return x.astype(self.dtype)


class Conv(nn.Module):
    """3x3 (or 1x1) convolution with zero padding that keeps the size, He-normal weights.

    A stride of 2 pads one pixel on each side, as PyTorch does.
    """

    features: int
    kernel_size: int = 3
    stride: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b i j f"]:
        pad = (self.kernel_size - 1) // 2
        return nn.Conv(
            self.features,
            (self.kernel_size, self.kernel_size),
            strides=self.stride,
            padding=[(pad, pad), (pad, pad)],
            kernel_init=he_normal,
            dtype=self.dtype,
            name="conv",
        )(x)

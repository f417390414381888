"""Building blocks shared by the networks: normalisation, modulation, residual blocks.

Every block takes `dtype`, the type it computes in; parameters stay float32, and so do the
statistics of batch normalisation. Activations are NHWC.
"""

import functools
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ganseg_jax import geometry
from ganseg_jax.models.convolution import Conv, convolve, convolve_plainly
from ganseg_jax.models.initialise import Initialiser, he_leaky, ones, zeros
from ganseg_jax.precision import Precision

LEAKY_SLOPE = 0.2


def leaky_relu(x: Array) -> Array:
    """Applies LeakyReLU of slope 0.2, the only activation of the published GAN."""
    return _leaky_relu(x)


@jax.custom_jvp
def _leaky_relu(x: Array) -> Array:
    return jnp.where(x >= 0, x, LEAKY_SLOPE * x)


@_leaky_relu.defjvp
def _leaky_relu_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    # The sign is read off the result, so that no backward pass needs the argument as well.
    y, (tangent,) = _leaky_relu(*primals), tangents
    return y, jnp.where(y >= 0, tangent, LEAKY_SLOPE * tangent)


def _moments(
    x: Float[Array, "*b c"], near: Float[Array, "c"]
) -> tuple[Float[Array, "c"], Float[Array, "c"]]:
    """Returns mean and biased variance of each channel.

    On TPUs the map is read once instead of twice: the variance is the mean square of x - `near`
    less the square of its mean. Cancellation multiplies the relative error of a float32 sum by
    1 + (mean - near)^2 / variance.

    Args:
      x: a map, float32.
      near: a guess of the mean, such as the running one; no gradient flows into it.
    """
    return _moments_near(x, jax.lax.stop_gradient(near))


@jax.custom_jvp
def _moments_near(x: Array, near: Array) -> tuple[Array, Array]:
    axes = tuple(range(x.ndim - 1))

    def twice(x: Array, near: Array) -> tuple[Array, Array]:
        mean = jnp.mean(x, axes)
        return mean, jnp.mean(jnp.square(x - mean), axes)

    def once(x: Array, near: Array) -> tuple[Array, Array]:
        away = x - near
        mean = jnp.mean(away, axes)
        square = jnp.mean(jnp.square(away), axes)
        return near + mean, jnp.maximum(square - jnp.square(mean), 0.0)

    moments: tuple[Array, Array] = jax.lax.platform_dependent(x, near, tpu=once, default=twice)
    return moments


@_moments_near.defjvp
def _moments_near_jvp(
    primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    # One form for all platforms: differentiating both would take half of a step's tracing. The
    # mean's own change is left out of the variance's, since deviations sum to 0.
    (x, near), (dx, _) = primals, tangents
    axes = tuple(range(x.ndim - 1))
    mean, var = _moments_near(x, near)
    return (mean, var), (jnp.mean(dx, axes), 2 * jnp.mean((x - mean) * dx, axes))


class BatchNorm(nn.Module):
    """Normalises over all axes but the last, with PyTorch's conventions.

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
        running_mean = self.variable("batch_stats", "mean", zeros, None, (channels,))
        running_var = self.variable("batch_stats", "var", ones, None, (channels,))
        x = x.astype(jnp.float32)
        if train:
            mean, var = _moments(x, running_mean.value)
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
            factor *= self.param("scale", ones, (channels,), jnp.float32)
        x = (x - mean) * factor
        if self.use_affine:
            x += self.param("bias", zeros, (channels,), jnp.float32)
        return x.astype(self.dtype)


def conv(
    features: int,
    kernel_size: int = 3,
    stride: int = 1,
    dtype: Any = jnp.float32,
    name: str = "",
    bias_init: Initialiser = zeros,
) -> Conv:
    """Returns a convolution with He-normal weights and (kernel_size - 1) / 2 zeros on each side."""
    return Conv(
        features,
        kernel_size,
        stride,
        kernel_init=he_leaky,
        bias_init=bias_init,
        dtype=dtype,
        name=name or None,
    )


def dense(
    features: int,
    dtype: Any = jnp.float32,
    name: str = "",
    bias_init: Initialiser = zeros,
    precision: Precision | None = None,
) -> nn.Dense:
    """Returns a linear layer with He-normal weights and, unless told otherwise, zero bias."""
    return nn.Dense(
        features,
        kernel_init=he_leaky,
        bias_init=bias_init,
        dtype=dtype,
        precision=precision,
        name=name or None,
    )


def conv_inside(layer: Conv, x: Float[Array, "b h w c"], crop: int) -> Float[Array, "b i j f"]:
    """Returns a 3x3 convolution's map without `crop` pixels a side, of which it computes one."""
    if not crop:
        return layer(x)
    return geometry.crop(layer(geometry.crop(x, crop - 1)), 1)


@flax.struct.dataclass
class StyleMap:
    """Holds a map of style vectors in the form that GANSeg makes them: sum_k weights_k(p) w_k.

    Kept in factors, because a convolution of it costs K / E as much that way.
    """

    weights: Float[Array, "b h w k"]
    embeddings: Float[Array, "b k e"]


def neighbourhoods(x: Float[Array, "b h w c"]) -> Float[Array, "b h w 9*c"]:
    """Returns each pixel's 3x3 neighbourhood, zero outside, as channels (row, col, channel)."""
    height, width = x.shape[1:3]
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifted = [x[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return jnp.concatenate(shifted, axis=-1)


class StyleConv(nn.Module):
    """Computes `count` maps of hidden features from a `StyleMap`: LeakyReLU of 3x3 convolutions.

    conv(sum_k m_k w_k) = sum_k conv_1(m_k) contracted with (kernel w_k): the maps' 3x3
    neighbourhoods are multiplied with K kernels per image, and the E-channel map is never made.
    With few embedding channels to a part that gains nothing, and the map is made. On TPUs, whose
    lanes the neighbourhoods' channels do not fill, it always is, and each of the results has a
    convolution of its own, because splitting one would copy it.
    """

    features: int
    count: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, style: StyleMap) -> list[Array]:
        parts, channels = style.embeddings.shape[1:]
        features = self.count * self.features
        kernel = self.param("kernel", he_leaky, (3, 3, channels, features), jnp.float32)
        bias = self.param("bias", zeros, (features,), jnp.float32)
        weights = style.weights.astype(self.dtype)
        kernel, bias = kernel.astype(self.dtype), bias.astype(self.dtype)
        embeddings = style.embeddings.astype(self.dtype)

        def split(x: Array) -> list[Array]:
            return jnp.split(x, self.count, axis=-1)

        def make_map(weights: Array, embeddings: Array) -> Array:
            return jnp.einsum("bhwk,bke->bhwe", weights, embeddings)

        def apart(weights: Array, embeddings: Array, kernel: Array) -> list[Array]:
            x = make_map(weights, embeddings)
            return [convolve_plainly(x, kernel) for kernel in split(kernel)]

        def together(weights: Array, embeddings: Array, kernel: Array) -> list[Array]:
            if channels < 4 * parts:
                return split(convolve(make_map(weights, embeddings), kernel))
            kernels = jnp.einsum("ijef,bke->bijkf", kernel, embeddings)
            kernels = kernels.reshape(-1, 9 * parts, features)  # [B, 9K, F]
            return split(jnp.einsum("bhwi,bif->bhwf", neighbourhoods(weights), kernels))

        hidden: list[Array] = jax.lax.platform_dependent(
            weights, embeddings, kernel, tpu=apart, default=together
        )
        return [leaky_relu(x + bias) for x, bias in zip(hidden, split(bias), strict=True)]


class StyleFeatures(nn.Module):
    """Computes hidden features of a style for each of `count` modulations, in one layer.

    Published models have a layer for each modulation; all of a block read the same style, so that
    one with their features side by side is the same function.
    """

    hidden: int
    count: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, style: StyleMap | Float[Array, "b e"]) -> list[Array]:
        if isinstance(style, StyleMap):
            return StyleConv(self.hidden, self.count, dtype=self.dtype, name="layer")(style)
        x = dense(self.count * self.hidden, dtype=self.dtype, name="layer")(style)
        return jnp.split(leaky_relu(x), self.count, axis=-1)


class Modulation(nn.Module):
    """Returns (1 + gamma) norm(x) + beta, with gamma and beta from hidden style features.

    SPADE (Park et al. 2019) where these are a map, AdaIN where they are one vector per image.
    gamma is the first half of what the one layer gives.

    Attributes:
      crop: pixels on each side that the result lacks; the statistics are the whole map's.
      dtype: type of the result.
    """

    crop: int = 0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], hidden: Array, *, train: bool
    ) -> Float[Array, "b i j c"]:
        channels = x.shape[-1]
        x = BatchNorm(use_affine=False, dtype=self.dtype, name="norm")(x, train=train)
        x = geometry.crop(x, self.crop)
        if hidden.ndim == 4:
            layer = conv(2 * channels, dtype=self.dtype, name="modulation")
            modulation = conv_inside(layer, hidden, self.crop)
        else:
            modulation = dense(2 * channels, dtype=self.dtype, name="modulation")(hidden)
            modulation = modulation[:, None, None, :]
        gamma, beta = jnp.split(modulation, 2, axis=-1)
        return (1 + gamma) * x + beta


class ModulatedResBlock(nn.Module):
    """Applies a residual block whose normalisations a style modulates: a map or a vector.

    Where the number of channels changes, the shortcut is a modulated convolution, without
    activation.

    Attributes:
      features: channels of the result.
      hidden: channels of the style's hidden features.
      crop: pixels on each side that the result lacks, and that are not computed either.
      bias_init: of the last convolution's bias.
      dtype: type of the result.
    """

    features: int
    hidden: int
    crop: int = 0
    bias_init: Initialiser = zeros
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], style: StyleMap | Float[Array, "b e"], *, train: bool
    ) -> Float[Array, "b i j f"]:
        inside = max(self.crop - 1, 0)  # What the last convolutions read.
        middle = min(x.shape[-1], self.features)
        with_shortcut = x.shape[-1] != self.features
        style_features = StyleFeatures(
            self.hidden, 3 if with_shortcut else 2, dtype=self.dtype, name="style"
        )(style)

        def modulate(name: str, x: Array, hidden: Array, crop: int) -> Array:
            return Modulation(crop, dtype=self.dtype, name=name)(x, hidden, train=train)

        def last_conv(name: str, x: Array, bias_init: Initialiser = zeros) -> Array:
            layer = conv(self.features, dtype=self.dtype, name=name, bias_init=bias_init)
            return conv_inside(layer, x, self.crop - inside)

        h = leaky_relu(modulate("modulate_0", x, style_features[0], 0))
        h = conv(middle, dtype=self.dtype, name="conv_0")(h)
        h = leaky_relu(modulate("modulate_1", h, style_features[1], inside))
        h = last_conv("conv_1", h, self.bias_init)
        if with_shortcut:
            x = modulate("modulate_shortcut", x, style_features[2], inside)
            return last_conv("conv_shortcut", x) + h
        return geometry.crop(x, self.crop) + h


class AdaINConvBlock(nn.Module):
    """Applies AdaIN, LeakyReLU and a 3x3 convolution; no residual (the background's block).

    Its fields are those of `ModulatedResBlock`.
    """

    features: int
    hidden: int
    crop: int = 0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], style: Float[Array, "b e"], *, train: bool
    ) -> Float[Array, "b i j f"]:
        inside = max(self.crop - 1, 0)
        (hidden,) = StyleFeatures(self.hidden, 1, dtype=self.dtype, name="style")(style)
        x = Modulation(inside, dtype=self.dtype, name="modulate")(x, hidden, train=train)
        layer = conv(self.features, dtype=self.dtype, name="conv")
        return conv_inside(layer, leaky_relu(x), self.crop - inside)


class MLP(nn.Module):
    """Applies `layers` hidden layers of `hidden` units with LeakyReLU, then a linear one."""

    features: int
    hidden: int
    layers: int
    bias_init: Initialiser = zeros
    precision: Precision | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b c"]) -> Float[Array, "b f"]:
        linear = functools.partial(dense, dtype=self.dtype, precision=self.precision)
        for i in range(self.layers):
            x = leaky_relu(linear(self.hidden, name=f"hidden_{i}")(x))
        return linear(self.features, name="out", bias_init=self.bias_init)(x)

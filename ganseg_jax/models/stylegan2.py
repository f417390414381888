"""StyleGAN2 generator (Karras et al. 2020, Analyzing and Improving the Image Quality of StyleGAN).

Weights are kept as trained under the equalised learning rate: every layer scales its stored weight
at run time, so converted checkpoints can be trained further with the published settings.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ganseg_jax.models.initialise import Initialiser, standard_normal, zeros

BASE_SIZE = 4


def channels_at(size: int, channel_multiplier: int) -> int:
    """Channels of the feature maps of `size` x `size` pixels (a power of two from 4 to 1024)."""
    return 512 if size <= 32 else 256 * channel_multiplier * 64 // size


def scaled_leaky_relu(x: jax.Array) -> jax.Array:
    """Applies leaky ReLU (slope 0.2) times sqrt(2), which keeps the variance of its input."""
    return jax.nn.leaky_relu(x, 0.2) * math.sqrt(2.0)


def filter_separable(x: jax.Array, taps: Sequence[float], *, gain: float) -> jax.Array:
    """Filters rows and columns of [B, H, W, C], 'valid', with `taps` scaled to sum sqrt(gain)."""
    total = sum(taps)
    for axis in (1, 2):
        length = x.shape[axis] - len(taps) + 1
        parts = (
            jax.lax.slice_in_dim(x, i, i + length, axis=axis) * (tap / total * math.sqrt(gain))
            for i, tap in enumerate(reversed(taps))
        )
        x = functools.reduce(jnp.add, parts)
    return x


def upsample(x: jax.Array, taps: Sequence[float]) -> jax.Array:
    """Doubles the size of [B, H, W, C]: zeros between the pixels, then the FIR low-pass `taps`."""
    before = (len(taps) - 1) // 2 + 1
    after = (len(taps) - 2) // 2 + 1  # one of these zeros follows the last pixel
    padding = (before, after, 1)
    x = jax.lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), padding, padding, (0, 0, 0)])
    return filter_separable(x, taps, gain=4.0)


class EqualizedDense(nn.Module):
    """Applies a linear layer; its weight counts `rate / sqrt(inputs)` times, its bias `rate`."""

    features: int
    rate: float = 1.0
    bias_init: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        inputs = x.shape[-1]
        kernel = self.param(
            "kernel", Initialiser("normal", 1.0 / self.rate), (inputs, self.features)
        )
        bias = self.param("bias", Initialiser("constant", self.bias_init), (self.features,))
        return x @ (kernel * (self.rate / math.sqrt(inputs))) + bias * self.rate


class MappingNetwork(nn.Module):
    """Maps z [B, D] to w [B, D]: pixel norm, then linear layers at learning rate x 0.01."""

    num_layers: int
    features: int

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        x = z * jax.lax.rsqrt(jnp.mean(jnp.square(z), axis=-1, keepdims=True) + 1e-8)
        for i in range(self.num_layers):
            x = scaled_leaky_relu(EqualizedDense(self.features, rate=0.01, name=f"dense_{i}")(x))
        return x


class ModulatedConv(nn.Module):
    """Convolves input channels that a style scales, one scale per image.

    With `demodulate` every output channel is divided by the norm of its modulated kernel. Both are
    applied to the maps and not to the kernel, so that one convolution serves the whole batch.
    """

    features: int
    kernel_size: int
    demodulate: bool = True
    upsample_taps: tuple[float, ...] | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, w: jax.Array) -> jax.Array:
        inputs, size = x.shape[-1], self.kernel_size
        kernel = self.param("kernel", standard_normal, (size, size, inputs, self.features))
        kernel = kernel / math.sqrt(inputs * size**2)
        style = EqualizedDense(inputs, bias_init=1.0, name="modulation")(w)  # [B, I]
        x = x.astype(self.dtype) * style[:, None, None, :].astype(self.dtype)
        if self.upsample_taps is None:
            x = _convolve(x, kernel.astype(self.dtype), padding="SAME")
        else:
            # A transposed convolution of stride 2 is a convolution of the zero-filled map with the
            # kernel turned by 180 degrees.
            turned = kernel[::-1, ::-1].astype(self.dtype)
            outer = (size - 1, size - 1)
            x = _convolve(x, turned, padding=[outer, outer], lhs_dilation=(2, 2))  # [B, 2H+1, ...]
            total = len(self.upsample_taps) - size + 1
            edge = (total - total // 2, total // 2)
            x = jnp.pad(x, [(0, 0), edge, edge, (0, 0)])
            x = filter_separable(x, self.upsample_taps, gain=4.0)
        if self.demodulate:
            energy = jnp.square(style) @ jnp.sum(jnp.square(kernel), axis=(0, 1))  # [B, O]
            x = x * jax.lax.rsqrt(energy + 1e-8)[:, None, None, :].astype(self.dtype)
        return x


def _convolve(x: jax.Array, kernel: jax.Array, **options) -> jax.Array:
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), dimension_numbers=("NHWC", "HWIO", "NHWC"), **options
    )


class StyledConv(nn.Module):
    """Applies a modulated 3x3 convolution, noise of learned strength, bias, scaled leaky ReLU."""

    features: int
    upsample_taps: tuple[float, ...] | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, w: jax.Array, noise: jax.Array) -> jax.Array:
        x = ModulatedConv(
            self.features, 3, upsample_taps=self.upsample_taps, dtype=self.dtype, name="conv"
        )(x, w)
        strength = self.param("noise_strength", zeros, (1,))
        bias = self.param("bias", zeros, (self.features,))
        x = x + (strength * noise).astype(self.dtype) + bias.astype(self.dtype)
        return scaled_leaky_relu(x)


class ToRGB(nn.Module):
    """Adds a modulated 1x1 convolution to three channels to the upsampled image so far."""

    upsample_taps: tuple[float, ...]
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, w: jax.Array, image: jax.Array | None) -> jax.Array:
        rgb = ModulatedConv(3, 1, demodulate=False, dtype=self.dtype, name="conv")(x, w)
        rgb = rgb.astype(jnp.float32) + self.param("bias", zeros, (3,))
        return rgb if image is None else rgb + upsample(image, self.upsample_taps)


class StyleGAN2Generator(nn.Module):
    """Generates square images by StyleGAN2, `size` a power of two from 8 to 1024.

    Collections: `params`; `noise` (`noise_0`, ... [1, H, W, 1], one map for each styled
    convolution, used where neither noise nor a random stream is given); `latent_statistics`
    (`w_mean` [D], the centre of truncation).
    """

    size: int
    style_dim: int = 512
    mapping_layers: int = 8
    channel_multiplier: int = 2
    upsample_taps: tuple[float, ...] = (1.0, 3.0, 3.0, 1.0)
    dtype: Any = jnp.float32

    @property
    def num_convs(self) -> int:
        """Returns the number of styled convolutions."""
        return 2 * int(math.log2(self.size)) - 3

    @property
    def num_styles(self) -> int:
        """Returns the number of styles, L, that an extended latent code w+ [B, L, D] holds."""
        return self.num_convs + 1

    def setup(self):
        if self.size < 8 or self.size > 1024 or self.size & (self.size - 1):
            raise ValueError(f"size must be a power of two from 8 to 1024, not {self.size}")
        self.mapping = MappingNetwork(self.mapping_layers, self.style_dim)
        first = channels_at(BASE_SIZE, self.channel_multiplier)
        self.constant = self.param("constant", standard_normal, (1, BASE_SIZE, BASE_SIZE, first))
        self.conv1 = StyledConv(first, dtype=self.dtype)
        self.to_rgb1 = ToRGB(self.upsample_taps, dtype=self.dtype)
        convs, to_rgbs = [], []
        for level in range(3, int(math.log2(self.size)) + 1):
            channels = channels_at(2**level, self.channel_multiplier)
            convs.append(StyledConv(channels, self.upsample_taps, dtype=self.dtype))
            convs.append(StyledConv(channels, dtype=self.dtype))
            to_rgbs.append(ToRGB(self.upsample_taps, dtype=self.dtype))
        self.convs, self.to_rgbs = convs, to_rgbs
        self.stored_noise = [
            self.variable("noise", f"noise_{i}", self._draw_noise(i)) for i in range(self.num_convs)
        ]
        self.w_mean = self.variable("latent_statistics", "w_mean", zeros, None, (self.style_dim,))

    def noise_shape(self, index: int) -> tuple[int, int, int, int]:
        """Returns the shape [1, H, W, 1] of the noise of styled convolution `index`."""
        side = BASE_SIZE * 2 ** ((index + 1) // 2)
        return (1, side, side, 1)

    def _draw_noise(self, index: int) -> Callable[[], jax.Array]:
        return lambda: jax.random.normal(
            self.make_rng("noise"), self.noise_shape(index), jnp.float32
        )

    def __call__(
        self,
        latents: jax.Array,
        *,
        train: bool = False,
        truncation: float | jax.Array = 1.0,
        noise: Sequence[jax.Array] | None = None,
    ) -> jax.Array:
        """Returns images [B, S, S, 3], about [-1, 1] and not clipped, of latents z [B, D].

        Args:
          latents: z [B, D], standard normal.
          train: no layer behaves differently in training; accepted as every model here does.
          truncation: psi in w_mean + psi (w - w_mean); 1 leaves w as it is.
          noise: one map [1 or B, H, W, 1] for each styled convolution. Without it fresh noise is
            drawn where the random stream `noise` is given, else the stored noise is used.
        """
        del train
        w_mean = self.w_mean.value
        w = w_mean + truncation * (self.map_latents(latents) - w_mean)
        return self.synthesize(w, noise=noise)

    def map_latents(self, z: jax.Array) -> jax.Array:
        """Maps z [B, D] to w [B, D], not truncated."""
        return self.mapping(z)

    def synthesize(self, w: jax.Array, *, noise: Sequence[jax.Array] | None = None) -> jax.Array:
        """Returns images [B, S, S, 3] of w [B, D], or of w+ [B, L, D], a style a layer."""
        if w.ndim == 2:
            w = jnp.broadcast_to(w[:, None], (w.shape[0], self.num_styles, w.shape[1]))
        if w.shape[1] != self.num_styles:
            raise ValueError(f"w+ needs {self.num_styles} styles, not {w.shape[1]}")
        noise = self._noise(w.shape[0]) if noise is None else noise
        x = jnp.broadcast_to(self.constant, (w.shape[0], *self.constant.shape[1:]))
        x = self.conv1(x.astype(self.dtype), w[:, 0], noise[0])
        image = self.to_rgb1(x, w[:, 1], None)
        for i, to_rgb in enumerate(self.to_rgbs):
            x = self.convs[2 * i](x, w[:, 2 * i + 1], noise[2 * i + 1])
            x = self.convs[2 * i + 1](x, w[:, 2 * i + 2], noise[2 * i + 2])
            # The style of a toRGB layer is that of the next level's first convolution.
            image = to_rgb(x, w[:, 2 * i + 3], image)
        return image

    def _noise(self, batch: int) -> list[jax.Array]:
        if self.is_initializing() or not self.has_rng("noise"):
            return [variable.value for variable in self.stored_noise]
        shapes = [self.noise_shape(i) for i in range(self.num_convs)]
        return [
            jax.random.normal(self.make_rng("noise"), (batch, *s[1:]), jnp.float32) for s in shapes
        ]


def mean_latent(
    module: StyleGAN2Generator, variables: Any, key: jax.Array, num_samples: int = 4096
) -> jax.Array:
    """Returns the mean of w [D] over random latents, the centre of truncation."""
    z = jax.random.normal(key, (num_samples, module.style_dim), jnp.float32)
    styles: Any = module.apply(variables, z, method="map_latents")
    return jnp.mean(styles, axis=0)

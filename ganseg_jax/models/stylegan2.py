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

from ganseg_jax import rules
from ganseg_jax.models.initialise import Initialiser, standard_normal, zeros

BASE_SIZE = 4


def channels_at(size: int, channel_multiplier: float, max_channels: int = 512) -> int:
    """Returns the channels of feature maps of `size` x `size` pixels, a power of two from 4 on."""
    return min(int(16384 * channel_multiplier) // size, max_channels)


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
    """Maps z [B, D] to w [B, D]: pixel norm, then linear layers at learning rate x 0.01.

    Labels [B, C], where there are any, are embedded in D features, normalised likewise, and follow
    z.
    """

    num_layers: int
    features: int

    @nn.compact
    def __call__(self, z: jax.Array, labels: jax.Array | None = None) -> jax.Array:
        x = _unit_mean_square(z)
        if labels is not None:
            embedded = EqualizedDense(self.features, name="embedding")(labels)
            x = jnp.concatenate([x, _unit_mean_square(embedded)], axis=-1)
        for i in range(self.num_layers):
            x = scaled_leaky_relu(EqualizedDense(self.features, rate=0.01, name=f"dense_{i}")(x))
        return x


def _unit_mean_square(x: jax.Array) -> jax.Array:
    return x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + 1e-8)


def _clamp(x: jax.Array, limit: float | None) -> jax.Array:
    return x if limit is None else jnp.clip(x, -limit, limit)


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
    """Applies a modulated 3x3 convolution, noise of learned strength, bias, scaled leaky ReLU.

    With `clamp` the output is limited to [-clamp, clamp].
    """

    features: int
    upsample_taps: tuple[float, ...] | None = None
    clamp: float | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, w: jax.Array, noise: jax.Array) -> jax.Array:
        x = ModulatedConv(
            self.features, 3, upsample_taps=self.upsample_taps, dtype=self.dtype, name="conv"
        )(x, w)
        strength = self.param("noise_strength", zeros, (1,))
        bias = self.param("bias", zeros, (self.features,))
        x = x + (strength * noise).astype(self.dtype) + bias.astype(self.dtype)
        return _clamp(scaled_leaky_relu(x), self.clamp)


class ToRGB(nn.Module):
    """Adds a modulated 1x1 convolution to three channels to the upsampled image so far.

    With `clamp` what is added is limited to [-clamp, clamp].
    """

    upsample_taps: tuple[float, ...]
    clamp: float | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, w: jax.Array, image: jax.Array | None) -> jax.Array:
        rgb = ModulatedConv(3, 1, demodulate=False, dtype=self.dtype, name="conv")(x, w)
        rgb = _clamp(rgb.astype(jnp.float32) + self.param("bias", zeros, (3,)), self.clamp)
        return rgb if image is None else rgb + upsample(image, self.upsample_taps)


class StyleGAN2Generator(nn.Module):
    """Generates square images by StyleGAN2, `size` a power of two from 4 on.

    Collections: `params`; `noise` (`noise_0`, ... [1, H, W, 1], one map for each styled
    convolution, used where neither noise nor a random stream is given); `latent_statistics`
    (`w_mean` [D], the centre of truncation).

    Attributes:
      size: of the images.
      style_dim: D, of z and of w.
      mapping_layers: depth of the mapping network.
      channel_multiplier: 2 in the paper's configuration F, 1 in E; see `channels_at`.
      max_channels: of any feature map.
      label_dim: C, classes of a conditional generator; 0: it takes no labels.
      clamp: limit of all activations, as trained with half precision; None: there is none.
      upsample_taps: of the low-pass filter.
      dtype: type of the computation.
    """

    size: int
    style_dim: int = 512
    mapping_layers: int = 8
    channel_multiplier: float = 2
    max_channels: int = 512
    label_dim: int = 0
    clamp: float | None = None
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
        if self.size < BASE_SIZE or self.size & (self.size - 1):
            raise ValueError(f"size must be a power of two, {BASE_SIZE} or more, not {self.size}")
        self.mapping = MappingNetwork(self.mapping_layers, self.style_dim)
        first = channels_at(BASE_SIZE, self.channel_multiplier, self.max_channels)
        self.constant = self.param("constant", standard_normal, (1, BASE_SIZE, BASE_SIZE, first))
        styled = functools.partial(StyledConv, clamp=self.clamp, dtype=self.dtype)
        to_rgb = functools.partial(
            ToRGB, upsample_taps=self.upsample_taps, clamp=self.clamp, dtype=self.dtype
        )
        self.conv1 = styled(first)
        self.to_rgb1 = to_rgb()
        convs, to_rgbs = [], []
        for level in range(3, int(math.log2(self.size)) + 1):
            channels = channels_at(2**level, self.channel_multiplier, self.max_channels)
            convs.append(styled(channels, upsample_taps=self.upsample_taps))
            convs.append(styled(channels))
            to_rgbs.append(to_rgb())
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

    @rules.usual(types=False)
    def __call__(
        self,
        latents: jax.Array,
        *,
        train: bool = False,
        truncation: float | jax.Array = 1.0,
        noise: Sequence[jax.Array] | None = None,
        labels: jax.Array | None = None,
    ) -> jax.Array:
        """Returns images [B, S, S, 3], about [-1, 1] and not clipped, of latents z [B, D].

        Args:
          latents: z [B, D], standard normal.
          labels: [B, C], one-hot, of a conditional generator.
          train: no layer behaves differently in training; accepted as every model here does.
          truncation: psi in w_mean + psi (w - w_mean); 1 leaves w as it is.
          noise: one map [1 or B, H, W, 1] for each styled convolution. Without it fresh noise is
            drawn where the random stream `noise` is given, else the stored noise is used.
        """
        del train
        w_mean = self.w_mean.value
        w = w_mean + truncation * (self.map_latents(latents, labels) - w_mean)
        return self.synthesize(w, noise=noise)

    @rules.usual(types=False)
    def map_latents(self, z: jax.Array, labels: jax.Array | None = None) -> jax.Array:
        """Maps z [B, D], and labels [B, C] if the generator has any, to w [B, D], not truncated.

        Raises:
          ValueError: the generator needs labels, or takes none.
        """
        if self.label_dim and labels is None and self.is_initializing():
            labels = jnp.zeros((z.shape[0], self.label_dim), z.dtype)
        if (labels is not None) != bool(self.label_dim):
            raise ValueError(f"this generator takes labels of {self.label_dim} classes")
        return self.mapping(z, labels)

    @rules.usual(types=False)
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


def random_styles(
    module: StyleGAN2Generator, variables: Any, key: jax.Array, batch: int
) -> jax.Array:
    """Returns w [B, D] of random latents, and of random labels if the generator is conditional."""
    z = jax.random.normal(key, (batch, module.style_dim), jnp.float32)
    labels = None
    if module.label_dim:
        drawn = jax.random.randint(jax.random.fold_in(key, 1), (batch,), 0, module.label_dim)
        labels = jax.nn.one_hot(drawn, module.label_dim, dtype=jnp.float32)
    styles: Any = module.apply(variables, z, labels, method="map_latents")
    return styles

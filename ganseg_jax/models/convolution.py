"""The convolutions that the networks of the GAN and the segmenter are made of.

On GPU and TPU these are XLA's convolutions. XLA's CPU backend hands a convolution to its library
only in the layout of the forward pass, unless it is in a program's outermost computation: inside a
conditional, as the gradient penalty is, derivatives in the layouts that JAX gives them take several
times as long. There, all derivatives, of any order, are convolutions of that one layout; strided
ones, whose second derivatives are slow everywhere, are differentiated as equivalent ones of stride
1; and dilated ones leave out the taps that would only read padding. Which form a program has is
decided when it is lowered for a platform, not by the process that traces it.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ganseg_jax.models.initialise import Initialiser, he_normal, zeros

_LAYOUT = ("NHWC", "HWIO", "NHWC")

LEAST_INNER_SHARE = 0.7
"""Below this share of taps inside the map, a dilated convolution skips the others (on CPUs)."""


def _convolve(
    x: Array, kernel: Array, stride: int, pads: tuple[int, int], dilation: int = 1
) -> Array:
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        [pads, pads],
        rhs_dilation=(dilation, dilation),
        dimension_numbers=_LAYOUT,
    )


def _turned(kernel: Array) -> Array:
    """Returns the kernel of the transposed convolution."""
    return kernel[::-1, ::-1].swapaxes(2, 3)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _same(x: Array, kernel: Array, pads: tuple[int, int], dilation: int = 1) -> Array:
    """Convolves at the same size: `pads` add up to (the kernel's size - 1) * dilation."""
    return _convolve(x, kernel, 1, pads, dilation)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _kernel_gradient(x: Array, y: Array, pads: tuple[int, int], dilation: int) -> Array:
    """Returns sum over pixels of x(p + offset) y(p)^T for each offset in the kernel, [k, k, C, F].

    On CPUs as a convolution of the maps x, channels taken for a batch, by the kernel y.
    """

    def for_cpus(x: Array, y: Array) -> Array:
        maps, kernel = x.transpose(3, 1, 2, 0), y.transpose(1, 2, 0, 3)  # [C, H, W, B] [H, W, B, F]
        return _convolve(maps, kernel, dilation, pads).transpose(1, 2, 0, 3)

    def transposed(x: Array, y: Array) -> Array:
        size = 1 + sum(pads) // dilation
        shape = jax.ShapeDtypeStruct((size, size, x.shape[-1], y.shape[-1]), x.dtype)
        of_kernel = jax.linear_transpose(lambda k: _convolve(x, k, 1, pads, dilation), shape)
        (gradient,) = of_kernel(y)
        return gradient

    return jax.lax.platform_dependent(x, y, cpu=for_cpus, default=transposed)


_same.defvjp(
    lambda x, kernel, pads, dilation: (_same(x, kernel, pads, dilation), (x, kernel)),
    lambda pads, dilation, saved, y: (
        _same(y, _turned(saved[1]), pads[::-1], dilation),
        _kernel_gradient(saved[0], y, pads, dilation),
    ),
)
# _kernel_gradient is linear in x and in y, and its derivatives are convolutions again.
_kernel_gradient.defvjp(
    lambda x, y, pads, dilation: (_kernel_gradient(x, y, pads, dilation), (x, y)),
    lambda pads, dilation, saved, g: (
        _same(saved[1], _turned(g), pads[::-1], dilation),
        _same(saved[0], g, pads, dilation),
    ),
)


@jax.custom_vjp
def _strided(x: Array, kernel: Array) -> Array:
    """Convolves maps of even size with stride 2; the kernel's size is odd."""
    reach = kernel.shape[0] // 2
    return _convolve(x, kernel, 2, (reach, reach))


def _strided_by_blocks(x: Array, kernel: Array) -> Array:
    """Does the same with stride 1 on 2x2 blocks; the kernel has (k + 1) / 2 blocks a side."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // 2, 2, width // 2, 2, channels)
    x = x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height // 2, width // 2, 4 * channels)
    # Output i reads pixels 2i - reach to 2i + reach.  With a reach of 1, for example, these are the
    # second of block i - 1 and both of block i.
    reach = kernel.shape[0] // 2
    fill = (reach % 2, 1 - reach % 2)
    kernel = jnp.pad(kernel, (fill, fill, (0, 0), (0, 0)))
    kernel = kernel.reshape(reach + 1, 2, reach + 1, 2, channels, -1).transpose(0, 2, 1, 3, 4, 5)
    kernel = kernel.reshape(reach + 1, reach + 1, 4 * channels, -1)
    return _same(x, kernel, ((reach + 1) // 2, reach // 2))


def _strided_gradients(saved: tuple[Array, Array], y: Array) -> tuple[Array, Array]:
    def of(convolution: Callable[[Array, Array], Array]) -> Callable[..., tuple[Array, Array]]:
        return lambda x, kernel, y: jax.vjp(convolution, x, kernel)[1](y)

    reach = saved[1].shape[0] // 2
    gradients: tuple[Array, Array] = jax.lax.platform_dependent(
        *saved,
        y,
        cpu=of(_strided_by_blocks),
        default=of(lambda x, kernel: _convolve(x, kernel, 2, (reach, reach))),
    )
    return gradients


_strided.defvjp(lambda x, kernel: (_strided(x, kernel), (x, kernel)), _strided_gradients)


def _inner_taps(x: Array, kernel: Array, dilation: int) -> Array:
    """Convolves with dilation, one matrix product a tap, none for what falls into the padding."""

    def span(offset: int, size: int) -> tuple[int, int]:
        return max(0, -offset), min(size, size - offset)  # The outputs whose tap is inside.

    height, width = x.shape[1:3]
    reach, total = kernel.shape[0] // 2, jnp.zeros((), x.dtype)
    for i, j in np.ndindex(kernel.shape[:2]):
        down, right = (i - reach) * dilation, (j - reach) * dilation
        (top, bottom), (left, end) = span(down, height), span(right, width)
        if top < bottom and left < end:
            seen = x[:, top + down : bottom + down, left + right : end + right]
            product = jnp.einsum("bhwc,cf->bhwf", seen, kernel[i, j])
            edges = ((0, 0), (top, height - bottom), (left, width - end), (0, 0))
            total = total + jnp.pad(product, edges)
    return total


def _inner_share(size: int, kernel_size: int, dilation: int) -> float:
    """Returns the share of a kernel's taps, along one axis, that fall into the map."""
    reach = kernel_size // 2
    offsets = [abs(i - reach) * dilation for i in range(kernel_size)]
    return sum(max(0, size - offset) for offset in offsets) / (size * kernel_size)


def convolve(
    x: Float[Array, "b h w c"],
    kernel: Float[Array, "k k c f"],
    stride: int = 1,
    dilation: int = 1,
) -> Float[Array, "b i j f"]:
    """Convolves with zero padding of dilation (k - 1) / 2 on each side.

    Args:
      x: maps.
      kernel: k is odd.
      stride: 1 or 2.
      dilation: pixels from one tap of the kernel to the next; 1 if the stride is 2.
    """
    size = kernel.shape[0]
    if size == 3 and dilation >= max(x.shape[1:3]):
        # All outer taps fall into the padding: the centre gives the same, nine times cheaper.
        kernel, size = kernel[1:2, 1:2], 1
    if size == 1:
        return jnp.einsum("bhwc,cf->bhwf", x[:, ::stride, ::stride], kernel[0, 0])
    pad = dilation * (size // 2)
    awkward = stride == 2 and (x.shape[1] % 2 or x.shape[2] % 2 or dilation > 1)
    if awkward:
        return _convolve(x, kernel, stride, (pad, pad), dilation)
    if stride == 2:
        return _strided(x, kernel)
    inner = math.prod(_inner_share(n, size, dilation) for n in x.shape[1:3])
    if dilation == 1 or inner >= LEAST_INNER_SHARE:
        return _same(x, kernel, (pad, pad), dilation)
    return jax.lax.platform_dependent(
        x,
        kernel,
        cpu=lambda x, kernel: _inner_taps(x, kernel, dilation),
        default=lambda x, kernel: _same(x, kernel, (pad, pad), dilation),
    )


def convolve_plainly(
    x: Float[Array, "b h w c"], kernel: Float[Array, "k k c f"]
) -> Float[Array, "b h w f"]:
    """Convolves as `convolve` does, in a form for which no platform decides anything.

    Branches that are for TPUs alone are traced faster with it.
    """
    pad = kernel.shape[0] // 2
    return _convolve(x, kernel, 1, (pad, pad))


class Conv(nn.Module):
    """Applies `convolve` with a kernel and, unless told otherwise, a bias."""

    features: int
    kernel_size: int = 3
    stride: int = 1
    dilation: int = 1
    use_bias: bool = True
    kernel_init: Initialiser = he_normal
    bias_init: Initialiser = zeros
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b i j f"]:
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        x = convolve(x.astype(self.dtype), kernel.astype(self.dtype), self.stride, self.dilation)
        if not self.use_bias:
            return x
        bias = self.param("bias", self.bias_init, (self.features,), jnp.float32)
        return x + bias.astype(self.dtype)

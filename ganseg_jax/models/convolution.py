"""The 3x3 and 1x1 convolutions that all networks of the GAN are made of.

On GPU and TPU these are XLA's convolutions. XLA's CPU backend computes the gradient with respect
to a kernel several times slower than a matrix product of the same size, and second derivatives
through strides slower still; there, kernel gradients are nine matrix products, one for each
position in the kernel, and so are whole strided convolutions. Either way all derivatives, of any
order, stay within the functions of this module.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

_LAYOUT = ("NHWC", "HWIO", "NHWC")


def _convolve(x: Array, kernel: Array, stride: int = 1) -> Array:
    pad = (kernel.shape[0] - 1) // 2
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), [(pad, pad), (pad, pad)], dimension_numbers=_LAYOUT
    )


def _turned(kernel: Array) -> Array:
    """The kernel of the transposed convolution."""
    return kernel[::-1, ::-1].swapaxes(2, 3)


@jax.custom_vjp
def _same(x: Array, kernel: Array) -> Array:
    """Convolution of stride 1 that keeps the size."""
    return _convolve(x, kernel)


@jax.custom_vjp
def _kernel_gradient(x: Array, y: Array) -> Array:
    """sum over pixels of x(p + offset) y(p)^T for the nine offsets, [3, 3, C, F]."""
    height, width = x.shape[1:3]
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    y = y.reshape(-1, y.shape[-1])  # [N, F]

    def at(i: int, j: int) -> Array:
        shifted = x[:, i : i + height, j : j + width].reshape(-1, x.shape[-1])  # [N, C]
        return jax.lax.dot_general(shifted, y, (((0,), (0,)), ((), ())))

    return jnp.stack([jnp.stack([at(i, j) for j in range(3)]) for i in range(3)])


_same.defvjp(
    lambda x, kernel: (_same(x, kernel), (x, kernel)),
    lambda saved, y: (_same(y, _turned(saved[1])), _kernel_gradient(saved[0], y)),
)
# _kernel_gradient is linear in x and in y, and its derivatives are convolutions again.
_kernel_gradient.defvjp(
    lambda x, y: (_kernel_gradient(x, y), (x, y)),
    lambda saved, g: (_same(saved[1], _turned(g)), _same(saved[0], g)),
)


def _strided(x: Array, kernel: Array) -> Array:
    """Convolution of stride 2 with one pixel of padding, as nine matrix products."""
    height, width = ((n + 1) // 2 for n in x.shape[1:3])
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    total = 0.0
    for i in range(3):
        for j in range(3):
            part = x[:, i : i + 2 * height - 1 : 2, j : j + 2 * width - 1 : 2]
            total += jnp.einsum("bhwc,cf->bhwf", part, kernel[i, j])
    return total


def convolve(
    x: Float[Array, "b h w c"], kernel: Float[Array, "k k c f"], stride: int = 1
) -> Float[Array, "b i j f"]:
    """Convolution with zero padding of (k - 1) / 2 on each side, k in 1, 3 and stride in 1, 2."""
    size = kernel.shape[0]
    if size == 1:
        return jnp.einsum("bhwc,cf->bhwf", x[:, ::stride, ::stride], kernel[0, 0])
    if jax.default_backend() != "cpu":
        return _convolve(x, kernel, stride)
    return _same(x, kernel) if stride == 1 else _strided(x, kernel)


class Conv(nn.Module):
    """`convolve` with a kernel and a bias."""

    features: int
    kernel_size: int = 3
    stride: int = 1
    kernel_init: Any = nn.initializers.lecun_normal()
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b i j f"]:
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        x, kernel, bias = (a.astype(self.dtype) for a in (x, kernel, bias))
        return convolve(x, kernel, self.stride) + bias

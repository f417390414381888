"""Our convolutions against XLA's, with their first and second derivatives."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganseg_jax.models import convolution


def reference(x, kernel, stride, dilation):
    pad = dilation * (kernel.shape[0] - 1) // 2
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        [(pad, pad)] * 2,
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def derivatives(convolve, *stride_and_dilation):
    """Value, first derivatives, and the derivatives of a gradient penalty, of one convolution."""

    def values(x, kernel, weights):
        def loss(x, kernel):
            return jnp.sum(jnp.tanh(convolve(x, kernel, *stride_and_dilation)) * weights)

        def penalty(x, kernel):
            by_x, by_kernel = jax.grad(loss, (0, 1))(x, kernel)
            return jnp.sum(jnp.square(by_x)) + jnp.sum(by_kernel**3)

        return (
            convolve(x, kernel, *stride_and_dilation),
            jax.grad(loss, (0, 1))(x, kernel),
            jax.grad(penalty, (0, 1))(x, kernel),
        )

    return jax.jit(values)


@pytest.mark.parametrize(
    ("size", "kernel_size", "stride", "dilation"),
    [
        ((6, 5), 3, 1, 1),
        ((6, 8), 3, 2, 1),
        ((5, 6), 3, 2, 1),
        ((6, 5), 1, 1, 1),
        ((5, 6), 1, 2, 1),
        ((6, 5), 3, 1, 2),
        ((4, 5), 3, 1, 4),
        ((4, 5), 3, 1, 5),
        ((5, 6), 5, 1, 2),
        ((6, 8), 3, 2, 2),
        ((6, 8), 5, 2, 1),
        ((6, 8), 7, 2, 1),
        ((5, 6), 7, 2, 1),
    ],
)
def test_values_and_derivatives(size, kernel_size, stride, dilation):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, *size, 3)).astype(np.float32)
    kernel = 0.3 * rng.standard_normal((kernel_size, kernel_size, 3, 4)).astype(np.float32)
    out = [(n - 1) // stride + 1 for n in size]
    weights = rng.standard_normal((2, *out, 4)).astype(np.float32)
    ours = derivatives(convolution.convolve, stride, dilation)(x, kernel, weights)
    theirs = derivatives(reference, stride, dilation)(x, kernel, weights)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(b).max())


@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2)])
def test_derivatives_have_the_layout_that_cpus_are_fast_in(stride, dilation):
    # Inside a conditional XLA's CPU backend hands no other one to its library.
    x, kernel = jnp.ones((2, 12, 8, 3)), jnp.ones((3, 3, 3, 4))
    weights = jnp.ones((2, 12 // stride, 8 // stride, 4))
    program = derivatives(convolution.convolve, stride, dilation).lower(x, kernel, weights)
    numbers = re.compile(r"stablehlo.convolution.*?dim_numbers = (\[.*?->\[.*?\])")
    layouts = numbers.findall(program.as_text())
    assert len(layouts) > 5
    assert set(layouts) == {"[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]"}


@pytest.mark.parametrize("rate", [2, 5, 6, 9])
def test_dilated_convolution_is_the_sum_of_its_taps(rate):
    # Of rates from 6 on, only the centre lies inside the 5 x 6 map.
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 5, 6, 2)).astype(np.float32)
    kernel = rng.standard_normal((3, 3, 2, 4)).astype(np.float32)
    padded = np.pad(x, ((0, 0), (rate, rate), (rate, rate), (0, 0)))
    expected = sum(
        padded[:, i * rate : i * rate + 5, j * rate : j * rate + 6] @ kernel[i, j]
        for i in range(3)
        for j in range(3)
    )
    got = convolution.convolve(x, kernel, dilation=rate)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_layer_adds_its_bias_and_computes_in_its_type():
    layer = convolution.Conv(2, dtype=jnp.bfloat16)
    x = np.ones((1, 3, 3, 1), np.float32)
    params = {"kernel": np.ones((3, 3, 1, 2), np.float32), "bias": np.float32([0.5, -1])}
    out = layer.apply({"params": params}, x)
    assert out.dtype == jnp.bfloat16
    np.testing.assert_array_equal(out[0, 1, 1], [9.5, 8])  # The middle sees all nine pixels,
    np.testing.assert_array_equal(out[0, 0, 0], [4.5, 3])  # a corner four.

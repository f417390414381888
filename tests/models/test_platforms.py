"""What is computed in another form on each platform, decided when a program is lowered."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganseg_jax import geometry
from ganseg_jax.models import blocks
from ganseg_jax.models.convolution import convolve
from ganseg_jax.training import gan, segmenter
from tests.tiny_config import config_with

PLATFORMS = ("cpu", "cuda", "tpu")
FORWARD = "[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]"


def lowered(function, platform, *shapes):
    """The text of a program for a platform, from this process, which has CPUs."""
    return jax.jit(function).trace(*shapes).lower(lowering_platforms=(platform,)).as_text()


def layouts(text):
    return set(re.findall(r"dim_numbers = (\S.*?->\[.*?\])", text))


@pytest.fixture(scope="module")
def networks():
    """(loss, shapes of its variables) of each network."""
    config = config_with(model__embedding_dim=16, segmenter__atrous_rates=(3, 6))
    config_gan, segmentation = gan.Gan.of(config), segmenter.Segmentation.of(config)
    latents, images = gan.example_inputs(config_gan)
    state = jax.eval_shape(lambda: gan.init_state(config_gan, 0))
    trained = jax.eval_shape(lambda: segmenter.init_state(segmentation, 0)).segmenter

    def of_generator(variables, latents):
        out, _ = config_gan.generator.apply(variables, latents, train=True, mutable=["batch_stats"])
        return jnp.sum(out.image)

    def of_discriminator(variables, images):
        return jnp.sum(config_gan.discriminator.apply(variables, images))

    def of_segmenter(variables, images):
        return jnp.sum(segmentation.segmenter.apply(variables, images, train=False))

    return {
        "generator": (of_generator, state.generator, latents),
        "discriminator": (of_discriminator, state.discriminator, images),
        "segmenter": (of_segmenter, trained, images),
    }


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("name", ["generator", "discriminator", "segmenter"])
def test_derivatives_have_the_platforms_form(networks, name, platform):
    loss, *shapes = networks[name]
    text = lowered(jax.grad(loss), platform, *shapes)
    # Only CPUs want all convolutions, those of derivatives too, in the layout of the forward pass.
    assert (layouts(text) == {FORWARD}) == (platform == "cpu")
    assert FORWARD in layouts(text)
    if name == "generator":
        upsampled = re.search(r"lhs_dilate = \[2, 2\].*feature_group_count = [^1]", text)
        assert bool(upsampled) == (platform == "tpu")


def test_this_process_decides_nothing(networks, monkeypatch):
    loss, *shapes = networks["discriminator"]
    before = lowered(jax.grad(loss), "tpu", *shapes)
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    assert lowered(jax.grad(loss), "tpu", *shapes) == before


@pytest.mark.parametrize(("margin", "dtype"), [(1, "float32"), (2, "float32"), (3, "bfloat16")])
def test_upsampling_for_tpus_is_the_same(tpu_forms, margin, dtype):
    x = jax.random.normal(jax.random.key(0), (2, 5, 7, 3), dtype)
    expected = geometry.crop(geometry.upsample_2x(x.astype(jnp.float32)), margin)
    found = geometry.upsample_2x_inside(x, margin)
    assert found.dtype == dtype
    tolerance = 1e-6 if dtype == "float32" else 2e-2
    np.testing.assert_allclose(found.astype(jnp.float32), expected, atol=tolerance)


@pytest.mark.parametrize(("mean", "near", "bound"), [(0.3, 0.0, 1e-5), (100.0, 99.0, 1e-5)])
def test_statistics_in_one_pass_are_those_in_two(tpu_forms, mean, near, bound):
    rng = np.random.default_rng(0)
    x = jnp.asarray(mean + rng.normal(size=(4, 16, 16, 3)), jnp.float32)

    def moments(x):
        return blocks._moments(x, jnp.full(3, near))

    (found_mean, found_var), pull = jax.vjp(moments, x)
    exact = np.asarray(x, np.float64)
    np.testing.assert_allclose(found_mean, exact.mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(found_var, exact.var((0, 1, 2)), rtol=bound)
    (gradient,) = pull((jnp.zeros(3), jnp.ones(3)))
    expected = 2 * (exact - exact.mean((0, 1, 2))) / (exact.size / 3)
    np.testing.assert_allclose(gradient, expected, atol=1e-6)


def test_constant_maps_have_no_negative_variance(tpu_forms):
    _, var = blocks._moments(jnp.full((2, 8, 8, 1), 1e4, jnp.float32), jnp.zeros(1))
    assert float(var[0]) >= 0


@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 6)])
def test_gradients_of_the_other_form_are_the_same(tpu_forms, monkeypatch, stride, dilation):
    x, kernel = (
        jax.random.normal(jax.random.key(i), shape)
        for i, shape in enumerate([(2, 8, 8, 3), (3, 3, 3, 4)])
    )

    def loss(x, kernel):
        return jnp.sum(jnp.sin(convolve(x, kernel, stride, dilation)))

    def twice(x, kernel):
        return jnp.sum(jnp.square(jax.grad(loss)(x, kernel)))

    here = [jax.grad(f, (0, 1))(x, kernel) for f in (loss, twice)]
    monkeypatch.undo()
    for a, b in zip(here, [jax.grad(f, (0, 1))(x, kernel) for f in (loss, twice)], strict=True):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4), a, b)

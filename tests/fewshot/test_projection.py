"""Projection of images to latents, and the distances that it uses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganseg_jax.errors import UserError
from ganseg_jax.fewshot import perceptual, projection
from ganseg_jax.fewshot.source import Source
from ganseg_jax.latents import sample_latents
from ganseg_jax.models.generator import Generator
from ganseg_jax.models.initialise import init_variables
from ganseg_jax.models.stylegan2 import StyleGAN2Generator


@pytest.fixture(scope="module")
def stylegan2():
    module = StyleGAN2Generator(size=8, style_dim=8, mapping_layers=1)
    keys = {"params": jax.random.key(0), "noise": jax.random.key(1)}
    return Source.of(module), jax.jit(module.init)(keys, jnp.zeros((1, 8)))


def test_schedule_of_the_learning_rate():
    schedule = projection.learning_rate(projection.ProjectionSettings(num_steps=1000))
    rates = [float(schedule(jnp.int32(step))) for step in (0, 25, 50, 400, 750, 875, 1000)]
    np.testing.assert_allclose(rates, [0, 0.05, 0.1, 0.1, 0.1, 0.05, 0], atol=1e-6)


@pytest.mark.parametrize("space,shape", [("w", (2, 8)), ("w+", (2, 4, 8))])
def test_styles_are_found(stylegan2, space, shape):
    source, variables = stylegan2
    targets = jax.jit(source.images)(variables, source.sample(variables, jax.random.key(5), 2))
    settings = projection.ProjectionSettings(space, num_steps=40, noise_regularization=1.0)
    reported = []
    latents, found = projection.project(
        source,
        variables,
        targets,
        settings,
        report=lambda step, loss: reported.append((step, loss)),
        log_every=20,
    )
    assert latents.shape == shape
    assert [step for step, _ in reported] == [20, 40]
    start = source.sample(variables, jax.random.key(9), 512).mean(0)
    before = projection.multiscale_distance(
        source.images(variables, jnp.broadcast_to(start, (2, 8))), targets
    )
    images, features = source.generate(found, latents)
    after = projection.multiscale_distance(images, targets)
    assert np.all(after < 0.3 * before)
    assert len(features) == 2 and features[0].shape[0] == 2
    for name, x in found["noise"].items():
        assert x.shape[0] == 2, name
        np.testing.assert_allclose(np.std(x, axis=(1, 2, 3)), 1, rtol=1e-3)


def test_latents_of_ganseg_are_found():
    module = Generator(
        num_parts=2, points_per_part=3, noise_dim=4, embedding_dim=4, stage_sizes=(8,),
        stage_channels=(4,), margin=1, spade_hidden=4, point_layers=1, point_divisor=2.0,
    )  # fmt: skip
    variables = init_variables(module, 0, sample_latents(jax.random.key(0), 1, 4), train=False)
    source = Source.of(module, ["mask"])
    targets = jax.jit(source.images)(variables, source.sample(variables, jax.random.key(5), 2))
    settings = projection.ProjectionSettings("latents", num_steps=40, candidates=8)
    latents, same = projection.project(source, variables, targets, settings)
    assert latents.z_point.shape == (2, 4) and "noise" not in same
    candidates = source.sample(variables, jax.random.key(1), 8)
    others = jax.jit(source.images)(variables, candidates)
    typical = np.mean(
        [projection.multiscale_distance(others[i : i + 1], targets) for i in range(8)], axis=0
    )
    after = projection.multiscale_distance(source.images(variables, latents), targets)
    assert np.all(after < 0.5 * typical)
    with pytest.raises(ValueError, match="space must be one of \\('latents',\\)"):
        projection.project(source, variables, targets, projection.ProjectionSettings("w"))


def test_noise_correlation_sees_patterns():
    white = jax.random.normal(jax.random.key(0), (1, 32, 32, 1))
    stripes = jnp.broadcast_to(jnp.sin(jnp.arange(32) / 3)[:, None, None] * 1.4, (1, 32, 32, 1))
    assert projection.noise_correlation(white) < 0.1 * projection.noise_correlation(stripes)


def test_distance_without_a_network():
    images = jax.random.normal(jax.random.key(0), (2, 32, 32, 3))
    np.testing.assert_array_equal(projection.multiscale_distance(images, images), [0, 0])
    fine = projection.multiscale_distance(images, jnp.zeros_like(images))
    flat = projection.multiscale_distance(jnp.ones_like(images), jnp.zeros_like(images))
    np.testing.assert_allclose(flat, 1, rtol=1e-5)  # a constant error has no gradient error
    assert np.all(fine > flat)


def vgg(width=1):
    """Weights of VGG-16's layout with few channels."""
    rng, entries, inputs = np.random.default_rng(0), {}, 3
    for i, block in enumerate(perceptual.BLOCKS):
        for number in block:
            outputs = 2 * width + i
            shape = (outputs, inputs, 3, 3)
            entries[f"features.{number}.weight"] = rng.standard_normal(shape) / 3
            entries[f"features.{number}.bias"] = rng.standard_normal(outputs) / 9
            inputs = outputs
    return {name: x.astype(np.float32) for name, x in entries.items()}


def test_perceptual_distance_from_a_file(tmp_path):
    np.savez(tmp_path / "vgg.npz", **vgg())
    distance = perceptual.load_perceptual(tmp_path / "vgg.npz")
    a, b = jax.random.uniform(jax.random.key(0), (2, 2, 16, 16, 3), minval=-1)
    plain = jax.jit(distance)(a, b)
    assert plain.shape == (2,) and np.all(plain > 0)
    np.testing.assert_allclose(jax.jit(distance)(a, a), 0, atol=1e-7)
    # LPIPS's weights: ten times 1 / C is ten times the distance.
    weights = vgg()
    for i, block in enumerate(perceptual.BLOCKS):
        channels = weights[f"features.{block[-1]}.bias"].size
        learned = np.full((1, channels, 1, 1), 10 / channels, np.float32)
        weights[f"lin{i}.model.1.weight"] = learned
    weighted = jax.jit(perceptual.perceptual_from(weights, "vgg"))(a, b)
    np.testing.assert_allclose(weighted, 10 * plain, rtol=1e-4)


def test_perceptual_files_that_do_not_fit_are_named():
    weights = vgg()
    weights["features.7.weight"] = weights["features.7.weight"][:, :1]
    with pytest.raises(UserError, match=r"'features\.7\.weight' has shape \(3, 1, 3, 3\)"):
        perceptual.perceptual_from(weights, "vgg")
    del weights["features.7.weight"]
    with pytest.raises(UserError, match=r"features\.7\.weight"):
        perceptual.perceptual_from(weights, "vgg")

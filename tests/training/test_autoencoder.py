"""The auto-encoders: what they give, that they learn, and a run from photos to figures."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganseg_jax import losses
from ganseg_jax.models.autoencoder import AutoEncoder, MaskReader
from ganseg_jax.models.deeplab import DeepLabV3
from ganseg_jax.training import autoencoder, measured
from ganseg_jax.training.autoencoder import AutoEncoding
from ganseg_jax.training.progress import NO_LOSSES
from tests.training.small import BATCH, GENERATOR, SIZE, photos, small_gan

KEY = jax.random.key(0)
KINDS = ("points", "masks")


def autoencoding(kind, **settings):
    """Networks of two to sixteen channels for images of 8 px."""
    # Points that spread from the start: gradients reach everything.
    generator = dataclasses.replace(GENERATOR, heatmap="gaussian", part_scale=0.5)
    deeplab = DeepLabV3(
        num_classes=generator.num_parts + 1,
        backbone="resnet18",
        width=1 / 32,
        output_stride=2,
        atrous_rates=(1,),
        stem_pool=False,
    )
    network = AutoEncoder(
        generator,
        kind,
        segmenter=deeplab if kind == "masks" else None,
        unet_width=4,
        unet_depth=1,
        resnet_width=1 / 32,
        stem_pool=False,
    )
    given = dict(learning_rate_generator=1e-2) | settings
    return AutoEncoding(network, small_gan(**given).settings)


@pytest.fixture(scope="module", params=KINDS)
def trained(request):
    """Kind, scalars of 12 steps on one batch, states before and after, and the compiled step."""
    network = autoencoding(request.param, area__form="paper", area__weight=0.01)
    step = jax.jit(functools.partial(autoencoder.step, network))
    first = state = jax.tree.map(jnp.asarray, autoencoder.init_state(network, 0))
    rows = []
    for _ in range(12):
        state, scalars = step(KEY, state, photos(0))
        rows.append(jax.device_get(scalars))
    return network, rows, first, state, step


def test_reconstruction_error_falls(trained):
    _, rows, _, state, _ = trained
    errors = [row["reconstruction"] for row in rows]
    assert all(np.isfinite(list(row.values())).all() for row in rows)
    assert errors[-1] < 0.8 * errors[0]
    assert state.step == 12


def test_penalties_come_in_every_second_step(trained):
    network, rows, _, _, _ = trained
    names = {"reconstruction", "gradient_norm", "concentration"}
    points = network.network.kind == "points"
    # Without points nothing says how large a part is.
    assert rows[0].keys() == (names | {"area"} if points else names)
    told = {name for name in rows[0] if not name.endswith(NO_LOSSES)}
    assert told <= set(measured.LOSSES["autoencoder"])
    for name in rows[0].keys() & {"concentration", "area"}:
        assert [row[name] != 0 for row in rows[:4]] == [True, False, True, False], name


def test_every_parameter_is_trained(trained):
    _, _, before, after, _ = trained
    moved = jax.tree.map(
        lambda a, b: not np.array_equal(a, b), before.autoencoder, after.autoencoder
    )
    paths = jax.tree_util.tree_flatten_with_path(moved)[0]
    still = {jax.tree_util.keystr(path) for path, changed in paths if not changed}
    assert not still, still


def test_step_is_a_function_of_key_and_step(trained):
    network, rows, first, _, step = trained
    again = step(KEY, first, photos(0))[1]
    np.testing.assert_equal(jax.device_get(again), rows[0])
    other = step(jax.random.key(1), first, photos(0))[1]
    # Only DeepLab's dropout is random.
    changed = float(other["reconstruction"]) != float(rows[0]["reconstruction"])
    assert changed == (network.network.kind == "masks")


@pytest.fixture(scope="module")
def output(trained):
    network, _, _, state, _ = trained
    images = jnp.asarray(photos(3)["image"], jnp.float32) / 127.5 - 1
    reader = MaskReader(network.network)

    @jax.jit
    def both(variables, images):
        made = network.network.apply(variables, images, train=False)
        return made, reader.apply(MaskReader.variables_of(variables), images, train=False)

    return (network.network, reader, *both(state.autoencoder, images))


def test_output_is_the_generator_s(output):
    network, _, made, _ = output
    parts, count = 2, 3
    assert made.image.shape == (BATCH, SIZE, SIZE, 3) and np.abs(made.image).max() <= 1
    assert made.masks.shape == (BATCH, SIZE, SIZE, parts + 1)
    np.testing.assert_allclose(made.masks.sum(-1), 1, atol=1e-5)
    assert made.points.shape == (BATCH, parts, count, 2) and np.abs(made.points).max() <= 1
    assert made.part_embeddings.shape == (BATCH, parts, 4)
    assert made.heatmaps.shape == (BATCH, SIZE, SIZE, parts)
    np.testing.assert_allclose(made.part_centers, made.points.mean(2), atol=1e-6)
    # Each photo has points of its own.
    assert np.asarray(made.part_centers).std(0).min() > 0
    if network.kind == "masks":
        spread = losses.concentration(made.masks, made.part_centers)
        away = losses.concentration(made.masks, made.part_centers + 0.1)
        assert (spread < away).all()


def test_reader_gives_the_masks(output):
    _, reader, made, logits = output
    assert reader.num_classes == 3 and logits.shape == made.masks.shape
    np.testing.assert_allclose(jax.nn.softmax(logits), made.masks, atol=1e-5)

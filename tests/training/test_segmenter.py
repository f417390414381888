"""The segmenter's step: fresh samples, their masks' argmax as labels, one Adam update."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from ganseg_jax import prng
from ganseg_jax.latents import sample_latents
from ganseg_jax.models.initialise import init_variables
from ganseg_jax.training import measured, segmenter
from ganseg_jax.training.progress import NO_LOSSES
from tests.training.small import BATCH, SIZE, assert_equal, differ, small_segmentation

NETWORKS = small_segmentation()
ROOT = prng.root_key(0)


@pytest.fixture(scope="module")
def teacher():
    latents = sample_latents(ROOT, 2, NETWORKS.generator.noise_dim)
    return init_variables(NETWORKS.generator, 1, latents, train=True)


@pytest.fixture(scope="module")
def step(teacher):
    compiled = jax.jit(lambda root, state: segmenter.step(NETWORKS, root, teacher, None, state))
    return lambda root, state: jax.device_get(compiled(root, state))


@pytest.fixture(scope="module")
def update():
    return jax.jit(functools.partial(segmenter.update, NETWORKS))


@pytest.fixture(scope="module")
def first():
    return segmenter.init_state(NETWORKS, 0)


def test_step_is_an_update_on_samples_and_their_most_probable_parts(teacher, step, update, first):
    after, scalars = step(ROOT, first)
    key = prng.step_key(ROOT, 0, "segmenter")
    latents = sample_latents(prng.streams(key), BATCH, NETWORKS.generator.noise_dim)
    samples = jax.jit(lambda v, z: NETWORKS.generator.apply(v, z, train=False))(teacher, latents)
    labels = np.argmax(samples.masks, -1)
    assert len(np.unique(labels)) > 1
    by_hand, expected = update(first, samples.image, labels, prng.stream(key, "dropout"))
    names = {*measured.LOSSES["segmenter"], "accuracy"}
    assert names == {name for name in scalars if not name.endswith(NO_LOSSES)}
    for name in names:
        assert scalars[name] == pytest.approx(float(expected[name]), rel=1e-3), name
    assert scalars["loss"] == pytest.approx(
        0.5 * (scalars["cross_entropy"] + scalars["dice"]), rel=1e-5
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-4),
        after.segmenter["batch_stats"],
        jax.device_get(by_hand.segmenter["batch_stats"]),
    )
    assert after.step == 1 and differ(after.segmenter["params"], first.segmenter["params"])


def test_every_step_sees_other_samples_and_a_seed_decides_which(step, first):
    after, scalars = step(ROOT, first)
    again, same = step(ROOT, first)
    assert_equal(after, again)
    assert_equal(scalars, same)
    later = step(ROOT, first.replace(step=np.int32(5)))[1]
    other = step(prng.root_key(1), first)[1]
    assert scalars["loss"] != later["loss"] and scalars["loss"] != other["loss"]


def test_updates_learn_a_fixed_batch(update, first):
    rng = np.random.default_rng(0)
    labels = np.zeros((BATCH, SIZE, SIZE), np.int32)
    labels[:, :4], labels[:, 4:, 4:] = 1, 2
    colors = np.float32([[-1, -1, -1], [1, 0, -1], [0, 1, 1]])
    images = colors[labels] + 0.1 * rng.standard_normal((BATCH, SIZE, SIZE, 3)).astype(np.float32)
    state, history = first, []
    for i in range(40):
        state, scalars = update(state, images, labels, prng.stream(ROOT, f"step {i}"))
        history.append(float(scalars["loss"]))
    assert np.mean(history[-5:]) < 0.5 * np.mean(history[:5])


def test_cosine_schedule_takes_the_updates_from_the_whole_rate_to_nothing(first):
    decaying = jax.jit(
        functools.partial(segmenter.update, dataclasses.replace(NETWORKS, decay_steps=8))
    )
    constant = jax.jit(functools.partial(segmenter.update, NETWORKS))
    images = np.random.default_rng(0).uniform(-1, 1, (BATCH, SIZE, SIZE, 3)).astype(np.float32)
    labels = np.random.default_rng(1).integers(0, 3, (BATCH, SIZE, SIZE), np.int32)

    def moved(update, number):
        begun = first.replace(step=np.int32(number))
        state, _ = update(begun, images, labels, prng.stream(ROOT, "dropout"))
        change = jax.tree.map(
            lambda a, b: np.ravel(a - b), state.segmenter["params"], first.segmenter["params"]
        )
        return np.concatenate(jax.tree.leaves(change))

    whole = moved(constant, 0)
    assert np.linalg.norm(whole) > 0
    # (1 + cos(pi step / 8)) / 2
    for number, share in ((0, 1.0), (2, 0.853553), (4, 0.5), (8, 0.0), (9, 0.0)):
        np.testing.assert_allclose(moved(decaying, number), share * whole, atol=1e-6)

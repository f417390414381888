"""Self-training: pseudo-labels on which photo and mirror image agree, a student and its average."""

import dataclasses
import functools
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganseg_jax import loading, prng
from ganseg_jax.config import with_fields
from ganseg_jax.config.file import save_config
from ganseg_jax.errors import UserError
from ganseg_jax.latents import sample_latents
from ganseg_jax.models.initialise import init_variables
from ganseg_jax.pixels import to_unit_range
from ganseg_jax.training import harness, partition, segmenter, self_training
from ganseg_jax.training.augmentation import change_images
from tests.one_stage import WITH_ONE_STAGE
from tests.tiny_config import config_with
from tests.training.small import SIZE, assert_equal, differ, small_segmentation
from tests.workdirs import save_untrained

NETWORKS = small_segmentation()
ROOT = prng.root_key(0)
PHOTOS = np.random.default_rng(0).integers(0, 256, (4, SIZE, SIZE, 3), np.uint8)


@pytest.fixture(scope="module")
def teacher():
    latents = sample_latents(ROOT, 2, NETWORKS.generator.noise_dim)
    return init_variables(NETWORKS.generator, 1, latents, train=True)


@pytest.fixture(scope="module")
def first():
    trained = segmenter.init_state(NETWORKS, 3).segmenter
    return self_training.state_from_variables(NETWORKS, trained)


def test_pseudo_labels_by_hand():
    # One row of two pixels: what is said of the image, and of its mirror image (in its places).
    direct = np.float32([[[0.6, 0.3, 0.1], [0.2, 0.1, 0.7]]])
    mirrored = np.float32([[[0.9, 0.0, 0.1], [0.2, 0.8, 0.0]]])
    images = jnp.stack([jnp.zeros((1, 2, 3)), jnp.ones((1, 2, 3))])

    def predict(x):
        images_seen.append(x)
        return jnp.stack([direct, direct]) if len(images_seen) == 1 else jnp.stack([mirrored] * 2)

    images_seen = []
    labels = self_training.pseudo_labels(predict, images, refined=False)
    # Left: (0.6 + 0.2) / 2 < 0.5, foreground, of the parts the first. Right: (0.2 + 0.9) / 2 > 0.5.
    np.testing.assert_array_equal(labels, np.broadcast_to([1, 0], (2, 1, 2)))
    np.testing.assert_array_equal(images_seen[1], images[:, :, ::-1])


def test_foreground_of_a_mirror_image_is_the_mirrored_foreground():
    weights = np.random.default_rng(1).standard_normal((3, 3))
    ramp = jnp.linspace(-1, 1, SIZE)[:, None]

    def predict(x):  # Not symmetric: it looks at where a pixel is.
        return jax.nn.softmax(x @ weights + ramp * jnp.float32([2.0, -1.0, 0.0]))

    images = to_unit_range(PHOTOS)
    labels = self_training.pseudo_labels(predict, images, refined=False)
    mirrored = self_training.pseudo_labels(predict, images[:, :, ::-1], refined=False)
    mirrored = mirrored[:, :, ::-1]
    np.testing.assert_array_equal(labels > 0, mirrored > 0)
    assert 0 < np.mean(labels > 0) < 1 and np.any(labels != mirrored)


def test_refined_labels_follow_the_photo_where_the_segmenter_is_unsure():
    # The photo's dark half is a column wider than what the segmenter is sure of.
    images = np.full((1, SIZE, SIZE, 3), 0.8, np.float32)
    images[:, :, : SIZE // 2] = -0.8
    background = np.full((1, SIZE, SIZE), 0.95, np.float32)
    background[:, :, : SIZE // 2 - 1] = 0.05
    probabilities = jnp.stack([background, 0.7 * (1 - background), 0.3 * (1 - background)], -1)
    given = iter([probabilities, probabilities[:, :, ::-1]] * 2)
    plain, refined = (
        self_training.pseudo_labels(lambda _: next(given), images, refined=refined)
        for refined in (False, True)
    )
    np.testing.assert_array_equal(plain[0, 0], np.arange(SIZE) < SIZE // 2 - 1)
    np.testing.assert_array_equal(refined[0], np.tile(np.arange(SIZE) < SIZE // 2, (SIZE, 1)))


@pytest.mark.parametrize("refined", [False, True])
def test_step_is_an_update_on_samples_and_photos_and_moves_the_teacher(teacher, first, refined):
    @jax.jit
    def step(state, photos):
        return self_training.step(
            NETWORKS, ROOT, teacher, None, state, photos, refine_labels=refined
        )

    after, scalars = jax.device_get(step(first, PHOTOS))
    key = prng.step_key(ROOT, 0, "self_training")
    latents = sample_latents(prng.streams(key), 4, NETWORKS.generator.noise_dim)
    samples = jax.jit(lambda v, z: NETWORKS.generator.apply(v, z, train=False))(teacher, latents)

    @jax.jit
    def predict(x):
        return jax.nn.softmax(NETWORKS.segmenter.apply(first.teacher, x, train=False))

    real = to_unit_range(PHOTOS)
    changed = change_images(prng.stream(key, "photos"), real, ("color",))
    pairs = zip(samples.image, changed, strict=True)
    images = np.stack([x for pair in pairs for x in pair])
    pseudo_labels = self_training.pseudo_labels(predict, real, refined=refined)
    given = (np.argmax(samples.masks, -1), pseudo_labels)
    labels = np.stack([x for pair in zip(*given, strict=True) for x in pair])
    assert np.any(changed != real)
    dropout = prng.stream(key, "dropout")
    update = jax.jit(functools.partial(segmenter.update, NETWORKS))
    expected, by_hand = update(first.student, images, labels, dropout)
    assert scalars["loss"] == pytest.approx(float(by_hand["loss"]), rel=1e-3)
    assert after.step == 1 and differ(after.student.segmenter["params"], first.teacher["params"])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-4),
        after.student.segmenter["batch_stats"],
        jax.device_get(expected.segmenter["batch_stats"]),
    )
    jax.tree.map(
        lambda a, old, new: np.testing.assert_allclose(a, 0.99 * old + 0.01 * new, atol=1e-6),
        after.teacher,
        jax.device_get(first.teacher),
        after.student.segmenter,
    )


def test_hidden_parts_are_taught_as_background(teacher, first, monkeypatch):
    def noted(segmentation, state, images, labels, key):
        return state, {"labels": labels}

    monkeypatch.setattr(segmenter, "update", noted)

    @jax.jit
    def labels_taught(teacher, state, photos):
        def step(hidden):
            return self_training.step(NETWORKS, ROOT, teacher, None, state, photos, hidden=hidden)

        return [step(hidden)[1]["labels"] for hidden in ((), (1,), (1, 2, 3))]

    plain, one, every = map(np.asarray, labels_taught(teacher, first, PHOTOS))
    assert (plain == 1).any() and not (one == 1).any() and not every.any()
    generated = slice(None, None, 2)  # Photos and generated images take turns.
    np.testing.assert_array_equal(one[generated], np.where(plain == 1, 0, plain)[generated])


def declared(config, workdir):
    return dataclasses.replace(self_training.declare(config, workdir), view=None)


@pytest.fixture(scope="module")
def trained(puppets_dir, tmp_path_factory):
    """A workdir with GAN and segmenter as they begin, and its config with self-training."""
    workdir = tmp_path_factory.mktemp("trained")
    config = config_with(
        **WITH_ONE_STAGE,
        dataset__data_dir=str(puppets_dir),
        self_training__num_steps=3,
        self_training__batch_size=8,
        self_training__checkpoint_every=2,
        self_training__log_every=1,
    )
    save_config(config, workdir)
    save_untrained(config, workdir)
    return config, workdir


def copied(workdir, tmp_path):
    shutil.copytree(workdir, tmp_path / "w")
    return tmp_path / "w"


def test_stage_resumes_where_it_was_cut_off_and_is_what_segments(trained, tmp_path):
    config, workdir = trained
    whole = copied(workdir, tmp_path)
    plain = loading.restore_segmenter(config, whole)
    expected = jax.device_get(harness.train(self_training.declare(config, whole), whole))
    assert list((whole / "self_training" / "samples").glob("*.png"))
    cut = tmp_path / "cut"
    shutil.copytree(workdir, cut)
    # The learning rate's schedule is that of all steps; only the loop ends early.
    stage = declared(config, cut)
    short = dataclasses.replace(stage, schedule=dataclasses.replace(stage.schedule, num_steps=2))
    assert harness.train(short, cut).step == 2
    assert_equal(jax.device_get(harness.train(declared(config, cut), cut)), expected)
    assert_equal(loading.restore_segmenter(config, whole), expected.student.segmenter)
    assert_equal(loading.restore_segmenter(config, whole, state=loading.State("segmenter")), plain)
    used = loading.load_segmenter(whole).variables
    assert_equal(jax.device_get(used), expected.student.segmenter)


def test_sharded_state_is_trained_and_found(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(partition, "MIN_SHARDED", 64)
    config, workdir = trained
    changed = {"partition.fsdp": True, "self_training.num_steps": 1}
    config, workdir = with_fields(config, changed), copied(workdir, tmp_path)
    state = harness.train(declared(config, workdir), workdir)
    whole = sum(x.nbytes for x in jax.tree.leaves(state))
    mine = sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(state))
    assert mine < 0.6 * whole
    segmenting = jax.device_get(state).student.segmenter
    assert_equal(loading.restore_segmenter(config, workdir), segmenting)


def test_a_batch_larger_than_the_set_is_refused(trained):
    config, workdir = trained
    with pytest.raises(UserError, match="self_training.batch_size=64 is larger than the 30"):
        declared(with_fields(config, {"self_training.batch_size": 64}), workdir)


def test_without_a_segmenter_there_is_nothing_to_begin_with(trained, tmp_path):
    config, workdir = trained
    shutil.copytree(workdir / "gan", tmp_path / "gan")
    with pytest.raises(UserError, match="no segmenter checkpoint yet"):
        declared(config, tmp_path)

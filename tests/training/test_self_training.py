"""Self-training: pseudo-labels on which photo and mirror image agree, a student and its average."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import tiny
from ganseg_jax import loading as inference
from ganseg_jax import prng
from ganseg_jax.config import file as config_file
from ganseg_jax.data import prepare
from ganseg_jax.data.builders.puppets.builder import Puppets
from ganseg_jax.errors import UserError
from ganseg_jax.latents import sample_latents
from ganseg_jax.models import build as settings
from ganseg_jax.models.initialise import init_variables
from ganseg_jax.training import partition, segmenter, self_training, self_training_stage, stages
from ganseg_jax.training.augmentation import change_images
from ganseg_jax.training.gan import to_unit_range
from tests.training.small import SIZE, assert_equal, differ, small_segmentation

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
    def update(state, photos):
        return self_training.step(
            NETWORKS, ROOT, teacher, None, state, photos, refine_labels=refined
        )

    step = jax.jit(update)
    after, scalars = jax.device_get(step(first, PHOTOS))
    key = prng.step_key(ROOT, 0, "self_training")
    latents = sample_latents(prng.streams(key), 4, NETWORKS.generator.noise_dim)
    samples = NETWORKS.generator.apply(teacher, latents, train=False)

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
    expected, by_hand = segmenter.update(NETWORKS, first.student, images, labels, dropout)
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


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    config = tiny.get_config()
    config.dataset.data_dir = str(tmp_path_factory.mktemp("data"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Puppets, "EXPECTED_COUNTS", {"train": 30, "validation": 6, "test": 10})
        prepare.prepare("puppets", None, config.dataset.data_dir)
    config.gan.num_steps, config.segmenter.num_steps = 1, 2
    return config


def test_stage_goes_on_where_it_was_cut_off_and_is_what_segments(config, tmp_path):
    config_file.adopt_workdir(config, tmp_path)
    stages.train_gan(config, tmp_path)
    stages.train_segmenter(config, tmp_path)
    plain = stages.restore_segmenter(config, tmp_path)
    # A run without self-training may have it later.
    config = config.copy_and_resolve_references()
    config.self_training.update(num_steps=3, batch_size=8, checkpoint_every=2, log_every=1)
    config_file.adopt_workdir(config, tmp_path)
    whole, cut = tmp_path, tmp_path / "cut"
    cut.mkdir()
    for name in ("gan", "segmenter", "config.json"):
        (cut / name).symlink_to(tmp_path / name)
    expected = jax.device_get(self_training_stage.self_train(config, whole))
    # The schedule is that of all steps; only the loop ends early.
    with pytest.MonkeyPatch.context() as patch:
        run = self_training_stage.loop.run

        def cut_short(stage, workdir):
            stage.num_steps = 2
            return run(stage, workdir)

        patch.setattr(self_training_stage.loop, "run", cut_short)
        assert self_training_stage.self_train(config, cut).step == 2
    assert_equal(jax.device_get(self_training_stage.self_train(config, cut)), expected)
    assert_equal(stages.restore_segmenter(config, whole), expected.student.segmenter)
    assert_equal(stages.restore_segmenter(config, whole, self_trained=False), plain)
    used = inference.load_segmenter(whole)._variables
    assert_equal(jax.device_get(used), expected.student.segmenter)
    assert list((whole / "self_training" / "samples").glob("*.png"))


@pytest.mark.parametrize(
    ("field", "value", "answer"),
    [
        ("num_steps", -1, "self_training.num_steps=-1 must be at least 0"),
        ("batch_size", 0, "self_training.batch_size=0 must be at least 1"),
        ("on_nonfinite", "go", "self_training.on_nonfinite='go' is none of stop, retry"),
    ],
)
def test_settings_that_make_no_sense_are_named(field, value, answer):
    config = tiny.get_config()
    config.self_training[field] = value
    with pytest.raises(UserError, match=answer):
        settings.check_config(config)


def test_sharded_state_is_trained_and_found(config, tmp_path, monkeypatch):
    monkeypatch.setattr(partition, "MIN_SHARDED", 64)
    config = config.copy_and_resolve_references()
    config.partition.fsdp = True
    config.self_training.update(num_steps=1, batch_size=8)
    config_file.adopt_workdir(config, tmp_path)
    stages.train_gan(config, tmp_path)
    stages.train_segmenter(config, tmp_path)
    state = self_training_stage.self_train(config, tmp_path)
    whole = sum(x.nbytes for x in jax.tree.leaves(state))
    mine = sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(state))
    assert mine < 0.6 * whole
    trained = jax.device_get(state)
    assert_equal(jax.device_get(self_training_stage.self_train(config, tmp_path)), trained)
    assert_equal(stages.restore_segmenter(config, tmp_path), trained.student.segmenter)


def test_a_batch_larger_than_the_set_is_refused(config, tmp_path):
    config = config.copy_and_resolve_references()
    config.self_training.update(num_steps=1, batch_size=64)
    with pytest.raises(UserError, match="self_training.batch_size=64 is larger than the 30"):
        self_training_stage.self_train(config, tmp_path)


def test_without_a_segmenter_there_is_nothing_to_begin_with(config, tmp_path):
    config = config.copy_and_resolve_references()
    config.self_training.update(num_steps=2, batch_size=8)
    stages.train_gan(config, tmp_path)
    with pytest.raises(UserError, match="no segmenter checkpoint yet"):
        self_training_stage.self_train(config, tmp_path)

"""Trained networks as plain functions, with made-up networks that need no training."""

import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import ganseg_jax
from ganseg_jax import refinement
from ganseg_jax.config import file as config_file
from ganseg_jax.config import with_fields
from ganseg_jax.config.file import save_config
from ganseg_jax.errors import UserError
from ganseg_jax.jobs.begin import begin
from ganseg_jax.jobs.segment import segment_folder
from ganseg_jax.models import build
from ganseg_jax.pixels import to_unit_range
from ganseg_jax.segmenter import Segmenter
from ganseg_jax.training import gan, segmenter
from tests.tiny_config import config_with
from tests.workdirs import save_checkpoint


class Brightness(nn.Module):
    """Class 1 where a pixel is bright, class 2 where its red is brighter than its blue."""

    num_classes: int = 3

    def __call__(self, images, *, train):
        assert not train
        mean = jnp.mean(images, -1)
        redness = images[..., 0] - images[..., 2]
        return 40 * jnp.stack([jnp.zeros_like(mean), mean, 2 * redness - 1], -1)


SEGMENTER = Segmenter(Brightness(), {}, image_size=8, batch_size=4)


def photos(count=2, height=8, width=8):
    """Dark, a white square in the upper left quarter, the lower right quarter red."""
    images = np.zeros((count, height, width, 3), np.uint8)
    images[:, : height // 2, : width // 2] = 255
    images[:, height // 2 :, width // 2 :, 0] = 255
    return images


def labels(count=2, height=8, width=8):
    expected = np.zeros((count, height, width), np.int32)
    expected[:, : height // 2, : width // 2] = 1
    expected[:, height // 2 :, width // 2 :] = 2
    return expected


def test_pure_function_in_programs_of_others():
    """Compiled, mapped over sets of photos, sharded over devices, and differentiated."""
    given = photos(4).astype(np.float32)
    expected = SEGMENTER.probabilities_as_seen(photos(4))
    apply = jax.jit(SEGMENTER.apply)
    np.testing.assert_allclose(apply(SEGMENTER.variables, given), expected, atol=1e-6)
    mapped = jax.vmap(SEGMENTER.apply, (None, 0))(SEGMENTER.variables, given[:, None])
    np.testing.assert_allclose(mapped[:, 0], expected, atol=1e-6)
    mesh = jax.make_mesh((4,), ("photos",), axis_types=(jax.sharding.AxisType.Auto,))
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("photos"))
    sharded = apply(SEGMENTER.variables, jax.device_put(given, split))
    assert len(sharded.sharding.device_set) == 4
    np.testing.assert_allclose(sharded, expected, atol=1e-6)
    slope = jax.grad(lambda x: SEGMENTER.apply(SEGMENTER.variables, x)[..., 2].sum())
    change = np.asarray(slope(np.full((1, 8, 8, 3), 100.0, np.float32)))
    assert (change[..., 0] > 0).all() and (change[..., 2] < 0).all()


def test_labels_at_the_training_size():
    result = SEGMENTER(photos())
    assert result.dtype == np.int32 and isinstance(result, np.ndarray)
    np.testing.assert_array_equal(result, labels())


@pytest.mark.parametrize("size", [(16, 24), (32, 8)])
def test_photos_of_any_size(size):
    """Labels come back at the photo's size; only pixels at the edges of areas may differ."""
    result = SEGMENTER(photos(1, *size))
    assert result.shape == (1, *size)
    assert (result == labels(1, *size)).mean() > 0.85


def test_the_command_writes_the_same_labels_pixel_for_pixel(tmp_path):
    coarse = np.random.default_rng(1).integers(0, 256, (5, 4, 3), np.uint8)
    sizes = [(1, 1), (1, 41), (7, 9), (97, 331), (301, 7), (400, 600)]
    (tmp_path / "photos").mkdir()
    for number, (height, width) in enumerate(sizes):
        photo = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        photo.save(tmp_path / "photos" / f"{number}.{'jpg' if number > 3 else 'png'}")
    segment_folder(SEGMENTER, tmp_path / "photos", tmp_path / "out")
    for path in sorted((tmp_path / "photos").iterdir()):
        labels = SEGMENTER(np.asarray(Image.open(path)))
        written = np.asarray(Image.open(tmp_path / "out" / "labels" / f"{path.stem}.png"))
        np.testing.assert_array_equal(written, labels)
    assert len(np.unique(labels)) > 1


def test_own_size_where_no_training_size_is_given():
    free = Segmenter(Brightness(), {}, image_size=None)
    np.testing.assert_array_equal(free(photos(1, 10, 14)), labels(1, 10, 14))


def test_probabilities():
    result = SEGMENTER.probabilities(photos())
    assert result.shape == (2, 8, 8, 3) and result.dtype == np.float32
    np.testing.assert_allclose(result.sum(-1), 1, atol=1e-5)
    np.testing.assert_array_equal(result.argmax(-1), labels())


def test_photos_are_made_small_as_those_of_training_sets(monkeypatch):
    """And the labels are the most probable class of the probabilities."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 20, 30, 3), np.uint8)
    small = np.stack([Image.fromarray(x).resize((8, 8), Image.Resampling.BILINEAR) for x in images])
    probabilities = SEGMENTER.probabilities(small)
    large = SEGMENTER.probabilities(images)
    np.testing.assert_array_equal(SEGMENTER(images), large.argmax(-1))
    for label in range(3):
        for seen, ours in zip(probabilities[..., label], large[..., label], strict=True):
            plane = Image.fromarray(seen).resize((30, 20), Image.Resampling.BILINEAR)
            np.testing.assert_array_equal(ours, plane)


def test_refined_probabilities_have_the_edges_of_the_photo(monkeypatch):
    # Two photos at a time, so that the third comes alone.
    monkeypatch.setattr("ganseg_jax.forward.REFINED_PIXELS", 2 * 8 * 8)
    images = np.concatenate([photos(2), photos(1)[:, ::-1]])
    # A grey area about which the network says one thing here and another there.
    images[:, :4, 4:] = np.random.default_rng(0).integers(118, 134, (3, 4, 4, 1))
    refined = Segmenter(Brightness(), {}, image_size=8, batch_size=4, refine=True)
    network = jax.nn.softmax(Brightness().apply({}, to_unit_range(images), train=False))
    expected = refinement.refine(to_unit_range(images), network)
    np.testing.assert_allclose(refined.probabilities(images), expected, atol=1e-4)
    np.testing.assert_array_equal(refined(images), np.argmax(expected, -1))
    refined.refine = False
    plain = Segmenter(Brightness(), {}, image_size=8)(images)
    np.testing.assert_array_equal(refined(images), plain)
    assert np.any(plain != np.argmax(expected, -1))


def test_part_centers_in_pixels_of_the_photo():
    centers = SEGMENTER.part_centers(photos(1, 16, 8))
    assert centers.shape == (1, 2, 2)
    np.testing.assert_allclose(centers[0], [[4, 2], [12, 6]], atol=0.6)


def test_any_number_of_photos():
    images = np.concatenate([photos(3), photos(3)[:, ::-1]])
    images[4] = 0
    whole = SEGMENTER(images)
    np.testing.assert_array_equal(
        whole, np.concatenate([SEGMENTER(images[i : i + 1]) for i in range(6)])
    )
    assert SEGMENTER(images[:0]).shape == (0, 8, 8)
    assert SEGMENTER.probabilities(images[:0]).shape == (0, 8, 8, 3)


def test_one_photo_and_photos_of_several_sizes():
    one, other = photos(1)[0], np.ascontiguousarray(photos(1)[0, :5])
    np.testing.assert_array_equal(SEGMENTER(one), SEGMENTER(one[None])[0])
    found = SEGMENTER([one, other])
    for labels, photo in zip(found, (one, other), strict=True):
        np.testing.assert_array_equal(labels, SEGMENTER(photo[None])[0])
    assert SEGMENTER([]) == []


@pytest.mark.parametrize(
    "bad",
    [np.zeros((1, 8, 8, 3)), np.zeros((8, 8), np.uint8), [np.zeros((8, 8, 4), np.uint8)]],
    ids=["float", "grey", "alpha"],
)
@pytest.mark.usefixtures("unchecked")
def test_other_arrays_are_refused(bad):
    with pytest.raises(ValueError, match=r"images must be uint8 \(N, H, W, 3\), one photo"):
        SEGMENTER(bad)


def test_folder_without_a_run_is_named(tmp_path):
    for load in (ganseg_jax.load_generator, ganseg_jax.load_segmenter):
        with pytest.raises(UserError, match="has no config.json"):
            load(tmp_path)


@pytest.fixture
def workdir(tmp_path):
    """A run whose GAN was saved at step 3; its average differs from the generator itself."""
    config = config_with(gan__ema_decay=0.5)
    begin(config, tmp_path)
    state = gan.init_state(gan.Gan.of(config), config.seed)
    state = state.replace(average=jax.tree.map(lambda x: x + 1, state.generator))
    save_checkpoint(state, tmp_path / "gan", step=3)
    return tmp_path, state


def test_generator_of_a_run_is_its_average(workdir):
    path, state = workdir
    module, variables = ganseg_jax.load_generator(path)
    assert module == build.build_generator(config_with())
    jax.tree.map(np.testing.assert_array_equal, variables, state.average)


def test_generator_of_another_config_is_named(workdir):
    path, _ = workdir
    save_config(config_with(gan__ema_decay=0.5, model__embedding_dim=5), path)
    with pytest.raises(UserError, match="does not fit this config: average/.* there and .* here"):
        ganseg_jax.load_generator(path)


def test_whether_masks_are_refined_is_up_to_the_run_and_may_change(workdir):
    path, _ = workdir
    config = config_file.load_config(path)
    trained = segmenter.init_state(segmenter.Segmentation.of(config), 0)
    save_checkpoint(trained, path / "segmenter", step=1)
    assert not ganseg_jax.load_segmenter(path).refine
    begin(with_fields(config, {"segmenter.refine": True}), path)
    assert ganseg_jax.load_segmenter(path).refine


def test_loading_draws_nothing_and_imports_no_training_code():
    code = """
import sys
import ganseg_jax
assert "jax" not in sys.modules
ganseg_jax.load_segmenter("people")
heavy = ("ganseg_jax.training", "orbax", "optax", "grain", "tensorflow_datasets", "tensorboardX",
         "sklearn", "scipy", "matplotlib")
print([name for name in sys.modules if name.startswith(heavy)])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_stage_not_yet_trained_is_named(workdir):
    with pytest.raises(UserError, match="no segmenter checkpoint yet.*experiments.train_segmenter"):
        ganseg_jax.load_segmenter(workdir[0])

"""Batches: right content, deterministic, disjoint between processes, resumable."""

import io
import json
import sys

import numpy as np
import pytest
from PIL import Image

from ganseg_jax.data import images, pipeline, prepare
from ganseg_jax.errors import UserError


def batches(data_dir, count, **settings):
    settings = {"image_size": 16, "batch_size": 10, "seed": 1, "num_threads": 2} | settings
    iterator = pipeline.train_iterator("puppets", data_dir, **settings)
    return np.stack([next(iterator)["image"] for _ in range(count)])


def as_set(arrays) -> set[bytes]:
    return {image.tobytes() for image in arrays.reshape(-1, *arrays.shape[-3:])}


def test_schema(data_dir):
    info = pipeline.data_info("puppets", data_dir)
    assert pipeline.split_sizes("puppets", data_dir) == {"train": 30, "validation": 6, "test": 10}
    assert info.file_format.value == "array_record"
    example = pipeline.open_source("puppets", data_dir, "test")[0]
    assert sorted(example) == ["image", "landmarks", "landmarks_visible", "name", "segmentation"]
    assert images.decode_rgb(example["image"]).shape == (64, 64, 3)
    assert images.decode_labels(example["segmentation"]).shape == (64, 64)
    assert example["landmarks"].shape == (11, 2) and example["landmarks"].dtype == np.float32
    assert example["landmarks_visible"].dtype == np.bool_
    assert 0 <= example["landmarks"].min() and example["landmarks"].max() <= 1


def test_epochs_visit_every_image_once_in_a_new_order(data_dir):
    whole = pipeline.load_split("puppets", data_dir, "train", 16).images
    seen = batches(data_dir, 6)
    assert seen.shape == (6, 10, 16, 16, 3) and seen.dtype == np.uint8
    first, second = seen[:3].reshape(-1, 16, 16, 3), seen[3:].reshape(-1, 16, 16, 3)
    assert as_set(first) == as_set(second) == as_set(whole)
    assert (first != second).any()


@pytest.mark.parametrize("cache", ["none", "host"])
@pytest.mark.parametrize("augment", ["none", "flip", "flip_crop"])
def test_seed_decides_everything_threads_nothing(data_dir, augment, cache):
    first = batches(data_dir, 4, augment=augment, cache=cache, num_threads=3)
    second = batches(data_dir, 4, augment=augment, cache=cache, num_threads=0)
    np.testing.assert_array_equal(first, second)
    assert (first != batches(data_dir, 4, augment=augment, cache=cache, seed=2)).any()


@pytest.mark.parametrize("augment", ["none", "flip"])
def test_cache_changes_nothing_where_images_are_not_cropped(data_dir, augment):
    from_files = batches(data_dir, 4, augment=augment)
    np.testing.assert_array_equal(from_files, batches(data_dir, 4, augment=augment, cache="host"))


def test_cached_images_are_read_once(data_dir):
    encoded = pipeline._EncodedImages(
        pipeline._split_builder("puppets", data_dir, "train"), "train"
    )
    read = []

    class Counted:
        def __len__(self):
            return len(encoded)

        def __getitem__(self, index):
            read.append(index)
            return encoded[index]

    cached = pipeline._InMemory(Counted(), 16)
    assert len(cached) == 30 and not read
    order = [7, 0, 7, 29, 0]
    seen = np.stack([cached[index]["image"] for index in order])
    assert read == [7, 0, 29]
    np.testing.assert_array_equal(seen, pipeline.load_images("puppets", data_dir, 16)[order])


def test_cache_that_does_not_fit_is_refused(data_dir):
    pipeline._check_memory(1 << 20)
    with pytest.raises(UserError, match="dataset.cache to 'none'"):
        pipeline._check_memory(1 << 60)


def test_processes_share_the_single_process_batches(data_dir):
    alone = batches(data_dir, 6)
    shares = [batches(data_dir, 6, process_index=i, process_count=2) for i in range(2)]
    assert shares[0].shape == (6, 5, 16, 16, 3)
    np.testing.assert_array_equal(np.concatenate(shares, axis=1), alone)
    for epoch in (slice(0, 3), slice(3, 6)):
        assert not as_set(shares[0][epoch]) & as_set(shares[1][epoch])


def test_batches_larger_than_the_set(data_dir):
    large = batches(data_dir, 2, batch_size=44)
    assert large.shape[:2] == (2, 44)
    assert len(as_set(large[:1])) == 30


@pytest.mark.parametrize("augment", ["none", "flip_crop"])
def test_resumed_iterator_repeats_the_uninterrupted_one(data_dir, augment):
    settings = {"image_size": 16, "batch_size": 8, "seed": 5, "augment": augment}
    iterator = pipeline.train_iterator("puppets", data_dir, **settings)
    for _ in range(5):
        next(iterator)
    state = json.loads(json.dumps(iterator.get_state()))
    expected = [next(iterator)["image"] for _ in range(6)]
    resumed = pipeline.train_iterator("puppets", data_dir, **settings)
    next(resumed)
    resumed.set_state(state)
    np.testing.assert_array_equal(expected, [next(resumed)["image"] for _ in range(6)])


def test_flip_mirrors_about_half_of_the_images(data_dir):
    plain, flipped = batches(data_dir, 9), batches(data_dir, 9, augment="flip")
    mirrored = (flipped == plain[..., ::-1, :]).all(axis=(2, 3, 4))
    same = (flipped == plain).all(axis=(2, 3, 4))
    assert (mirrored | same).all()
    assert 0.3 < mirrored.mean() < 0.7


def test_crop_keeps_at_least_nine_tenths():
    rng = np.random.default_rng(0)
    boxes = np.array([pipeline._random_box(rng) for _ in range(2000)])
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    assert boxes.min() >= 0 and boxes.max() <= 1
    assert (width * height >= 0.9 - 1e-9).all() and (width * height).mean() < 0.97
    assert (width / height >= 0.9 - 1e-9).all() and (width / height <= 1.1 + 1e-9).all()
    assert boxes[:, 0].max() > 0.03 and boxes[:, 1].max() > 0.03


def test_crop_shows_the_part_of_the_picture_it_names():
    ramp = np.repeat(np.linspace(0, 200, 101)[:, None], 51, axis=1)
    image = np.repeat(ramp[..., None], 3, axis=-1).astype(np.uint8)
    part = pipeline._resized(image, 20, (0.0, 0.5, 1.0, 1.0))[..., 0]
    np.testing.assert_allclose(part[:, 10], np.linspace(102, 197, 20), atol=2)


def test_resizing_squashes_instead_of_cropping(picture):
    wide = picture(height=30, width=90)
    squashed = pipeline._resized(wide, 30)
    direct = Image.open(io.BytesIO(wide)).resize((30, 30), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(squashed, np.asarray(direct))


def test_split_keeps_ground_truth_aligned_with_the_image(data_dir):
    large = pipeline.load_split("puppets", data_dir, "test", 64)
    small = pipeline.load_split("puppets", data_dir, "test", 32)
    assert small.names == large.names and len(small) == 10
    assert small.segmentation.dtype == np.int32 and small.landmarks.dtype == np.float32
    np.testing.assert_allclose(small.landmarks * 2, large.landmarks, rtol=1e-6)
    assert small.part_names == ["head", "torso", "left arm", "right arm", "legs"]
    # The foreground is more saturated than the background, at both sizes.
    for split in (large, small):
        pixels = split.images.astype(int)
        spread = pixels.max(axis=-1) - pixels.min(axis=-1)
        assert spread[split.segmentation > 0].mean() > spread[split.segmentation == 0].mean() + 60
    centers = []
    for split, size in ((large, 64), (small, 32)):
        rows, cols = np.nonzero(split.segmentation[0] == 2)
        centers.append(np.array([rows.mean() + 0.5, cols.mean() + 0.5]) / size)
    np.testing.assert_allclose(centers[0], centers[1], atol=0.012)


def test_limit_takes_the_first_images(data_dir):
    whole = pipeline.load_split("puppets", data_dir, "test", 16)
    part = pipeline.load_split("puppets", data_dir, "test", 16, limit=4)
    np.testing.assert_array_equal(part.images, whole.images[:4])
    assert part.names == whole.names[:4] and len(part.segmentation) == 4


def test_mistakes_are_answered_with_one_line(data_dir, tmp_path):
    settings = {"image_size": 16, "batch_size": 4, "seed": 0}
    cases = {
        "prepare_data --dataset=puppets --data_dir=": ("puppets", tmp_path, {}),
        "--source=FOLDER_OR_TAR": ("people_ccp", tmp_path, {}),
        "did you mean 'puppets'": ("pupets", tmp_path, {}),
        "no split 'dev'": ("puppets", data_dir, {"split": "dev"}),
        "augment='mirror'": ("puppets", data_dir, {"augment": "mirror"}),
        "cache='disk'": ("puppets", data_dir, {"cache": "disk"}),
        "multiple of the 3 processes": ("puppets", data_dir, {"process_count": 3}),
    }
    for expected, (name, folder, change) in cases.items():
        with pytest.raises(UserError) as caught:
            pipeline.train_iterator(name, folder, **(settings | change))
        assert expected in str(caught.value) and "\n" not in str(caught.value)


def test_reading_needs_neither_tensorflow_nor_torch(data_dir):
    batches(data_dir, 1)
    assert prepare.find_prepared("puppets", data_dir) is not None
    assert "tensorflow" not in sys.modules and "torch" not in sys.modules

"""Sheets hold every tile once, at the right place, and are written whole."""

import os

import numpy as np
import pytest
from PIL import Image

from ganseg_jax.errors import UserError
from ganseg_jax.report import sheets
from ganseg_jax.report.classes import Classes, usual
from ganseg_jax.report.palette import palette
from ganseg_jax.report.png import encode_png, save_png


def samples(count, size=16, parts=3, points=4, seed=0):
    rng = np.random.default_rng(seed)
    masks = rng.dirichlet(np.ones(parts + 1), (count, size, size)).astype(np.float32)
    places = rng.uniform(-1, 1, (count, parts, points, 2))
    return rng.uniform(-1, 1, (count, size, size, 3)), masks, places, places.mean(2)


def test_sample_sheet_has_four_rows_a_block():
    six = sheets.sample_sheet(*samples(6), columns=4, scale=2)
    three = sheets.sample_sheet(*samples(3), columns=4, scale=2)
    assert six.dtype == three.dtype == np.uint8
    tile, gap, strip = 32, 3, 22
    assert three.shape == (4 * (tile + gap) + gap, strip + 3 * (tile + gap), 3)
    assert six.shape == (2 * 4 * (tile + gap) + 12 + gap, strip + 4 * (tile + gap), 3)


def test_sheets_show_the_images_unchanged():
    images, masks, points, centers = samples(2)
    drawn = sheets.sample_sheet(images, masks, points, centers, scale=1)
    expected = np.round((images + 1) * 127.5).astype(np.uint8)
    np.testing.assert_array_equal(drawn[3:19, 22:38], expected[0])
    np.testing.assert_array_equal(drawn[3:19, 41:57], expected[1])


@pytest.mark.parametrize("size,scale", [(16, 8), (32, 4), (64, 2), (96, 1), (128, 1), (256, 1)])
def test_small_images_are_enlarged(size, scale):
    assert sheets.default_scale(size) == scale


def test_segmentation_sheet_with_and_without_truth():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    labels = rng.integers(0, 4, (3, 16, 16))
    with_truth = sheets.segmentation_sheet(images, labels, labels, scale=1)
    without = sheets.segmentation_sheet(images, labels, scale=1)
    np.testing.assert_array_equal(with_truth[22:38, 22:], with_truth[41:57, 22:])
    np.testing.assert_array_equal(without[41:57, 22:38], palette(4)[labels[0]])
    captioned = sheets.segmentation_sheet(images, labels, names=["a" * 90, "b", ""], scale=1)
    assert captioned.shape[0] == without.shape[0] + 18


def test_pixels_without_ground_truth_look_like_the_background():
    images = np.full((1, 4, 4, 3), 200, np.uint8)
    labels = np.ones((1, 4, 4), int)
    truth = np.array([[[0, 0, 1, 1]] * 4])
    void = np.where(truth == 0, -1, truth)
    pictures = [sheets.segmentation_sheet(images, labels, t, scale=8) for t in (truth, void)]
    np.testing.assert_array_equal(*pictures)


def test_true_parts_take_the_colors_of_the_predicted_parts_they_overlap():
    truth = np.array([[[1, 1, 2, 2, 3, 0]]])
    pred = np.array([[[2, 2, 2, 1, 0, 0]]])
    colors = sheets.matched_colors(pred, truth)
    known = palette(10)
    # 1 shares two pixels with part 2, 2 one with part 1; 3 meets no part and gets a new colour.
    np.testing.assert_array_equal(colors[:3], known[[0, 2, 1]])
    assert colors[3].tolist() not in known[:3].tolist()


def test_truth_with_more_labels_than_predictions_keeps_every_label_distinct():
    truth = np.arange(7).reshape(1, 1, 7)
    for pred in (np.zeros_like(truth), truth % 3, truth):
        assert len(np.unique(sheets.matched_colors(pred, truth), axis=0)) == 7


def test_an_empty_sheet_is_refused():
    with pytest.raises(ValueError, match="at least one image"):
        sheets.sample_sheet(*samples(0))


@pytest.mark.usefixtures("unchecked")
def test_png_is_written_whole_and_nothing_else(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    path = tmp_path / "new" / "sheet.png"
    save_png(path, picture)
    save_png(path, picture)
    assert os.listdir(path.parent) == ["sheet.png"]
    np.testing.assert_array_equal(np.asarray(Image.open(path)), picture)
    with pytest.raises(ValueError, match="float64"):
        encode_png(picture / 255)


def test_a_picture_that_cannot_be_written_names_the_file_and_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*sheet\.png"):
        save_png(tmp_path / "file" / "sheet.png", np.zeros((2, 2, 3), np.uint8))
    (tmp_path / "taken.png").mkdir()
    with pytest.raises(UserError, match=r"cannot write .*taken\.png"):
        save_png(tmp_path / "taken.png", np.zeros((2, 2, 3), np.uint8))
    assert sorted(os.listdir(tmp_path)) == ["file", "taken.png"]


NAMED = Classes(
    names=("background", "head", "legs"),
    colors=np.array([[0, 0, 0], [255, 0, 128], [0, 255, 0]], np.uint8),
    groups=(0, 1, 0, 2, 1),  # Part 2 is hidden, part 4 belongs to part 1.
)
LEGEND = 44  # A line for each name, which do not fit beside each other.


def colors_in(picture):
    return {tuple(color) for color in picture.reshape(-1, 3).tolist()}


def test_classes_join_labels_and_masks():
    labels = np.array([[-1, 0, 1, 2, 3, 4]])
    np.testing.assert_array_equal(NAMED.of_labels(labels), [[-1, 0, 1, 0, 2, 1]])
    masks = np.eye(5, dtype=np.float32)[None]
    joined = NAMED.of_masks(masks)
    np.testing.assert_array_equal(joined.argmax(-1), NAMED.of_labels(np.arange(5))[None])
    np.testing.assert_array_equal(joined.sum(-1), 1)
    untouched = usual(5)
    np.testing.assert_array_equal(untouched.of_masks(masks), masks)
    assert untouched.names[4] == "part 4" and (untouched.colors == palette(5)).all()


def test_sheets_show_parts_as_what_they_are_called():
    images, _, points, centers = samples(2, parts=4)
    hard = np.eye(5, dtype=np.float32)[np.random.default_rng(1).integers(0, 5, (2, 16, 16))]
    drawn = sheets.sample_sheet(images, hard, points, centers, scale=1, classes=NAMED)
    plain = sheets.sample_sheet(images, NAMED.of_masks(hard), points, centers, scale=1)
    assert drawn.shape == (plain.shape[0] + LEGEND, *plain.shape[1:])
    tiles = drawn[LEGEND + 3 * 19 + 3 :, 22:38][:16]
    np.testing.assert_array_equal(tiles, NAMED.colors[NAMED.of_labels(hard[0].argmax(-1))])
    assert {(255, 0, 128), (0, 255, 0)} <= colors_in(drawn[:LEGEND])
    assert not {tuple(c) for c in palette(5)[1:].tolist()} & colors_in(drawn)
    photos = np.full((2, 16, 16, 3), 90, np.uint8)
    drawn = sheets.segmentation_sheet(photos, hard.argmax(-1), scale=1, classes=NAMED)
    tiles = drawn[LEGEND + 2 * 19 + 3 :, 22:38][:16]
    np.testing.assert_array_equal(tiles, NAMED.colors[NAMED.of_labels(hard[0].argmax(-1))])
    truth = NAMED.of_labels(hard.argmax(-1))
    drawn = sheets.segmentation_sheet(photos, hard.argmax(-1), truth, scale=1, classes=NAMED)
    rows = [drawn[LEGEND + row * 19 + 3 :, 22:][:16] for row in (1, 2)]
    np.testing.assert_array_equal(*rows)


def test_hidden_parts_have_no_points():
    images, masks, points, centers = samples(1, parts=4)
    moved = points.copy()
    moved[:, 1] = -moved[:, 1]
    one, other = (
        sheets.sample_sheet(images, masks, p, centers, scale=4, classes=NAMED)
        for p in (points, moved)
    )
    np.testing.assert_array_equal(one, other)

"""Masks become labels after they are made small, as the published preparations do it."""

import io

import numpy as np
import pytest
from PIL import Image

from ganseg_jax.data import pipeline, prepare, truth
from ganseg_jax.data.builders.cub.builder import Cub
from ganseg_jax.errors import UserError
from tests.data import trees

FLOWER, BLUE = (200, 150, 100), (0, 0, 254)
RED, LESS_RED = (200, 0, 10), (200, 80, 10)


def encoded(rows):
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(rows, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


# To half of the size, a pixel is (1, 3, 3, 1) / 8 of four, and (3, 3, 1) / 7 of three at the edge.
# The second results are those of the other order: decide, then take the nearest pixel.
@pytest.mark.parametrize(
    ("rule", "row", "expected", "other_order"),
    [
        # 255, 7/8 of 255, 1/8 of 255, 0
        ("white", [255] * 4 + [0] * 4, [1, 0, 0, 0], [1, 1, 0, 0]),
        # 255, (255 + 3 * 255 + 3 * 100) / 8 = 165, 100 / 8, 0
        ("above_half", [255] * 3 + [100] + [0] * 4, [1, 1, 0, 0], [1, 0, 0, 0]),
        # The third pixel is an eighth flower: (25, 19, 235), no longer the blue.
        ("not_blue", [FLOWER] * 4 + [BLUE] * 4, [1, 1, 1, 0], [1, 1, 0, 0]),
        # A red without green counts as background, but mixed with a neighbour it has some: 80 / 8.
        ("not_blue", [RED, LESS_RED] + [RED] * 6, [1, 1, 0, 0], [1, 0, 0, 0]),
    ],
)
def test_masks_are_resized_before_they_are_decided_on(rule, row, expected, other_order):
    rows = np.array([row] * 8, np.uint8)
    np.testing.assert_array_equal(truth.shrink(encoded(rows), 4, rule), [expected] * 4)
    first = truth.RULES[rule].foreground(rows)
    np.testing.assert_array_equal(first[1::2, 1::2], [other_order] * 4)


def test_label_maps_take_the_nearest_label_and_keep_what_is_not_labelled():
    rows = [[3, 1, 255, 255], [3, 2, 255, 255], [0, 0, 9, 9], [7, 0, 9, 9]]
    np.testing.assert_array_equal(truth.shrink(encoded(rows), 2, truth.LABELS), [[2, -1], [0, 9]])


@pytest.mark.parametrize("rule", [truth.LABELS, *truth.RULES])
def test_one_pixel_stands_for_no_ground_truth(rule):
    np.testing.assert_array_equal(truth.shrink(encoded([[255]]), 3, rule), np.full((3, 3), -1))


def test_sets_of_the_earlier_rule_are_noticed_and_prepared_again(tmp_path, monkeypatch):
    trees.cub(tmp_path / "cub")
    data_dir = tmp_path / "data"

    def build(source):
        return prepare.prepare("cub", source, data_dir, verify_counts=False)

    with monkeypatch.context() as before:
        before.setattr(Cub, "VERSION", "1.0.0")
        build(tmp_path / "cub")
    assert [path.name for path in (data_dir / "cub").iterdir()] == ["1.0.0"]
    for read in (
        lambda: build(None),
        lambda: build(tmp_path / "gone"),
        lambda: pipeline.load_split("cub", data_dir, "test", 8),
    ):
        with pytest.raises(UserError, match="earlier version.*prepare it again: .*dataset=cub"):
            read()
    assert not build(tmp_path / "cub").already
    assert [path.name for path in (data_dir / "cub").iterdir()] == ["2.0.0"]
    assert build(None).already and len(pipeline.load_split("cub", data_dir, "test", 8)) == 2

"""The supervised network that faces are compared with."""

import numpy as np
import pytest

from ganseg_jax.errors import UserError
from ganseg_jax.studies import supervised_landmarks as supervised


def _dots(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Grey images of 16 px with a bright dot, and five landmarks around its centre."""
    corners = rng.integers(4, 11, (count, 2))
    images = np.full((count, 16, 16, 3), 40, np.uint8)
    for image, (row, col) in zip(images, corners, strict=True):
        image[row : row + 2, col : col + 2] = 250
    offsets = np.array([[-2, -2], [-2, 2], [0, 0], [2, -1], [2, 1]], np.float32)
    return images, (corners[:, None] + 1 + offsets).astype(np.float32)


def test_it_finds_what_the_labels_say():
    rng = np.random.default_rng(0)
    images, landmarks = _dots(256, rng)
    others, truth = _dots(64, rng)
    predict = supervised.fit(images, landmarks, steps=60, seed=0)
    constant = np.broadcast_to(landmarks.mean(0), truth.shape)
    found = supervised.error(predict(others), truth)
    assert found < 0.5 * supervised.error(constant, truth)


def test_varied_photos_keep_their_landmarks():
    rng = np.random.default_rng(1)
    images, landmarks = _dots(32, rng)
    varied, moved = supervised.vary(images, landmarks, rng)
    nose = np.round(moved[:, 2]).astype(int)
    for image, (row, col) in zip(varied, nose, strict=True):
        assert (image[row - 1 : row + 1, col - 1 : col + 1] == 250).all()
    # A left eye stays left of the right one in mirror images.
    assert (moved[:, 0, 1] < moved[:, 1, 1]).all()
    assert not np.array_equal(varied, images)


def test_parts_that_move_with_landmarks_explain_them():
    rng = np.random.default_rng(2)
    place = rng.normal(8, 1, (400, 1, 2))
    found = place + np.array([[-2, -2], [-2, 2], [0, 0], [2, -1], [2, 1]])
    tied = supervised.explained(place + rng.normal(size=(1, 3, 2)), found)
    assert tied["generated_regressed"] < 1e-6
    assert tied["row_correlation"] == pytest.approx(1)
    free = supervised.explained(rng.normal(8, 1, (400, 3, 2)), found)
    assert free["generated_regressed"] > 0.9 * free["generated_mean"]


def test_other_sets_are_refused(entry_point, workdir):
    with pytest.raises(UserError, match="is of puppets: a run of faces_mtfl is needed"):
        entry_point("supervised_landmarks", workdir=workdir).main()

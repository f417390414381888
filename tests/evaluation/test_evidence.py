"""What speaks for a segmentation without labels: right masks beside wrong ones."""

import numpy as np
import pytest

from ganseg_jax.evaluation import evidence

SIZE = 16


@pytest.fixture(scope="module")
def images():
    """Photos of a red square on green, at a place of its own in each, both a little uneven."""
    rng = np.random.default_rng(0)
    images = np.zeros((30, SIZE, SIZE, 3), np.uint8)
    images[..., 1] = 200
    for image in images:
        row, col = rng.integers(1, SIZE - 7, 2)
        image[row : row + 6, col : col + 6] = (200, 0, 0)
    return np.clip(images + rng.integers(0, 30, images.shape), 0, 255).astype(np.uint8)


def probabilities(upper, lower):
    """Two parts, certain."""
    background = ~(upper | lower)
    return np.stack([background, upper, lower], -1).astype(np.float32)


def by_color(images):
    """Finds the square, and its halves."""
    square = images[..., 0] > images[..., 1]
    middle = np.array([np.median(np.nonzero(s.any(1))[0]) if s.any() else 0 for s in square])
    upper = square & (np.arange(SIZE)[None, :, None] <= middle[:, None, None])
    return probabilities(upper, square & ~upper)


def always_the_middle(images):
    upper = np.zeros(images.shape[:3], bool)
    upper[:, 4:8, 4:12] = True
    return probabilities(upper, np.roll(upper, 4, 1))


def background_as_a_part(images):
    square = images[..., 0] > images[..., 1]
    left = np.broadcast_to(np.arange(SIZE) < SIZE // 2, square.shape)
    return probabilities(~square & left, square)


def terms(predict, images):
    return evidence.terms(predict, lambda images, found: found, images)


def test_right_masks(images):
    found = terms(by_color, images)
    # Noise may turn single pixels when colours are scaled; a crop moves the border by half a pixel.
    for name, least in (("mirror", 1), ("edges", 1), ("colors", 0.95), ("crop", 0.8)):
        assert found[name] >= least, name
    assert found["border"] == 0 and found["rarest"] == 1
    assert found["share"] == pytest.approx(36 / SIZE**2)
    assert found["separation"] > 0.95 and found["contrast"] > 5
    assert found["follows"] > 0.95 and found["frame"] < 0.3


def test_masks_that_do_not_follow_the_photo(images):
    found, right = terms(always_the_middle, images), terms(by_color, images)
    assert found["frame"] == 1 and found["mirror"] == 1 and found["follows"] == pytest.approx(0)
    assert found["separation"] < 0.5 * right["separation"]
    assert found["contrast"] < 0.5 * right["contrast"]


def test_a_part_that_paints_background_is_seen(images):
    found = terms(background_as_a_part, images)
    assert found["border"] == pytest.approx(0.5, abs=0.05)
    assert found["mirror"] < 0.5


def test_terms_without_any_foreground(images):
    found = terms(lambda x: probabilities(*np.zeros((2, *x.shape[:3]), bool)), images)
    assert found["share"] == found["contrast"] == found["separation"] == 0
    assert all(np.isfinite(value) for value in found.values())


def test_right_masks_score_best(images):
    scores = [
        evidence.score(terms(predict, images))
        for predict in (by_color, always_the_middle, background_as_a_part)
    ]
    assert scores[0] > max(scores[1:])


def test_parts_that_paint_background_are_found(images):
    right = by_color(images).argmax(-1)
    assert evidence.background_parts(images, right) == []
    # Part 1 is the left half of the background, part 3 a stripe of it above the square.
    painted = background_as_a_part(images).argmax(-1)
    painted[:, 0][painted[:, 0] < 2] = 3
    assert sorted(evidence.background_parts(images, painted)) == [1, 3]
    # Of several maps each must say so.
    assert sorted(evidence.background_parts(images, painted, painted)) == [1, 3]
    assert evidence.background_parts(images, painted, np.where(right > 0, 2, 0)) == []
    # One part is always left, and photos without any part have none to find.
    assert evidence.background_parts(images, (painted == 1).astype(int)) == []
    assert evidence.background_parts(images, np.zeros_like(right)) == []
    # Nor is anything said about parts of single pixels, which have no border to speak of.
    tiny = np.zeros_like(right)
    tiny[:, 4, 4], tiny[:, 4, 5] = 1, 2
    assert evidence.background_parts(images, tiny) == []


def test_contrast_by_hand():
    image = np.zeros((2, 3, 3), np.float32)
    image[:, 1:] = 0.5  # One step of sqrt(0.75), in both rows; five other pairs are alike.
    mask = np.array([[False, True, True]] * 2)
    assert evidence.contrast(image, mask) == pytest.approx(7 / 2, rel=1e-5)
    assert evidence.contrast(image, ~np.zeros_like(mask)) == 0

"""References are plain predict functions that find what they should find."""

import numpy as np
import pytest

from ganseg_jax.data.pipeline import Split
from ganseg_jax.evaluation import overlap, protocols, references

SIZE = 24


def discs(seed, count, landmarks=False):
    """A red and a blue disc beside each other near the middle, on noisy green."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[:SIZE, :SIZE] + 0.5
    centers = rng.uniform(10, 14, (count, 1, 2)) + np.array([[0, -4.0], [0, 4.0]])
    labels = np.zeros((count, SIZE, SIZE), np.int32)
    for part in range(2):
        row, col = centers[:, part].T[..., None, None]
        labels[(rows - row) ** 2 + (cols - col) ** 2 < 3.5**2] = part + 1
    colors = np.array([[40, 160, 60], [210, 40, 40], [40, 60, 210]])
    images = np.clip(colors[labels] + rng.normal(0, 8, (count, SIZE, SIZE, 3)), 0, 255)
    truth = {}
    if landmarks:
        truth = {"landmarks": centers.astype(np.float32), "visible": np.ones((count, 2), bool)}
    names = [str(index) for index in range(count)]
    return Split(images.astype(np.uint8), names, segmentation=labels, **truth)


def measured(predict_fn, split):
    probabilities = predict_fn(split.images)
    assert probabilities.shape[:3] == split.images.shape[:3]
    np.testing.assert_allclose(probabilities.sum(-1), 1, rtol=1e-5)
    labels = probabilities.argmax(-1)
    iou = float(overlap.foreground_iou(labels, split.segmentation).mean())
    sizes = int(labels.max()) + 1, int(split.segmentation.max()) + 1
    table = overlap.contingency(labels, split.segmentation, *sizes)
    return iou, overlap.nmi(table[:, 1:])


def test_mean_mask_is_the_share_of_labelled_images():
    split = discs(0, 4)
    split.segmentation[3] = -1
    probabilities = references.mean_mask(split)(split.images[:2])
    share = (split.segmentation[:3] > 0).mean(0)
    np.testing.assert_allclose(probabilities[1, ..., 1], share, atol=1e-6)
    with pytest.raises(ValueError, match="label maps"):
        references.mean_mask(Split(split.images, split.names))


def test_mean_landmarks_predict_the_mean_in_every_regression():
    train, test = discs(1, 30, landmarks=True), discs(2, 10, landmarks=True)
    figures = protocols.get_protocol("cub_landmarks").measure(
        references.mean_landmarks(train), {"train": train, "test": test}, 4
    )
    distance = np.linalg.norm(test.landmarks - train.landmarks.mean(0), axis=-1)
    for name in ("landmark_error", "landmark_error_bias", "landmark_error_standardized"):
        assert figures[name] == pytest.approx(distance.mean() / SIZE, rel=1e-5)


@pytest.mark.parametrize("least_size", [1, 3 * SIZE])
def test_grabcut_finds_objects_in_the_middle_and_bears_a_blank_image(least_size):
    split = discs(3, 6)
    predict = references.grabcut(least_size=least_size)
    iou, _ = measured(predict, split)
    assert iou > 0.8
    blank = np.full((1, SIZE, SIZE, 3), 90, np.uint8)
    assert predict(blank).shape == (1, SIZE, SIZE, 2)


def test_kmeans_tells_parts_apart_by_color():
    split, other = discs(4, 20), discs(5, 6)
    iou, agreement = measured(references.kmeans(split, 2, seed=0, position_weight=0.3), other)
    assert iou > 0.8 and agreement > 0.7


def color_features(images):
    """Features of 4x4 blocks that respond to one colour each."""
    blocks = images.reshape(len(images), SIZE // 4, 4, SIZE // 4, 4, 3).mean((2, 4)) / 255
    red, green, blue = np.moveaxis(blocks, -1, 0)
    return np.stack([red - green, green - red, blue - green, green - blue], -1)


def test_feature_factorization_finds_the_factors_of_the_parts():
    split, other = discs(6, 20), discs(7, 6)
    predict = references.feature_factorization(split, color_features, 2, seed=0, batch_size=8)
    iou, agreement = measured(predict, other)
    assert iou > 0.5 and agreement > 0.6
    again = references.feature_factorization(split, color_features, 2, seed=0, batch_size=5)
    np.testing.assert_allclose(again(other.images), predict(other.images), atol=1e-5)


def test_references_are_measured_by_the_protocol():
    splits = {name: discs(seed, 12, True) for seed, name in enumerate(["validation", "test"])}
    figures = references.measure_references(
        protocols.get_protocol("puppets_parts"),
        splits,
        splits["validation"],
        num_parts=2,
        batch_size=5,
        seed=0,
        feature_fn=color_features,
    )
    assert set(figures) == {
        "mean_mask",
        "mean_landmarks",
        "grabcut_native",
        "kmeans",
        "kmeans_place",
        "feature_factorization",
    }
    assert set(figures["grabcut_native"]) == {"foreground_iou", "foreground_iou_count"}
    assert "foreground_iou" not in figures["mean_landmarks"]
    assert figures["kmeans"]["landmark_error_count"] == 12
    assert figures["kmeans"]["foreground_nmi"] > 0.7


def test_a_reference_without_its_ground_truth_is_left_out():
    split = discs(0, 6)
    bare = Split(split.images, split.names)
    figures = references.measure_references(
        protocols.get_protocol("people_parts"),
        {"test": split},
        bare,
        num_parts=2,
        batch_size=6,
        seed=0,
    )
    assert "mean_mask" not in figures and "grabcut" in figures

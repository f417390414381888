"""Errors of regressed landmarks as later papers report them, beside those of `landmarks`.

Coordinates are (row, col) in pixels of the evaluated image. `docs/protocols.md` says who used what.
"""

import numpy as np
from jaxtyping import Bool, Float

from ganseg_jax.evaluation import intervals, landmarks
from ganseg_jax.evaluation.landmarks import Points, TrainingPoints, TrainingVisible, Visible

Boxes = Float[np.ndarray, "n 4"]


def box_error(
    train_centers: Float[np.ndarray, "m k 2"],
    train_landmarks: TrainingPoints,
    train_visible: TrainingVisible,
    train_boxes: Float[np.ndarray, "m 4"],
    test_centers: Float[np.ndarray, "n k 2"],
    test_landmarks: Points,
    test_visible: Visible,
    test_boxes: Boxes,
    *,
    train_active: Bool[np.ndarray, "m k"] | None = None,
    test_active: Bool[np.ndarray, "n k"] | None = None,
) -> intervals.Figure:
    """Returns the error of landmarks in units of the object's bounding box (Huang, Li 2020).

    Centres and landmarks are given from the box's corner, in units of its sides. Each landmark has
    a regression of its own, of standardised inputs and targets, on the images that show it. That is
    least squares with a constant.

    Args:
      train_centers: part centres of the M images to fit.
      train_landmarks: their landmarks.
      train_visible: which of them are visible.
      train_boxes: (top, left, height, width) in pixels.
      test_centers: likewise, of the N test images.
      test_landmarks: likewise.
      test_visible: likewise.
      test_boxes: likewise.
      train_active: which parts an image has; the standardised centre of others is set to 0, the
        mean (van der Klis et al. 2023). None: all.
      test_active: likewise.

    Returns:
      The mean distance over all visible landmarks of the test images; NaN if there are none.

    Raises:
      ValueError: a landmark that test images show is missing from all training images.
    """
    inputs, targets = _in_boxes(train_centers, train_boxes), _in_boxes(train_landmarks, train_boxes)
    test_inputs = _in_boxes(test_centers, test_boxes)
    test_targets = _in_boxes(test_landmarks, test_boxes)
    present, test_present = _flags(train_active, inputs), _flags(test_active, test_inputs)
    visible = np.asarray(test_visible, bool)
    distance = np.zeros(visible.shape)
    for index in range(targets.shape[1]):
        seen, shown = train_visible[:, index], test_visible[:, index]
        if not shown.any():
            continue
        if not seen.any():
            raise ValueError(f"landmark {index} is missing from all training images")
        scale = _Standard(_flat(inputs[seen]))
        target_scale = _Standard(targets[seen, index])
        standard = np.where(present[seen], scale.apply(_flat(inputs[seen])), 0.0)
        matrix = np.linalg.lstsq(standard, target_scale.apply(targets[seen, index]), rcond=None)[0]
        standard = np.where(test_present[shown], scale.apply(_flat(test_inputs[shown])), 0.0)
        predicted = target_scale.undo(standard @ matrix)
        distance[shown, index] = np.linalg.norm(predicted - test_targets[shown, index], axis=-1)
    return intervals.mean_of(distance, visible)


def centred_error(
    train_centers: Float[np.ndarray, "m k 2"],
    train_landmarks: TrainingPoints,
    train_visible: TrainingVisible,
    test_centers: Float[np.ndarray, "n k 2"],
    test_landmarks: Points,
    test_visible: Visible,
    edge: float,
) -> intervals.Figure:
    """Returns the mean distance of landmarks, first over those an image shows (Hedlin et al. 2024).

    Coordinates are taken from the image's middle and regressed without a constant, each landmark
    on the images that show it. An image counts once, however many landmarks it shows.

    Args:
      train_centers: part centres of the M images to fit.
      train_landmarks: their landmarks.
      train_visible: which of them are visible.
      test_centers: likewise, of the N test images.
      test_landmarks: likewise.
      test_visible: likewise.
      edge: of the image, in pixels.

    Returns:
      The mean over images of the mean distance in an image, in pixels; images without a visible
      landmark are left out, and it is NaN if there are no others.
    """
    middle = edge / 2
    predicted = middle + landmarks.regress_landmarks(
        train_centers - middle,
        train_landmarks - middle,
        test_centers - middle,
        train_visible=train_visible,
    )
    distance = np.linalg.norm(predicted - test_landmarks, axis=-1)  # [N, L]
    counted = np.asarray(test_visible, bool) & np.isfinite(distance)
    sums = np.where(counted, distance, 0.0).sum(1)
    return intervals.mean_of(sums / np.maximum(counted.sum(1), 1), counted.any(1))


def correct_share(
    pred: Points, truth: Points, radius: float, visible: Visible | None = None
) -> intervals.Figure:
    """Returns the share of visible landmarks closer than `radius` pixels to the true ones (PCK)."""
    distance = np.linalg.norm(np.asarray(pred, np.float64) - truth, axis=-1)
    return intervals.mean_of(distance < radius, True if visible is None else visible)


class _Standard:
    """Brings columns to mean 0 and variance 1, as scikit-learn's `StandardScaler` does."""

    def __init__(self, values: Float[np.ndarray, "n d"]):
        self._mean, deviation = values.mean(0), values.std(0)
        self._scale = np.where(deviation > 1e-12, deviation, 1.0)

    def apply(self, values: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
        return (values - self._mean) / self._scale

    def undo(self, values: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
        return values * self._scale + self._mean


def _in_boxes(points: Points, boxes: Boxes) -> Points:
    boxes = np.asarray(boxes, np.float64)
    return (np.asarray(points, np.float64) - boxes[:, None, :2]) / boxes[:, None, 2:]


def _flat(points: Points) -> Float[np.ndarray, "n d"]:
    return points.reshape(len(points), -1)


def _flags(active: Bool[np.ndarray, "n k"] | None, centers: Points) -> Bool[np.ndarray, "n d"]:
    if active is None:
        return np.ones((len(centers), 2 * centers.shape[1]), bool)
    return np.repeat(np.asarray(active, bool), 2, axis=1)

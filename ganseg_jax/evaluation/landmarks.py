"""Landmarks regressed from the part centres of segmentations, and the errors of the protocols.

Coordinates are (row, col) in pixels of the evaluated image, 0 on its near and S on its far edge.
The regressions see part centres only, a few numbers per image, so that sets of any size fit.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from ganseg_jax.evaluation import intervals

Points = Float[np.ndarray, "n l 2"]
Visible = Bool[np.ndarray, "n l"]
TrainingPoints = Float[np.ndarray, "m l 2"]
TrainingVisible = Bool[np.ndarray, "m l"]


def part_centers(probabilities: Float[np.ndarray, "n h w c"]) -> Float[np.ndarray, "n k 2"]:
    """Returns the centre of mass of each part of soft segmentations.

    Each part's channel is normalised to sum 1 and weighs the pixel coordinates linspace(0, S, S).

    Args:
      probabilities: softmax over the classes, background first, (N, H, W, K+1).

    Returns:
      (N, K, 2) float64, (row, col) in pixels. A part of no mass gets the image's centre.
    """
    parts = np.asarray(probabilities)[..., 1:]  # [N, H, W, K]
    _, height, width, _ = parts.shape
    rows = parts.sum(2, dtype=np.float64)  # [N, H, K]
    cols = parts.sum(1, dtype=np.float64)  # [N, W, K]
    mass = rows.sum(1)  # [N, K]
    row = np.einsum("nhk,h->nk", rows, np.linspace(0, height, height))
    col = np.einsum("nwk,w->nk", cols, np.linspace(0, width, width))
    centers = np.stack([row, col], -1) / np.maximum(mass, np.finfo(np.float64).tiny)[..., None]
    middle = np.array([height / 2, width / 2])
    return np.where((mass > 1e-12)[..., None], centers, middle)


@dataclass(frozen=True)
class LinearMap:
    """Applies an affine map fitted by least squares: `(inputs - shift) @ matrix + offset`."""

    matrix: Float[np.ndarray, "d t"]
    shift: Float[np.ndarray, " d"]
    offset: Float[np.ndarray, " t"]

    def __call__(self, inputs: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n t"]:
        """Maps (N, D) inputs to (N, T) predictions."""
        return (np.asarray(inputs, np.float64) - self.shift) @ self.matrix + self.offset


def fit_linear(
    inputs: Float[np.ndarray, "n d"],
    targets: Float[np.ndarray, "n t"],
    *,
    bias: bool = False,
    standardize: bool = False,
) -> LinearMap:
    """Fits least squares of minimal norm, so that constant or repeated inputs do no harm.

    Args:
      inputs: (N, D).
      targets: (N, T).
      bias: fit a constant besides the D weights.
      standardize: bring inputs and targets to mean 0 and variance 1 first and fit those without
        a constant, as some published evaluations do.

    Raises:
      ValueError: for no examples, or a different number of inputs and targets.
    """
    inputs, targets = np.asarray(inputs, np.float64), np.asarray(targets, np.float64)
    if len(inputs) == 0 or len(inputs) != len(targets):
        raise ValueError(f"cannot fit {len(targets)} targets to {len(inputs)} inputs")
    if not (bias or standardize):
        matrix = np.linalg.lstsq(inputs, targets, rcond=None)[0]
        return LinearMap(matrix, np.zeros(inputs.shape[1]), np.zeros(targets.shape[1]))
    shift, offset = inputs.mean(0), targets.mean(0)
    scale, target_scale = np.ones(inputs.shape[1]), np.ones(targets.shape[1])
    if standardize:
        scale, target_scale = _deviation(inputs), _deviation(targets)
    matrix = np.linalg.lstsq((inputs - shift) / scale, (targets - offset) / target_scale, None)[0]
    return LinearMap(matrix / scale[:, None] * target_scale, shift, offset)


def regress_landmarks(
    train_centers: Float[np.ndarray, "m k 2"],
    train_landmarks: TrainingPoints,
    test_centers: Float[np.ndarray, "n k 2"],
    *,
    train_visible: TrainingVisible | None = None,
    bias: bool = False,
    standardize: bool = False,
) -> Points:
    """Predicts the landmarks of test images from part centres, by linear regression.

    Args:
      train_centers: (M, K, 2), the 2K inputs of each training image.
      train_landmarks: (M, L, 2).
      test_centers: (N, K, 2).
      train_visible: (M, L); every landmark is fitted on the images that show it. A landmark
        that no training image shows is predicted as NaN.
      bias: see `fit_linear`.
      standardize: see `fit_linear`.

    Returns:
      (N, L, 2) float64.
    """
    inputs = train_centers.reshape(len(train_centers), -1)  # [M, 2K]
    test_inputs = test_centers.reshape(len(test_centers), -1)
    num_landmarks = train_landmarks.shape[1]
    if train_visible is None or np.all(train_visible):
        targets = train_landmarks.reshape(len(train_landmarks), -1)
        fitted = fit_linear(inputs, targets, bias=bias, standardize=standardize)
        return fitted(test_inputs).reshape(-1, num_landmarks, 2)
    predicted = np.full((len(test_inputs), num_landmarks, 2), np.nan)
    for index in range(num_landmarks):
        seen = np.asarray(train_visible)[:, index]
        if seen.any():
            targets = train_landmarks[seen, index]
            fitted = fit_linear(inputs[seen], targets, bias=bias, standardize=standardize)
            predicted[:, index] = fitted(test_inputs)
    return predicted


def landmark_error(
    pred: Points,
    truth: Points,
    normalizer: Float[np.ndarray, " n"] | float,
    visible: Visible | None = None,
) -> intervals.Figure:
    """Returns the mean distance of predicted from true landmarks over each image's normaliser.

    Args:
      pred: (N, L, 2).
      truth: (N, L, 2).
      normalizer: length in pixels, one for each image or one for all.
      visible: (N, L); others are left out.

    Returns:
      The mean over all landmarks that are visible, predicted (not NaN) and in an image whose
      normaliser is not 0; NaN where there are none.
    """
    distance = np.linalg.norm(np.asarray(pred, np.float64) - truth, axis=-1)  # [N, L]
    length = np.broadcast_to(np.asarray(normalizer, np.float64), len(distance))[:, None]
    counted = np.isfinite(distance) & (length > 0)
    if visible is not None:
        counted &= np.asarray(visible, bool)
    return intervals.mean_of(distance / np.where(length > 0, length, 1.0), counted)


def interocular_distance(
    landmarks: Points, left_eye: int = 0, right_eye: int = 1
) -> Float[np.ndarray, " n"]:
    """Returns the distance between the eyes of each image, (N,), in pixels."""
    difference = np.asarray(landmarks, np.float64)[:, left_eye] - landmarks[:, right_eye]
    return np.linalg.norm(difference, axis=-1)


REGRESSIONS: dict[str, dict[str, Any]] = {
    "": {"bias": False},
    "_bias": {"bias": True},
    "_standardized": {"standardize": True},
}
"""The regression variants that published rows differ in, by the suffix of the figure's name."""


def celeba_errors(
    train_centers: Float[np.ndarray, "m k 2"],
    train_landmarks: TrainingPoints,
    test_centers: Float[np.ndarray, "n k 2"],
    test_landmarks: Points,
) -> dict[str, intervals.Figure]:
    """Returns errors as fractions of the inter-ocular distance, for every regression.

    The first two landmarks are the eyes.

    Returns:
      `landmark_error` (no bias, the paper's), `landmark_error_bias` and
      `landmark_error_standardized`.
    """
    return _errors_of_regressions(
        lambda **options: regress_landmarks(
            train_centers, train_landmarks, test_centers, **options
        ),
        lambda predicted: landmark_error(
            predicted, test_landmarks, interocular_distance(test_landmarks)
        ),
    )


def edge_errors(
    train_centers: Float[np.ndarray, "m k 2"],
    train_landmarks: TrainingPoints,
    train_visible: TrainingVisible,
    test_centers: Float[np.ndarray, "n k 2"],
    test_landmarks: Points,
    test_visible: Visible,
    edge: float,
) -> dict[str, intervals.Figure]:
    """Returns the errors of visible landmarks as fractions of the image's edge (CUB)."""
    return _errors_of_regressions(
        lambda **options: regress_landmarks(
            train_centers, train_landmarks, test_centers, train_visible=train_visible, **options
        ),
        lambda predicted: landmark_error(predicted, test_landmarks, edge, test_visible),
    )


def _errors_of_regressions(
    predict: Callable[..., np.ndarray], error: Callable[[np.ndarray], intervals.Figure]
) -> dict[str, intervals.Figure]:
    return {
        "landmark_error" + suffix: error(predict(**options))
        for suffix, options in REGRESSIONS.items()
    }


def summed_absolute_error(
    train_centers: Float[np.ndarray, "m k 2"],
    train_landmarks: TrainingPoints,
    train_visible: TrainingVisible,
    test_centers: Float[np.ndarray, "n k 2"],
    test_landmarks: Points,
    test_visible: Visible,
) -> intervals.Figure:
    """Returns Taichi's measure: mean absolute errors summed over the 2L coordinates.

    Every coordinate has a regression with bias of its own, fitted and tested on the images where
    that landmark is not missing. The unit is the landmarks' unit (the published figures are in
    pixels of 256-px frames).

    Raises:
      ValueError: a landmark is missing from all training or all test images, since the
        sum would then leave it out unnoticed.
    """
    # Least squares with several targets is one regression for each of them.
    predicted = regress_landmarks(
        train_centers, train_landmarks, test_centers, train_visible=train_visible, bias=True
    )
    seen = np.asarray(test_visible, bool)
    there = seen.any(0) & np.asarray(train_visible, bool).any(0)  # [L]
    if not there.all():
        index = int(np.argmin(there))
        raise ValueError(f"landmark {index} is missing from all training or all test images")
    error = np.where(seen[..., None], np.abs(predicted - test_landmarks), 0.0)  # [N, L, 2]
    counted = np.broadcast_to(seen[..., None], error.shape)
    return intervals.Figure(np.stack([error, counted], -1), "sum")


def _deviation(values: np.ndarray) -> np.ndarray:
    deviation = values.std(0)
    # A coordinate that never moves carries no information; any scale leaves it at zero.
    return np.where(deviation > 1e-12, deviation, 1.0)

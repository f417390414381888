"""Part centres, landmark regressions and errors by hand and against scikit-learn."""

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import StandardScaler

from ganseg_jax.evaluation import landmarks


def faces(seed, count=60, parts=4, points=5):
    """Part centres and landmarks that depend on them linearly, with an offset and noise."""
    rng = np.random.default_rng(seed)
    centers = rng.uniform(4, 28, (count, parts, 2))
    mixing = np.random.default_rng(99).normal(size=(parts * 2, points * 2)) / 3
    flat = centers.reshape(count, -1) @ mixing + 5 + rng.normal(0, 0.3, (count, points * 2))
    return centers, flat.reshape(count, points, 2)


def test_part_centers_by_hand():
    # Two parts on a 3x5 image: one pixel at (2, 1); a pair at (0, 0) and (0, 4) weighted 1 to 3.
    probabilities = np.zeros((1, 3, 5, 4), np.float32)
    probabilities[0, 2, 1, 1] = 0.3
    probabilities[0, 0, 0, 2], probabilities[0, 0, 4, 2] = 0.2, 0.6
    centers = landmarks.part_centers(probabilities)
    # Coordinates are linspace(0, 3, 3) = 0, 1.5, 3 and linspace(0, 5, 5) = 0, 1.25, ..., 5.
    np.testing.assert_allclose(centers[0, 0], [3.0, 1.25], rtol=1e-6)
    np.testing.assert_allclose(centers[0, 1], [0.0, 0.75 * 5], rtol=1e-6)
    np.testing.assert_allclose(centers[0, 2], [1.5, 2.5])  # no mass


def test_part_centers_ignore_the_part_s_mass():
    rng = np.random.default_rng(0)
    probabilities = rng.uniform(size=(2, 8, 8, 3)).astype(np.float32)
    scaled = probabilities * np.array([1.0, 1e-3, 50.0], np.float32)
    np.testing.assert_allclose(
        landmarks.part_centers(scaled), landmarks.part_centers(probabilities), rtol=1e-5
    )


@pytest.mark.parametrize("bias", [False, True])
def test_fit_linear_is_that_of_scikit_learn(bias):
    rng = np.random.default_rng(1)
    inputs, targets = rng.normal(3, 2, (40, 6)), rng.normal(size=(40, 3))
    expected = LinearRegression(fit_intercept=bias).fit(inputs, targets).predict(inputs[:5])
    fitted = landmarks.fit_linear(inputs, targets, bias=bias)
    np.testing.assert_allclose(fitted(inputs[:5]), expected, atol=1e-10)


def test_standardised_fit_is_that_of_scikit_learn_and_amounts_to_a_bias():
    rng = np.random.default_rng(2)
    inputs, targets = rng.normal(3, 2, (40, 6)), rng.normal(size=(40, 3))
    scaler, target_scaler = StandardScaler().fit(inputs), StandardScaler().fit(targets)
    model = LinearRegression(fit_intercept=False)
    model.fit(scaler.transform(inputs), target_scaler.transform(targets))
    expected = target_scaler.inverse_transform(model.predict(scaler.transform(inputs[:5])))
    fitted = landmarks.fit_linear(inputs, targets, standardize=True)(inputs[:5])
    np.testing.assert_allclose(fitted, expected, atol=1e-10)
    with_bias = landmarks.fit_linear(inputs, targets, bias=True)(inputs[:5])
    np.testing.assert_allclose(fitted, with_bias, atol=1e-10)


def test_fit_linear_bears_constant_and_repeated_inputs():
    rng = np.random.default_rng(3)
    informative = rng.normal(size=(30, 2))
    inputs = np.concatenate([informative, informative[:, :1], np.full((30, 1), 16.0)], 1)
    targets = informative @ rng.normal(size=(2, 4)) + 7
    for options in ({"bias": True}, {"standardize": True}):
        fitted = landmarks.fit_linear(inputs, targets, **options)
        np.testing.assert_allclose(fitted(inputs), targets, atol=1e-9)
    with pytest.raises(ValueError, match="0 inputs"):
        landmarks.fit_linear(inputs[:0], targets[:0])


def test_landmark_error_by_hand():
    truth = np.zeros((3, 2, 2))
    pred = np.array(
        [[[3.0, 4.0], [0.0, 1.0]], [[0.0, 2.0], [np.nan, 0.0]], [[9.0, 9.0], [9.0, 9.0]]]
    )
    # Distances 5, 1 over 10; 2 over 4; the third image has no length to divide by.
    error = landmarks.landmark_error(pred, truth, np.array([10.0, 4.0, 0.0]))
    assert error == pytest.approx((0.5 + 0.1 + 0.5) / 3)
    visible = np.array([[True, False], [True, True], [True, True]])
    assert landmarks.landmark_error(pred, truth, 10.0, visible) == pytest.approx(
        (0.5 + 0.2 + 2 * 0.9 * np.sqrt(2)) / 4
    )
    assert np.isnan(landmarks.landmark_error(pred, truth, 1.0, np.zeros((3, 2), bool)))


def test_celeba_errors_match_scikit_learn():
    centers, points = faces(0)
    test_centers, test_points = faces(1, count=20)
    figures = landmarks.celeba_errors(centers, points, test_centers, test_points)
    eyes = np.linalg.norm(test_points[:, 0] - test_points[:, 1], axis=-1)
    for name, bias in (("landmark_error", False), ("landmark_error_bias", True)):
        model = LinearRegression(fit_intercept=bias)
        model.fit(centers.reshape(60, -1), points.reshape(60, -1))
        predicted = model.predict(test_centers.reshape(20, -1)).reshape(20, 5, 2)
        distance = np.linalg.norm(predicted - test_points, axis=-1)
        assert figures[name] == pytest.approx((distance / eyes[:, None]).mean(), rel=1e-9)
    assert figures["landmark_error_standardized"] == pytest.approx(figures["landmark_error_bias"])
    assert figures["landmark_error_bias"] < figures["landmark_error"]


def test_invisible_landmarks_are_neither_fitted_nor_counted():
    centers, points = faces(2)
    test_centers, test_points = faces(3, count=20)
    visible = np.random.default_rng(4).uniform(size=(60, 5)) < 0.7
    test_visible = np.random.default_rng(5).uniform(size=(20, 5)) < 0.7
    corrupt = np.where(visible[..., None], points, -1000.0)
    test_corrupt = np.where(test_visible[..., None], test_points, -1000.0)
    figures = landmarks.edge_errors(
        centers, corrupt, visible, test_centers, test_corrupt, test_visible, edge=32
    )
    distances = []
    for index in range(5):
        seen, test_seen = visible[:, index], test_visible[:, index]
        model = LinearRegression(fit_intercept=False)
        model.fit(centers[seen].reshape(seen.sum(), -1), points[seen, index])
        predicted = model.predict(test_centers[test_seen].reshape(test_seen.sum(), -1))
        distances.extend(np.linalg.norm(predicted - test_points[test_seen, index], axis=-1))
    assert figures["landmark_error"] == pytest.approx(np.mean(distances) / 32, rel=1e-9)


def test_taichi_error_sums_separate_regressions():
    centers, points = faces(6)
    test_centers, test_points = faces(7, count=20)
    visible = np.random.default_rng(8).uniform(size=(60, 5)) < 0.8
    test_visible = np.random.default_rng(9).uniform(size=(20, 5)) < 0.8
    total = 0.0
    for index in range(5):
        for axis in range(2):
            seen, test_seen = visible[:, index], test_visible[:, index]
            model = LinearRegression()
            model.fit(centers[seen].reshape(seen.sum(), -1), points[seen, index, axis])
            predicted = model.predict(test_centers[test_seen].reshape(test_seen.sum(), -1))
            total += np.abs(predicted - test_points[test_seen, index, axis]).mean()
    measured = landmarks.summed_absolute_error(
        centers, points, visible, test_centers, test_points, test_visible
    )
    assert measured == pytest.approx(total, rel=1e-9)
    test_visible[:, 2] = False
    with pytest.raises(ValueError, match="landmark 2 is missing"):
        landmarks.summed_absolute_error(
            centers, points, visible, test_centers, test_points, test_visible
        )

"""Errors of landmarks as later papers report them, by scikit-learn and by hand."""

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import StandardScaler

from ganseg_jax.evaluation import landmark_measures

PARTS, LANDMARKS = 3, 4


def example(seed, count):
    """Centres, landmarks, which are visible, boxes, and which parts are there."""
    rng = np.random.default_rng(seed)
    corners, sides = rng.uniform(0, 20, (count, 1, 2)), rng.uniform(20, 60, (count, 1, 2))
    centers = corners + sides * rng.uniform(0, 1, (count, PARTS, 2))
    mixing = np.random.default_rng(7).uniform(0, 1 / PARTS, (LANDMARKS, PARTS))
    points = np.einsum("lk,nkd->nld", mixing, centers) + rng.normal(0, 2, (count, LANDMARKS, 2))
    visible = rng.uniform(size=(count, LANDMARKS)) < 0.7
    boxes = np.concatenate([corners, sides], -1)[:, 0]
    return centers, points, visible, boxes, rng.uniform(size=(count, PARTS)) < 0.8


def published(train, test, with_presence):
    """The published evaluation: scalers, regression without intercept, scalers undone."""
    fit, held = (
        [(points - boxes[:, None, :2]) / boxes[:, None, 2:] for points in (centers, landmarks)]
        for centers, landmarks, _, boxes, _ in (train, test)
    )
    total = count = 0
    for index in range(LANDMARKS):
        seen, shown = train[2][:, index], test[2][:, index]
        inputs, outputs = StandardScaler(), StandardScaler()
        x = inputs.fit_transform(fit[0][seen].reshape(-1, 2 * PARTS))
        y = outputs.fit_transform(fit[1][seen, index])
        x_test = inputs.transform(held[0][shown].reshape(-1, 2 * PARTS))
        if with_presence:
            x = np.where(train[4][seen].repeat(2, 1), x, 0)
            x_test = np.where(test[4][shown].repeat(2, 1), x_test, 0)
        model = LinearRegression(fit_intercept=False).fit(x, y)
        predicted = outputs.inverse_transform(model.predict(x_test))
        total += np.linalg.norm(predicted - held[1][shown, index], axis=1).sum()
        count += shown.sum()
    return total / count


@pytest.mark.parametrize("with_presence", [False, True])
def test_box_error_is_the_published_one(with_presence):
    train, test = example(0, 60), example(1, 25)
    presence = {"train_active": train[4], "test_active": test[4]} if with_presence else {}
    error = landmark_measures.box_error(*train[:4], *test[:4], **presence)
    assert error == pytest.approx(published(train, test, with_presence), rel=1e-9)


def test_box_error_is_that_of_a_regression_with_a_constant():
    train, test = example(2, 60), example(3, 25)
    for one in (train, test):
        one[2][:] = True
    boxed = [
        (one[i] - one[3][:, None, :2]) / one[3][:, None, 2:]
        for one in (train, test)
        for i in (0, 1)
    ]
    x, y, x_test, y_test = (values.reshape(len(values), -1) for values in boxed)
    distance = LinearRegression().fit(x, y).predict(x_test) - y_test
    expected = np.linalg.norm(distance.reshape(-1, LANDMARKS, 2), axis=-1).mean()
    error = landmark_measures.box_error(*train[:4], *test[:4])
    assert error == pytest.approx(expected, rel=1e-9)


def test_box_error_of_landmarks_nobody_shows():
    train, test = example(4, 30), example(5, 10)
    train[2][:, 1] = False
    with pytest.raises(ValueError, match="landmark 1 is missing from all training images"):
        landmark_measures.box_error(*train[:4], *test[:4])
    test[2][:] = False
    assert np.isnan(landmark_measures.box_error(*train[:4], *test[:4]))


def test_centred_error_counts_each_image_once():
    centers = np.array([[[4.0, 6.0]], [[8.0, 2.0]], [[6.0, 6.0]]])  # edge 10, so middle 5
    points = np.repeat(centers, 2, axis=1)
    visible = np.ones((3, 2), bool)
    # The regression is exact, so errors are what is added to the test landmarks.
    shift = np.array([[[3.0, 4.0], [0.0, 0.0]], [[0.0, 1.0], [9.0, 9.0]], [[9.0, 9.0], [9.0, 9.0]]])
    shown = np.array([[True, True], [True, False], [False, False]])
    error = landmark_measures.centred_error(
        centers, points, visible, centers, points + shift, shown, edge=10.0
    )
    assert error == pytest.approx((5 / 2 + 1) / 2)


def test_centred_error_is_that_of_the_pseudo_inverse():
    train, test = example(6, 50), example(7, 20)
    edge = 80.0
    x, y = train[0].reshape(50, -1) / edge - 0.5, train[1] / edge - 0.5
    x_test, y_test = test[0].reshape(20, -1) / edge - 0.5, test[1] / edge - 0.5
    means = []
    for image in range(20):
        found = []
        for index in np.flatnonzero(test[2][image]):
            seen = train[2][:, index]
            weights = np.linalg.pinv(x[seen].T @ x[seen]) @ x[seen].T @ y[seen, index]
            found.append(np.linalg.norm(x_test[image] @ weights - y_test[image, index]) * edge)
        means += [np.mean(found)] if found else []
    error = landmark_measures.centred_error(*train[:3], *test[:3], edge)
    assert error == pytest.approx(np.mean(means), rel=1e-9)


def test_correct_share_by_hand():
    truth = np.zeros((2, 2, 2))
    pred = np.array([[[3.0, 4.0], [0.0, 6.0]], [[5.9, 0.0], [9.0, 9.0]]])
    assert landmark_measures.correct_share(pred, truth, 6.0) == 0.5
    visible = np.array([[True, False], [True, False]])
    assert landmark_measures.correct_share(pred, truth, 6.0, visible) == 1.0

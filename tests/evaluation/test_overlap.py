"""Overlap measures against cases worked out by hand and against scikit-learn."""

import numpy as np
import pytest
from sklearn import metrics

from ganseg_jax.evaluation import intervals, overlap


def test_foreground_iou_by_hand():
    pred = np.array([[[1, 2], [0, 0]], [[0, 0], [0, 0]], [[0, 3], [0, 0]]])
    truth = np.array([[[4, 0], [4, 0]], [[0, 0], [0, 0]], [[0, 0], [0, 1]]])
    # One pixel of three; two empty foregrounds; disjoint.
    np.testing.assert_allclose(overlap.foreground_iou(pred, truth), [1 / 3, 1.0, 0.0])


def test_pixels_without_ground_truth_are_left_out():
    pred = np.array([[[1, 1], [1, 0]]])
    truth = np.array([[[1, -1], [0, -1]]])
    np.testing.assert_allclose(overlap.foreground_iou(pred, truth), [1 / 2])


@pytest.mark.usefixtures("unchecked")
def test_foreground_iou_refuses_other_shapes():
    with pytest.raises(ValueError, match=r"\(1, 2, 2\).*\(1, 2, 3\)"):
        overlap.foreground_iou(np.zeros((1, 2, 2), int), np.zeros((1, 2, 3), int))


def test_contingency_by_hand_and_additive():
    pred = np.array([[0, 1, 1], [2, 2, 2]])
    truth = np.array([[0, 0, 1], [1, 1, 0]])
    expected = [[1, 0], [1, 1], [1, 2]]
    np.testing.assert_array_equal(overlap.contingency(pred, truth, 3, 2), expected)
    halves = [overlap.contingency(p, t, 3, 2) for p, t in zip(pred, truth, strict=True)]
    np.testing.assert_array_equal(sum(halves), expected)


def test_contingency_counts_only_where_told():
    pred, truth = np.array([0, 1, 255]), np.array([1, 1, -1])
    table = overlap.contingency(pred, truth, 2, 2, where=np.array([True, True, False]))
    np.testing.assert_array_equal(table, [[0, 1], [0, 1]])
    with pytest.raises(ValueError, match="predicted labels run from 0 to 255"):
        overlap.contingency(pred, truth, 2, 2)


@pytest.mark.parametrize("seed", range(6))
def test_nmi_and_ari_are_those_of_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 5, 4000)
    noise = rng.integers(0, 7, 4000)
    pred = np.where(rng.uniform(size=4000) < seed / 5, truth, noise)
    table = overlap.contingency(pred, truth, 9, 6)
    expected_nmi = metrics.normalized_mutual_info_score(truth, pred)
    assert overlap.nmi(table) == pytest.approx(expected_nmi, abs=1e-12)
    assert overlap.ari(table) == pytest.approx(metrics.adjusted_rand_score(truth, pred), abs=1e-12)


@pytest.mark.parametrize(
    "pred,truth",
    [
        ([0, 0, 0], [0, 0, 0]),
        ([0, 0, 0], [0, 1, 2]),
        ([0, 1, 2], [0, 0, 0]),
        ([0, 1, 2], [2, 0, 1]),
        ([0, 0, 1, 1], [0, 1, 0, 1]),
        ([0], [0]),
    ],
)
def test_nmi_and_ari_of_degenerate_labellings(pred, truth):
    table = overlap.contingency(np.array(pred), np.array(truth), 4, 4)
    expected_nmi = metrics.normalized_mutual_info_score(truth, pred)
    assert overlap.nmi(table) == pytest.approx(expected_nmi, abs=1e-12)
    assert overlap.ari(table) == pytest.approx(metrics.adjusted_rand_score(truth, pred), abs=1e-12)


def test_ari_does_not_overflow():
    # A billion pixels: their pairs times pairs need more than 64 bits.
    table = np.array([[400_000_000, 100_000_000], [100_000_000, 400_000_000]])
    small = np.array([[4000, 1000], [1000, 4000]])
    assert overlap.ari(table) == pytest.approx(0.36, abs=1e-6)
    assert overlap.ari(table) == pytest.approx(overlap.ari(small), abs=1e-3)


def agreement(pred, truth):
    sizes = int(pred.max()) + 1, int(truth.max()) + 1
    return intervals.part_agreement(overlap.contingency(pred, truth, *sizes)[None])


def test_part_agreement_is_invariant_to_part_names_and_looks_inside_the_foreground():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, (3, 8, 8))
    renamed = np.array([0, 3, 1, 2])[truth]
    assert agreement(renamed, truth) == {
        "part_nmi": pytest.approx(1),
        "part_ari": pytest.approx(1),
        "foreground_nmi": pytest.approx(1),
        "foreground_ari": pytest.approx(1),
    }
    one_part = (truth > 0).astype(int)
    figures = agreement(one_part, truth)
    assert figures["foreground_nmi"] == 0 and figures["foreground_ari"] == 0
    assert 0 < figures["part_nmi"] < 1
    inside = truth > 0
    pred = rng.integers(0, 3, truth.shape)
    expected = metrics.adjusted_rand_score(truth[inside], pred[inside])
    assert agreement(pred, truth)["foreground_ari"] == pytest.approx(expected)


def test_landmark_tables_by_hand():
    pred = np.array([[[0, 1], [2, 3]]])
    landmarks = np.array(
        [[[0.5, 1.5], [2.0, 2.0], [1.2, 0.1], [0.0, 0.0], [2.1, 0.0], [np.nan, 0]]]
    )
    visible = np.array([[True, True, True, False, True, True]])
    (table,) = overlap.landmark_tables(pred, landmarks, visible, 4)
    expected = np.zeros((4, 6), int)
    expected[1, 0] = expected[3, 1] = expected[2, 2] = 1
    np.testing.assert_array_equal(table, expected)


def test_class_ious_by_hand():
    # Class 0: 6 of 8; class 1: 3 of 6; class 2 never occurs; class 3: predicted once, never true.
    table = np.array([[6, 1, 0, 0], [1, 3, 0, 0], [0, 0, 0, 0], [0, 1, 0, 0]])
    np.testing.assert_allclose(overlap.class_iou(table), [0.75, 0.5, np.nan, 0.0])
    assert overlap.mean_iou(table) == pytest.approx(1.25 / 3)
    assert overlap.weighted_iou(table) == pytest.approx((7 * 0.75 + 5 * 0.5) / 12)
    with pytest.raises(ValueError, match="square"):
        overlap.class_iou(table[:2])


def test_class_iou_is_the_jaccard_score():
    rng = np.random.default_rng(3)
    pred, truth = rng.integers(0, 4, (2, 500))
    table = overlap.contingency(pred, truth, 4, 4)
    expected = metrics.jaccard_score(truth, pred, average=None)
    np.testing.assert_allclose(overlap.class_iou(table), expected)
    weighted = metrics.jaccard_score(truth, pred, average="weighted")
    assert overlap.weighted_iou(table) == pytest.approx(weighted)

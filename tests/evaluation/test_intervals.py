"""Figures draw their images again as they were computed, and compare image by image."""

import copy

import numpy as np
import pytest

from ganseg_jax.errors import UserError
from ganseg_jax.evaluation import intervals, landmarks, overlap, protocols


def labels(seed, count=12, classes=4):
    return np.random.default_rng(seed).integers(0, classes, (count, 6, 6))


def redrawn(measure, count, draws=20):
    """What `measure(images)` gives on the images of the first draws, each as often as drawn."""
    weights = next(intervals._draws(count))[:draws].astype(int)
    return [measure(np.repeat(np.arange(count), row)) for row in weights]


def assert_redraws(figure, measure):
    expected = redrawn(measure, len(figure.each))
    np.testing.assert_allclose(intervals._redrawn(figure)[: len(expected)], expected, rtol=1e-12)
    assert float(figure) == pytest.approx(measure(np.arange(len(figure.each))), rel=1e-12)


def test_figures_are_copied_with_their_images():
    figure = intervals.mean_of(np.arange(4.0))
    again = copy.deepcopy(figure)
    assert again == 1.5 and again.rule == "mean"
    np.testing.assert_array_equal(again.each, figure.each)


def test_pooled_measures_are_drawn_again_as_they_are_computed():
    pred, truth = labels(0), labels(1)
    truth[0] = -1
    where = truth >= 0
    figures = intervals.part_agreement(overlap.contingency_each(pred, truth, 4, 4, where))

    def pooled(images):
        table = overlap.contingency(pred[images], truth[images], 4, 4, where[images])
        pairs = {"part": table, "foreground": table[:, 1:]}
        nmi = {f"{name}_nmi": overlap.nmi(pair) for name, pair in pairs.items()}
        return nmi | {f"{name}_ari": overlap.ari(pair) for name, pair in pairs.items()}

    assert figures.keys() == pooled(np.arange(12)).keys()
    for name, figure in figures.items():
        assert_redraws(figure, lambda images, name=name: pooled(images)[name])


@pytest.mark.parametrize("rule", ["mean_iou", "weighted_iou"])
def test_class_iou_is_of_the_pooled_table(rule):
    pred, truth = labels(2), labels(3)
    figure = intervals.Figure(overlap.contingency_each(pred, truth, 4, 4), rule)
    measure = getattr(overlap, rule)
    assert_redraws(figure, lambda i: measure(overlap.contingency(pred[i], truth[i], 4, 4)))


def test_landmark_errors_are_drawn_again_by_image():
    rng = np.random.default_rng(4)
    pred, truth = rng.normal(size=(9, 5, 2)), rng.normal(size=(9, 5, 2))
    length, visible = rng.uniform(1, 2, 9), rng.uniform(size=(9, 5)) < 0.7
    visible[3] = False
    length[5] = 0

    def error(images):
        distance = (
            np.linalg.norm(pred - truth, axis=-1)[images] / np.maximum(length, 1e-9)[images, None]
        )
        return distance[visible[images] & (length[images] > 0)[:, None]].mean()

    assert_redraws(landmarks.landmark_error(pred, truth, length, visible), error)


def test_taichi_sums_the_mean_of_each_coordinate():
    rng = np.random.default_rng(5)
    centers, points = rng.normal(size=(30, 2, 2)), rng.normal(size=(30, 3, 2))
    visible = rng.uniform(size=(30, 3)) < 0.9
    fitted = landmarks.regress_landmarks(centers, points, centers, train_visible=visible, bias=True)

    def error(images):
        total = 0.0
        for index in range(3):
            seen = images[visible[images, index]]
            total += np.abs(fitted - points)[seen, index].mean(0).sum()
        return total

    figure = landmarks.summed_absolute_error(centers, points, visible, centers, points, visible)
    assert_redraws(figure, error)


def test_mean_of_folds_counts_each_fold_alike():
    rng = np.random.default_rng(6)
    one, two = rng.normal(size=7), rng.normal(size=4)
    figure = intervals.mean_of_folds([intervals.mean_of(one), intervals.mean_of(two)])
    assert float(figure) == pytest.approx((one.mean() + two.mean()) / 2)
    assert len(figure.each) == 11


def test_the_interval_of_a_mean_is_that_of_its_standard_error():
    values = np.random.default_rng(7).normal(3, 2, 400)
    low, high = intervals.interval(intervals.mean_of(values))
    half = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_images_that_are_hard_for_both_do_not_hide_a_difference():
    rng = np.random.default_rng(8)
    hard = rng.normal(0.5, 0.2, 100)
    one = intervals.mean_of(hard)
    better = intervals.mean_of(hard + 0.02 + rng.normal(0, 0.02, 100))
    assert intervals.interval(one)[1] > intervals.interval(better)[0]  # They overlap.
    found = intervals.difference(one, better)
    assert found.low < found.value < found.high and found.low > 0
    assert found.value == pytest.approx(0.02, abs=0.01) and found.p < 0.01
    alike = intervals.mean_of(hard + rng.normal(0, 0.1, 100))
    assert intervals.difference(one, alike).p > 0.05
    same = intervals.difference(one, intervals.mean_of(hard))
    assert (same.value, same.low, same.high, same.p) == (0, 0, 0, 1)


def test_runs_of_other_numbers_of_parts_are_compared():
    truth = labels(9)
    one = intervals.Figure(overlap.contingency_each(labels(10), truth, 4, 4), "nmi")
    other = intervals.Figure(overlap.contingency_each(truth, truth, 7, 4), "nmi")
    found = intervals.difference(one, other)
    assert found.value == pytest.approx(1 - float(one)) and found.p == pytest.approx(1 / 1001)


def test_other_images_are_not_paired():
    with pytest.raises(ValueError, match="3 images cannot be paired with 4"):
        intervals.difference(intervals.mean_of(np.ones(3)), intervals.mean_of(np.ones(4)))


def test_one_image_has_no_interval():
    assert intervals.interval(intervals.mean_of(np.ones(1))) is None
    assert intervals.interval(intervals.mean_of(np.ones(5), np.zeros(5))) is None


def test_metrics_hold_the_ends_beside_the_figure():
    figures = {"a": intervals.mean_of(np.arange(10.0)), "a_count": 10, "fid": 3.0}
    written = intervals.with_intervals(figures)
    assert written.keys() == {"a", "a_low", "a_high", "a_count", "fid"}
    assert written["a_low"] < written["a"] == 4.5 < written["a_high"]
    assert type(written["a"]) is float
    assert intervals.ends_of(written) == {"a": (written["a_low"], written["a_high"])}
    assert protocols.split_counts(written) == ({"a": 4.5, "fid": 3.0}, {"a": 10})


def test_what_is_saved_comes_back(tmp_path):
    table = overlap.contingency_each(labels(11), labels(12), 4, 4)
    figures = {
        "aflw/part_nmi": intervals.Figure(table, "nmi"),
        "foreground_iou": intervals.mean_of(np.linspace(0, 1, 12)),
        "fid": 2.0,
    }
    intervals.save(tmp_path / "p.npz", figures, {"dataset": "puppets"})
    read, photos = intervals.load(tmp_path / "p.npz")
    assert photos == {"dataset": "puppets"}
    assert read == {name: figures[name] for name in ("aflw/part_nmi", "foreground_iou")}
    assert intervals.interval(read["aflw/part_nmi"]) == intervals.interval(figures["aflw/part_nmi"])
    (tmp_path / "p.npz").write_bytes(b"no archive")
    with pytest.raises(UserError, match=r"p.npz is damaged .*: evaluate again"):
        intervals.load(tmp_path / "p.npz")


def test_draws_without_any_image_that_counts_are_left_out_of_both():
    seen = np.array([True, False, False, False, False])
    one = intervals.mean_of(np.arange(5.0), seen)
    other = intervals.mean_of(np.arange(5.0) + 1, seen)
    found = intervals.difference(one, other)
    # The one image that counts differs by 1, in every draw that has it.
    assert (found.value, found.low, found.high) == (1, 1, 1)
    assert found.p == pytest.approx(1 / 1001, rel=1) and found.p > 1 / 1001

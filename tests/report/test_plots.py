"""Plots: what is drawn, told apart from what is not."""

import numpy as np

from ganseg_jax.report.curves import curves
from ganseg_jax.report.plots import plot_training


def falling(count):
    rows = [{"step": 10 * i, "area": 1 / (i + 1), "generator": 2.0 + i} for i in range(count)]
    return curves(rows)


def test_training_is_drawn_a_panel_for_each_scalar():
    line = np.array([0x00, 0x72, 0xB2])

    def panels_with_a_line(picture):
        drawn = (np.abs(picture.astype(int) - line).sum(-1) < 30).any(0)
        columns = np.flatnonzero(drawn)
        # Lines of neighbouring panels are far apart.
        return 0 if not len(columns) else 1 + int((np.diff(columns) > 20).sum())

    two = plot_training({"gan": falling(20)})
    four = plot_training({"gan": falling(20), "segmenter": falling(5)})
    assert two.dtype == np.uint8 and two.shape[1] < four.shape[1]
    assert panels_with_a_line(two) == 2
    assert panels_with_a_line(four) == 4


def test_a_log_without_curves_gives_an_empty_picture():
    picture = plot_training({"gan": curves([{"step": 1, "area": 1.0}])})
    assert picture.min() == 255

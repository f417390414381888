"""Draws the figures of several checkpoints of a run against the updates of training."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ganseg_jax.evaluation import intervals
from ganseg_jax.report.measures import humanize, measure_of
from ganseg_jax.report.page import HEADLINES
from ganseg_jax.report.plots import rasterize

MOST_PANELS = 4
_COLORS = {"averaged": "#0072B2", "raw": "#D55E00"}


def shown_measures(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the main measures that these rows have, the most telling first."""
    return [name for name in HEADLINES if any(name in row["figures"] for row in rows)]


def plot_steps(rows: Sequence[Mapping[str, Any]]) -> UInt8[np.ndarray, "h w 3"]:
    """Draws a row of panels for each stage, a panel for each of its main measures.

    Args:
      rows: `stage`, `step`, `weights` and `figures` of each checkpoint, in order; at least one.

    Returns:
      A picture on white, (H, W, 3) uint8; a band is the 95 % interval.
    """
    stages = list(dict.fromkeys(row["stage"] for row in rows))
    of_stage = {name: [row for row in rows if row["stage"] == name] for name in stages}
    measures = {name: shown_measures(of_stage[name])[:MOST_PANELS] for name in stages}
    width = max(1, *(len(names) for names in measures.values()))
    figure = Figure(figsize=(0.4 + 3.2 * width, 2.9 * len(stages)), dpi=110, layout="constrained")
    panels = figure.subplots(len(stages), width, squeeze=False)
    for line, stage in zip(panels, stages, strict=True):
        for axes in line[len(measures[stage]) :]:
            axes.set_axis_off()
        for axes, name in zip(line, measures[stage], strict=False):
            _panel(axes, of_stage[stage], name)
            axes.set_xlabel(f"{humanize(stage)}, updates", fontsize=9)
    return rasterize(figure)


def _panel(axes: Any, rows: Sequence[Mapping[str, Any]], name: str) -> None:
    measure = measure_of(name)
    factor = 100 if measure.percent else 1
    kinds = list(dict.fromkeys(row["weights"] for row in rows))
    for weights in kinds:
        seen = [row for row in rows if row["weights"] == weights and name in row["figures"]]
        steps = [row["step"] for row in seen]
        values = factor * np.array([row["figures"][name] for row in seen])
        axes.plot(steps, values, "o-", ms=3.5, lw=1.5, color=_COLORS[weights], label=weights)
        ends = [intervals.ends_of(row["figures"]).get(name) for row in seen]
        if all(ends):
            low, high = factor * np.array(ends).T
            axes.fill_between(steps, low, high, color=_COLORS[weights], alpha=0.2, lw=0)
    better = f"\n{measure.better} is better" if measure.better else ""
    axes.set_title(measure.title + (" (%)" if measure.percent else "") + better, fontsize=9)
    axes.grid(color="#e3e6ea", lw=0.7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.tick_params(labelsize=8)
    if len(kinds) > 1:
        axes.legend(frameon=False, fontsize=8)

"""Plots drawn with matplotlib."""

import io
import math
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from PIL import Image

from ganseg_jax.evaluation.equivariance import EquivarianceErrors, mean_where_measured
from ganseg_jax.report.classes import Classes, usual
from ganseg_jax.report.measures import humanize, measure_of
from ganseg_jax.report.palette import palette

_BACKGROUND_COLOR = "#8a8f98"


def plot_embeddings(
    coordinates: Float[np.ndarray, "n c 2"], classes: Classes | None = None
) -> UInt8[np.ndarray, "h w 3"]:
    """Draws the result of `evaluation.embeddings.tsne`, each part in its colour and named.

    Args:
      coordinates: of the embeddings of N images, background first.
      classes: what the parts are shown as; each keeps its number.

    Returns:
      A picture on white, (H, W, 3) uint8.
    """
    shown = usual(coordinates.shape[1]) if classes is None else classes
    colors = shown.colors / 255
    figure = Figure(figsize=(7.2, 6.0), dpi=110, layout="constrained")
    axes = figure.subplots()
    for index, group in enumerate(shown.groups):
        points = coordinates[:, index]
        color = _BACKGROUND_COLOR if group == 0 else colors[group]
        label = shown.names[group]
        if label != f"part {index}" and index:
            label = f"{index}: {label}"
        axes.scatter(points[:, 0], points[:, 1], s=11, color=color, ec="#0005", lw=0.4, label=label)
        axes.annotate(
            "bg" if index == 0 else str(index),
            np.median(points, axis=0),
            ha="center",
            va="center",
            fontsize=9,
            fontweight="bold",
            bbox={"boxstyle": "round,pad=0.2", "fc": "white", "ec": color, "alpha": 0.85},
        )
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_color("#c8ccd2")
    axes.legend(
        loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, markerscale=2, fontsize=9
    )
    return rasterize(figure)


def rasterize(figure: Figure) -> UInt8[np.ndarray, "h w 3"]:
    """Returns a matplotlib figure as a picture."""
    buffer = io.BytesIO()
    # The file's metadata and the user's style sheet must not change the picture.
    with matplotlib.rc_context(matplotlib.rcParamsDefault):
        figure.savefig(buffer, format="png", facecolor="white")
    return np.asarray(Image.open(buffer).convert("RGB"))


def plot_equivariance(
    errors: Mapping[str, EquivarianceErrors],
) -> UInt8[np.ndarray, "h w 3"]:
    """Draws errors of masks and image against the shift and against the distance from the border.

    Args:
      errors: by the name of the grid or setting that they were measured with.

    Returns:
      A picture on white, (H, W, 3) uint8: masks above, image below.
    """
    figure = Figure(figsize=(9.6, 6.4), dpi=110, layout="constrained")
    panels = figure.subplots(2, 2, sharey="row")
    colors = ["#0072B2", "#D55E00", "#009E73", "#CC79A7"]
    for row, name in enumerate(("masks", "image")):
        by_shift, by_distance = panels[row]
        for (label, measured), color in zip(errors.items(), colors, strict=False):
            values = getattr(measured, name)
            style = {"color": color, "marker": "o", "ms": 3.5, "lw": 1.5, "label": label}
            by_shift.plot(measured.shifts, _shown(values, 1), **style)
            by_distance.plot(np.arange(values.shape[1]), _shown(values, 0), **style)
        unit = "share of a pixel" if name == "masks" else "mean difference in [-1, 1]"
        by_shift.set(ylabel=f"error of the {name}\n({unit})", yscale="log")
        by_shift.set_xlabel("shift of all points (pixels)")
        by_distance.set_xlabel("distance from the border (pixels)")
        by_shift.xaxis.set_major_locator(MaxNLocator(integer=True))
        for axes in panels[row]:
            axes.grid(color="#e3e6ea", lw=0.7)
            axes.spines[["top", "right"]].set_visible(False)
    panels[0, 0].legend(frameon=False)
    return rasterize(figure)


def plot_settings(
    values: Mapping[str, Mapping[str, Sequence[float]]], measures: Sequence[str]
) -> UInt8[np.ndarray, "h w 3"]:
    """Compares settings: a panel for each measure, a row for each setting, a dot for each seed.

    Args:
      values: setting -> measure -> a value for each seed; a setting may lack a measure.
      measures: those to show.

    Returns:
      A picture on white, (H, W, 3) uint8; a bar is the mean.
    """
    names = list(values)
    size = (1.6 + 2.6 * len(measures), 1.2 + 0.34 * len(names))
    figure = Figure(figsize=size, dpi=110, layout="constrained")
    panels = figure.subplots(1, len(measures), sharey=True, squeeze=False)[0]
    for axes, name in zip(panels, measures, strict=True):
        measure = measure_of(name)
        factor = 100 if measure.percent else 1
        for row, setting in enumerate(names):
            seen = factor * np.asarray(values[setting].get(name, ()))
            if len(seen):
                axes.barh(row, seen.mean(), height=0.62, color="#9cc4e0")
            axes.plot(seen, np.full(len(seen), row), "o", ms=4, color="#0072B2")
        better = f"\n{measure.better} is better" if measure.better else ""
        axes.set_xlabel(measure.title + (" (%)" if measure.percent else "") + better, fontsize=9)
        axes.grid(axis="x", color="#e3e6ea", lw=0.7)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_yticks(range(len(names)), names, fontsize=9)
    panels[0].invert_yaxis()
    return rasterize(figure)


def plot_quality(
    curves: Mapping[str, Mapping[str, Sequence[float]]], measures: Sequence[str]
) -> UInt8[np.ndarray, "h w 3"]:
    """Draws measures against the time of training, a panel for each measure.

    Args:
      curves: name -> "seconds" and each measure -> values; the first is the one it is about.
      measures: those to show.

    Returns:
      A picture on white, (H, W, 3) uint8.
    """
    figure = Figure(figsize=(1.2 + 3.4 * len(measures), 3.4), dpi=110, layout="constrained")
    panels = figure.subplots(1, max(len(measures), 1), squeeze=False)[0]
    colors = ["#0072B2", "#D55E00", "#009E73", "#CC79A7"]
    for axes, name in zip(panels, measures, strict=False):
        measure = measure_of(name)
        factor = 100 if measure.percent else 1
        for index, (label, curve) in enumerate(curves.items()):
            seen, color = factor * np.asarray(curve[name]), colors[index % len(colors)]
            axes.plot(curve["seconds"], seen, "o-", ms=4, lw=1.5, color=color, label=label)
        axes.set(xlabel="seconds of training", xlim=(0, None))
        better = f", {measure.better} is better" if measure.better else ""
        axes.set_title(measure.title + (" (%)" if measure.percent else "") + better, fontsize=9)
        axes.grid(color="#e3e6ea", lw=0.7)
        axes.spines[["top", "right"]].set_visible(False)
    if len(curves) > 1 and measures:
        panels[0].legend(frameon=False, fontsize=9)
    return rasterize(figure)


def plot_scores(
    points: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]],
) -> UInt8[np.ndarray, "h w 3"]:
    """Draws what was found without labels against what labels say, a panel for each category.

    Args:
      points: category -> start -> (score, IoU) of each of its trainings.

    Returns:
      A picture on white, (H, W, 3) uint8.
    """
    figure = Figure(figsize=(1.4 + 2.5 * len(points), 2.9), dpi=110, layout="constrained")
    panels = figure.subplots(1, max(len(points), 1), squeeze=False)[0]
    names = list(dict.fromkeys(name for starts in points.values() for name in starts))
    colors = dict(zip(names, palette(len(names) + 1)[1:] / 255, strict=True))
    for axes, (category, starts) in zip(panels, points.items(), strict=False):
        for name, pairs in starts.items():
            axes.scatter(*np.transpose(pairs), s=36, color=colors[name], ec="#0005", lw=0.5)
        axes.set_title(category, fontsize=9)
        axes.set_xlabel("score without labels", fontsize=8)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.tick_params(labelsize=7)
        axes.grid(color="#e3e6ea", lw=0.7)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("foreground IoU in the end", fontsize=8)
    marks = [Line2D([], [], ls="", marker="o", color=colors[name], label=name) for name in names]
    figure.legend(handles=marks, loc="outside right center", frameon=False, fontsize=8)
    return rasterize(figure)


def plot_training(
    stages: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]],
) -> UInt8[np.ndarray, "h w 3"]:
    """Draws logged scalars against the number of updates, a panel for each.

    Args:
      stages: stage -> scalar -> (steps, values), as `report.curves.curves` gives them.

    Returns:
      A picture on white, (H, W, 3) uint8.
    """
    panels = [(stage, name, c) for stage, all_c in stages.items() for name, c in all_c.items()]
    columns = min(4, max(len(panels), 1))
    rows = max(math.ceil(len(panels) / columns), 1)
    figure = Figure(figsize=(2.7 * columns, 1.9 * rows), dpi=100, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (stage, name, (steps, values)) in zip(grid, panels, strict=False):
        axes.plot(steps, values, lw=1.2, color="#0072B2")
        if values.min() > 0 and values.max() > 100 * values.min():
            axes.set_yscale("log")
        axes.set_title(f"{humanize(stage)}: {humanize(name).lower()}", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.set(xlim=(0, None))
        axes.grid(color="#e3e6ea", lw=0.7)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    return rasterize(figure)


def _shown(values: np.ndarray, axis: int) -> np.ndarray:
    # Exact moves would fall off a logarithmic axis; float32 tells no smaller errors apart.
    return np.maximum(mean_where_measured(values, axis), 1e-8)

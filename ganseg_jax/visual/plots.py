"""Plots drawn with matplotlib."""

import io

import matplotlib
import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure
from PIL import Image

from ganseg_jax.visual.palette import palette

_BACKGROUND_COLOR = "#8a8f98"


def plot_embeddings(coordinates: Float[np.ndarray, "n c 2"]) -> UInt8[np.ndarray, "h w 3"]:
    """Draws the result of `evaluation.embeddings.tsne`, each part in its colour and named.

    Returns:
        A picture on white, (H, W, 3) uint8.
    """
    classes = coordinates.shape[1]
    colors = palette(classes) / 255
    figure = Figure(figsize=(7.2, 6.0), dpi=110, layout="constrained")
    axes = figure.subplots()
    for index in range(classes):
        points = coordinates[:, index]
        color = _BACKGROUND_COLOR if index == 0 else colors[index]
        label = "background" if index == 0 else f"part {index}"
        axes.scatter(*points.T, s=11, color=color, linewidths=0, alpha=0.85, label=label)
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
    """A matplotlib figure as a picture."""
    buffer = io.BytesIO()
    # The file's metadata and the user's style sheet must not change the picture.
    with matplotlib.rc_context(matplotlib.rcParamsDefault):
        figure.savefig(buffer, format="png", facecolor="white")
    return np.asarray(Image.open(buffer).convert("RGB"))

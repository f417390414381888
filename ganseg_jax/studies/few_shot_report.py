"""Table, curve and sheets of the study of labels."""

import io
from typing import Any

import numpy as np
from etils import epath
from jaxtyping import Int, UInt8
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter
from PIL import Image

from ganseg_jax.fewshot.label_files import image_files
from ganseg_jax.fewshot.labels import read_labels
from ganseg_jax.files import write_whole
from ganseg_jax.pixels import UNLABELLED
from ganseg_jax.report import overlays
from ganseg_jax.report.legend import with_legend
from ganseg_jax.report.plots import rasterize
from ganseg_jax.report.png import save_png
from ganseg_jax.report.sheets import default_scale, sheet

LINES = {
    "few-shot": ("#D55E00", "generated images"),
    "supervised": ("#0072B2", "real photos"),
    "mixed": ("#009E73", "real photos, and as many of generated images"),
}
SHORT = {"few-shot": "shot", "supervised": "real labels", "mixed": "of each"}
LONG = {"few-shot": "generated", "supervised": "real", "mixed": "real and as many generated"}


def write(
    output: epath.Path,
    summary: dict[str, Any],
    chosen: Any,
    labelled: epath.Path,
    images: UInt8[np.ndarray, "n h w 3"],
    truth: Int[np.ndarray, "n h w"],
) -> None:
    """Writes `study.md`, `study.png`, `labelled.png` and `segmented.png`.

    Args:
      output: the study's folder.
      summary: content of `study.json`.
      chosen: the `StudySettings`.
      labelled: folder of labelled generated images.
      images: test photos that the networks' `shown.npy` segment.
      truth: their labels.
    """
    write_whole(output / "study.md", table(summary, chosen))
    save_png(output / "study.png", plot(summary))
    first = min(entry["seed"] for entry in summary["entries"])
    classes, label_set = summary["classes"], read_labels(labelled)
    files = image_files(labelled)
    made = np.stack([np.asarray(Image.open(files[name])) for name in label_set.names])
    labels = np.where(label_set.labels == UNLABELLED, 0, label_set.labels)
    scale = default_scale(images.shape[1])
    made, labels = overlays.enlarge(made, scale), overlays.enlarge(labels, scale)
    rows = {"generated": made, "labels": overlays.overlay_labels(made, labels)}
    save_png(output / "labelled.png", with_legend(sheet(rows, columns=5), classes))

    pictures = overlays.enlarge(images, scale)
    rows = {"photo": pictures}
    for entry in sorted(summary["entries"], key=lambda entry: (entry["kind"], entry["labels"])):
        if entry["seed"] == first:
            shown = np.load(io.BytesIO((output / entry_folder(entry) / "shown.npy").read_bytes()))
            rows[f"{entry['labels']} {SHORT[entry['kind']]}"] = overlays.overlay_labels(
                pictures, overlays.enlarge(shown, scale)
            )
    rows["truth"] = overlays.overlay_labels(pictures, overlays.enlarge(truth, scale))
    rows = {name: tiles[:8] for name, tiles in rows.items()}
    save_png(output / "segmented.png", with_legend(sheet(rows), classes))


def entry_folder(entry: dict[str, Any]) -> str:
    """Returns the name of a network's folder."""
    return f"{entry['kind']}_{entry['labels']}_seed_{entry['seed']}"


def means(summary: dict[str, Any], kind: str) -> dict[int, float]:
    """Returns the mean IoU over the seeds by the number of labels, in ascending order."""
    values: dict[int, list[float]] = {}
    for entry in summary["entries"]:
        if entry["kind"] == kind:
            values.setdefault(entry["labels"], []).append(entry["mean_iou"])
    return {n: float(np.mean(values[n])) for n in sorted(values)}


def equal_supervision(curve: dict[int, float], value: float) -> str:
    """Returns how many labels the supervised curve needs for a value (log-interpolated)."""
    counts, heights = np.array(list(curve)), np.maximum.accumulate(list(curve.values()))
    if value <= heights[0]:
        return f"at most {counts[0]}"
    if value > heights[-1]:
        return f"more than {counts[-1]}"
    return f"about {np.exp(np.interp(value, heights, np.log(counts))):.0f}"


def table(summary: dict[str, Any], chosen: Any) -> str:
    """Returns the figures as Markdown."""
    classes, dataset = summary["classes"], summary["dataset"].replace("_", " ")
    curve = means(summary, "supervised")
    lines = [
        f"# Few-shot segmentation of {dataset} against supervision",
        "",
        f"IoU on {summary['images']} real test photos of {dataset}. Few-shot: {_labellers(summary)}"
        ". Supervised: the data set's labels of real training photos. Same U-Net "
        f"(width {chosen.unet_width}, depth {chosen.unet_depth}), {chosen.num_steps} updates of "
        f"{chosen.batch_size} images, same augmentation; the few-shot ones learn from "
        f"{chosen.num_samples} generated images, labelled by a {chosen.head_kind.upper()} head "
        f"({chosen.head_steps} updates) on the features of {' and '.join(chosen.layers)}.",
        "",
        f"| labels | seed | mean | weighted | {' | '.join(classes)} | same as supervision with |",
        f"| --- | --- | --- | --- | {' | '.join('---' for _ in classes)} | --- |",
    ]
    for entry in summary["entries"]:
        what = LONG[entry["kind"]]
        same = ""
        if entry["kind"] != "supervised" and curve:
            same = equal_supervision(curve, entry["mean_iou"]) + " labels"
        values = " | ".join(f"{entry['iou'][name]:.3f}" for name in classes)
        lines.append(
            f"| {entry['labels']} {what} | {entry['seed']} | {_iou(entry)} "
            f"| {entry['weighted_iou']:.3f} | {values} | {same} |"
        )
    return "\n".join(lines) + "\n"


def _labellers(summary: dict[str, Any]) -> str:
    """Says where the labels of generated images are from."""
    if "rule" not in summary:
        return "labels for generated images were given, not made by rule"
    return (
        "labels for generated images were made automatically, not by a person: each saturated "
        "pixel of the largest patch of such pixels got the part whose hue is nearest (the same "
        f"rule on the real test photos: mean IoU {_iou(summary['rule'])}); images that hardly show "
        "one of the parts, or whose background has parts' colours up to the border, were passed "
        "over"
    )


def _iou(figures: dict[str, Any]) -> str:
    return f"{figures['mean_iou']:.3f}"


def plot(summary: dict[str, Any]) -> UInt8[np.ndarray, "h w 3"]:
    """Plots mean IoU against the number of labels; a dot for each seed, lines through the means."""
    figure = Figure(figsize=(6.4, 4.2), dpi=110, layout="constrained")
    axes = figure.subplots()
    for kind, (color, what) in LINES.items():
        curve = means(summary, kind)
        if not curve:
            continue
        axes.plot(list(curve), list(curve.values()), color=color, label=f"{kind}: labels of {what}")
        seen = [(e["labels"], e["mean_iou"]) for e in summary["entries"] if e["kind"] == kind]
        axes.plot(*zip(*seen, strict=True), "o", color=color, ms=5) if seen else None
    if "rule" in summary:
        at = summary["rule"]["mean_iou"]
        axes.axhline(at, color="#8a8f98", ls=":", label="the labelling rule itself")
    axes.set(
        xscale="log",
        xlabel="labelled images",
        ylabel=f"mean IoU on {summary['images']} real test photos",
        ylim=(0, 1),
    )
    counts = sorted({entry["labels"] for entry in summary["entries"]})
    axes.set_xticks(counts)
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.minorticks_off()
    axes.grid(color="#e3e6ea", lw=0.7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    return rasterize(figure)

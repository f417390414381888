"""The report page of few-shot segmentation, `F/report.html`, and its figures, `F/metrics.json`."""

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Int, Integer, UInt8

from ganseg_jax import files, parts
from ganseg_jax.data.pipeline import Split
from ganseg_jax.fewshot.comparison import PHRASES, Comparison, Taught
from ganseg_jax.fewshot.pipeline import FewShot
from ganseg_jax.fewshot.train import UNLABELLED
from ganseg_jax.report import overlays
from ganseg_jax.report.classes import Classes
from ganseg_jax.report.legend import with_legend
from ganseg_jax.report.page import Report, write_report
from ganseg_jax.report.sheets import default_scale, segmentation_sheet, sheet

SHEET_IMAGES = 16

Segment = Callable[[UInt8[np.ndarray, "n h w 3"]], Int[np.ndarray, "n h w"]]


def write(
    few: FewShot,
    segmenter: Segment,
    photos: Split | None,
    truth: Int[np.ndarray, "n h w"] | None,
    figures: Mapping[str, float],
    taught: Taught | None,
    found: Comparison,
    dataset: str,
) -> None:
    """Writes `F/metrics.json`, if something was measured, and `F/report.html`.

    Args:
      few: what the stages worked on.
      segmenter: the auto-shot network.
      photos: of the data set, if there is one.
      truth: their labels in the classes' numbers; None if nothing says which is which.
      figures: as `Overlap.figures` or `foreground_figures` return them, and "num_images".
      taught: generated images and the head's labels; None without a head.
      found: which labels helped.
      dataset: its name.
    """
    shots, classes = len(few.labelled.names) + len(few.photos), few.labelled.classes
    shown, drawn_as = [], parts.shown_as(few.folder, classes)
    if photos is not None:
        some = photos.images[:SHEET_IMAGES]
        caption = "Photos, their parts by the auto-shot network"
        caption += "." if truth is None else ", and the ground truth."
        known = None
        if truth is not None:
            known = drawn_as.of_labels(_without_void(truth[:SHEET_IMAGES]))
        shown.append((caption, segmentation_sheet(some, segmenter(some), known, classes=drawn_as)))
    if few.photos:
        shown.append(_labelled_photos(few, segmenter, found, drawn_as))
    if taught is not None:
        images, soft = (np.asarray(array[:SHEET_IMAGES]) for array in taught.samples)
        caption = (
            "Generated images, the auto-shot network's parts, and the head's labels they taught."
        )
        taught_labels = drawn_as.of_labels(soft.argmax(-1))
        picture = segmentation_sheet(images, segmenter(images), taught_labels, classes=drawn_as)
        shown.append((caption, picture))
    metrics = {name: value for name, value in figures.items() if name != "num_images"}
    lead = (
        f"{len(classes) - 1} parts from {_labels_of(few)}; the auto-shot network then needs one "
        f"pass for a photo, and no generator. {' '.join(found.lines())}"
    ).strip()
    comparison = None
    if figures:
        files.write_json(few.folder / "metrics.json", {**figures, "num_shots": shots})
    if truth is not None and figures:
        rows = [[name.removeprefix("iou_").removesuffix("_iou"), v] for name, v in metrics.items()]
        title = f"IoU by class on {figures['num_images']} photos"
        comparison = (title, ["Class", f"{shots}-shot IoU"], rows)
    elif figures:
        lead += (
            " The data set does not say which of its labels is which class, so only the foreground "
            "is measured; --class_map=CLASS=PART says it."
        )
    page = Report(
        title=f"{shots}-shot parts of {dataset}",
        lead=lead,
        summary=_summary(few, found),
        metrics=metrics,
        counts=dict.fromkeys(metrics, int(figures.get("num_images", 0))),
        comparison=comparison,
        curves={
            name: files.read_rows(few.folder / name / "metrics.jsonl")
            for name in ("head", "auto_shot")
            if (few.folder / name / "metrics.jsonl").exists()
        },
        figures=shown,
        tables=_tables(found),
        config=json.loads((few.folder / "config.json").read_text()),
    )
    write_report(few.folder / "report.html", page)


def _labels_of(few: FewShot) -> str:
    made, photos = len(few.labelled.names), len(few.photos)
    words = [f"{made} labelled generated images"] if made else []
    return " and ".join([*words, *([f"{photos} labelled photos"] if photos else [])])


def _without_void(labels: Integer[np.ndarray, "n h w"]) -> Int[np.ndarray, "n h w"]:
    """Returns label maps in which pixels without a label have the number that sheets pass over."""
    return np.where(labels == UNLABELLED, -1, labels.astype(np.int32))


def _labelled_photos(
    few: FewShot, segmenter: Segment, found: Comparison, classes: Classes
) -> tuple[str, np.ndarray]:
    """Returns caption and sheet of the labelled photos."""
    some, photos = slice(0, SHEET_IMAGES), few.photos
    scale = default_scale(photos.images.shape[1])
    pictures = overlays.enlarge(photos.images[some], scale)
    labels = overlays.enlarge(_without_void(photos.labels[some]), scale)

    def drawn(numbers: np.ndarray) -> np.ndarray:
        shown = overlays.enlarge(classes.of_labels(numbers[some]), scale)
        return overlays.overlay_labels(pictures, shown, classes.colors)

    marked = overlays.overlay_labels(pictures, classes.of_labels(labels), classes.colors)
    # Grey where nothing is labelled.
    marked = np.where((labels < 0)[..., None], marked // 4 + 96, marked).astype(np.uint8)
    rows = {"photo": pictures, "labels": marked, "predicted": drawn(segmenter(photos.images[some]))}
    caption = "Labelled photos, their labels, and the auto-shot network's parts."
    if found.left_out is not None:
        rows["left out"] = drawn(found.left_out)
        caption += " The last row is by networks that had not seen the photo, trained for less."
    if (labels < 0).any():
        caption += " Grey pixels are not labelled."
    picture = sheet(rows, names=photos.names[some])
    return caption, with_legend(picture, classes.names, classes.colors)


def _tables(found: Comparison) -> list[Any]:
    if not found.figures:
        return []
    rows = [
        [f"{'*' if way == found.way else ''}{PHRASES[way]}", f"{iou:.3f}"]
        for way, iou in found.figures.items()
    ]
    caption = f"Which labels helped, on {found.photos} labelled photos left out in training"
    return [(caption, ["The U-Net learns from", "Mean IoU"], rows)]


def _summary(few: FewShot, found: Comparison) -> list[tuple[str, str]]:
    chosen = few.settings.auto_shot
    rows = [
        ("Labelled generated images", ", ".join(few.labelled.names)),
        ("Labelled photos", ", ".join(few.photos.names)),
        ("Classes", ", ".join(few.labelled.classes)),
        ("Head", f"{few.settings.head_kind}, {few.settings.head.epochs} epochs"),
        (
            "Auto-shot",
            f"{chosen.num_samples} generated images, {chosen.num_steps} updates of "
            f"{chosen.batch_size}",
        ),
        ("The U-Net learns from", PHRASES[found.way]),
        ("Device", f"{jax.device_count()} x {jax.devices()[0].device_kind}"),
        ("Written", time.strftime("%Y-%m-%d %H:%M")),
    ]
    if not few.uses_head:
        rows[3:5] = [("Auto-shot", f"{chosen.num_steps} updates of {chosen.batch_size}")]
    return [row for row in rows if row[1]]

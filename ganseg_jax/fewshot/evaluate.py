"""Measures of few-shot segmentation on labelled photos, and the report page."""

import dataclasses
import json
import time
from collections.abc import Callable, Sequence

import jax
import numpy as np
from jaxtyping import Int, UInt8

from ganseg_jax.data.pipeline import Split
from ganseg_jax.errors import UserError
from ganseg_jax.evaluation import overlap
from ganseg_jax.fewshot.pipeline import FewShot
from ganseg_jax.fewshot.train import UNLABELLED
from ganseg_jax.files import read_rows, write_json
from ganseg_jax.report.page import Report, write_report
from ganseg_jax.report.sheets import segmentation_sheet

SHEET_IMAGES = 16


@dataclasses.dataclass(frozen=True)
class Overlap:
    """IoU over a whole set (not the mean of images).

    Attributes:
      by_class: class name to IoU in [0, 1]; NaN where neither truth nor prediction has it.
      mean: over the classes that occur, background included.
      weighted: each class weighted by its share of the true pixels.
      images: how many have ground truth.
    """

    by_class: dict[str, float]
    mean: float
    weighted: float
    images: int

    def figures(self) -> dict[str, float]:
        """Flat names, for `metrics.json`; classes without pixels are left out."""
        flat = {
            f"iou_{name}": value for name, value in self.by_class.items() if not np.isnan(value)
        }
        return {**flat, "mean_iou": self.mean, "weighted_iou": self.weighted}


def true_labels(split: Split, classes: Sequence[str]) -> Int[np.ndarray, "n h w"]:
    """The split's ground truth in the numbers of `classes` (background first).

    Parts are matched by name, and those that are no class count as background. Where no name is
    shared, the numbers are taken as they are. Pixels without ground truth become 255.

    Raises:
      UserError: the split has no ground truth, lacks a class, or has more parts than classes.
    """
    if split.segmentation is None:
        raise UserError("the data set has no part labels to measure against")
    known = split.segmentation >= 0
    parts = [name.lower() for name in split.part_names or []]
    wanted = [name.lower() for name in classes]
    if set(parts) & set(wanted[1:]):
        missing = [name for name in wanted[1:] if name not in parts]
        if missing:
            raise UserError(
                f"class {missing[0]!r} is no part of the data set, which has {', '.join(parts)}"
            )
        numbers = [wanted.index(name) if name in wanted else 0 for name in parts]
        return np.where(known, np.array([0, *numbers])[split.segmentation], UNLABELLED)
    highest = int(split.segmentation.max(initial=0))
    if highest >= len(classes):
        raise UserError(
            f"the data set has {highest} parts ({', '.join(parts) or 'unnamed'}), but the labels "
            f"have {len(classes) - 1} classes, none of the same name"
        )
    return np.where(known, split.segmentation, UNLABELLED)


def measure(
    predict: Callable[[UInt8[np.ndarray, "n h w 3"]], Int[np.ndarray, "n h w"]],
    images: UInt8[np.ndarray, "n h w 3"],
    truth: Int[np.ndarray, "n h w"],
    classes: Sequence[str],
    chunk: int = 100,
) -> Overlap:
    """IoU of a segmenter; pixels whose truth is 255 count nowhere."""
    table = np.zeros((len(classes), len(classes)), np.int64)
    for start in range(0, len(images), chunk):
        here = slice(start, start + chunk)
        table += overlap.contingency(
            predict(images[here]),
            truth[here],
            len(classes),
            len(classes),
            where=truth[here] != UNLABELLED,
        )
    values = overlap.class_iou(table)
    return Overlap(
        by_class=dict(zip(classes, map(float, values), strict=True)),
        mean=overlap.mean_iou(table),
        weighted=overlap.weighted_iou(table),
        images=int(np.sum(np.any(truth != UNLABELLED, axis=(1, 2)))),
    )


def report(
    few: FewShot,
    segmenter: Callable,
    photos: Split | None,
    measured: Overlap | None,
    samples: tuple[np.ndarray, np.ndarray],
    dataset: str,
) -> None:
    """Writes `F/metrics.json` (where something was measured) and `F/report.html`."""
    shots, classes = len(few.labelled.names), few.labelled.classes
    images, soft = (np.asarray(array[:SHEET_IMAGES]) for array in samples)
    figures = []
    if photos is not None:
        shown = photos.images[:SHEET_IMAGES]
        truth = None if measured is None else true_labels(photos, classes)[:SHEET_IMAGES]
        figures.append(
            (
                "Photos, their parts by the auto-shot network"
                + (", and the ground truth." if measured else "."),
                segmentation_sheet(shown, segmenter(shown), truth),
            )
        )
    figures.append(
        (
            "Generated images, the auto-shot network's parts, and the head's labels it learned "
            "from.",
            segmentation_sheet(images, segmenter(images), soft.argmax(-1)),
        )
    )
    tables, counts, metrics = [], {}, {}
    if measured is not None:
        metrics = measured.figures()
        counts = dict.fromkeys(metrics, measured.images)
        rows = [[name, value] for name, value in measured.by_class.items()]
        rows += [["mean", measured.mean], ["weighted", measured.weighted]]
        tables.append(
            (f"IoU by class on {measured.images} photos.", ["Class", f"{shots}-shot IoU"], rows)
        )
        content = {**metrics, "num_images": measured.images, "num_shots": shots}
        write_json(few.folder / "metrics.json", content)
    device, chosen = jax.devices()[0], few.settings.auto_shot
    curves = {
        name: read_rows(few.folder / name / "metrics.jsonl") for name in ("head", "auto_shot")
    }
    config = json.loads((few.folder / "config.json").read_text())
    page = Report(
        title=f"{shots}-shot parts of {dataset}",
        lead=(
            f"{len(classes) - 1} parts from {shots} labelled generated images; the auto-shot "
            "network then needs one pass for a photo, and no generator."
        ),
        summary=[
            ("Labelled images", ", ".join(few.labelled.names)),
            ("Classes", ", ".join(classes)),
            ("Head", f"{few.settings.head_kind}, {few.settings.head.epochs} epochs"),
            (
                "Auto-shot",
                f"{chosen.num_samples} generated images, {chosen.num_steps} updates of "
                f"{chosen.batch_size}",
            ),
            ("Device", f"{jax.device_count()} x {device.device_kind}"),
            ("Written", time.strftime("%Y-%m-%d %H:%M")),
        ],
        metrics=metrics,
        counts=counts,
        curves=curves,
        figures=figures,
        tables=tables,
        config=config,
    )
    write_report(few.folder / "report.html", page)

"""Measures a trained run and writes its figures, pictures and report."""

import dataclasses
import json
import logging
from collections.abc import Collection, Mapping
from typing import Any

import jax
import numpy as np
from etils import epath
from jaxtyping import UInt8

from ganseg_jax import files, loading, parts
from ganseg_jax.config import Config
from ganseg_jax.data import pipeline
from ganseg_jax.errors import command
from ganseg_jax.evaluation import intervals
from ganseg_jax.evaluation.protocols import split_counts
from ganseg_jax.files import resolve
from ganseg_jax.jobs import backgrounds, measure, starts
from ganseg_jax.jobs.begin import prepare_data
from ganseg_jax.jobs.sample import draw_picture
from ganseg_jax.models.build import build_generator
from ganseg_jax.precision import of_products
from ganseg_jax.report.classes import Classes
from ganseg_jax.report.curves import curves
from ganseg_jax.report.page import write_report
from ganseg_jax.report.png import encode_png, save_png
from ganseg_jax.report.run_page import Run, run_report
from ganseg_jax.report.sheets import SAMPLE_ROWS, segmentation_sheet
from ganseg_jax.report.tables import plain_table
from ganseg_jax.segmenter import Segmenter
from ganseg_jax.training import inputs, partition, provenance, start
from ganseg_jax.training import measured as measured_steps

LOG = logging.getLogger(__name__)

METRICS = "evaluation/metrics.json"
"""What was measured, flat: figures, their counts, and the ends of their intervals."""

_SAMPLES = 16

PER_IMAGE = "evaluation/per_image.npz"
"""What each photo adds to each figure; see `evaluation.intervals`."""


@partition.undisturbed()
def evaluate(config: Config, workdir: epath.PathLike) -> dict[str, float]:
    """Writes `W/evaluation/` and `W/report.html`; prints tables and figures.

    Returns:
      The figures, as in `W/evaluation/metrics.json`.

    Raises:
      UserError: a stage has not been trained or the data set is missing.
    """
    workdir = resolve(workdir)
    prepare_data(config)
    segmenter = backgrounds.load_measured(config, workdir)
    # The same arithmetic wherever figures are computed.
    with of_products(config.evaluation.precision):
        seen = _see_photos(config, workdir, segmenter)
        # An auto-encoder draws nothing: its masks of photos are all there is to measure.
        if config.model.kind == "gan":
            _see_samples(config, workdir, seen)
    if (table := measure.fid_table(config, seen.figures)) is not None:
        seen.measured.tables.append(table)
    written = intervals.with_intervals(seen.figures)
    if not jax.process_index():
        _write(config, workdir, seen, written)
    return written


@dataclasses.dataclass
class _Seen:
    """Gathers what is known of a run.

    Attributes:
      measured: on photos.
      classes: what a person has made of the parts.
      hidden: numbers of the parts that count as background.
      figures: all, by name.
      pictures: by name.
      notes: what a reader must know.
    """

    measured: measure.Measured
    classes: Classes
    hidden: Collection[int]
    figures: dict[str, float]
    pictures: dict[str, UInt8[np.ndarray, "_ _ 3"]]
    notes: list[str] = dataclasses.field(default_factory=list)


def _see_photos(config: Config, workdir: epath.Path, segmenter: Segmenter) -> _Seen:
    """Measures on photos and shows some of them with their parts."""
    measured = measure.measure_photos(config, segmenter)
    classes = parts.shown_as(workdir, config.model.num_parts + 1)
    hidden = backgrounds.hidden(config, workdir)
    left = dataclasses.replace(classes, groups=_groups_of(classes.groups, hidden))
    predictions = segmenter(measured.photos)
    sheet = segmentation_sheet(measured.photos, predictions, measured.truth, classes=left)
    return _Seen(measured, classes, hidden, dict(measured.figures), {"segmented": sheet})


def _see_samples(config: Config, workdir: epath.Path, seen: _Seen) -> None:
    """Adds what the GAN's samples show: figures, pictures, and notes on the generator."""
    from ganseg_jax.report import plots  # Slow to import, and needed by no training.

    generator = build_generator(config)
    variables = loading.restore_generator(config, workdir)
    seen.notes += _notes(workdir, variables)
    if seen.hidden:
        said = ", ".join(map(str, seen.hidden))
        seen.notes.append(f"These parts paint background, and count as such: {said}.")
    if parts.read(workdir, config.model.num_parts) is not None:
        # The pictures of training know nothing of what the parts are called since.
        seen.pictures["samples"] = draw_picture(
            generator, variables, _SAMPLES, seen.classes, SAMPLE_ROWS
        )
    placed = jax.device_put(variables)
    seen.figures |= measure.measure_samples(config, generator, placed)
    embedded = measure.embed_parts(config, generator, placed)
    seen.pictures["embeddings"] = plots.plot_embeddings(embedded, seen.classes)


def _write(config: Config, workdir: epath.Path, seen: _Seen, written: Mapping[str, float]) -> None:
    """Writes and prints what is known of a run.

    Args:
      config: of the run.
      workdir: of the run.
      seen: what is known.
      written: its figures with counts and intervals.
    """
    from ganseg_jax.report import plots

    logs = {s: files.read_rows(workdir / s / "metrics.jsonl") for s in trained_stages(config)}
    losses = {stage: curves(rows) for stage, rows in logs.items()}
    pictures = seen.pictures | {"training": plots.plot_training(losses)}
    card = run_card(config, workdir, logs) | {"notes": seen.notes}
    for name, picture in pictures.items():
        save_png(workdir / "evaluation" / f"{name}.png", picture)
    files.write_json(workdir / "evaluation" / "run_card.json", card, sort_keys=True)
    intervals.save(workdir / PER_IMAGE, seen.figures, measure.photos_of(config))
    files.write_json(workdir / METRICS, written, sort_keys=True)
    for table in seen.measured.tables:
        print(plain_table(table), end="\n\n")
    for line in figure_lines(written):
        print(line)
    for note in seen.notes:
        LOG.warning("%s", note)
    values, counts = split_counts(written)
    of_training = workdir / next(iter(logs)) / "samples"
    run = Run(
        config=config,
        card=card,
        figures=values,
        counts=counts,
        intervals=intervals.ends_of(written),
        compared=seen.measured.compared,
        tables=seen.measured.tables,
        logs=logs,
        pictures=pictures,
        has_truth=seen.measured.truth is not None,
        samples=_sample_sheets(of_training, pictures.pop("samples", None)),
        steps=_steps_picture(workdir),
        sizes=pipeline.split_sizes(config.dataset.name, config.dataset.data_dir),
        starts=starts.pictures(workdir),
    )
    write_report(workdir / "report.html", run_report(run))
    LOG.info("Report: %s", workdir / "report.html")


def _groups_of(groups: tuple[int, ...], hidden: Collection[int]) -> tuple[int, ...]:
    """Returns the groups of the classes that are left where some parts are background already."""
    return tuple(group for number, group in enumerate(groups) if number not in hidden)


def figure_lines(written: Mapping[str, float]) -> list[str]:
    """Returns a line for each figure of `metrics.json`, with its interval and its count."""
    values, counts = split_counts(written)
    ends, lines = intervals.ends_of(written), []
    for name, value in values.items():
        between = f" [{ends[name][0]:.4f}, {ends[name][1]:.4f}]" if name in ends else ""
        lines.append(f"{name} = {value:.4f}{between} (n = {counts.get(name, '?')})")
    return lines


def trained_stages(config: Config) -> dict[str, Any]:
    """Returns the section of the config with the schedule of each stage, by the stage's name."""
    if config.model.kind != "gan":
        return {"autoencoder": config.gan}
    trained: dict[str, Any] = {"gan": config.gan, "segmenter": config.segmenter}
    if config.self_training.num_steps:
        trained["self_training"] = config.self_training
    return trained


def run_card(
    config: Config, workdir: epath.Path, logs: dict[str, list[dict[str, Any]]]
) -> dict[str, Any]:
    """Returns what was trained on what, for how long, from which command and commit."""
    return {
        "dataset": config.dataset.name,
        "image_size": config.image_size,
        "num_parts": config.model.num_parts,
        "seed": config.seed,
        "refined": config.segmenter.refine,
        "stages": {
            name: {
                "num_steps": schedule.num_steps,
                "batch_size": schedule.batch_size,
                "minutes": round(training_seconds(logs[name]) / 60, 1),
                "started_from": _started_from(workdir / name),
                "starts": files.read_rows(workdir / name / "starts.jsonl"),
            }
            for name, schedule in trained_stages(config).items()
        },
        "evaluation": provenance.facts(),
    }


def _started_from(folder: epath.Path) -> dict[str, Any] | None:
    """Returns the weights that a stage started from; None if it was initialised."""
    path = folder / start.FILE
    return json.loads(path.read_text()) if path.exists() else None


def training_seconds(rows: list[dict[str, Any]]) -> float:
    """Returns the seconds that updates took; compilation and pauses are not in it."""
    previous, seconds = 0, 0.0
    for row in rows:
        if row.get("steps_per_second"):
            seconds += (row["step"] - previous) / row["steps_per_second"]
        previous = row["step"]
    return seconds


def _notes(workdir: epath.Path, generator: Any) -> list[str]:
    """Returns what a reader must know about stages that do not belong together."""
    made_from = inputs.recorded(workdir / "segmenter") or {}
    if made_from.get("generator", now := inputs.digest(generator)) == now:
        return []
    return [
        "The segmenter was trained on another state of the generator than the samples show: "
        f"`{command('train_segmenter')}` trains it again"
    ]


def _steps_picture(workdir: epath.Path) -> bytes | None:
    """Returns the curves of the checkpoints that were measured, if some were."""
    picture = workdir / measured_steps.PICTURE
    there = measured_steps.rows_of(workdir) and picture.exists()
    return picture.read_bytes() if there else None


def _sample_sheets(
    folder: epath.Path, newest: UInt8[np.ndarray, "h w 3"] | None
) -> list[tuple[int, bytes]]:
    """Returns (step, PNG) of the last picture, one of the middle, and the first.

    Args:
      folder: of the pictures of training.
      newest: what is shown in place of the last one.
    """
    sheets = sorted(folder.glob("*.png")) if folder.exists() else []
    chosen = sorted({0, len(sheets) // 2, len(sheets) - 1}, reverse=True) if sheets else []
    found = [(int(sheets[i].stem.rsplit("_", 1)[1]), sheets[i].read_bytes()) for i in chosen]
    if found and newest is not None:
        found[0] = (found[0][0], encode_png(newest))
    return found

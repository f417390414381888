"""The report of a run: what its page says, from plain facts."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ganseg_jax.config import Config, flat
from ganseg_jax.config.convert import nested
from ganseg_jax.report.measures import format_value, humanize, measure_of
from ganseg_jax.report.page import HEADLINES, Report
from ganseg_jax.report.tables import Table

MOST_COMPARED = 6


@dataclasses.dataclass(frozen=True)
class Run:
    """Holds the facts of a run.

    Attributes:
      config: its settings.
      card: its run card.
      figures: by name.
      counts: by the same names.
      intervals: ends of the figures' 95 % intervals, by the same names.
      compared: figures of the simple references by their name.
      tables: one for each protocol.
      logs: rows of each stage's metrics.
      pictures: "segmented", and perhaps "embeddings".
      has_truth: whether "segmented" shows ground truth.
      samples: (step, PNG) of pictures of the first stage, the newest first.
      sizes: images in each split.
      starts: (caption, PNG) of the layouts that were tried for the parts.
      steps: picture of figures at several steps, as PNG; None if these were not measured.
    """

    config: Config
    card: Mapping[str, Any]
    figures: Mapping[str, float]
    counts: Mapping[str, int]
    intervals: Mapping[str, tuple[float, float]]
    compared: Mapping[str, Mapping[str, float]]
    tables: Sequence[Table]
    logs: Mapping[str, Sequence[dict]]
    pictures: Mapping[str, np.ndarray]
    has_truth: bool
    samples: Sequence[tuple[int, bytes]]
    sizes: Mapping[str, int]
    starts: Sequence[tuple[str, bytes]] = ()
    steps: bytes | None = None


def run_report(run: Run) -> Report:
    """Returns the report: segmented photos, main figures beside references, samples, the rest."""
    parts = run.config.model.num_parts
    truth = "the ground truth" if run.has_truth else ""
    columns = ", ".join(filter(None, ["Each photo", "its parts", truth])).replace(
        ", the", ", and the"
    )
    figures: list[tuple[str, bytes | np.ndarray]] = [
        (f"Segmented photos. {columns}.", run.pictures["segmented"])
    ]
    figures += [
        (f"Samples at step {step}. Image, points of each part, masks overlaid, masks.", sheet)
        for step, sheet in run.samples
    ]
    if run.steps is not None:
        caption = "Figures of checkpoints. Each against the updates of its stage; bands are 95 %."
        figures.append((caption, run.steps))
    if "embeddings" in run.pictures:
        count = run.config.evaluation.embedding_samples
        caption = f"Part embeddings. t-SNE of {count} samples; a colour for each part, grey for the"
        figures.append((f"{caption} background.", run.pictures["embeddings"]))
    return Report(
        title=f"Parts of {run.config.dataset.name}",
        lead=_lead(run, parts),
        summary=_summary(run),
        metrics=run.figures,
        counts=run.counts,
        intervals=run.intervals,
        comparison=_comparison(run),
        curves=run.logs,
        figures=figures,
        tried=run.starts,
        tables=run.tables,
        config=nested(flat(run.config)),
    )


def _lead(run: Run, parts: int) -> str:
    begin = f"{parts} parts, learned from unlabelled images."
    if run.compared or any(name in run.figures for name in HEADLINES[:6]):
        judged = "Ground truth was used for measuring only."
    else:
        judged = (
            "There is no ground truth to measure the masks against, so look at the pictures: parts "
            "should stay with the object and end where it ends."
        )
        judged += _failed(run.figures.get("foreground_share"))
    return " ".join([begin, judged, *(f"{note}." for note in run.card["notes"])])


LEAST_FOUND, MOST_FOUND = 0.01, 0.9
"""Shares of all pixels between which the foreground of photos of one kind of object lies."""


def _failed(share: float | None) -> str:
    """Returns a warning if masks of this share of all pixels cannot be an object's, else ""."""
    if share is None or LEAST_FOUND <= share <= MOST_FOUND:
        return ""
    seen = "no part was found" if share < LEAST_FOUND else "parts paint background"
    return (
        f" The training has failed: {seen} ({100 * share:.0f} % of all pixels are foreground). The "
        "other figures mean nothing then: masks that are always alike agree with their mirror "
        "images."
    )


def _comparison(run: Run) -> Table | None:
    """Returns the main figures, ours and those of the references, a row for each measure."""
    names = [name for name in HEADLINES if name in run.figures]
    names = [name for name in names if any(name in theirs for theirs in run.compared.values())]
    if not names:
        return None
    references = [name for name, theirs in run.compared.items() if any(n in theirs for n in names)]
    references = references[:MOST_COMPARED]
    rows = [
        [
            f"{measure_of(name).title} ({measure_of(name).better} is better)",
            format_value(name, run.figures[name]),
            *(
                format_value(name, run.compared[r][name]) if name in run.compared[r] else None
                for r in references
            ),
        ]
        for name in names
    ]
    header = ["Measure", "This run", *map(humanize, references)]
    return "Beside simple references", header, rows


def _summary(run: Run) -> list[tuple[str, object]]:
    config, card = run.config, run.card
    stages = card["stages"].items()
    trained = [
        (humanize(name), f"{stage['num_steps']} updates of batch {stage['batch_size']}")
        for name, stage in stages
    ]
    minutes = ", ".join(f"{name} {stage['minutes']} min" for name, stage in stages)
    return [
        ("Data set", config.dataset.name),
        ("Images", ", ".join(f"{count} {split}" for split, count in run.sizes.items())),
        ("Image size", f"{config.image_size} px"),
        ("Parts", config.model.num_parts),
        *trained,
        ("Training time", minutes),
        *_started_from(card["stages"]),
        ("Masks", "brought to the photos' edges" if card["refined"] else "as the network says"),
        *_origin(card),
        ("Seed", config.seed),
        ("Written", time.strftime("%Y-%m-%d %H:%M")),
    ]


def _started_from(stages: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Returns rows of the weights that stages started from, if they were not initialised."""
    rows = []
    for name, stage in stages.items():
        if facts := stage.get("started_from"):
            step = f", step {facts['step']}" if "step" in facts else ""
            kept = f"; {len(facts['left'])} weights initialised" if facts["left"] else ""
            rows.append((f"{humanize(name)} from", f"{facts['init_from']}{step}{kept}"))
    return rows


def _origin(card: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns rows of devices, software and commit that the last start of each stage had."""
    starts = [stage["starts"][-1] for stage in card["stages"].values() if stage["starts"]]
    starts = starts or [card["evaluation"]]

    def row(label: str, describe: Callable[[Mapping[str, Any]], str]) -> tuple[str, str]:
        return label, ", then ".join(dict.fromkeys(map(describe, starts)))

    return [
        row("Device", lambda start: f"{start['num_devices']} x {start['device']}"),
        row("Host", lambda start: start["host"]),
        row("Software", lambda start: f"Python {start['python']}, JAX {start['packages']['jax']}"),
        row("Commit", lambda start: start["commit"] or "unknown"),
        row("Command", lambda start: start["command"]),
    ]

"""Figures of a stage's checkpoints by step: those that evaluation wrote, and the losses."""

import json
import logging
import math
from collections.abc import Collection
from typing import Any

from etils import epath

from ganseg_jax import files
from ganseg_jax.config import Config
from ganseg_jax.config.setting import nearest
from ganseg_jax.errors import UserError
from ganseg_jax.report.measures import MEASURES, measure_of

LOG = logging.getLogger(__name__)

FILE = "evaluation/steps.json"
"""Figures of several checkpoints of a workdir, which `jobs.steps` writes; a list of rows with
`stage`, `step`, `weights`, `figures`, `beginning` (see below) and `measured_by`."""

PICTURE = "evaluation/steps.png"
"""Their curves."""

_PENALTIES = ("concentration", "area")
_OF_SEGMENTERS = ("loss", "cross_entropy", "dice")

LOSSES: dict[str, tuple[str, ...]] = {
    "gan": ("generator", *_PENALTIES, "discriminator", "gradient_penalty"),
    "segmenter": _OF_SEGMENTERS,
    "self_training": _OF_SEGMENTERS,
    "autoencoder": ("reconstruction", *_PENALTIES),
}
"""What each stage writes to `metrics.jsonl` of which less is better."""


def check_keep_best(config: Config) -> None:
    """Checks that the figures of `keep_best` can ever be measured.

    Raises:
      UserError: naming the first field whose figure is no known one.
    """
    for name in ("gan", "segmenter", "self_training"):
        figure = getattr(config, name).keep_best
        trained = "autoencoder" if name == "gan" and config.model.kind != "gan" else name
        known = LOSSES[trained]
        if figure and figure not in known and not measure_of(figure).better:
            raise UserError(
                f"{name}.keep_best={figure!r} is neither a figure of an evaluation "
                f"(sliced_wasserstein, foreground_iou, ...) nor a loss ({', '.join(known)})"
                + nearest(figure, (*MEASURES, *known))
            )


def beginning(folder: epath.Path) -> str:
    """Returns when a stage began to be trained, "" if that is not known.

    A stage that is trained again has another one, and figures of its steps before do not count.
    """
    rows = files.read_rows(folder / "starts.jsonl")
    return str(rows[0].get("time", "")) if rows else ""


def rows_of(workdir: epath.Path) -> list[dict[str, Any]]:
    """Returns the rows of `FILE` that are about the stages as they are now."""
    path = workdir / FILE
    if not path.exists():
        return []
    try:
        rows: list[dict[str, Any]] = json.loads(path.read_text())
    except ValueError:  # Nothing but us writes it; it is measured again.
        LOG.warning("%s is damaged and left aside.", path)
        return []
    return [row for row in rows if row["beginning"] == beginning(workdir / row["stage"])]


def best(folder: epath.Path, figure: str, steps: Collection[int]) -> int | None:
    """Returns the step of a stage that is best by a figure, None if none of them has it.

    Args:
      folder: of the stage.
      figure: its name; for a loss, lower is better.
      steps: to choose from.
    """
    values: dict[int, float] = {}
    for row in files.read_rows(folder / "metrics.jsonl"):
        if isinstance(row.get(figure), int | float):
            values[row["step"]] = row[figure]
    for row in rows_of(folder.parent):
        if row["stage"] == folder.name and figure in row["figures"]:
            values[row["step"]] = row["figures"][figure]
    sign = -1 if measure_of(figure).better == "higher" else 1
    known = {s: sign * values[s] for s in steps if s in values and not math.isnan(values[s])}
    return min(known, key=lambda step: (known[step], step)) if known else None

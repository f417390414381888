"""What can be told without labels: short trainings from many starts, and what labels say of them.

Every training is compared twice: by the terms of `evaluation.evidence`, which need no labels, and
by overlap with true masks. The study says which terms rank trainings as the labels do.
"""

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath
from jaxtyping import UInt8

from ganseg_jax import files
from ganseg_jax.config import Config
from ganseg_jax.data import pipeline
from ganseg_jax.errors import UserError
from ganseg_jax.evaluation import evidence, overlap
from ganseg_jax.evaluation.evidence import Images, Probabilities
from ganseg_jax.files import resolve
from ganseg_jax.jobs import begin
from ganseg_jax.jobs.starts import Start, Trial, small
from ganseg_jax.report.plots import plot_scores
from ganseg_jax.report.tables import markdown_table

LOG = logging.getLogger(__name__)

ROWS, TABLE, PICTURE = "rows.jsonl", "table.md", "scores.png"
"""In the workdir: a row for each training and number of updates, and what follows from them."""

TRUE = ("iou", "nmi")
"""What labels say: mean foreground IoU, and mutual information inside the true foreground."""

Row = dict[str, Any]


def collect(
    config: Config,
    workdir: epath.PathLike,
    starts: Sequence[Start],
    seeds: Sequence[int],
    steps: Sequence[int],
    category: str,
) -> list[Row]:
    """Trains from each start with each seed and measures; what was measured before is kept.

    Args:
      config: of a set whose photos have masks; `starts` says how it is trained.
      workdir: of the study; several categories may share it.
      starts: how parts begin.
      seeds: of the trainings.
      steps: updates of the GAN at which to measure.
      category: name of the set in the rows.

    Returns:
      All rows of the workdir.

    Raises:
      UserError: no photo has a mask.
    """
    begin.check(config)
    begin.prepare_data(config)
    path = resolve(workdir) / ROWS
    chosen = small(config)
    split = pipeline.load_split(
        *(config.dataset.name, config.dataset.data_dir, "train", chosen.image_size),
        config.starts.photos,
    )
    if split.segmentation is None:
        raise UserError(f"no photo of {config.dataset.name} has a mask: the study needs some")
    rows = files.read_rows(path)
    done = {_key(row) for row in rows}
    trial: Trial | None = None
    for seed in seeds:
        for start in starts:
            if (category, start.name, seed, steps[-1]) in done:
                continue
            trial = trial or Trial(chosen)
            for step, predict in zip(steps, trial.train(start, seed, steps), strict=True):
                row = {"category": category, "start": start.name, "seed": seed, "step": step}
                row |= _measured(trial, predict, split)
                LOG.info(
                    "%s",
                    ", ".join(
                        f"{k} {v:.3g}" if isinstance(v, float) else f"{v}" for k, v in row.items()
                    ),
                )
                rows.append(row)
                files.write_whole(path, "".join(json.dumps(row) + "\n" for row in rows))
    return rows


def _measured(
    trial: Trial, predict: Callable[[Images], Probabilities], split: pipeline.Split
) -> Row:
    assert split.segmentation is not None
    found = evidence.terms(predict, trial.refine, split.images)
    labels, truth = predict(split.images).argmax(-1), split.segmentation
    known = (truth >= 0).any((1, 2))
    table = overlap.contingency(
        labels, truth, trial.config.model.num_parts + 1, int(truth.max()) + 1, truth > 0
    )
    iou = overlap.foreground_iou(labels[known], truth[known]).mean()
    return {"iou": float(iou), "nmi": overlap.nmi(table), "labelled": int(known.sum())} | found


def correlations(rows: Iterable[Row], step: int, true: str = "iou") -> dict[str, dict[str, float]]:
    """Returns term -> category -> rank correlation (Spearman) with what labels say.

    Args:
      rows: of the study.
      step: number of updates at which the terms are looked at.
      true: "iou" or "nmi", at the last number of updates of the same training.
    """
    found: dict[str, dict[str, float]] = {}
    for category, (terms, final) in _by_category(rows, step, true).items():
        scores = [evidence.score(row) for row in terms]
        for name in (*_names(terms), "score"):
            values = scores if name == "score" else [row[name] for row in terms]
            found.setdefault(name, {})[category] = spearman(values, final)
    return found


def regrets(
    rows: Iterable[Row], step: int, weights: Mapping[str, float] | None = None
) -> dict[str, tuple[float, float]]:
    """Returns category -> (last IoU of the training with the best score, best last IoU of all)."""
    found: dict[str, tuple[float, float]] = {}
    for category, (terms, final) in _by_category(rows, step, "iou").items():
        scores = [evidence.score(row, weights) for row in terms]
        found[category] = (float(final[int(np.argmax(scores))]), float(np.max(final)))
    return found


def spearman(one: Sequence[float], other: Sequence[float]) -> float:
    """Returns the rank correlation of two lists; 0 if one of them is constant."""
    from scipy.stats import rankdata  # Slow to import.

    ranks = np.stack([rankdata(one), rankdata(other)])
    if len(one) < 2 or (ranks.std(1) == 0).any():
        return 0.0
    return float(np.corrcoef(ranks)[0, 1])


def fitted(
    rows: Iterable[Row], step: int, names: Sequence[str], ridge: float = 1.0
) -> dict[str, float]:
    """Fits weights of terms to the last IoU, both seen from their category's mean.

    Ridge regression on terms in units of their deviation inside categories. What differs between
    categories plays no part, since a run only compares trainings on its own photos.

    Args:
      rows: of the study.
      step: number of updates at which the terms are looked at.
      names: of the terms.
      ridge: weight of the squared coefficients, in trainings.

    Returns:
      Weights for `evidence.score`.
    """
    terms, truth = [], []
    for found, final in _by_category(rows, step, "iou").values():
        values = np.array([[row[name] for name in names] for row in found])
        terms.append(values - values.mean(0))
        truth.append(np.asarray(final) - np.mean(final))
    x, y = np.concatenate(terms), np.concatenate(truth)
    scale = np.maximum(x.std(0), 1e-9)
    x = x / scale
    weights = np.linalg.solve(x.T @ x + ridge * np.eye(len(names)), x.T @ y) / scale
    return dict(zip(names, weights.tolist(), strict=True))


def held_out(
    rows: Sequence[Row], step: int, names: Sequence[str]
) -> dict[str, tuple[float, float]]:
    """Returns `regrets` of each category with weights fitted on all others."""
    found: dict[str, tuple[float, float]] = {}
    for category in dict.fromkeys(row["category"] for row in rows):
        others = [row for row in rows if row["category"] != category]
        own = [row for row in rows if row["category"] == category]
        found |= regrets(own, step, fitted(others, step, names))
    return found


def picture_of(rows: Sequence[Row], step: int) -> UInt8[np.ndarray, "h w 3"]:
    """Returns a picture of scores at a step against the last IoU."""
    points: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for category, (terms, final) in _by_category(rows, step, "iou").items():
        for row, iou in zip(terms, final, strict=True):
            starts = points.setdefault(category, {})
            starts.setdefault(row["start"], []).append((evidence.score(row), iou))
    return plot_scores(points)


def table_of(rows: Sequence[Row], step: int) -> str:
    """Returns correlations and choices as Markdown."""
    parts = []
    for true in TRUE:
        found = correlations(rows, step, true)
        categories = list(next(iter(found.values())))
        ranked = sorted(found.items(), key=lambda item: -float(np.mean(list(item[1].values()))))
        body = [
            [name, f"{np.mean(list(each.values())):.2f}", *(f"{each[c]:.2f}" for c in categories)]
            for name, each in ranked
        ]
        title = f"Rank correlation after {step} updates with the last {true.upper()}"
        parts.append(f"{title}\n\n" + markdown_table(["term", "mean", *categories], body))
    chosen = regrets(rows, step)
    body = [[name, f"{mine:.3f}", f"{best:.3f}"] for name, (mine, best) in chosen.items()]
    parts.append(
        "Last IoU of the training with the best score, and of the best training\n\n"
        + markdown_table(["category", "chosen", "best"], body)
    )
    return "\n\n".join(parts) + "\n"


def _by_category(
    rows: Iterable[Row], step: int, true: str
) -> dict[str, tuple[list[Row], list[float]]]:
    """Returns category -> (rows at a step, what labels say of the same trainings at their last)."""
    rows = list(rows)
    last: dict[tuple[str, str, int], Row] = {}
    for row in rows:
        key = _key(row)[:3]
        if key not in last or row["step"] > last[key]["step"]:
            last[key] = row
    found: dict[str, tuple[list[Row], list[float]]] = {}
    for row in rows:
        if row["step"] == step:
            terms, final = found.setdefault(row["category"], ([], []))
            terms.append(row)
            final.append(last[_key(row)[:3]][true])
    return found


def _names(rows: Sequence[Row]) -> list[str]:
    return [name for name in evidence.NAMES if name in rows[0]]


def _key(row: Row) -> tuple[str, str, int, int]:
    return row["category"], row["start"], row["seed"], row["step"]

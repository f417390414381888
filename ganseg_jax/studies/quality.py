"""Quality against training time: one GAN, measured at several of its steps.

At each of these steps a segmenter is trained on the generator as it is then, and measured on the
test photos, as the pipeline would have done with `gan.num_steps` at that step.
"""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from etils import epath

from ganseg_jax import files
from ganseg_jax.config import Config, with_fields
from ganseg_jax.errors import UserError
from ganseg_jax.evaluation import protocols
from ganseg_jax.files import resolve
from ganseg_jax.jobs import train as pipeline
from ganseg_jax.jobs.begin import begin, check
from ganseg_jax.jobs.evaluate import training_seconds
from ganseg_jax.report.measures import format_value, measure_of
from ganseg_jax.report.plots import plot_quality
from ganseg_jax.report.png import save_png
from ganseg_jax.report.tables import markdown_table
from ganseg_jax.training import partition

LOG = logging.getLogger(__name__)

MEASURES = ("foreground_nmi", "foreground_iou", "landmark_error", "sliced_wasserstein")
"""What table and figure show, of what was measured; the JSON file has everything."""

METRICS = "evaluation/metrics.json"

Points = list[dict[str, Any]]


def run_quality(
    config: Config,
    workdir: str,
    steps: Sequence[int],
    beside: Sequence[str] = (),
) -> Points:
    """Trains the GAN up to each of `steps`, a segmenter at each, and measures it.

    Each step has a run of its own in `W/at_<step>`, which resumes the GAN of the one before;
    finished ones are skipped. Writes `W/quality.json`, `.md` and `.png` after each.

    Args:
      config: its `gan.num_steps` plays no part.
      workdir: of all runs.
      steps: of the GAN, at which to measure.
      beside: workdirs of other such runs, whose curves are drawn in the same picture.

    Returns:
      The content of `W/quality.json`: for each step the seconds of training until then, for the
      GAN and the segmenter together ("seconds") and for each, and all measured figures.

    Raises:
      UserError: steps that are no positive numbers, a workdir `beside` without curve; see
        `pipeline.run_all`.
    """
    if not steps or any(step < 1 for step in steps):
        raise UserError(f"--steps={','.join(map(str, steps))} must be positive whole numbers")
    check(config)
    others = {resolve(other).name: _read(resolve(other)) for other in beside}
    root, points = resolve(workdir), []
    before: epath.Path | None = None
    for step in sorted(set(steps)):
        config = with_fields(config, {"gan.num_steps": step})
        folder = root / f"at_{step}"
        begin(config, str(folder))
        if not (folder / METRICS).exists():
            LOG.info("%d updates of the GAN", step)
            if before is not None and not (folder / "gan").exists() and jax.process_index() == 0:
                files.copy_folder(before / "gan", folder / "gan")
            partition.wait_for_all(f"GAN of {step} updates begins")
            pipeline.run_all(config, str(folder))
        before = folder
        points.append(_point(folder))
        _write(points, root, others)
    return points


def table_of(points: Points) -> str:
    """Returns the main measures at each step as a Markdown table."""
    measures = _measures_in(points)
    titles = ["GAN updates", "seconds of training", *(measure_of(m).title for m in measures)]
    rows = [
        [
            str(point["step"]),
            f"{point['seconds']:.0f}",
            *(format_value(m, point["figures"][m]) for m in measures),
        ]
        for point in points
    ]
    return "# Quality against time\n\n" + markdown_table(titles, rows)


def _measures_in(points: Points) -> list[str]:
    return [m for m in MEASURES if all(m in point["figures"] for point in points)]


def _point(folder: epath.Path) -> dict[str, Any]:
    gan, *later = (
        training_seconds(files.read_rows(folder / name / "metrics.jsonl"))
        for name in ("gan", "segmenter", "self_training")
    )
    segmenter = sum(later)
    return {
        "step": int(folder.name.removeprefix("at_")),
        "seconds": gan + segmenter,
        "seconds_gan": gan,
        "seconds_segmenter": segmenter,
        "figures": protocols.split_counts(json.loads((folder / METRICS).read_text()))[0],
    }


def _read(workdir: epath.Path) -> Points:
    path = workdir / "quality.json"
    if not path.exists():
        raise UserError(f"{path} does not exist: no curve was measured in {workdir}")
    return json.loads(path.read_text())


def _write(points: Points, workdir: epath.Path, others: Mapping[str, Points]) -> None:
    if jax.process_index():
        return
    measures = _measures_in(points)
    curves = {
        name: {"seconds": [point["seconds"] for point in curve]}
        | {m: [point["figures"].get(m, math.nan) for point in curve] for m in measures}
        for name, curve in {workdir.name: points, **others}.items()
    }
    files.write_json(workdir / "quality.json", points)
    files.write_whole(workdir / "quality.md", table_of(points))
    save_png(workdir / "quality.png", plot_quality(curves, measures))

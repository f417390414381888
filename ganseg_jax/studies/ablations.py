"""Comparisons of settings: runs, table and figure; GANSeg's ablations (section 4.6, appendix F).

Every setting is the given config with a few fields changed, trained and measured with the same
seeds, each as an ordinary run in `W/<setting>/seed_<n>/`. Which settings are compared is the
paper's list of ablations, or one read from a file.
"""

import dataclasses
import json
import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath

from ganseg_jax import files
from ganseg_jax.config import Config, flat
from ganseg_jax.config import file as config_file
from ganseg_jax.config.convert import checked, from_mapping, nested
from ganseg_jax.config.setting import nearest
from ganseg_jax.errors import UserError
from ganseg_jax.evaluation import protocols, published
from ganseg_jax.files import resolve
from ganseg_jax.jobs import train as pipeline
from ganseg_jax.jobs.begin import check
from ganseg_jax.report.measures import format_value, measure_of
from ganseg_jax.report.plots import plot_settings
from ganseg_jax.report.png import save_png
from ganseg_jax.report.tables import markdown_table
from ganseg_jax.training import partition
from ganseg_jax.training.loop import NonFiniteError

LOG = logging.getLogger(__name__)

POINT_COUNTS = (3, 4, 6, 8)
PART_COUNTS = (1, 4, 8, 12, 16, 32)

FIXED_SCALES = {
    "celeba_wild": 0.00725,
    "celeba_aligned": 0.00725,
    "taichi": 0.010,
    "cub": 0.0016,
    "flowers": 0.0065,
}
"""sigma^2 of the ablation with a fixed part scale (appendix F.2), by data set."""

OTHER_FIXED_SCALE = 0.00725

MAIN_MEASURES = (
    "foreground_iou",
    "landmark_error",
    "taichi_mae",
    "foreground_nmi",
    "part_nmi",
    "fid",
    "sliced_wasserstein",
)
"""What table and figure show, of what the protocols measured; the JSON file has everything."""

METRICS = "evaluation/metrics.json"

FULL = "full"
"""Name of the setting that changes nothing, which every comparison has."""

Runs = dict[int, dict[str, float]]


@dataclasses.dataclass(frozen=True)
class Setting:
    """Describes one row of the table.

    Attributes:
      name: also the name of its folder.
      description: what differs from the full model, for readers.
      fields: what differs, by the fields' dotted names.
    """

    name: str
    description: str
    fields: Mapping[str, Any]


_FULL = Setting(FULL, "the config as it is", {})

Settings = Mapping[str, Setting]
"""All settings of a comparison by name, `full` first."""


def paper_settings(config: Config) -> dict[str, Setting]:
    """Returns the paper's ablations of a config by name, the full model first.

    Where K changes, so does the concentration's weight: lambda_con = C_con K (GANSeg eq. 26), with
    C_con = lambda_con / K of the given config. A config without area loss has a setting with it.
    """
    ratio = config.gan.concentration.weight / config.model.num_parts
    scale = FIXED_SCALES.get(config.dataset.name, OTHER_FIXED_SCALE)
    no_points = {"model.use_points": False}
    no_background = {"model.separate_background": False}
    if config.gan.area.weight:
        area = Setting("no_area", "no area loss", {"gan.area.weight": 0.0})
    else:
        area = Setting("area", "area loss, weight 1", {"gan.area.weight": 1.0})
    known = [
        _FULL,
        Setting("no_points", "no points", no_points),
        Setting("no_background", "no separate background", no_background),
        Setting(
            "no_points_no_background",
            "neither points nor separate background",
            no_points | no_background,
        ),
        Setting("no_concentration", "no concentration loss", {"gan.concentration.weight": 0.0}),
        area,
        Setting(
            "fixed_scale",
            f"part scale fixed, sigma^2 = {scale:g}",
            {"model.heatmap": "gaussian", "model.part_scale": f"{scale:g}"},
        ),
    ]
    for count in POINT_COUNTS:
        known.append(Setting(f"points_{count}", f"P = {count}", {"model.points_per_part": count}))
    for count in PART_COUNTS:
        fields: dict[str, Any] = {
            "model.num_parts": count,
            "gan.concentration.weight": ratio * count,
        }
        known.append(Setting(f"parts_{count}", f"K = {count}", fields))
    for kind, source in (("points", "a U-Net's points"), ("masks", "DeepLab's masks")):
        fields = {"model.kind": f"autoencoder_{kind}"}
        known.append(Setting(f"autoencoder_{kind}", f"auto-encoder with {source}", fields))
    return {setting.name: setting for setting in known}


def read_settings(path: str, config: Config) -> dict[str, Setting]:
    """Reads the settings of a JSON file by name, after the config as it is.

    Args:
      path: of a file `{NAME: {"description": TEXT, "fields": {FIELD: VALUE, ...}}, ...}` with
        dotted names of fields; a setting without description is described by its fields.
      config: whose fields they change.

    Raises:
      UserError: naming what is wrong with the file, or the field that does not exist.
    """
    try:
        rows = json.loads(resolve(path).read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(rows, dict) or not rows:
        raise UserError(f'{path} must hold {{NAME: {{"fields": {{...}}}}, ...}}')
    known = {FULL: _FULL}
    for name, row in rows.items():
        fields = row.get("fields") if isinstance(row, dict) else None
        if not isinstance(fields, dict) or not fields:
            raise UserError(f'{path}: {name!r} needs "fields": {{FIELD: VALUE, ...}}')
        if not re.fullmatch(r"\w+", name) or name == FULL:
            raise UserError(f"{path}: {name!r} cannot be a setting's name; use letters, digits, _")
        allowed = list(flat(config))
        for field in fields:
            if field not in allowed:
                hint = nearest(field, allowed)
                raise UserError(f"{path}: {name!r} changes {field!r}, which is no field{hint}")
        text = row.get("description") or ", ".join(f"{k} = {v}" for k, v in fields.items())
        known[name] = Setting(name, text, fields)
    return known


def choose_settings(known: Settings, names: Sequence[str]) -> list[Setting]:
    """Returns the settings of these names; all if no name is given.

    Raises:
      UserError: a name has no setting; the message lists the names that have.
    """
    for name in names:
        if name not in known:
            hint = nearest(name, known)
            raise UserError(f"--settings: {name!r} is none of {', '.join(known)}{hint}")
    return [known[name] for name in dict.fromkeys(names)] or list(known.values())


def config_of(config: Config, setting: Setting, seed: int) -> Config:
    """Returns the config of one run.

    Raises:
      UserError: for a value of another type than the field's.
    """
    values = nested({**flat(config), **setting.fields, "seed": seed})
    try:
        return checked(from_mapping(Config, values))
    except UserError as error:
        raise UserError(f"setting {setting.name}: {error}") from error


def folder_of(config: Config, known: Settings, setting: Setting) -> str:
    """Returns the name of the folder of a setting's runs.

    Settings that change nothing (P = 4 if the config has 4 points) share the runs of the first
    setting with the same config.
    """
    wanted = config_of(config, setting, 0)
    return next(name for name, other in known.items() if config_of(config, other, 0) == wanted)


def run_ablations(
    config: Config,
    workdir: str,
    names: Sequence[str] = (),
    seeds: Sequence[int] = (0, 1, 2),
    known: Settings | None = None,
) -> dict[str, Any]:
    """Trains and measures what is not finished yet, and writes `W/ablations.json`, `.md`, `.png`.

    The three files are brought up to date after every setting, and hold all finished runs found in
    the workdir, those of earlier calls too. A run whose losses become infinite is reported and
    left out; the others continue.

    Args:
      config: of the full model.
      workdir: of all runs.
      names: of the settings to run; all of them by default.
      seeds: of each setting's runs.
      known: the settings of this comparison; the paper's by default (see `paper_settings`).

    Returns:
      The content of `W/ablations.json`.

    Raises:
      UserError: for a wrong name or config, before anything is trained; see `pipeline.run_all`.
    """
    known = paper_settings(config) if known is None else known
    chosen = choose_settings(known, names)
    for setting in chosen:
        try:
            check(config_of(config, setting, 0))
        except UserError as error:
            raise UserError(f"setting {setting.name}: {error}") from error
    root = resolve(workdir)
    diverged: list[str] = []
    for setting in chosen:
        missing = [seed for seed in seeds if not _is_finished(config, root, known, setting, seed)]
        for seed in missing:
            name = f"{folder_of(config, known, setting)}/seed_{seed}"
            LOG.info("%s: %s", name, setting.description)
            # The figures of a shorter run must not stand for those of one that is cut off.
            partition.wait_for_all(f"{name} begins")
            (root / name / METRICS).unlink(missing_ok=True)
            try:
                pipeline.run_all(config_of(config, setting, seed), str(root / name))
            except NonFiniteError as error:
                LOG.warning("%s is left out: %s", name, error)
                diverged.append(name)
            partition.wait_for_all(f"{name} ends")
        if missing or setting is chosen[-1]:
            summary = _write(config, root, known, diverged)
    return summary


def _is_finished(
    config: Config,
    workdir: epath.Path,
    known: Settings,
    setting: Setting,
    seed: int,
) -> bool:
    folder = workdir / folder_of(config, known, setting) / f"seed_{seed}"
    finished = finished_run(config_of(config, setting, seed), folder) is not None
    if finished:
        LOG.info("%s: finished before.", folder)
    return finished


def finished_run(config: Config, folder: epath.Path) -> dict[str, float] | None:
    """Returns the figures of a finished run of this very config, or None if there is none."""
    path = folder / METRICS
    if not path.exists():
        return None
    there = config_file.deciding_fields(config_file.load_config(folder))
    return json.loads(path.read_text()) if there == config_file.deciding_fields(config) else None


def found_runs(config: Config, workdir: epath.Path, known: Settings) -> dict[str, Runs]:
    """Returns figures of all finished runs in a workdir, by setting and seed."""
    found = {}
    for name, setting in known.items():
        runs = {}
        for folder in (workdir / folder_of(config, known, setting)).glob("seed_*"):
            number = folder.name.removeprefix("seed_")
            if not number.isdecimal():
                continue
            seed = int(number)
            figures = finished_run(config_of(config, setting, seed), folder)
            if figures is not None:
                runs[seed] = protocols.split_counts(figures)[0]
        if runs:
            found[name] = dict(sorted(runs.items()))
    return found


def summarize(
    known: Settings, found: Mapping[str, Runs], diverged: Sequence[str]
) -> dict[str, Any]:
    """Returns what `W/ablations.json` holds: every figure, its mean and its spread over the seeds.

    The spread is the standard deviation of a sample (n - 1), null where there is one seed.
    """
    rows = {}
    for name, runs in found.items():
        measures = [m for m in next(iter(runs.values())) if all(m in run for run in runs.values())]
        values = {m: [run[m] for run in runs.values()] for m in measures}
        rows[name] = {
            "description": known[name].description,
            "fields": dict(known[name].fields),
            "seeds": list(runs),
            "values": values,
            "mean": {m: float(np.mean(v)) for m, v in values.items()},
            "spread": {
                m: float(np.std(v, ddof=1)) if len(v) > 1 else None for m, v in values.items()
            },
        }
    return {"settings": rows, "diverged": list(diverged)}


def table_of(summary: Mapping[str, Any]) -> str:
    """Returns the main measures as a Markdown table: mean and spread over the seeds."""
    rows = summary["settings"]
    measures = _main_measures(rows)
    titles = []
    for measure in measures:
        shown = measure_of(measure)
        arrow = {"higher": " ↑", "lower": " ↓"}.get(shown.better, "")
        titles.append(shown.title + arrow)
    lines = [
        [
            f"`{name}`",
            row["description"],
            ", ".join(map(str, row["seeds"])),
            *(_cell(row, measure) for measure in measures),
        ]
        for name, row in rows.items()
    ]
    text = "# Settings compared\n\nMean over the seeds ± standard deviation.\n\n"
    text += markdown_table(["setting", "what differs", "seeds", *titles], lines)
    if summary["diverged"]:
        text += "\nLosses became infinite in " + ", ".join(summary["diverged"]) + ".\n"
    return text


def published_tables(dataset: str) -> list[str]:
    """Returns the paper's ablations on a data set as Markdown, to compare ours with."""
    tables = []
    for table in published.ABLATIONS.values():
        chosen = [i for i, column in enumerate(table.columns) if column.dataset == dataset]
        if chosen:
            header = ["paper", *(table.columns[i].title for i in chosen)]
            rows = [[name, *(str(values[i]) for i in chosen)] for name, values in table.rows]
            tables.append(f"## {table.caption}\n\n{markdown_table(header, rows)}")
    return tables


def _write(
    config: Config,
    workdir: epath.Path,
    known: Settings,
    diverged: Sequence[str],
) -> dict[str, Any]:
    summary = summarize(known, found_runs(config, workdir, known), diverged)
    rows = summary["settings"]
    if jax.process_index() or not rows:
        return summary
    files.write_json(workdir / "ablations.json", summary)
    tables = [table_of(summary), *published_tables(config.dataset.name)]
    files.write_whole(workdir / "ablations.md", "\n".join(tables))
    values = {name: row["values"] for name, row in rows.items()}
    if measures := _main_measures(rows):
        save_png(workdir / "ablations.png", plot_settings(values, measures[:4]))
    return summary


def _main_measures(rows: Mapping[str, Any]) -> list[str]:
    return [m for m in MAIN_MEASURES if any(m in row["mean"] for row in rows.values())]


def _cell(row: Mapping[str, Any], measure: str) -> str:
    if measure not in row["mean"]:
        return "–"
    text, spread = format_value(measure, row["mean"][measure]), row["spread"][measure]
    return text if spread is None else f"{text} ± {format_value(measure, spread)}"

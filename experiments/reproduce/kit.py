"""What the scripts of this folder share: the runs behind each table, their cost, state and table.

A run is one setting of a data set with one seed. It is an ordinary run of `experiments.ablations`
in R/SET/SETTING/seed_N/, so that tables share the runs that they have in common, and so that a run
that was cut off resumes.
"""

import dataclasses
import json
import pathlib
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from absl import flags

from ganseg_jax import files
from ganseg_jax.cli import app, config_flag, places
from ganseg_jax.config import Config
from ganseg_jax.config.convert import checked, from_mapping, nested
from ganseg_jax.config.setting import flat, parsed
from ganseg_jax.errors import UserError
from ganseg_jax.evaluation import published
from ganseg_jax.report.tables import Table, plain_table

ESTIMATES = pathlib.Path(__file__).parents[1] / "results" / "tpu" / "steps.jsonl"
"""What the TPU's compiler expects of steps: lines that `experiments.compile` prints, with the
config's name."""

FOUR_SETS = ("celeba_wild", "cub", "flowers", "taichi")
COMPONENTS = (
    "full",
    "no_points",
    "no_background",
    "no_points_no_background",
    "no_concentration",
    "no_area",
    "autoencoder_points",
    "autoencoder_masks",
)

TABLES: dict[str, tuple[tuple[str, str], ...]] = {
    "landmarks": (
        ("celeba_wild", "full"),
        ("celeba_wild", "parts_4"),
        ("celeba_aligned", "full"),
    ),
    "foreground": (("cub", "full"), ("flowers", "full")),
    "taichi": (("taichi", "full"),),
    "fid": tuple((name, "full") for name in FOUR_SETS),
    "components": tuple((name, setting) for name in FOUR_SETS for setting in COMPONENTS),
    "part_scale": tuple((name, s) for name in FOUR_SETS for s in ("full", "fixed_scale")),
    "points_per_part": tuple(
        (name, f"points_{count}") for name in FOUR_SETS for count in (3, 4, 6, 8)
    ),
    "num_parts": tuple(
        (name, f"parts_{count}") for name in FOUR_SETS for count in (1, 4, 8, 12, 16, 32)
    ),
}
"""The paper's tables: (data set, setting of `experiments.ablations`) of each run."""

Start = Callable[[Sequence[str]], int]
"""Runs a command and returns its exit code."""


@dataclasses.dataclass(frozen=True)
class Run:
    """Describes one run.

    Attributes:
      dataset: name of the data set and of its config.
      setting: of `experiments.ablations`.
      seed: of the run.
      folder: where it is written.
      config: its settings.
      command: what trains and measures it.
    """

    dataset: str
    setting: str
    seed: int
    folder: pathlib.Path
    config: Config
    command: tuple[str, ...]

    def figures(self) -> dict[str, float] | None:
        """Returns the figures of the finished run, None if it is not finished."""
        from ganseg_jax.studies.ablations import finished_run

        return finished_run(self.config, files.resolve(self.folder))

    def state(self) -> str:
        """Says how far the run got."""
        from ganseg_jax.jobs.evaluate import trained_stages

        if self.figures() is not None:
            return "finished"
        for stage, schedule in reversed(trained_stages(self.config).items()):
            rows = files.read_rows(files.resolve(self.folder) / stage / "metrics.jsonl")
            if rows:
                return f"{stage}: step {rows[-1]['step']} of {schedule.num_steps}"
        return "not begun"

    def cost(self) -> str:
        """Says what is known of the time that the run takes."""
        known = [
            f"{row['topology']} {hours:.1f} h in {row['dtype']}"
            for row in estimates()
            if (hours := self._gan_hours(row)) is not None
        ]
        return f"GAN {', '.join(known)}; all else not known" if known else "not known"

    def _gan_hours(self, row: Mapping[str, Any]) -> float | None:
        """Returns the hours of the GAN by an estimate; None if that is of another program."""
        schedule = self.config.gan
        # Other settings of a set are other networks, or other losses.
        if (row["config"], row["what"]) != (self.dataset, "gan_step"):
            return None
        if self.folder.parent.name != "full" or row["batch_size"] != schedule.batch_size:
            return None
        plain, penalised = row["estimated_ms"], row["estimated_ms_with_gradient_penalty"]
        each = plain + (penalised - plain) / schedule.gradient_penalty.interval
        return each * schedule.num_steps / 3.6e6


def estimates() -> list[dict[str, Any]]:
    """Returns the compiler's estimates that are there."""
    return [json.loads(line) for line in ESTIMATES.read_text().splitlines() if line]


def plan(
    table: str,
    root: str,
    *,
    sets: Sequence[str] = (),
    seeds: Sequence[int] = (0,),
    variant: str = "released",
    sources: Mapping[str, str] | None = None,
    changes: Mapping[str, str] | None = None,
) -> list[Run]:
    """Returns the runs behind a table, in the order in which they are made.

    Args:
      table: name of the table.
      root: folder of all runs.
      sets: data sets to keep; all by default.
      seeds: of each setting's runs.
      variant: "released" or "paper".
      sources: folder or archive of a data set's photos, by its name.
      changes: further settings of all runs, by dotted name.

    Raises:
      UserError: for a data set that the table is not about, or a field that makes no sense.
    """
    from ganseg_jax.studies import ablations

    known = list(dict.fromkeys(name for name, _ in TABLES[table]))
    for name in [*sets, *(sources or {})]:
        if name not in known:
            raise UserError(f"{name!r} is no data set of this table: there are {', '.join(known)}")
    runs = []
    for name, setting in TABLES[table]:
        if sets and name not in sets:
            continue
        texts = dict(changes or {})
        if source := (sources or {}).get(name):
            texts["dataset.source"] = source
        values = flat(config_flag.named(name, f"variant={variant}"))
        for field, text in texts.items():
            values[field] = parsed(field, text, Config)
        config = checked(from_mapping(Config, nested(values)))
        settings = ablations.paper_settings(config)
        chosen = settings[setting]
        folder = ablations.folder_of(config, settings, chosen)
        for seed in seeds:
            command = [sys.executable, "-m", "experiments.ablations"]
            command += [f"--config=configs/{name}.py:variant={variant}"]
            command += [f"--workdir={pathlib.Path(root) / name}"]
            command += [f"--settings={setting}", f"--seeds={seed}"]
            command += [f"--config.{field}={text}" for field, text in texts.items()]
            runs.append(
                Run(
                    name,
                    setting,
                    seed,
                    pathlib.Path(root) / name / folder / f"seed_{seed}",
                    ablations.config_of(config, chosen, seed),
                    tuple(command),
                )
            )
    return runs


def status(runs: Sequence[Run]) -> Table:
    """Returns what each run writes, how far it got and what it costs."""
    rows = [[str(run.folder), run.state(), run.cost()] for run in runs]
    done = sum(row[1] == "finished" for row in rows)
    return f"{done} of {len(rows)} runs finished", ["run", "state", "expected time"], rows


def carry_out(runs: Sequence[Run], start: Start) -> list[Run]:
    """Makes the runs that are not finished, one after the other.

    Returns:
      Those that ended without figures, because their losses became infinite.

    Raises:
      SystemExit: a run ended with an error, with its exit code; the same call resumes.
    """
    left_out = []
    for number, run in enumerate(runs, 1):
        if run.figures() is not None:
            continue
        print(f"[{number}/{len(runs)}] {run.folder}: {run.state()}", flush=True)
        code = start(run.command)
        if code:
            again = "put right what it says" if code == 2 else "the same command resumes"
            print(f"{run.folder} ended with code {code}: {again}", file=sys.stderr)
            # A signal's number is negative here; shells add it to 128.
            raise SystemExit(code if code > 0 else 128 - code)
        if run.figures() is None:
            left_out.append(run)
    return left_out


def start_process(command: Sequence[str]) -> int:
    """Runs a command and returns its exit code; SIGTERM is passed on, so that it can save."""
    with subprocess.Popen(command) as process:
        before = signal.signal(signal.SIGTERM, lambda *_: process.send_signal(signal.SIGTERM))
        try:
            return process.wait()
        finally:
            signal.signal(signal.SIGTERM, before)


def table_of(table: str, runs: Sequence[Run]) -> Table:
    """Returns the paper's values and ours, the mean over the seeds that are finished."""
    from ganseg_jax.jobs.published import beside_the_paper

    rows: list[list[Any]] = []
    groups = dict.fromkeys((run.dataset, run.setting) for run in runs)
    columns = published.ABLATIONS[table].columns if table in published.ABLATIONS else ()
    for dataset, setting in groups:
        same = [run for run in runs if (run.dataset, run.setting) == (dataset, setting)]
        found = [figures for run in same if (figures := run.figures()) is not None]
        names = set.intersection(*map(set, found)) if found else set()
        mean = {name: sum(figures[name] for figures in found) / len(found) for name in names}
        label = f"{dataset}, {setting}"
        if not columns:
            for title, *values in beside_the_paper(same[0].config, mean)[2]:
                paper = None if table == "components" and setting != "full" else values[0]
                rows.append([label, title, paper, values[1], len(found)])
        for place, column in enumerate(columns):
            if column.dataset == dataset:
                ours = mean.get(column.figure)
                ours = None if ours is None else round(ours * column.scale, 4)
                paper = _paper(table, setting, place)
                rows.append([label, column.title, paper, ours, len(found)])
    return f"{table}: {len(rows)} figures", ["run", "figure", "paper", "here", "seeds"], rows


def _paper(table: str, setting: str, place: int) -> float | None:
    """Returns the paper's value of an ablation's setting in a column of its table."""
    kind, _, count = setting.rpartition("_")
    label = {"points": f"P = {count}", "parts": f"K = {count}"}.get(kind, "fixed sigma")
    if setting == "full":
        # The full model is the row of four points.
        table, label = "points_per_part", "P = 4"
    return dict(published.ABLATIONS[table].rows)[label][place]


def main(table: str) -> None:
    """Runs a script: parses its flags, then plans, tells, or carries out."""
    root = flags.DEFINE_string("workdir", None, "Folder of all runs, of all tables.")
    seeds = flags.DEFINE_list("seeds", ["0"], "Seeds of each run.")
    sets = flags.DEFINE_list("sets", [], "Data sets of the table to run; default: all.")
    source = flags.DEFINE_multi_string("source", [], "SET=FOLDER_OR_TAR with a set's photos.")
    variant = flags.DEFINE_enum("variant", "released", ["released", "paper"], "Which equations.")
    change = flags.DEFINE_multi_string("set", [], "FIELD=VALUE, a setting of all runs.")
    dry_run = flags.DEFINE_boolean("dry_run", False, "Print commands and cost; run nothing.")
    tell = flags.DEFINE_boolean("status", False, "Print how far each run got; run nothing.")
    flags.mark_flag_as_required("workdir")

    def start() -> None:
        if not seeds.value or not all(seed.isdecimal() for seed in seeds.value):
            raise UserError(f"--seeds={','.join(seeds.value)} must be whole numbers, such as 0,1,2")
        runs = plan(
            table,
            places.required(root),
            sets=sets.value,
            seeds=[int(seed) for seed in seeds.value],
            variant=variant.value,
            sources=_pairs("source", source.value),
            changes=_pairs("set", change.value),
        )
        print(plain_table(status(runs)))
        if dry_run.value:
            for run in runs:
                print(shlex.join(run.command))
        if not (dry_run.value or tell.value):
            left_out = carry_out(runs, start_process)
            for run in left_out:
                print(f"{run.folder} has no figures: its losses became infinite")
        if not dry_run.value:
            print("\n" + plain_table(table_of(table, runs)))

    app.run(start, uses_jax=False)


def _pairs(flag: str, texts: Sequence[str]) -> dict[str, str]:
    """Returns NAME=VALUE texts as a mapping.

    Raises:
      UserError: for a text without "=".
    """
    for text in texts:
        if "=" not in text:
            raise UserError(f"--{flag}={text} must be NAME=VALUE")
    return {name: value for name, _, value in (text.partition("=") for text in texts)}

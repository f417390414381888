"""Measures any checkpoints of a run: one step, all of them, or those that a training adds."""

import functools
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import jax
from etils import epath

from ganseg_jax import checkpoints, files, loading
from ganseg_jax.config import Config, with_fields
from ganseg_jax.config import file as config_file
from ganseg_jax.config.states import State, Weights, part_of
from ganseg_jax.errors import UserError
from ganseg_jax.evaluation import intervals
from ganseg_jax.files import resolve
from ganseg_jax.jobs import measure
from ganseg_jax.jobs.begin import prepare_data
from ganseg_jax.jobs.evaluate import trained_stages
from ganseg_jax.models.build import build_generator
from ganseg_jax.precision import of_products
from ganseg_jax.report.measures import format_interval, format_value, measure_of
from ganseg_jax.report.png import save_png
from ganseg_jax.report.tables import Table
from ganseg_jax.training import measured, partition, process

LOG = logging.getLogger(__name__)

LOOK_EVERY = 5.0
"""Seconds between looks at a training's checkpoints."""

Row = dict[str, Any]
"""As in `training.measured.FILE`."""


class Measures:
    """Measures states of a run's networks; photos and programs serve all of them.

    Args:
      config: of the run.
      workdir: of the run.
    """

    def __init__(self, config: Config, workdir: epath.PathLike):
        # The references are the same at every step.
        self.config = with_fields(config, {"evaluation.references": False})
        self.workdir = resolve(workdir)
        self._load = functools.cache(lambda _, split: measure.load_split(self.config, split))
        self._of_samples: Callable[[Any], dict[str, float]] | None = None
        fields = config_file.deciding_fields(config)
        self.measured_by = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in fields.items()
            if name.startswith(("evaluation.", "segmenter.refine"))
            and name not in measure.NO_FIGURES
        } | {"photos": measure.photos_of(config)}

    def row(self, state: State) -> Row:
        """Measures a state, whose stage and step are given.

        Samples are measured for the GAN, photos for all other stages.

        Raises:
          Gone: the checkpoint was deleted while it was read.
          UserError: there is no such checkpoint, or it does not fit the config.
        """
        assert state.stage is not None
        began = measured.beginning(self.workdir / state.stage)
        with of_products(self.config.evaluation.precision):
            figures = self._samples(state) if state.stage == "gan" else self._photos(state)
        return {
            "stage": state.stage,
            "step": state.step,
            "weights": kind_of(self.config, state.stage, state.weights),
            "figures": intervals.with_intervals(figures),
            "beginning": began,
            "measured_by": self.measured_by,
        }

    def _samples(self, state: State) -> Mapping[str, float]:
        variables = loading.restore_generator(self.config, self.workdir, state)
        if self._of_samples is None:
            self._of_samples = measure.sample_measure(self.config, build_generator(self.config))
        return self._of_samples(jax.device_put(variables))

    def _photos(self, state: State) -> Mapping[str, float]:
        # All parts as they are: which ones paint background is found of a finished segmenter.
        segmenter = loading.load_segmenter(self.workdir, named=False, engine="jax", state=state)
        return measure.measure_photos(self.config, segmenter, self._load).figures


def kind_of(config: Config, stage: str, weights: Weights | None) -> Weights:
    """Returns which of a stage's weights are meant, averaged or raw."""
    return "averaged" if part_of(config, stage, weights) in ("average", "teacher") else "raw"


@partition.undisturbed()
def evaluate_steps(
    config: Config,
    workdir: epath.PathLike,
    steps: Collection[int] | str = "all",
    stages: Sequence[str] = (),
    weights: Weights | None = None,
) -> list[Row]:
    """Measures checkpoints of a run, writes `W/evaluation/steps.json` and `.png`.

    What was measured before, with the same settings on the same photos, is not measured again.

    Args:
      config: of the run.
      workdir: of the run.
      steps: of the checkpoints; "all", or "newest".
      stages: whose; all by default.
      weights: averaged or raw; by default those that the run itself uses.

    Returns:
      The rows of these checkpoints, and, for "all", of deleted ones measured before.

    Raises:
      UserError: no stage has a checkpoint of a step, a stage is unknown or has no such weights.
    """
    chosen = chosen_stages(config, stages, weights)
    there = {stage: checkpoints.steps(resolve(workdir) / stage / "checkpoints") for stage in chosen}
    if not any(there.values()):
        raise UserError(f"{workdir} has no checkpoint yet of {', '.join(chosen)}: train it first")
    if steps == "newest":
        wanted = {stage: found[-1:] for stage, found in there.items()}
    elif isinstance(steps, str):
        wanted = there
    else:
        wanted = {stage: [s for s in found if s in steps] for stage, found in there.items()}
        for step in steps:
            if not any(step in found for found in wanted.values()):
                known = "; ".join(f"{stage} has {_listed(found)}" for stage, found in there.items())
                raise UserError(f"{workdir} has no checkpoint of step {step}: {known}")
    prepare_data(config)
    measures = Measures(config, workdir)
    states = [
        State(stage, step, kind_of(config, stage, weights))
        for stage, found in wanted.items()
        for step in found
    ]
    for number, state in enumerate(missing(measures, states), start=1):
        LOG.info("%s %d (%s), number %d", state.stage, state.step, state.weights, number)
        add(measures, state)
    rows = rows_now(measures)
    keys = {_key(state) for state in states}
    kinds = {(state.stage, state.weights) for state in states}
    if steps == "all":
        return [row for row in rows if (row["stage"], row["weights"]) in kinds]
    return [row for row in rows if _row_key(row) in keys]


@partition.undisturbed()
def follow(
    workdir: epath.PathLike,
    stages: Sequence[str] = (),
    weights: Weights | None = None,
    config: Config | None = None,
    look_every: float = LOOK_EVERY,
) -> list[Row]:
    """Measures the checkpoints that a training in another process adds, until it has ended.

    It ends once every stage has its last checkpoint and is measured, or if the training's process,
    on this machine, is no more. Checkpoints that are deleted before their turn are left out.

    Args:
      workdir: of the run, which need not have begun.
      stages: see `evaluate_steps`.
      weights: see `evaluate_steps`.
      config: of the run; by default that of the workdir, as soon as it is there.
      look_every: seconds between looks.

    Returns:
      All rows.

    Raises:
      UserError: a stage is unknown or has no such weights; there are several processes.
    """
    if jax.process_count() > 1:
        raise UserError("--follow takes one process: start it with --num_processes=1")
    folder, measures, waited = resolve(workdir), None, False
    while True:
        config_now = config or _config_if_there(folder)
        if config_now is None:
            if not waited:
                LOG.info("Waiting for a training in %s", folder)
            waited = True
            time.sleep(look_every)
            continue
        chosen = chosen_stages(config_now, stages, weights)
        ended = has_ended(config_now, folder)  # Before looking: what comes later is not missed.
        found = [
            State(stage, step, kind_of(config_now, stage, weights))
            for stage in chosen
            for step in checkpoints.steps(folder / stage / "checkpoints")
        ]
        if found and measures is None:
            measures = Measures(config_now, folder)
        todo = [] if measures is None else missing(measures, found)
        if todo and measures is not None:
            # The newest, which will be there longest.
            state = max(todo, key=lambda state: (chosen.index(str(state.stage)), state.step))
            try:
                row = add(measures, state)
                for line in lines_of(row):
                    LOG.info("%s", line)
            except checkpoints.Gone as gone:
                LOG.info("%s", gone)
            except UserError:
                # Between being listed and being opened it may have been deleted as well.
                if state.step in checkpoints.steps(folder / str(state.stage) / "checkpoints"):
                    raise
            continue
        if ended:
            LOG.info("%s", ended)
            return [] if measures is None else rows_now(measures)
        time.sleep(look_every)


def has_ended(config: Config, workdir: epath.Path) -> str:
    """Returns how a training has ended, "" if it has not, or not as far as can be seen from here.

    The process of another machine cannot be seen.
    """
    stages = trained_stages(config)
    newest = {s: max(checkpoints.steps(workdir / s / "checkpoints"), default=-1) for s in stages}
    if all(newest[stage] >= section.num_steps for stage, section in stages.items()):
        return "The training has finished."
    recorded = process.newest(workdir, stages)
    if process.is_of_this_machine(recorded) and not process.lives(recorded):
        stage, step = next((s, newest[s]) for s in stages if newest[s] < stages[s].num_steps)
        return f"The training's process has ended, in {stage} after step {max(step, 0)}."
    return ""


def chosen_stages(config: Config, stages: Sequence[str], weights: Weights | None) -> list[str]:
    """Returns the stages that are meant, in the order of training.

    Raises:
      UserError: one is unknown, or none has such weights.
    """
    known = list(trained_stages(config))
    for stage in stages:
        if stage not in known:
            raise UserError(f"--stages: {stage!r} is no stage of this run: {', '.join(known)}")
        part_of(config, stage, weights)
    if stages:
        return [stage for stage in known if stage in stages]
    fitting = []
    for stage in known:
        try:
            part_of(config, stage, weights)
            fitting.append(stage)
        except UserError as error:
            problem = error
    if not fitting:
        raise problem
    return fitting


def missing(measures: Measures, states: Sequence[State]) -> list[State]:
    """Returns the states that were not measured yet."""
    done = {_row_key(row) for row in rows_now(measures)}
    return [state for state in states if _key(state) not in done]


def add(measures: Measures, state: State) -> Row:
    """Measures a state, and writes it to the workdir's rows and their picture."""
    from ganseg_jax.report import steps_plot  # Slow to import.

    row = measures.row(state)
    others = [
        other
        for other in measured.rows_of(measures.workdir)
        if (_row_key(other), other["measured_by"]) != (_row_key(row), row["measured_by"])
    ]
    order = list(trained_stages(measures.config))
    rows = sorted([*others, row], key=lambda r: (_place(order, r), r["weights"], r["step"]))
    if jax.process_index() == 0:
        files.write_json(measures.workdir / measured.FILE, rows)
        save_png(measures.workdir / measured.PICTURE, steps_plot.plot_steps(rows_now(measures)))
    return row


def rows_now(measures: Measures) -> list[Row]:
    """Returns the rows that were measured with the same settings on the same photos."""
    rows = measured.rows_of(measures.workdir)
    return [row for row in rows if row["measured_by"] == measures.measured_by]


def tables_of(rows: Sequence[Row]) -> list[Table]:
    """Returns a table for each stage and kind of weights: the main figures by step."""
    from ganseg_jax.report import steps_plot

    tables: list[Table] = []
    for stage, weights in dict.fromkeys((row["stage"], row["weights"]) for row in rows):
        these = [row for row in rows if (row["stage"], row["weights"]) == (stage, weights)]
        names = steps_plot.shown_measures(these)
        header = ["step", *(measure_of(name).title for name in names)]
        cells = [[str(row["step"]), *(_cell(row, name) for name in names)] for row in these]
        tables.append((f"{stage}, {weights} weights", header, cells))
    return tables


def lines_of(row: Row) -> list[str]:
    """Returns a line with the main figures of a row."""
    ((_, header, cells),) = tables_of([row])
    told = ", ".join(f"{a} {b}" for a, b in zip(header[1:], cells[0][1:], strict=True))
    return [f"{row['stage']} {row['step']} ({row['weights']}): {told}"]


def _cell(row: Row, name: str) -> str:
    if name not in row["figures"]:
        return "-"
    text, ends = format_value(name, row["figures"][name]), intervals.ends_of(row["figures"])
    return f"{text} [{format_interval(name, ends[name])}]" if name in ends else text


def _config_if_there(folder: epath.Path) -> Config | None:
    return config_file.load_config(folder) if (folder / "config.json").exists() else None


def _key(state: State) -> tuple[Any, ...]:
    return state.stage, state.step, state.weights


def _row_key(row: Row) -> tuple[Any, ...]:
    return row["stage"], row["step"], row["weights"]


def _place(order: Sequence[str], row: Row) -> int:
    return order.index(row["stage"]) if row["stage"] in order else len(order)


def _listed(steps: Sequence[int]) -> str:
    return ", ".join(map(str, steps)) or "none"

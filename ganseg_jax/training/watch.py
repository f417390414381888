"""What a user may see of a training beside its metrics: a trace of steps, Weights & Biases.

Nothing here changes what is computed.
"""

import contextlib
import contextvars
import dataclasses
import json
import logging
import re
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

import jax
from etils import epath

from ganseg_jax import files
from ganseg_jax.errors import UserError

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Watch:
    """Says what is to be seen of the trainings of a command.

    Attributes:
      profile: first and last step to trace in each stage, from 1, or None.
      wandb: project of Weights & Biases to write to as well; "" for none.
    """

    profile: tuple[int, int] | None = None
    wandb: str = ""


_CURRENT: contextvars.ContextVar[Watch | None] = contextvars.ContextVar("watch", default=None)


def current() -> Watch:
    """Returns what is to be seen of trainings at the moment."""
    return _CURRENT.get() or Watch()


@contextlib.contextmanager
def watching(watch: Watch) -> Iterator[None]:
    """Sets what is to be seen of the trainings in the block.

    Raises:
      UserError: Weights & Biases is asked for and not installed.
    """
    if watch.wandb:
        _import_wandb()
    token = _CURRENT.set(watch)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def steps_of(text: str) -> tuple[int, int]:
    """Returns the first and the last step of a range such as "100:110", both in it.

    Raises:
      UserError: it is none.
    """
    found = re.fullmatch(r"(\d+):(\d+)", text.strip())
    first, last = map(int, found.groups()) if found else (0, 0)
    if not 1 <= first <= last:
        raise UserError(
            f"--profile_steps={text} is no range of steps: it looks like 100:110, with both steps "
            "in it, counted from 1"
        )
    return first, last


class Profile:
    """Traces a range of a stage's steps with `jax.profiler`, into the stage's `profile` folder.

    The first process traces its own host and devices; all run the same program.

    Args:
      name: of the stage.
      folder: of the stage.
      first: updates done so far.
      total: updates in all.
      steps: the range; None traces nothing.
    """

    def __init__(
        self, name: str, folder: epath.Path, first: int, total: int, steps: tuple[int, int] | None
    ):
        self._folder, self._steps, self._running = folder / "profile", steps, False
        self._local: tempfile.TemporaryDirectory[str] | None = None
        if steps is None:
            return
        asked, problem = f"--profile_steps={steps[0]}:{steps[1]}", ""
        if steps[1] <= first:
            problem = f"the range is over, {name} resumes after step {first}"
        elif steps[0] > total:
            problem = f"{name} has only {total} steps"
        if problem:
            LOG.warning("%s: nothing is traced: %s.", asked, problem)
        if problem or jax.process_index():
            self._steps = None

    def before(self, step: int, state: Any) -> contextlib.AbstractContextManager[Any]:
        """Returns what a step is to run in; starts the trace if the step is the first of it."""
        if self._steps is None:
            return contextlib.nullcontext()
        if not self._running and self._steps[0] <= step <= self._steps[1]:
            jax.block_until_ready(state)  # No step before it is to be in it.
            self._start()
        if not self._running:
            return contextlib.nullcontext()
        return jax.profiler.StepTraceAnnotation("train", step_num=step)

    def after(self, step: int, state: Any) -> None:
        """Ends the trace if the step is the last of it, once it is done."""
        if self._running and self._steps is not None and step >= self._steps[1]:
            jax.block_until_ready(state)
            self.close()

    def close(self) -> None:
        """Ends the trace wherever it is, and says where it lies."""
        if not self._running:
            return
        self._running, self._steps = False, None
        jax.profiler.stop_trace()
        if self._local is not None:
            files.copy_folder(self._local.name, self._folder)
            self._local.cleanup()
        LOG.info(
            "Trace written to %s: look at it with `tensorboard --logdir=%s` (pip install "
            "tensorboard tensorboard-plugin-profile), or open its *.trace.json.gz at "
            "https://ui.perfetto.dev",
            *(self._folder, self._folder),
        )

    def _start(self) -> None:
        where = str(self._folder)
        if files.is_remote(self._folder):  # The profiler writes local files alone.
            self._local = tempfile.TemporaryDirectory()
            where = self._local.name
        jax.profiler.start_trace(where)
        self._running = True


class WandbRun:
    """Writes a stage's scalars and pictures to a run of Weights & Biases.

    The run's id is kept in the stage's `wandb.json`, so that a resumed training continues it. Rows
    have the step as a scalar of its own: Weights & Biases drops rows whose step has been seen, and
    a resumed run repeats the steps after its checkpoint.

    Args:
      folder: of the stage.
      project: to write to.

    Raises:
      UserError: the package is missing, or it cannot begin.
    """

    def __init__(self, folder: epath.Path, project: str):
        wandb = _import_wandb()
        path = folder / "wandb.json"
        known = json.loads(path.read_text()) if path.exists() else {}
        identity = known.get("id") if known.get("project") == project else None
        config = folder.parent / "config.json"
        try:
            self._run = wandb.init(
                project=project,
                id=identity,
                resume="allow",
                name=f"{folder.parent.name}/{folder.name}",
                group=folder.parent.name,
                job_type=folder.name,
                # It writes local files alone; for a bucket, below the current folder.
                dir=None if files.is_remote(folder) else str(folder),
                config=json.loads(config.read_text()) if config.exists() else None,
            )
        except wandb.Error as error:
            reason = " ".join(str(error).split()).rstrip(".")
            raise UserError(
                f"--wandb={project}: {reason}; log in with `wandb login`, or set "
                "WANDB_MODE=offline to write to the disk alone"
            ) from error
        self._wandb = wandb
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")
        files.write_json(path, {"project": project, "id": self._run.id})

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Writes one row."""
        self._run.log({"step": step, **values})

    def picture(self, step: int, name: str, picture: Any) -> None:
        """Writes a uint8 picture (H, W, 3)."""
        self._run.log({"step": step, name: self._wandb.Image(picture)})

    def close(self) -> None:
        """Ends the run."""
        self._run.finish()


def _import_wandb() -> Any:
    try:
        import wandb
    except ImportError as error:
        raise UserError('--wandb needs wandb: pip install "ganseg-jax[wandb]"') from error
    return wandb

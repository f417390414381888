"""The one training loop, for all stages alike."""

import contextlib
import dataclasses
import errno
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from ganseg_jax import files
from ganseg_jax.errors import Stopped, UserError
from ganseg_jax.training import partition, watch
from ganseg_jax.training.checkpoint import Checkpoints
from ganseg_jax.training.meter import Meter
from ganseg_jax.training.progress import NO_LOSSES, Progress
from ganseg_jax.training.signals import TerminationFlag
from ganseg_jax.training.stage import Scalars, Schedule
from ganseg_jax.training.work import Work
from ganseg_jax.training.writer import Writer, note_start

LOG = logging.getLogger(__name__)

MAX_RETRIES = 3
"""Further attempts at the steps after one checkpoint, with other folds of the root key."""

_REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)

_REMEDY = "Lower the learning rates, change the seed, or try on_nonfinite='retry'"


class NonFiniteError(UserError):
    """Reports that a loss or gradient became NaN or infinite."""


@dataclasses.dataclass(frozen=True)
class Prepared:
    """Holds a stage that is ready to run.

    Attributes:
      name: for messages.
      schedule: its number of updates and intervals.
      step: (root key, state, argument) -> (state, scalars), compiled; may reuse the old state's
        memory.
      roots: n -> the n-th fold of the root key, on the devices; 0 is the root key itself.
      data: Grain iterator of local batches, whose position is saved with the state; None if the
        stage needs no data.
      to_argument: local batch (None without data) -> what the step takes.
      draw: state -> uint8 picture, or None.
      retry: if something is not finite, resume from the last checkpoint with another fold.
      batch_size: images in an update; None if they have none.
      work: FLOPs of the updates; None if not known.
      compile_seconds: that compiling the step took.
    """

    name: str
    schedule: Schedule
    step: Callable[[jax.Array, Any, Any], tuple[Any, Scalars]]
    roots: Callable[[int], jax.Array]
    data: Any = None
    to_argument: Callable[[Any], Any] = lambda local: local
    draw: Callable[[Any], np.ndarray] | None = None
    retry: bool = False
    batch_size: int | None = None
    work: Work | None = None
    compile_seconds: float = 0.0


def run(
    stage: Prepared, folder: epath.Path, checkpoints: Checkpoints, first: int, state: Any
) -> Any:
    """Trains a stage from one of its checkpoints to its last step.

    Args:
      stage: ready to run.
      folder: of the stage.
      checkpoints: in that folder.
      first: updates done so far.
      state: after these, on the devices; the step may reuse its memory.

    Returns:
      The final state.

    Raises:
      NonFiniteError: a scalar became NaN or infinite, and with `retry` did so with other folds
        of the key too; the checkpoints stay good.
      Stopped: after SIGTERM, with the state saved, or Ctrl-C.
      UserError: there is no room to save.
    """
    like = jax.tree.map(_shape_of, state)
    retries, compile_seconds = _Retries(folder), stage.compile_seconds
    with _refusals_named(folder), TerminationFlag() as stopped:
        note_start(folder, first)
        if stage.retry and not first:
            checkpoints.save(0, state, stage.data)  # To go back to.
        while True:
            try:
                with contextlib.ExitStack() as opened:
                    writer = opened.enter_context(
                        contextlib.closing(Writer(folder, first, watch.current().wandb))
                    )
                    profile = watch.Profile(
                        stage.name, folder, first, stage.schedule.num_steps, watch.current().profile
                    )
                    opened.enter_context(contextlib.closing(profile))
                    meter = Meter(first, stage.batch_size, stage.work, compile_seconds)
                    opened.enter_context(contextlib.closing(meter))
                    return _train(
                        stage, first, state, checkpoints, writer, retries, stopped, profile, meter
                    )
            except NonFiniteError as error:
                if not stage.retry:
                    raise
                problem = str(error)
            # Here, not in the handler, nothing holds on to the old state's memory.
            state, compile_seconds = None, 0.0
            restored = checkpoints.restore(like, stage.data)
            assert restored is not None
            first, state = restored
            retries.add(first, problem)


def _train(
    stage: Prepared,
    first: int,
    state: Any,
    checkpoints: Checkpoints,
    writer: Writer,
    retries: "_Retries",
    stopped: TerminationFlag,
    profile: watch.Profile,
    meter: Meter,
) -> Any:
    every, saved, step = stage.schedule, first, first
    progress = Progress(stage.name, first, every.num_steps)
    pending: list[Scalars] = []
    finite = jax.jit(_all_finite)
    roots = {fold: stage.roots(fold) for fold in retries.folds()}
    try:
        # Nothing is to go to the host or come from it unseen, in any step.
        with contextlib.closing(progress), jax.transfer_guard("disallow"):
            for step in range(first + 1, every.num_steps + 1):
                with meter.doing("data"):
                    given = stage.to_argument(None if stage.data is None else next(stage.data))
                with profile.before(step, state):
                    state, scalars = stage.step(roots[retries.fold(step)], state, given)
                meter.started(scalars)
                with meter.doing("logging"):
                    profile.after(step, state)
                pending.append(scalars)
                last = step == every.num_steps
                # Several processes get the signal at different steps; they agree when they log.
                asked = jax.process_count() == 1 or step % every.log_every == 0
                stop = asked and not last and partition.anywhere(bool(stopped), after=state)
                save = last or stop or step % every.checkpoint_every == 0
                if save or step % every.log_every == 0:
                    means = _fetch(pending, step, stage.name)
                    pending = []
                    used = meter.row(step)
                    with meter.doing("logging"):
                        rate = {"steps_per_second": progress.rate(step)}
                        writer.scalars(step, means | rate | used)
                        progress.show(step, means)
                if stage.draw is not None and (last or step % every.sample_every == 0):
                    with meter.doing("logging"):
                        writer.picture(step, "samples", stage.draw(state))
                if save:
                    if not jax.device_get(finite(state)):
                        raise NonFiniteError(
                            f"{stage.name}: a parameter is not finite at step {step}; the "
                            f"checkpoint of step {saved} is kept. {_REMEDY}"
                        )
                    with meter.doing("checkpoints"):
                        checkpoints.save(step, state, stage.data)
                    with meter.doing("logging"):
                        writer.flush()
                    saved = step
                if stop:
                    raise Stopped(f"{stage.name}: asked to end; saved at step {step}", code=143)
    except KeyboardInterrupt:
        raise Stopped(
            f"{stage.name}: interrupted at step {step}; the same command resumes from step {saved}",
            code=130,
        ) from None
    # In the last step, or while its state was saved: the next stage must not begin.
    if partition.anywhere(bool(stopped), after=state):
        raise Stopped(f"{stage.name}: asked to end; saved at step {step}", code=143)
    return state


class _Retries:
    """Keeps, in `retries.json`, which fold of the root key each step is taken with.

    The file lists (step gone back to, number of the fold from there on), so that a run that is cut
    off after a retry resumes as it would have continued.
    """

    def __init__(self, folder: epath.Path):
        self._path = folder / "retries.json"
        self._made: list[list[int]] = []
        if self._path.exists():
            self._made = json.loads(self._path.read_text())

    def fold(self, step: int) -> int:
        """Returns the fold that `step` is taken with; 0 is the root key itself."""
        return next((fold for first, fold in reversed(self._made) if first < step), 0)

    def folds(self) -> set[int]:
        """Returns all folds that steps are taken with so far."""
        return {0, *(fold for _, fold in self._made)}

    def add(self, first: int, problem: str) -> None:
        """Notes and says that the steps after `first` are taken with a new fold.

        Raises:
          NonFiniteError: the steps after `first` were tried `MAX_RETRIES` times more before.
        """
        before = sum(made[0] == first for made in self._made)
        if before >= MAX_RETRIES:
            raise NonFiniteError(f"{problem} (with {before} other folds of the key too)")
        self._made.append([first, len(self._made) + 1])
        if jax.process_index() == 0:
            files.write_json(self._path, self._made, indent=None)
        what = problem.partition(";")[0]
        LOG.warning(
            "%s. Going back to step %d with fold %d of the key (retry %d of %d from there).",
            *(what, first, len(self._made), before + 1, MAX_RETRIES),
        )


@contextlib.contextmanager
def _refusals_named(folder: epath.Path) -> Iterator[None]:
    """Turns a full disk or a missing permission, met in training, into a `UserError`."""
    try:
        yield
    except OSError as error:
        if error.errno not in _REFUSALS:
            raise
        raise UserError(
            f"cannot write to {folder}: {error.strerror or error}; the last checkpoint is intact, "
            "and the same command resumes from it once there is room"
        ) from error


def _fetch(pending: list[Scalars], step: int, name: str) -> dict[str, float]:
    """Returns the means of the scalars since the last call.

    Raises:
      NonFiniteError: naming the first step that has scalars that are not finite, and those.
    """
    rows = jax.device_get(pending)
    for offset, row in enumerate(rows):
        # Losses first: the others follow from them.
        names = sorted(row, key=lambda scalar: scalar.endswith(NO_LOSSES))
        wrong = [f"{scalar} is {row[scalar]}" for scalar in names if not np.isfinite(row[scalar])]
        if wrong:
            at = step - len(rows) + 1 + offset
            raise NonFiniteError(
                f"{name}: {', '.join(wrong)} at step {at}; the last checkpoint is from before. "
                f"{_REMEDY}"
            )
    return {scalar: float(np.mean([row[scalar] for row in rows])) for scalar in rows[0]}


def _shape_of(x: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)


def _all_finite(state: Any) -> jax.Array:
    leaves = [x for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.inexact)]
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in leaves]))

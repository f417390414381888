"""The one training loop, for GAN and segmenter alike."""

import contextlib
import dataclasses
import errno
import json
import logging
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from tqdm import tqdm

from ganseg_jax.checkpoints import Checkpoints
from ganseg_jax.errors import UserError
from ganseg_jax.training import partition
from ganseg_jax.training.writer import Writer, note_start

LOG = logging.getLogger(__name__)

MAX_RETRIES = 3
"""Goes at the steps after one checkpoint, on top of the first, with `Stage.refolded`."""

_REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)

_REMEDY = "Lower the learning rates, change the seed, or try on_nonfinite='retry'"
_NO_LOSSES = ("_norm", "_logit")


class NonFiniteError(UserError):
    """A loss or gradient became NaN or infinite."""


class Preempted(Exception):
    """The process was asked to end; the state has been saved."""


@dataclasses.dataclass
class Stage:
    """What the loop needs to know of a stage.

    Attributes:
      name: also the name of its folder.
      num_steps: updates in all.
      checkpoint_every, log_every, sample_every: in steps.
      step: (state, batch) -> (state, scalars), compiled; may give up the old state's memory.
      state: before the first step, on the devices.
      data: Grain iterator of local batches, whose position is saved with the state; None for a
        stage that needs no data.
      to_batch: local batch (None without data) to what the step takes.
      draw: state -> uint8 picture of samples, or None.
      refolded: n -> the step with the n-th other fold of the root key; None where there is but one.
      retry: to go on with another fold from the last checkpoint where something is not finite,
        instead of stopping there.
    """

    name: str
    num_steps: int
    checkpoint_every: int
    log_every: int
    sample_every: int
    step: Callable[[Any, Any], tuple[Any, dict[str, jax.Array]]]
    state: Any
    data: Any = None
    to_batch: Callable[[Any], Any] = lambda local: local
    draw: Callable[[Any], np.ndarray] | None = None
    refolded: Callable[[int], Callable[[Any, Any], tuple[Any, dict[str, jax.Array]]]] | None = None
    retry: bool = False


def run(stage: Stage, workdir: str | epath.Path) -> Any:
    """Trains a stage to its last step, going on from its newest checkpoint.

    Returns:
      The final state.

    Raises:
      NonFiniteError: a scalar became NaN or infinite, and with `retry` did so with other folds
        of the key too; the checkpoints stay good.
      Preempted: after SIGTERM, with the state saved.
      UserError: a checkpoint that does not fit, no room to save.
    """
    folder = epath.Path(workdir) / stage.name
    checkpoints = Checkpoints(folder / "checkpoints")
    try:
        restored = checkpoints.restore(stage.state, stage.data)
        first, state = (0, stage.state) if restored is None else restored
        like = jax.tree.map(_shape_of, stage.state)
        stage.state = None  # The step may reuse its memory.
        if first >= stage.num_steps:
            LOG.info("%s: finished before, at step %d.", stage.name, first)
            return state
        if first:
            LOG.info("%s: going on from step %d.", stage.name, first)
        retries = _Retries(folder)
        with _refusals_named(folder), _SignalFlag() as stopped:
            note_start(folder, first)
            if stage.retry and restored is None:
                checkpoints.save(0, state, stage.data)  # To go back to.
            while True:
                try:
                    with contextlib.closing(Writer(folder, first)) as writer:
                        return _train(stage, first, state, checkpoints, writer, retries, stopped)
                except NonFiniteError as error:
                    if not stage.retry:
                        raise
                    problem = str(error)
                # Here, not in the handler, nothing holds on to the old state's memory.
                state = None
                first, state = checkpoints.restore(like, stage.data)
                retries.add(first, problem)
    finally:
        # However this ends, what was saved in the background must reach the disk.
        checkpoints.close()


def _train(
    stage: Stage,
    first: int,
    state: Any,
    checkpoints: Checkpoints,
    writer: Writer,
    retries: "_Retries",
    stopped: "_SignalFlag",
) -> Any:
    progress = _Progress(stage.name, first, stage.num_steps)
    pending: list[dict[str, jax.Array]] = []
    saved = first
    finite = jax.jit(_all_finite)
    update, fold = stage.step, 0
    with contextlib.closing(progress):
        for step in range(first + 1, stage.num_steps + 1):
            if stage.refolded and fold != retries.fold(step):
                fold = retries.fold(step)
                update = stage.refolded(fold)
            batch = stage.to_batch(None if stage.data is None else next(stage.data))
            state, scalars = update(state, batch)
            pending.append(scalars)
            last = step == stage.num_steps
            # Several processes get the signal at different steps; they agree when they log.
            asked = jax.process_count() == 1 or step % stage.log_every == 0
            stop = asked and not last and partition.anywhere(bool(stopped), after=state)
            save = last or stop or step % stage.checkpoint_every == 0
            if save or step % stage.log_every == 0:
                means = _fetch(pending, step, stage.name)
                pending = []
                writer.scalars(step, means | {"steps_per_second": progress.rate(step)})
                progress.show(step, means)
            if stage.draw is not None and (last or step % stage.sample_every == 0):
                writer.picture(step, "samples", stage.draw(state))
            if save:
                if not finite(state):
                    raise NonFiniteError(
                        f"{stage.name}: a parameter is not finite at step {step}; the checkpoint "
                        f"of step {saved} is kept. {_REMEDY}"
                    )
                checkpoints.save(step, state, stage.data)
                saved = step
            if stop:
                raise Preempted(f"{stage.name}: asked to end; saved at step {step}")
    return state


class _Retries:
    """Which fold of the root key each step is taken with, kept in `retries.json`.

    A list of (step gone back to, number of the fold that goes on from there), so that a run that is
    cut off after a retry goes on as it would have.
    """

    def __init__(self, folder: epath.Path):
        self._path = folder / "retries.json"
        self._made: list[list[int]] = []
        if self._path.exists():
            self._made = json.loads(self._path.read_text())

    def fold(self, step: int) -> int:
        """The fold that `step` is taken with; 0 is the root key itself."""
        return next((fold for first, fold in reversed(self._made) if first < step), 0)

    def add(self, first: int, problem: str) -> None:
        """Notes that the steps after `first` are taken with a new fold, and says so.

        Raises:
          NonFiniteError: the steps after `first` were tried `MAX_RETRIES` times more before.
        """
        before = sum(made[0] == first for made in self._made)
        if before >= MAX_RETRIES:
            raise NonFiniteError(f"{problem} (with {before} other folds of the key too)")
        self._made.append([first, len(self._made) + 1])
        if jax.process_index() == 0:
            partial = self._path.with_name(".retries.json.partial")
            partial.write_text(json.dumps(self._made) + "\n")
            partial.replace(self._path)
        what = problem.partition(";")[0]
        LOG.warning(
            "%s. Going back to step %d with fold %d of the key (retry %d of %d from there).",
            *(what, first, len(self._made), before + 1, MAX_RETRIES),
        )


@contextlib.contextmanager
def _refusals_named(folder: epath.Path) -> Iterator[None]:
    """A full disk or a missing permission, met while writing scalars or pictures, as one line."""
    try:
        yield
    except OSError as error:
        if error.errno not in _REFUSALS:
            raise
        raise UserError(
            f"cannot write to {folder}: {error.strerror or error}; the last checkpoint is intact, "
            "and the same command goes on from it once there is room"
        ) from error


def _fetch(pending: list[dict[str, jax.Array]], step: int, name: str) -> dict[str, float]:
    """Means of the scalars since the last call.

    Raises:
      NonFiniteError: naming the first step that has scalars that are not finite, and those.
    """
    rows = jax.device_get(pending)
    for offset, row in enumerate(rows):
        # Losses first: what else is not finite follows from them.
        names = sorted(row, key=lambda scalar: scalar.endswith(_NO_LOSSES))
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


class _SignalFlag:
    """True once SIGTERM has come, so that the step in hand can be finished and saved."""

    def __enter__(self) -> "_SignalFlag":
        self._raised = False
        try:
            self._before = signal.signal(signal.SIGTERM, self._raise)
        except ValueError:  # Not the main thread: leave signals alone.
            self._before = None
        return self

    def _raise(self, *_: Any) -> None:
        self._raised = True

    def __bool__(self) -> bool:
        return self._raised

    def __exit__(self, *_: Any) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)


class _Progress:
    """A bar with rate, time left and losses on a terminal, else a line at each log step."""

    def __init__(self, name: str, first: int, total: int):
        self._name, self._total = name, total
        self._start = self._mark = (first, time.monotonic())
        shown = jax.process_index() == 0
        self._lines = shown and not sys.stderr.isatty()
        self._bar = tqdm(
            desc=name,
            initial=first,
            total=total,
            unit="step",
            dynamic_ncols=True,
            disable=not shown or self._lines,
        )

    def rate(self, step: int) -> float:
        """Steps a second since the last call."""
        now = time.monotonic()
        rate = (step - self._mark[0]) / max(now - self._mark[1], 1e-9)
        self._mark = (step, now)
        self._last_rate = rate
        return rate

    def show(self, step: int, values: dict[str, float]) -> None:
        """Brings the display up to `step`."""
        losses = {k: v for k, v in values.items() if not k.endswith(_NO_LOSSES)}
        text = " ".join(f"{k}={v:.3g}" for k, v in losses.items())
        if self._lines:
            done, start = step - self._start[0], self._start[1]
            left = (time.monotonic() - start) / max(done, 1) * (self._total - step)
            minutes, seconds = divmod(int(left), 60)
            print(
                f"{self._name} {step}/{self._total} {self._last_rate:.2f} steps/s "
                f"{minutes}:{seconds:02d} left {text}",
                file=sys.stderr,
                flush=True,
            )
        else:
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update(step - self._bar.n)

    def close(self) -> None:
        """Ends the display."""
        self._bar.close()

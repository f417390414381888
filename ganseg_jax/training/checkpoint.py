"""Writes checkpoints and resumes from them: state and data position together."""

import contextlib
import json
import logging
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

import grain.python as grain
import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from jax.experimental import multihost_utils
from orbax.checkpoint import checkpoint_managers as policies

from ganseg_jax.checkpoints import (
    check_shapes,
    local_path,
    unreadable,
    verify,
    warn_of_damage,
    warn_of_other_names,
    write_checksums,
)
from ganseg_jax.errors import UserError
from ganseg_jax.files import resolve
from ganseg_jax.training import measured

LOG = logging.getLogger(__name__)


def _with_checksums(handler: Any) -> Any:
    """Has an orbax handler write checksums once all files of an item are there; returns it.

    Orbax calls `finalize` in the background, in one process, and before the checkpoint gets its
    final name. A class of our own would be named in the checkpoint, and other programs would not
    know how to open it.
    """
    finalize = handler.finalize

    def finalize_with_checksums(directory: epath.Path) -> None:
        finalize(directory)
        write_checksums(directory)

    handler.finalize = finalize_with_checksums
    return handler


class _Best:
    """Has orbax preserve the best checkpoint of a stage."""

    def __init__(self, folder: epath.Path, figure: str):
        self._folder, self._figure = folder, figure
        self._said = False

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """Says of each checkpoint whether it is the best."""
        steps = [checkpoint.step for checkpoint in checkpoints]
        best = measured.best(self._folder, self._figure, steps)
        if jax.process_count() > 1:  # The figures' file may change while they read it.
            with jax.transfer_guard("allow"):
                chosen = np.int64(-1 if best is None else best)
                best = int(multihost_utils.broadcast_one_to_all(chosen))
        if best is None and len(steps) > NEWEST_KEPT and not self._said:
            self._said = True
            LOG.warning(
                "%s: no checkpoint has a figure %r yet, so none is kept as the best.",
                *(self._folder.name, self._figure),
            )
        return [step == best for step in steps]


NEWEST_KEPT = 2


class Checkpoints:
    """Keeps the checkpoints of one stage: the newest two, and those that are asked for.

    Orbax writes in the background. A checkpoint that was cut off while being written never gets its
    final name, and is ignored.

    Args:
      directory: of the checkpoints, in the stage's folder.
      keep_every: checkpoints of its multiples stay; 0 for none.
      keep_best: the figure by which the best one stays (see `measured.best`); empty for none.
    """

    def __init__(self, directory: epath.PathLike, keep_every: int = 0, keep_best: str = ""):
        self.directory = resolve(directory)
        self._damaged: list[int] = []
        kept: list[Any] = [policies.LatestN(NEWEST_KEPT)]
        kept += [policies.EveryNSteps(keep_every)] if keep_every else []
        kept += [_Best(self.directory.parent, keep_best)] if keep_best else []
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policies.AnyPreservationPolicy(kept), create=True
        )
        try:
            self._manager = ocp.CheckpointManager(
                local_path(directory),
                options=options,
                item_names=("state", "data"),
                item_handlers={
                    "state": _with_checksums(ocp.StandardCheckpointHandler()),
                    "data": _with_checksums(grain.PyGrainCheckpointHandler()),
                },
            )
        except OSError as error:
            raise UserError(
                f"cannot write to {directory}: {error}; choose another --workdir"
            ) from error

    def latest_step(self) -> int | None:
        """Returns the step of the newest complete checkpoint."""
        return self._manager.latest_step()

    def save(self, step: int, state: Any, data: Any = None) -> None:
        """Starts writing; returns when the state may be changed again.

        Args:
          step: number of updates done.
          state: device arrays.
          data: a Grain iterator, whose position is saved, or None.
        """
        items = {"state": ocp.args.StandardSave(state)}
        if data is not None:
            items["data"] = grain.PyGrainCheckpointSave(data)
        with self._writing():
            # Orbax saves nothing older than what is there, be it damaged or not.
            while self._damaged:
                self._manager.delete(self._damaged.pop())
            self._manager.save(step, args=ocp.args.Composite(**items))

    def restore(self, like: Any, data: Any = None) -> tuple[int, Any] | None:
        """Returns (step, state) of the newest checkpoint that can be read, or None.

        Args:
          like: state whose leaves have the shape, type and sharding to restore to.
          data: a Grain iterator, set to the saved position, or None.

        Raises:
          UserError: naming a parameter that has another shape; no checkpoint can be read.
        """
        with self._writing():
            self._manager.wait_until_finished()
        warn_of_other_names(self.directory)
        steps = sorted(self._manager.all_steps(), reverse=True)
        damaged = []
        for step in steps:
            items = {
                "state": ocp.args.StandardRestore(jax.tree.map(_abstract, like)),
            }
            # Converted checkpoints have no data position: they train on from the first photo.
            positioned = data is not None and (self.directory / str(step) / "data").exists()
            position = self._position(step) if positioned else None
            if positioned and position is None:
                items["data"] = grain.PyGrainCheckpointRestore(data)
            try:
                verify(self.directory / str(step) / "state")
                if positioned:
                    verify(self.directory / str(step) / "data")
                check_shapes(self._manager, step, like, self.directory)
                restored = self._manager.restore(step, args=ocp.args.Composite(**items))
                if position is not None:
                    data.set_state(json.loads(position.read_text()))
            except UserError:
                raise
            except Exception as error:  # Whatever the storage layer raises for damaged files.
                warn_of_damage(self.directory / str(step), error)
                damaged.append(step)
                continue
            self._damaged = damaged
            return step, restored["state"]
        if steps:
            raise unreadable(self.directory)
        return None

    def close(self) -> None:
        """Waits for what is being written."""
        with self._writing():
            self._manager.wait_until_finished()
        self._manager.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Turns what the storage layer raises when it cannot write into a `UserError`."""
        try:
            yield
        except (OSError, ValueError) as error:
            # Arrays are written by tensorstore, whose errors are long and of no type of their own.
            found = re.search(r"os_error_code='(\d+)'", str(error))
            if found is None and not isinstance(error, OSError):
                raise
            reason = os.strerror(int(found[1])) if found else getattr(error, "strerror", error)
            complete = max(self._manager.all_steps(read=True), default=None)
            kept = "there is none before"
            if complete is not None:
                kept = f"the last complete one (step {complete}) is intact"
            raise UserError(
                f"cannot write a checkpoint to {self.directory}: {reason}; {kept}, and the same "
                "command resumes from there once there is room"
            ) from error

    def _position(self, step: int) -> epath.Path | None:
        """Returns the file of a saved data position if other processes saved it, else None.

        All processes have the same position, the number of global batches read, and the global
        order of photos does not depend on their number.
        """
        files = sorted((self.directory / str(step) / "data").glob("process_*-of-*.json"))
        own = f"process_{jax.process_index()}-of-{jax.process_count()}.json"
        return None if any(file.name == own for file in files) else next(iter(files), None)


def _abstract(x: Any) -> Any:
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=getattr(x, "sharding", None))

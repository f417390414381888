"""Checkpoints: state and data position together, written in the background by orbax."""

import contextlib
import logging
import os
import re
from collections.abc import Iterator
from typing import Any

import grain.python as grain
import jax
import orbax.checkpoint as ocp
from etils import epath

from ganseg_jax.errors import UserError

LOG = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of one stage, in `directory`; the newest `keep` stay.

    A checkpoint that was cut off while being written never gets its final name, and is ignored.
    """

    def __init__(self, directory: str | epath.Path, keep: int = 2):
        self.directory = epath.Path(directory)
        self._unreadable: list[int] = []
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True)
        try:
            self._manager = ocp.CheckpointManager(
                self.directory
                if str(self.directory).startswith("gs://")
                else epath.Path(os.path.abspath(self.directory)),
                options=options,
                item_names=("state", "data"),
                item_handlers={
                    "state": ocp.StandardCheckpointHandler(),
                    "data": grain.PyGrainCheckpointHandler(),
                },
            )
        except OSError as error:
            raise UserError(
                f"cannot write to {directory}: {error}; choose another --workdir"
            ) from error

    def latest_step(self) -> int | None:
        """Step of the newest complete checkpoint."""
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
            while self._unreadable:
                self._manager.delete(self._unreadable.pop())
            self._manager.save(step, args=ocp.args.Composite(**items))

    def restore(self, like: Any, data: Any = None) -> tuple[int, Any] | None:
        """The newest checkpoint that can be read, or None where there is none.

        Args:
          like: state whose leaves have the shape, type and sharding to restore to.
          data: a Grain iterator, set to the saved position, or None.

        Raises:
          UserError: where a parameter has another shape, naming it; where the data position was
            saved by another number of processes; where no checkpoint can be read.
        """
        with self._writing():
            self._manager.wait_until_finished()
        steps = sorted(self._manager.all_steps(), reverse=True)
        unreadable = []
        for step in steps:
            self._check_shapes(step, like)
            self._check_processes(step, data)
            items = {
                "state": ocp.args.StandardRestore(jax.tree.map(_abstract, like)),
            }
            # Converted checkpoints have no data position: they train on from the first photo.
            if data is not None and (self.directory / str(step) / "data").exists():
                items["data"] = grain.PyGrainCheckpointRestore(data)
            try:
                restored = self._manager.restore(step, args=ocp.args.Composite(**items))
            except Exception as error:  # Whatever the storage layer raises for damaged files.
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                LOG.warning(
                    "Checkpoint %s cannot be read (%s); trying the one before.",
                    self.directory / str(step),
                    reason,
                )
                unreadable.append(step)
                continue
            self._unreadable = unreadable
            return step, restored["state"]
        if steps:
            raise UserError(
                f"none of the checkpoints in {self.directory} can be read: "
                "delete that folder to train this stage anew"
            )
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
            reason = os.strerror(int(found[1])) if found else error.strerror or error
            complete = max(self._manager.all_steps(read=True), default=None)
            kept = "there is none before"
            if complete is not None:
                kept = f"the last complete one (step {complete}) is intact"
            raise UserError(
                f"cannot write a checkpoint to {self.directory}: {reason}; {kept}, and the same "
                "command goes on from there once there is room"
            ) from error

    def _check_shapes(self, step: int, like: Any) -> None:
        try:
            saved = self._manager.item_metadata(step)["state"]
            saved = {_name(path): leaf.shape for path, leaf in _leaves(saved)}
        except Exception:  # Damaged metadata: reading will fail and say so.
            return
        wanted = {_name(path): leaf.shape for path, leaf in _leaves(like)}
        for name in sorted(saved.keys() | wanted.keys()):
            if saved.get(name) != wanted.get(name):
                raise UserError(
                    f"the checkpoint in {self.directory} does not fit this config: {name} is "
                    f"{_shape(saved.get(name))} there and {_shape(wanted.get(name))} here; use "
                    "the config it was trained with, or another --workdir"
                )

    def _check_processes(self, step: int, data: Any) -> None:
        if data is None:
            return
        folder = self.directory / str(step) / "data"
        files = list(folder.glob("process_*-of-*.json")) if folder.exists() else []
        if files:
            count = int(files[0].name.removesuffix(".json").rsplit("-", 1)[1])
            if count != jax.process_count():
                raise UserError(
                    f"the data position in {folder} was saved by {count} processes and cannot be "
                    f"taken up by {jax.process_count()}: continue with {count} processes"
                )


def _abstract(x: Any) -> Any:
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=getattr(x, "sharding", None))


def _leaves(tree: Any) -> list[tuple[tuple, Any]]:
    return jax.tree_util.tree_flatten_with_path(tree)[0]


def _name(path: tuple) -> str:
    return "/".join(str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", k)))) for k in path)


def _shape(shape: tuple | None) -> str:
    return "missing" if shape is None else f"of shape {tuple(shape)}"

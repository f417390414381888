"""Reads checkpoints: the newest that can be read, and only the parts that are asked for."""

import functools
import hashlib
import logging
import re
import time
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging as absl_logging
from etils import epath
from flax import traverse_util

from ganseg_jax.errors import UserError
from ganseg_jax.files import resolve, write_whole
from ganseg_jax.quiet import quiet

LOG = logging.getLogger(__name__)

CHECKSUMS = "SHA256SUMS"
"""The file beside a saved state's files, in the form that `sha256sum --check` reads."""


_NAME = "0|[1-9][0-9]*"


class Gone(UserError):
    """Reports a checkpoint that a training has deleted meanwhile, to keep newer ones."""


def steps(folder: epath.PathLike) -> list[int]:
    """Returns the steps of a stage's complete checkpoints, in order; empty if there are none."""
    directory = local_path(folder)
    if not directory.exists():
        return []
    with quiet(absl_logging.ERROR):
        return sorted(_manager(directory).all_steps())


def read(
    folder: epath.PathLike, like: dict[str, Any], step: int | None = None
) -> tuple[int, dict[str, Any]] | None:
    """Reads parts of a checkpoint on the host, by default of the newest that can be read.

    Args:
      folder: of a stage's checkpoints.
      like: the wanted parts of the saved state by path, such as "student/segmenter"; leaves with
        the shapes to expect.
      step: of the checkpoint; None for the newest.

    Returns:
      (step, the parts as numpy arrays), or None if there is no checkpoint.

    Raises:
      Gone: the checkpoint of that step was deleted while it was read.
      UserError: naming the first parameter whose shape is another one; no checkpoint can be read,
        or there is none of that step.
    """
    directory = local_path(folder)
    if not directory.exists():
        return None
    warn_of_other_names(directory)
    # Orbax warns of what is meant: that nothing is written, and that only some parts are read.
    with quiet(absl_logging.ERROR):
        return _read(directory, like) if step is None else _read_step(directory, like, step)


def _manager(directory: epath.Path) -> ocp.CheckpointManager:
    return ocp.CheckpointManager(
        directory,
        options=ocp.CheckpointManagerOptions(read_only=True),
        item_names=("state",),
        item_handlers={"state": ocp.PyTreeCheckpointHandler()},
    )


def _read_step(
    directory: epath.Path, like: dict[str, Any], step: int
) -> tuple[int, dict[str, Any]] | None:
    """Reads parts of one checkpoint, which a training in another process may be deleting."""
    manager = _manager(directory)
    if step not in manager.all_steps():
        there = ", ".join(map(str, sorted(manager.all_steps()))) or "none"
        raise UserError(f"{directory} has no checkpoint of step {step}: there is {there}")
    place = directory / str(step)
    summed = (place / "state" / CHECKSUMS).exists()
    try:
        found = _read_from(manager, [step], directory, like)
        if found is None:
            raise UserError(
                f"the checkpoint of step {step} in {directory} is damaged: take another step"
            )
    except UserError as error:
        if _vanishes(place):
            raise Gone(f"{place} was deleted while it was read") from error
        raise
    # Files are deleted one by one, the checksums maybe first, without which damage goes unseen.
    if not place.exists() or (summed and not (place / "state" / CHECKSUMS).exists()):
        raise Gone(f"{place} was deleted while it was read")
    return found


def _vanishes(place: epath.Path, seconds: float = 3.0) -> bool:
    """Says whether a checkpoint is gone, or goes within some seconds."""
    end = time.monotonic() + seconds
    while place.exists():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def _read(directory: epath.Path, like: dict[str, Any]) -> tuple[int, dict[str, Any]] | None:
    manager = _manager(directory)
    steps = sorted(manager.all_steps(), reverse=True)
    found = _read_from(manager, steps, directory, like)
    if found is None and steps:
        raise unreadable(directory)
    return found


def _read_from(
    manager: ocp.CheckpointManager, steps: list[int], directory: epath.Path, like: dict[str, Any]
) -> tuple[int, dict[str, Any]] | None:
    """Reads parts of the first of these checkpoints that can be read."""
    item = traverse_util.unflatten_dict(like, sep="/")
    arrays = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), item)
    wanted = ocp.args.PyTreeRestore(item, restore_args=arrays, partial_restore=True)
    for step in steps:
        try:
            verify(directory / str(step) / "state")
            check_shapes(manager, step, item, directory, tuple(like))
            restored = manager.restore(step, args=ocp.args.Composite(state=wanted))
            _compare(_shapes(restored["state"]), _shapes(item), directory)
        except UserError:
            raise
        except Exception as error:  # Whatever the storage layer raises for damaged files.
            warn_of_damage(directory / str(step), error)
            continue
        return step, {path: _at(restored["state"], path) for path in like}
    return None


def local_path(folder: epath.PathLike) -> epath.Path:
    """Returns a path as orbax wants it: absolute, or of a bucket."""
    path = resolve(folder)
    return path if "://" in str(path) else epath.Path(path.absolute())


class Damaged(Exception):
    """Reports a file of a checkpoint that is not what was written."""


def write_checksums(folder: epath.PathLike) -> None:
    """Writes the digests of a finished state's files beside them."""
    folder = epath.Path(folder)
    lines = [f"{_digest(folder / name)}  {name}\n" for name in sorted(_files(folder))]
    write_whole(folder / CHECKSUMS, "".join(lines))


def verify(folder: epath.PathLike) -> None:
    """Compares a state's files with the digests kept beside them.

    States without digests, as older versions wrote them, pass.  So do states that lack one of
    orbax's own descriptions ("_METADATA"), without which they can be read.

    Raises:
      Damaged: naming a file that is missing or has changed.
    """
    folder = epath.Path(folder)
    if not (folder / CHECKSUMS).exists():
        return
    present = set(_files(folder))
    for line in (folder / CHECKSUMS).read_text().splitlines():
        digest, _, name = line.partition("  ")
        if name in present:
            if _digest(folder / name) != digest:
                raise Damaged(f"{name} is not what was written: its checksum differs")
        elif not name.startswith("_"):
            raise Damaged(f"{name} is missing")


def _files(folder: epath.Path, above: str = "") -> list[str]:
    """Lists a folder's files at any depth, by their paths below it."""
    found = []
    for path in folder.iterdir():
        if path.is_dir():
            found += _files(path, f"{above}{path.name}/")
        elif path.name != CHECKSUMS:
            found.append(above + path.name)
    return found


def _digest(path: epath.Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def warn_of_damage(checkpoint: epath.Path, error: Exception) -> None:
    """Says that a checkpoint is passed over, and why."""
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    LOG.warning("Checkpoint %s cannot be read (%s); trying the one before.", checkpoint, reason)


def warn_of_other_names(directory: epath.Path) -> None:
    """Says which checkpoints are passed over for their name: renamed ones, and no copies.

    Orbax knows a checkpoint by its folder's name, the step in plain digits.
    """
    if not directory.exists():  # In a bucket, folders are there with their first file.
        return
    with quiet(absl_logging.ERROR):
        known = set(_manager(directory).all_steps())
    for path in sorted(directory.iterdir()):
        name = path.name
        if name.startswith(".") or "orbax-checkpoint-tmp" in name or re.fullmatch(_NAME, name):
            continue
        if not (path / "state").is_dir():
            continue
        digits = re.findall("[0-9]+", name)
        step = int(digits[-1]) if digits else None
        if step not in known:
            _say_passed_over(str(path), 4 if step is None else step)


@functools.cache  # Commands open several parts of one checkpoint, and look again and again.
def _say_passed_over(path: str, step: int) -> None:
    LOG.warning(
        "%s is passed over: a checkpoint's folder is called by its step, such as %d", path, step
    )


def unreadable(directory: epath.Path) -> UserError:
    """Returns the error of a folder without a checkpoint that can be read."""
    return UserError(
        f"none of the checkpoints in {directory} can be read: "
        "delete that folder to train this stage again"
    )


def check_shapes(
    manager: ocp.CheckpointManager,
    step: int,
    like: Any,
    directory: epath.Path,
    parts: tuple[str, ...] = (),
) -> None:
    """Compares the shapes of a saved state with those expected.

    Args:
      manager: of the checkpoints.
      step: of the checkpoint.
      like: the expected state.
      directory: of the checkpoints, for the message.
      parts: paths below which names are compared; everywhere by default.

    Raises:
      UserError: naming the first parameter that differs, with both shapes.
    """
    try:
        saved = _shapes(manager.item_metadata(step)["state"])
    except Exception:  # Damaged metadata: reading will fail and say so.
        return
    if not saved:  # Without metadata the arrays can still be read.
        return
    wanted = _shapes(like)
    if parts:
        below = tuple(f"{part}/" for part in parts)
        saved = {name: shape for name, shape in saved.items() if f"{name}/".startswith(below)}
    _compare(saved, wanted, directory)


def _compare(
    saved: dict[str, tuple[int, ...]], wanted: dict[str, tuple[int, ...]], directory: epath.Path
) -> None:
    """Raises a `UserError` that names the first parameter that differs."""
    for name in sorted(saved.keys() | wanted.keys()):
        if saved.get(name) != wanted.get(name):
            raise UserError(
                f"the checkpoint in {directory} does not fit this config: {name} is "
                f"{_described(saved.get(name))} there and {_described(wanted.get(name))} here; use "
                "the config it was trained with, or another --workdir"
            )


def _at(tree: Any, path: str) -> Any:
    return functools.reduce(lambda place, name: place[name], path.split("/"), tree)


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {_name(path): tuple(leaf.shape) for path, leaf in leaves}


def _name(path: tuple) -> str:
    return "/".join(str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", k)))) for k in path)


def _described(shape: tuple | None) -> str:
    return "missing" if shape is None else f"of shape {shape}"

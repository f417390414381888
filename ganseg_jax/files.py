"""Writes files so that a final name never holds half of one, on disks and in buckets."""

import contextlib
import json
import os
import pathlib
import re
import tempfile
from collections.abc import Iterator
from typing import Any

from etils import epath

from ganseg_jax.errors import UserError

_VARIABLE = re.compile(r"\$\{?([A-Za-z_]\w*)")


def is_remote(path: epath.PathLike) -> bool:
    """Says whether a path is an object's, such as gs://bucket/name."""
    return "://" in str(path)


def expand(text: str) -> str:
    """Returns what a person typed with `~` at its start and `$VARIABLES` replaced.

    Raises:
      UserError: a variable is not set, or `~NAME` names no user, and no file has this very name.
    """
    expanded = os.path.expanduser(os.path.expandvars(text))
    if (left := _VARIABLE.search(expanded)) and not os.path.exists(expanded):
        raise UserError(f"{text}: the environment variable {left[1]} is not set")
    if expanded.startswith("~") and not os.path.exists(expanded):
        if not (user := expanded[1:].partition("/")[0]):
            raise UserError(f"{text}: the home folder is not known: set HOME, or give a whole path")
        raise UserError(
            f"{text}: this machine has no user {user!r}: ~/ is your own home folder, and ./~{user} "
            "a file of this name"
        )
    return expanded


def resolve(path: epath.PathLike) -> epath.Path:
    """Returns a path that a person typed, with `~` at its start and `$VARIABLES` replaced.

    Raises:
      UserError: a variable is not set.
    """
    return epath.Path(expand(os.fspath(path)))


def check_writable(folder: epath.PathLike, flag: str) -> None:
    """Checks, before anything slow, that a folder is there or can be made, and written to.

    Args:
      folder: of results; one in a bucket is not looked at.
      flag: that gave it, for the message.

    Raises:
      UserError: it is a file, or cannot be written to.
    """
    if is_remote(folder):
        return
    path = pathlib.Path(resolve(folder)).absolute()
    there = next(parent for parent in (path, *path.parents) if parent.exists())
    if not there.is_dir():
        what = "is a file" if there == path else f"cannot be made: {there} is a file"
        raise UserError(f"{flag}={folder} {what}: give a folder to write to")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"{flag}={folder}: no permission to write in {there}; give another folder")


def write_whole(path: epath.PathLike, content: bytes | str) -> None:
    """Writes a file, whole or not at all, and makes missing folders.

    On a disk it is written under a temporary name of its own beside the final one and renamed, so
    that several processes may write the same file at once. In a bucket an object appears whole.

    Raises:
      UserError: the folder or the file cannot be written (permission, full disk).
    """
    data = content.encode() if isinstance(content, str) else content
    with replacing(path) as temporary:
        temporary.write_bytes(data)


@contextlib.contextmanager
def replacing(path: epath.PathLike) -> Iterator[pathlib.Path]:
    """Gives the name of a local file; if the block ends well, that file becomes `path`.

    Raises:
      UserError: the folder or the file cannot be written (permission, full disk).
    """
    path = epath.Path(path).expanduser()  # A name of a photo in it may have a dollar.
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = None if is_remote(path) else os.fspath(path.parent)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=folder)
        os.close(handle)
        temporary = pathlib.Path(name)
        yield temporary
        if is_remote(path):
            path.write_bytes(temporary.read_bytes())
        else:
            # mkstemp makes files that only their owner can read; a report is to be shared.
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(os.fspath(path))
    except OSError as error:
        remedy = (
            "see to the bucket's name and your rights" if is_remote(path) else "free some space"
        )
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; "
            f"{remedy} or choose a folder that can be written to"
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_json(path: epath.PathLike, content: Any, **options: Any) -> None:
    """Writes JSON as `write_whole` does; `options` are those of `json.dumps`."""
    write_whole(path, json.dumps(content, **{"indent": 2} | options) + "\n")


def copy_folder(source: epath.PathLike, target: epath.PathLike) -> None:
    """Copies a folder; on a disk the copy gets its final name once all files are there."""
    source, target = resolve(source), resolve(target)
    if is_remote(target):
        _copy_files(source, target)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = epath.Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        _copy_files(source, unfinished / "copy")
        (unfinished / "copy").rename(target)
    finally:
        unfinished.rmtree()


def _copy_files(source: epath.Path, target: epath.Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for path in source.iterdir():
        if path.is_dir():
            _copy_files(path, target / path.name)
        else:
            path.copy(target / path.name)


def read_rows(path: epath.PathLike) -> list[dict[str, Any]]:
    """Returns the rows of a JSON-lines file, without a last line that was cut off."""
    path = resolve(path)
    rows = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


class Rows:
    """Appends rows to a JSON-lines file.

    Objects in a bucket cannot be appended to: there, rows are kept until `flush` writes the object
    again with all of them.

    Args:
      path: of the file.
      kept: rows that it begins with; what it held before is replaced.
    """

    def __init__(self, path: epath.PathLike, kept: list[dict[str, Any]]):
        self._path = resolve(path)
        self._lines = [json.dumps(row) + "\n" for row in kept]
        self._written = 0
        self.flush(whole=True)

    def add(self, row: dict[str, Any]) -> None:
        """Adds a row; on a disk it is there at once."""
        self._lines.append(json.dumps(row) + "\n")
        if not is_remote(self._path):
            self.flush()

    def flush(self, whole: bool = False) -> None:
        """Writes the rows that are not in the file yet."""
        if len(self._lines) == self._written and not whole:
            return
        if whole or is_remote(self._path):
            write_whole(self._path, "".join(self._lines))
        else:
            with self._path.open("a") as file:
                file.write("".join(self._lines[self._written :]))
        self._written = len(self._lines)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current

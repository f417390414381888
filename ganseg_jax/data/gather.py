"""Sorts what a user hands to `segment`: photos, folders, patterns, videos, standard input."""

import contextlib
import dataclasses
import glob
import os
import pathlib
from collections.abc import Iterator, Sequence

from etils import epath

from ganseg_jax.data import images
from ganseg_jax.data.folder import Photos, open_photos
from ganseg_jax.errors import UserError
from ganseg_jax.files import expand

VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mpg", ".mpeg")


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Holds inputs by their kind.

    Attributes:
      sources: photos, folders and archives, as they were given.
      videos: files.
    """

    sources: list[str]
    videos: list[str]


def sort(given: Sequence[str]) -> Inputs:
    """Returns the inputs by kind, with patterns such as `a/*.jpg` replaced by what they match.

    Raises:
      UserError: a pattern matches nothing, or results of two videos would have one name.
    """
    named: list[str] = []
    for name in given:
        if any(c in name for c in "*?[") and not os.path.exists(name):
            matches = sorted(glob.glob(name, recursive=True))
            if not matches:
                raise UserError(f"no file matches {name}")
            named += matches
        else:
            named.append(name)
    named = list(dict.fromkeys(named))
    videos = [name for name in named if name.lower().endswith(VIDEO_SUFFIXES)]
    if missing := next((name for name in videos if not os.path.isfile(name)), None):
        raise UserError(f"--input={missing} does not exist: give photos, a folder or videos")
    seen: dict[str, str] = {}
    for name in videos:
        other = seen.setdefault(pathlib.PurePath(name).stem, name)
        if other != name:
            raise UserError(
                f"{other} and {name} would have results of one name: segment them one at a time, "
                "each with another --out"
            )
    return Inputs([name for name in named if name not in videos], videos)


@contextlib.contextmanager
def opened(sources: Sequence[str], output: epath.PathLike) -> Iterator[Photos | None]:
    """Gives the photos of the inputs, as `open_photos` does, or None if there is no input.

    If there are several, names are paths below the folder that holds all of them.

    Raises:
      UserError: as `open_photos` does, or an archive is not the only input.
    """
    with contextlib.ExitStack() as stack:
        found = [stack.enter_context(open_photos(source, output)) for source in sources]
        yield _together(found) if found else None


def _together(found: Sequence[Photos]) -> Photos:
    if len(found) == 1:
        return found[0]
    for photos in found:
        if os.path.isfile(photos.source) and not images.is_image(photos.source):
            raise UserError(f"--input={photos.source}: give an archive alone")
    roots = [os.path.abspath(photos.root) for photos in found]
    root = os.path.commonpath(roots)
    names: dict[str, None] = {}
    skipped: dict[str, str] = {}
    summary: list[str] = []
    for photos, place in zip(found, roots, strict=True):
        below = pathlib.PurePath(os.path.relpath(place, root))
        names |= dict.fromkeys((below / name).as_posix() for name in photos.names)
        skipped |= {(below / name).as_posix(): why for name, why in photos.skipped.items()}
        summary += photos.summary
    return Photos(sorted(names), epath.Path(root), root, skipped, summary)


def from_stream(content: bytes, folder: pathlib.Path) -> list[str]:
    """Returns the inputs that standard input names, one a line, or that it is.

    Args:
      content: all of it.
      folder: where a photo is put if standard input is one.

    Raises:
      UserError: it is neither a photo nor names of files that are there.
    """
    if not content.strip():
        raise UserError("standard input is empty: pipe a photo into it, or names of files")
    try:
        kind = images.open_image(content).format or "png"
    except images.ImageError:
        kind = ""
    if kind:
        path = folder / f"stdin.{ {'JPEG': 'jpg'}.get(kind, kind.lower()) }"
        path.write_bytes(content)
        return [str(path)]
    try:
        lines = [line for line in content.decode().splitlines() if line.strip()]
    except UnicodeDecodeError:
        raise UserError("standard input is neither a photo nor a list of names") from None
    names = [line if os.path.exists(line) else expand(line) for line in lines]
    if missing := next((name for name in names if not os.path.exists(name)), None):
        raise UserError(f"standard input names {missing[:200]!r}, which does not exist")
    return names

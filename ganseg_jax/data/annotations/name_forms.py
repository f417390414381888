"""The forms that an image's name and folders take in the files of labelling tools."""

import base64
import contextlib
import dataclasses
import functools
import os
import re
import unicodedata
import urllib.parse
from collections.abc import Iterator

from ganseg_jax.data import images, layout_names

Folders = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Path:
    """Holds what a path says.

    Attributes:
      folders: as they are written.
      last: the file's name.
    """

    folders: Folders
    last: str

    @classmethod
    def of(cls, name: str) -> "Path":
        """Splits a path with slashes or backslashes."""
        parts = [part for part in re.split(r"[/\\]", name) if part not in ("", ".")]
        return cls(tuple(map(composed, parts[:-1])), parts[-1] if parts else "")


def of_image(last: str) -> Iterator[tuple[str, str]]:
    """Yields the names by which an image is found, each with its kind."""
    name, plain = composed(last), _plain(composed(last))
    yield "name", last
    yield "ending", _lower_ending(name)
    yield "stem", stem_of(name)
    yield "plain name", _lower_ending(plain)
    yield "plain stem", stem_of(plain)
    yield "words", _words(stem_of(plain))


def of_reference(last: str) -> list[list[tuple[int, tuple[str, str]]]]:
    """Returns what to look for: in groups, of which the first that finds images is taken.

    Each has a level: 0 and 1 for the whole name, 2 without ending, 3 if the ending differs.
    """
    name, plain = composed(last), _plain(composed(last))
    return [
        [
            (0, ("name", last)),
            (1, ("ending", _lower_ending(name))),
            (2, ("stem", name)),
            (3, ("stem", stem_of(name))),
        ],
        [
            (1, ("plain name", _lower_ending(plain))),
            (2, ("plain stem", plain)),
            (3, ("plain stem", stem_of(plain))),
        ],
        [(2, ("words", _words(plain))), (3, ("words", _words(stem_of(plain))))],
    ]


def composed(name: str) -> str:
    """Returns a name with accents as one sign each: some systems write them as two."""
    return unicodedata.normalize("NFC", name)


def stem_of(name: str) -> str:
    """Returns a path without the ending of an image, if it has one."""
    known = images.is_image(name) or images.refusal(name)
    return name.rpartition(".")[0] if known else name


def _lower_ending(name: str) -> str:
    stem, dot, ending = name.rpartition(".")
    return f"{stem}{dot}{ending.lower()}"


def _plain(name: str) -> str:
    """Returns a name without the hashes of tools."""
    name = re.sub(r"_([A-Za-z]{3,4})\.rf\.[0-9a-zA-Z]+(\.\w+)?$", r".\1", name)
    return re.sub(r"^[0-9a-f]{8}-", "", name)


def is_hashed(name: str) -> bool:
    """Says whether a tool has put a hash into a name."""
    return _plain(name) != name


def _words(name: str) -> str:
    """Returns a name's letters and digits in lower case: uploads replace spaces and brackets."""
    return re.sub(r"[\W_]+", "_", name).strip("_").casefold()


def decoded(name: str) -> str:
    """Returns the path that a file's web address holds, which Label Studio may have packed."""
    if "?d=" in name:  # Of its local storage.
        return urllib.parse.unquote(name.split("?d=")[-1])
    if "://" in name or "?" in name:
        with contextlib.suppress(ValueError):
            parts = urllib.parse.urlsplit(name)
            if packed := urllib.parse.parse_qs(parts.query).get("fileuri"):
                with contextlib.suppress(ValueError):
                    return decoded(base64.b64decode(packed[0]).decode())
            name = parts.path
    return urllib.parse.unquote(name)


@functools.lru_cache(maxsize=1 << 16)
def place(folders: Folders) -> Folders:
    """Returns folders without what they say about photos and masks."""
    return layout_names.place("/".join([*folders, ""]))


def joined(base: Folders, folders: Folders) -> Folders:
    """Returns folders below others; .. leads up."""
    parts: list[str] = []
    for part in (*base, *folders):
        if part == "..":
            del parts[-1:]
        else:
            parts.append(part)
    return tuple(parts)


def shared_end(one: Folders, other: Folders) -> int:
    """Returns the number of last folders that are the same."""
    return len(os.path.commonprefix([one[::-1], other[::-1]]))

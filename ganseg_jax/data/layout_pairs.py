"""Finds masks whose names say nothing: images that come in pairs with photos.

`a.png` beside `a.jpg`, `uint8/a.png` to `jpgs/a.jpg`, `a_viz.png` beside `a.jpg`: the first is a
mask of the second if its pixels say so. A drawing or a copy of the photo is none.
"""

import collections
import pathlib
from collections.abc import Sequence

import numpy as np
from etils import epath

from ganseg_jax.data import images, layout_names

_LOSSLESS = (".png", ".gif", ".bmp", ".tif", ".tiff", ".pgm", ".ppm")
_LEAST = 3
"""Fewer pairs in two folders, or with names that differ, say nothing."""

_MOST_FOLDERS = 4
"""More images of a name, in different folders, are no pairs."""

_SAMPLE = 6


def candidates(names: Sequence[str]) -> list[dict[str, list[str]]]:
    """Returns groups of images that may be masks, each with what it would be a mask of.

    An image may be in several groups.
    """
    stems: dict[str, list[str]] = collections.defaultdict(list)
    for name in names:
        stems[layout_names.stem_of(name).lower()].append(name)
    beside: dict[tuple[str, str], str] = {}
    for name in names:
        for form in layout_names.photo_forms(name):
            beside.setdefault((_folder(name), form), name)
    groups: dict[tuple, dict[str, list[str]]] = collections.defaultdict(dict)
    for name in names:
        if not name.lower().endswith(_LOSSLESS):
            continue
        stem = layout_names.stem_of(name).lower()
        others = stems[stem] if len(stems[stem]) <= _MOST_FOLDERS else []
        for other in others:
            if other != name and (series := _series(name, other)):
                groups[series][name] = [other]
        for short in layout_names.shortened(name):
            photo = beside.get((_folder(name), short), name)
            if photo != name:
                groups[_folder(name), stem.removeprefix(short)][name] = [photo]
                break
    return [
        group
        for series, group in groups.items()
        if len(group) >= _LEAST or series[1] == _SAME_FOLDER
    ]


_SAME_FOLDER = "beside"


def _folder(name: str) -> str:
    return name.rpartition("/")[0]


def _series(name: str, other: str) -> tuple[str, str] | None:
    """Returns what images that pair alike have in common, or None for no pair."""
    a, b = name.split("/")[:-1], other.split("/")[:-1]
    if a == b:
        lossy = not other.lower().endswith(_LOSSLESS)
        is_png = name.lower().endswith(".png") and not other.lower().endswith(".png")
        return (_folder(name), _SAME_FOLDER) if lossy or is_png else None
    while a and b and a[-1] == b[-1]:
        a, b = a[:-1], b[:-1]
    return "/".join(a), "/".join(b)


def are_masks(
    root: pathlib.Path | epath.Path, group: dict[str, list[str]], *, named: bool = False
) -> bool:
    """Says whether images are masks of their partners: a few of them are looked at.

    They have few colours and the partners' sizes, and the partners have many and are no copies.

    Args:
      root: the folder that the names are below.
      group: the images, each with its partners; the first one counts.
      named: whether their names say so too; then it is enough if most of them look so.
    """
    names = list(group)
    votes = []
    for name in names[:: -(-len(names) // _SAMPLE)]:
        try:
            mask, photo = ((root / n).read_bytes() for n in (name, group[name][0]))
            votes.append(
                images.image_size(mask, camera_rotation=False)
                in (images.image_size(photo, camera_rotation=turned) for turned in (False, True))
                and images.looks_like_labels(mask, strict=True)
                and not images.looks_like_labels(photo)
                and not _same_picture(mask, photo)
            )
        except (images.ImageError, OSError):
            continue
    return bool(votes) and (2 * sum(votes) > len(votes) if named else all(votes))


def _same_picture(a: bytes, b: bytes) -> bool:
    """Says whether one is a copy of the other, in fewer colours."""
    small = [
        np.asarray(images.open_photo(data, longest=32).image.convert("L").resize((16, 16)), float)
        for data in (a, b)
    ]
    x, y = (picture - picture.mean() for picture in small)
    alike = (x * y).sum() > 0.97 * np.sqrt((x * x).sum() * (y * y).sum())
    return bool(alike and abs(small[0] - small[1]).mean() < 12)

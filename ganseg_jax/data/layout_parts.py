"""Finds masks that each hold one part: `masks/arm/a.png` and `masks/head/a.png` of one photo.

None of them is the whole truth, so none may be taken. They have two values each and overlap
little, unlike label maps of the same photo by different people.
"""

import collections
import pathlib
from collections.abc import Collection, Mapping

import numpy as np
from etils import epath

from ganseg_jax.data import images, layout_names

REASON = "one mask for each part: put them into one label map with numbers 1, 2, ..."
_OVERLAP = 0.1
"""Parts that touch share fewer of the smaller one's pixels."""

_SAMPLE = 6
_LONGEST = 256


def find(
    root: pathlib.Path | epath.Path, partners: Mapping[str, list[str]], photos: Collection[str]
) -> set[str]:
    """Returns the masks that hold one part each.

    Names decide first: most of the photos that have masks have several which count alike. Then a
    few of these photos' masks are looked at.

    Args:
      root: the folder that the names are below.
      partners: the masks, each with what it may be a mask of.
      photos: what is a photo.
    """
    masks: dict[str, list[str]] = collections.defaultdict(list)
    for mask, owners in partners.items():
        if not layout_names.is_numbered(mask):
            for photo in owners:
                if photo in photos:
                    masks[photo].append(mask)
    several = {}
    for photo, found in masks.items():
        best = min(map(layout_names.rank, found))
        alike = [mask for mask in found if layout_names.rank(mask) == best]
        if len({_series(mask, photo) for mask in alike}) > 1:
            several[photo] = alike
    if not several or 2 * len(several) < len(masks):
        return set()
    votes = []
    for photo in sorted(several)[:: -(-len(several) // _SAMPLE)]:
        drawn = [a for mask in several[photo] if (a := _drawn(root / mask)) is not None]
        if len(drawn) > 1:
            votes.append(_apart(drawn))
    if not votes or 2 * sum(votes) <= len(votes):
        return set()
    series = {_series(mask, photo) for photo, found in several.items() for mask in found}
    return {m for photo, found in masks.items() for m in found if _series(m, photo) in series}


def _series(mask: str, photo: str) -> tuple[str, str]:
    """Returns what masks of one part have in common: the folder, and the words beside the name."""
    stem, name = (layout_names.stem_of(path).lower() for path in (mask, photo))
    return mask.rpartition("/")[0], stem.replace(name, "", 1)


def _drawn(path: pathlib.Path | epath.Path) -> np.ndarray | None:
    """Returns where a mask of two values is not 0, or None for other images and empty masks."""
    try:
        data = path.read_bytes()
        if not images.looks_like_labels(data, strict=True):
            return None
        picture = np.asarray(images.open_photo(data, longest=_LONGEST).image.convert("L"))
    except (images.ImageError, OSError):
        return None
    # Made smaller, a mask has values between its two; few pixels lie at the edges.
    low, high = int(picture.min()), int(picture.max())
    between = (picture > low + (high - low) / 4) & (picture < high - (high - low) / 4)
    return picture > high / 2 if low == 0 < high and between.mean() < 0.1 else None


def _apart(drawn: list[np.ndarray]) -> bool:
    """Says whether areas of one size overlap little, all of them."""
    if len({area.shape for area in drawn}) > 1 or not all(area.any() for area in drawn):
        return False
    return all(
        (a & b).sum() < _OVERLAP * min(a.sum(), b.sum())
        for number, a in enumerate(drawn)
        for b in drawn[:number]
    )

"""Finds masks where each sample has a folder of its own: `1/image.png` beside `1/mask.png`.

The whole name of such a file is a word for masks. Its photo is the one other image of the folder,
or the image beside the folder that has the folder's name: `1.jpg` of `1/mask.png`. Folders called
images, masks or the like are left out: `1/images/image.png` has `1/masks/mask.png`.
"""

import collections
import dataclasses
from collections.abc import Sequence

from ganseg_jax.data import layout_names

_OF_LABELME = "_json"
"""Ends the folders that `labelme_json_to_dataset` writes; each holds a copy of its photo."""


@dataclasses.dataclass
class Samples:
    """Holds files of the same name in folders of samples.

    Attributes:
      partners: what may be masks, each with the one photo that it would be of.
      others: files beside them that would be neither, and why.
    """

    partners: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    others: dict[str, str] = dataclasses.field(default_factory=dict)


def candidates(names: Sequence[str]) -> list[Samples]:
    """Returns what may be masks of samples, a group for each name of files."""
    places: dict[tuple[str, ...], list[str]] = collections.defaultdict(list)
    named: dict[tuple[tuple[str, ...], str], str] = {}
    for name in names:
        place = layout_names.place(name)
        places[place].append(name)
        named.setdefault((place, name.rpartition("/")[2].rpartition(".")[0]), name)
    groups: dict[str, Samples] = collections.defaultdict(Samples)
    for inside in places.values():
        kinds = {name: layout_names.kind_of_stem(name) for name in inside}
        masks = [name for name in inside if kinds[name] == "mask"]
        plain = [name for name in inside if kinds[name] in ("", "photo")]
        plain = [name for name in plain if kinds[name] == "photo"] or plain
        if len(plain) > 1:
            continue
        for mask in masks:
            folder = mask.rpartition("/")[0]
            above, called = layout_names.place(folder), folder.rpartition("/")[2]
            copied = called.endswith(_OF_LABELME) and named.get(
                (above, called.removesuffix(_OF_LABELME))
            )
            photo = copied or (plain[0] if plain else named.get((above, called)))
            if not photo:
                continue
            group = groups[layout_names.squashed(layout_names.stem_of(mask))]
            group.partners[mask] = [photo]
            drawn = [name for name in inside if kinds[name] == "overlay"]
            group.others |= dict.fromkeys(drawn, f"a picture of {mask}")
            if copied:
                group.others |= dict.fromkeys(plain, f"a copy of {photo}")
    return list(groups.values())

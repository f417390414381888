"""What a person calls a model's parts: names, colours, parts that are one, parts to leave out.

They are kept in `parts.json` with the model: in a run's `gan/` (trained again, a GAN has other
parts), in a few-shot folder, or beside a packed model. If nothing may be written there, as beside
the models of the package and of hubs, the file lies in a folder of the user.
"""

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from etils import epath
from jaxtyping import UInt8

from ganseg_jax import files, hub, packed
from ganseg_jax.errors import UserError
from ganseg_jax.files import resolve
from ganseg_jax.report.classes import Classes, usual
from ganseg_jax.report.palette import palette

FILE = packed.PART_NAMES
MOST_LETTERS = 60
_COLOR = re.compile(r"#[0-9a-f]{6}")


@dataclasses.dataclass(frozen=True)
class Part:
    """Holds what is known of one part.

    Attributes:
      name: "" if it has none.
      color: "#rrggbb", or "" for that of `report.palette`.
      into: number, from 1, of the part that it belongs to; None if it stands for itself.
      hidden: counts as background.
    """

    name: str = ""
    color: str = ""
    into: int | None = None
    hidden: bool = False


def file_of(place: epath.PathLike) -> epath.Path:
    """Returns the file that what is known of a model's parts is written to.

    Args:
      place: of a model, as `loading` takes it.
    """
    beside = _beside(place)
    own = _own_file(place, beside)
    if own.exists() or packed.is_packaged(beside) or hub.is_named(place):
        return own
    if not files.is_remote(beside) and not os.access(beside, os.W_OK):
        return own
    return beside / FILE


def _beside(place: epath.PathLike) -> epath.Path:
    found = packed.find(place)
    beside = resolve(place) if found is None else found
    for stage in ("gan", "autoencoder"):
        if found is None and (beside / stage).is_dir():
            beside = beside / stage
    return beside


def _own_file(place: epath.PathLike, beside: epath.Path) -> epath.Path:
    return user_folder() / "parts" / f"{_identity(place, beside)}.json"


def user_folder() -> epath.Path:
    """Returns the folder of this user's own files."""
    base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return resolve(base) / "ganseg_jax"


def read(place: epath.PathLike, count: int) -> tuple[Part, ...] | None:
    """Returns what is known of a model's parts, or None if that is nothing.

    Args:
      place: of the model.
      count: K, of its parts without the background.

    Raises:
      UserError: the file is damaged or belongs to other parts.
    """
    path = file_of(place)
    if not path.exists():
        path = _beside(place) / FILE  # As it came with a model that may not be written to.
    if not path.exists():
        return None
    try:
        return checked(json.loads(path.read_text())["parts"], count)
    except (ValueError, KeyError, TypeError, OSError, UserError) as error:
        raise UserError(
            f"{path} does not fit the model's {count} parts ({error}): put it right, or remove it "
            "and name the parts again"
        ) from error


def write(place: epath.PathLike, parts: Sequence[Part]) -> epath.Path:
    """Writes what is known of a model's parts; returns the file.

    Raises:
      UserError: it cannot be written.
    """
    path = file_of(place)
    files.write_json(path, {"parts": [dataclasses.asdict(part) for part in parts]})
    return path


def checked(entries: Any, count: int) -> tuple[Part, ...]:
    """Returns the parts that plain values describe.

    Args:
      entries: a list of dicts with the fields of `Part`.
      count: K.

    Raises:
      UserError: a value makes no sense, or two classes have the same name.
    """
    if not isinstance(entries, list) or len(entries) != count:
        raise UserError(f"it must list {count} parts")
    parts = tuple(_checked_part(entry, number) for number, entry in enumerate(entries, start=1))
    for number, part in enumerate(parts, start=1):
        if part.into is not None and not (1 <= part.into <= count and part.into != number):
            raise UserError(f"part {number} cannot belong to part {part.into}")
        if part.into is not None and parts[part.into - 1].into is not None:
            raise UserError(f"part {number} belongs to part {part.into}, which belongs to another")
    names = [name_of(parts, n) for n in range(1, count + 1) if parts[n - 1].into is None]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"two parts are named {name!r}: merge them, or give them other names")
    return parts


def name_of(parts: Sequence[Part], number: int) -> str:
    """Returns a part's name, or "part 3" if it has none."""
    return parts[number - 1].name or f"part {number}"


def shown_as(place: epath.PathLike, names: Sequence[str] | int) -> Classes:
    """Returns what pictures show a model's parts as.

    Args:
      place: of the model.
      names: of its network's classes, background first, or their number.

    Raises:
      UserError: what is known of the parts is damaged or belongs to others.
    """
    count = names if isinstance(names, int) else len(names)
    known = read(place, count - 1)
    return usual(names) if known is None else classes_of(known)


def classes_of(parts: Sequence[Part]) -> Classes:
    """Returns names, colours and groups of the classes that the parts make."""
    colors_of = palette(len(parts) + 1)
    names, colors, places = ["background"], [colors_of[0]], dict[int, int]()
    for number, part in enumerate(parts, start=1):
        if part.into is None and not part.hidden:
            places[number] = len(names)
            names.append(name_of(parts, number))
            colors.append(_rgb(part.color) if part.color else colors_of[number])
    groups = [
        0 if part.hidden else places.get(part.into or number, 0)
        for number, part in enumerate(parts, start=1)
    ]
    return Classes(tuple(names), np.stack(colors), (0, *groups))


def hidden(parts: Sequence[Part] | None) -> tuple[int, ...]:
    """Returns the numbers, from 1, of the parts that count as background."""
    return tuple(number for number, part in enumerate(parts or (), start=1) if part.hidden)


def groups_without(hidden: Collection[int], count: int) -> tuple[int, ...] | None:
    """Returns the groups of a network's classes if some parts count as background.

    Args:
      hidden: numbers of these parts, from 1.
      count: K, the number of all parts.

    Returns:
      For each of K + 1 classes the class that it becomes: parts that are left have new numbers.
      None if no part is hidden.
    """
    if not hidden:
        return None
    left = [number for number in range(1, count + 1) if number not in hidden]
    return (0, *(left.index(n) + 1 if n in left else 0 for n in range(1, count + 1)))


def _checked_part(entry: Any, number: int) -> Part:
    known = {field.name for field in dataclasses.fields(Part)}
    if not isinstance(entry, dict) or not set(entry) <= known:
        raise UserError(f"part {number} has other fields than {', '.join(sorted(known))}")
    part = Part(**entry)
    name = part.name
    if not isinstance(name, str) or len(name) > MOST_LETTERS or not (name.isprintable()):
        raise UserError(f"the name of part {number} must be at most {MOST_LETTERS} letters")
    if name != name.strip() or name.lower() == "background":
        raise UserError(f"part {number} cannot be named {name!r}")
    if not isinstance(part.color, str) or (part.color and not _COLOR.fullmatch(part.color)):
        raise UserError(f"the colour of part {number} must look like #e69f00")
    if type(part.hidden) is not bool or not (part.into is None or type(part.into) is int):
        raise UserError(f"part {number}: hidden is true or false, into a number or null")
    return part


def _rgb(color: str) -> UInt8[np.ndarray, "3"]:
    return np.frombuffer(bytes.fromhex(color[1:]), np.uint8)


def _identity(place: epath.PathLike, folder: epath.Path) -> str:
    """Returns a name for a model whose file lies elsewhere."""
    if packed.is_packaged(folder):
        return folder.name
    if hub.is_named(place):  # Other weights have other parts.
        weights = packed.weights_file(folder)
        content = b"" if weights is None else weights.read_bytes()
        name = hub.named(place).repository.replace("/", "--")
        return f"{name}-{hashlib.sha256(content).hexdigest()[:12]}"
    digest = hashlib.sha256(os.path.realpath(folder).encode()).hexdigest()[:12]
    return f"{resolve(place).name}-{digest}"

"""Lists that say which class a colour or a value of a mask is."""

import csv
import dataclasses
import io
import pathlib
from collections.abc import Iterable, Mapping, Sequence

from etils import epath

from ganseg_jax.data.annotations.common import (
    BACKGROUND_NAMES,
    IGNORE_NAMES,
    MOST_CLASSES,
    UNLABELLED,
    read_text,
    reading,
)
from ganseg_jax.errors import UserError

Color = tuple[int, int, int]

LEGEND_FILES = ("labelmap.txt", "_classes.csv", "label_colors.txt")


def _voc_colors(count: int) -> list[Color]:
    """Returns PASCAL VOC's colours: the bits of a label, dealt to red, green and blue."""
    colors = []
    for label in range(count):
        channels = [0, 0, 0]
        for bit in range(8):
            for channel in range(3):
                channels[channel] |= (label >> (3 * bit + channel) & 1) << (7 - bit)
        colors.append((channels[0], channels[1], channels[2]))
    return colors


VOC_COLORS: dict[Color, int] = {c: i for i, c in enumerate(_voc_colors(21))}
VOC_COLORS[(224, 224, 192)] = UNLABELLED


@dataclasses.dataclass(frozen=True)
class Legend:
    """Says which class a colour or a value is.

    Attributes:
      names: of the classes, without background.
      colors: class of a colour, 255 for pixels that are not labelled; empty if values are given.
      values: class of a pixel value; empty if only colours are given.
    """

    names: list[str]
    colors: Mapping[Color, int] = dataclasses.field(default_factory=dict)
    values: Mapping[int, int] = dataclasses.field(default_factory=dict)

    def renumbered(self, classes: Sequence[str]) -> "Legend":
        """Returns the legend for classes in another order.

        Raises:
          UserError: it has a class that they lack.
        """
        for name in self.names:
            if name not in classes:
                raise UserError(
                    f"the colour list has class {name!r}, known are {', '.join(classes)}"
                )
        number = {i: list(classes).index(name) + 1 for i, name in enumerate(self.names, 1)}
        number |= {0: 0, UNLABELLED: UNLABELLED}
        return Legend(
            list(classes),
            {color: number[k] for color, k in self.colors.items()},
            {value: number[k] for value, k in self.values.items()},
        )


def read_legend(directory: epath.Path, names: Iterable[str] = ()) -> Legend | None:
    """Reads a list of classes, or returns None.

    It is CVAT's `labelmap.txt` (NAME:R,G,B::), Roboflow's `_classes.csv`, or `label_colors.txt`
    (R G B NAME) as CamVid and Datumaro have it. Where colours are left out, they are PASCAL VOC's.

    Args:
      directory: folder that holds the list.
      names: of masks below it; the lists may lie in their folders, as in each of Roboflow's splits.

    Raises:
      UserError: a line is malformed, or lists say different things; they are named.
    """
    folders = {parent for name in names for parent in pathlib.PurePath(name).parents}
    found: dict[epath.Path, Legend] = {}
    for folder in (directory, *(directory / str(place) for place in sorted(folders))):
        for name in LEGEND_FILES:
            if (path := folder / name).exists():
                found[path] = _READERS[name](path)
                break
    lists = list(found)
    for path in lists[1:]:
        if found[path] != found[lists[0]]:
            raise UserError(f"{path} and {lists[0]} name classes differently; make them the same")
    return found[lists[0]] if lists else None


def _labelmap(path: epath.Path) -> Legend:
    listed = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            with reading(f"{path}, line {number}"):
                name, given = line.split(":")[:2]
                listed.append((name.strip(), _color(given.split(",")) if given else None))
    return _in_order(path, listed)


def _label_colors(path: epath.Path) -> Legend:
    listed = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        cells = line.split(maxsplit=3)
        if cells and not line.startswith("#"):
            with reading(f"{path}, line {number}"):
                colored = cells[0].isdecimal() and len(cells) == 4
                listed.append((cells[3], _color(cells[:3])) if colored else (line.strip(), None))
    legend = _in_order(path, listed)
    numbers, _ = _numbers([name for name, _ in listed], path)
    values = {index: numbers[name] for index, (name, _) in enumerate(listed)}
    return dataclasses.replace(legend, values=values)


def _color(channels: Sequence[str]) -> Color:
    color = tuple(int(channel) for channel in channels)
    if len(color) != 3 or not all(0 <= channel < 256 for channel in color):
        raise ValueError(f"{','.join(channels)!r} is no colour R,G,B")
    return color


def _in_order(path: epath.Path, listed: Sequence[tuple[str, Color | None]]) -> Legend:
    colors: dict[Color, str] = {}
    uncolored = all(color is None for _, color in listed)
    defaults = _voc_colors(len(listed))
    for (name, given), default in zip(listed, defaults, strict=True):
        color = default if uncolored else given
        if color is None:
            raise UserError(f"{path}: {name} has no colour, others have")
        if colors.setdefault(color, name) != name:
            raise UserError(f"{path}: {name} and {colors[color]} have the same colour")
    numbers, names = _numbers(list(colors.values()), path)
    return Legend(names, {color: numbers[name] for color, name in colors.items()})


def _classes_csv(path: epath.Path) -> Legend:
    values: dict[int, str] = {}
    try:
        rows = list(csv.reader(io.StringIO(read_text(path))))
    except csv.Error as error:
        raise UserError(f"{path} cannot be read as CSV: {error}") from error
    for number, row in enumerate(rows[1:], 2):
        if any(cell.strip() for cell in row):
            with reading(f"{path}, line {number}"):
                values[int(row[0])] = row[1].strip()
    numbers, names = _numbers([values[v] for v in sorted(values)], path)
    return Legend(names, values={value: numbers[name] for value, name in values.items()})


_READERS = dict(zip(LEGEND_FILES, (_labelmap, _classes_csv, _label_colors), strict=True))


def _numbers(given: list[str], path: epath.Path) -> tuple[dict[str, int], list[str]]:
    special = {name: 0 for name in given if name.lower() in BACKGROUND_NAMES}
    special |= {name: UNLABELLED for name in given if name.lower() in IGNORE_NAMES}
    names = [name for name in dict.fromkeys(given) if name not in special]
    if not names or len(names) > MOST_CLASSES:
        raise UserError(f"{path} names {len(names)} classes; 1 to {MOST_CLASSES} are possible")
    return special | {name: i for i, name in enumerate(names, 1)}, names

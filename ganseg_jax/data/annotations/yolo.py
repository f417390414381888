"""YOLO segmentation: `NAME.txt` for each image, and the names in `data.yaml` or `classes.txt`."""

import functools
import json
import re
from collections.abc import Sequence

import numpy as np
from etils import epath
from jaxtyping import Bool, Float, Integer

from ganseg_jax.data.annotations import common, raster
from ganseg_jax.data.annotations.common import Annotations, Drawing, Shape
from ganseg_jax.errors import UserError

DATA_FILES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_MOST_SHARE = 1.5
"""Outlines may leave the image; those far outside are in pixels."""

NAME_FILES = (*DATA_FILES, "classes.txt", "obj.names")


def read_names(path: epath.Path) -> list[str]:
    """Returns the class names of `data.yaml` (a list or numbered), or of a list in lines.

    Raises:
      UserError: the file is malformed.
    """
    text = common.read_text(path)
    if path.suffix not in (".yaml", ".yml"):
        # An empty line has a number too.
        lines = enumerate(text.rstrip().splitlines())
        return [line.strip() or f"class {i}" for i, line in lines]
    import yaml

    with common.reading(path):
        try:
            given = yaml.safe_load(text)["names"]
        except (yaml.YAMLError, RecursionError) as error:
            raise ValueError(str(error).replace("\n", " ")) from error
        if isinstance(given, dict):
            given = {int(k) if str(k).isdecimal() else k: name for k, name in given.items()}
            most = max(given) if given else -1
            if type(most) is not int or not 0 <= most < 10_000:
                raise TypeError("'names' must be numbered from 0")
            given = [given.get(i, f"class {i}") for i in range(most + 1)]
        if not isinstance(given, list):
            raise TypeError("'names' must be a list")
        return [str(name).strip() for name in given]


def other_data_file(folder: epath.Path) -> epath.Path | None:
    """Returns the YAML file of a folder that has class names, by whatever name.

    Raises:
      UserError: there are several.
    """
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in (".yaml", ".yml"))
    naming = [p for p in files if re.search(r"^names\s*:", common.read_text(p), re.MULTILINE)]
    if len(naming) > 1:
        raise UserError(
            f"{naming[0]} and {naming[1]} both name classes: call the one of these labels "
            f"{DATA_FILES[0]}"
        )
    return naming[0] if naming else None


def is_text(path: epath.Path) -> bool:
    """Says whether a file holds words, as captions do, and no lines of numbers."""
    lines = common.read_text(path).splitlines()
    cells = next((line.split() for line in lines if line.strip()), [])
    words = [cell for cell in cells if not _is_number(cell)]
    return bool(cells) and (cells[0] in words or len(words) > len(cells) / 2)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _inside(points: Float[np.ndarray, "p 2"], size: common.Size) -> Bool[np.ndarray, "h w"]:
    return raster.inside_polygon(points * (size[1], size[0]), size)


def _box(shares: Sequence[float]) -> Shape:
    x, y, width, height = shares
    corners = raster.box_corners(*(x - width / 2, y - height / 2, x + width / 2, y + height / 2))
    return Shape(common.IGNORE_NAMES[0], functools.partial(_inside, corners))


def read(path: epath.Path, classes: Sequence[str], image: str) -> Annotations:
    """Reads lines of a class's number and the corners of a polygon as shares of width and height.

    Raises:
      UserError: a line is malformed; it is named.
    """
    shapes, boxes = [], []
    for number, line in enumerate(common.read_text(path).splitlines(), 1):
        cells = line.split()
        if not cells:
            continue
        place = f"{path}, line {number}"
        with common.reading(place):
            if len(cells) == 5:
                boxes.append(_box([common.number(cell, "coordinate") for cell in cells[1:]]))
                continue
            if len(cells) < 7 or len(cells) % 2 == 0:
                raise UserError(
                    f"{place}: a class's number and three or more pairs of coordinates are due, "
                    "with spaces between them and no confidence behind them"
                )
            index = common.number(cells[0], "class's number")
            if index != int(index):
                raise UserError(f"{place} has class {cells[0]}, which is no whole number")
            index = int(index)
            if index < 0 or (classes and index >= len(classes)):
                raise UserError(f"{place} has class {index}, known are 0 to {len(classes) - 1}")
            values = [common.number(cell, "coordinate") for cell in cells[1:]]
            points = common.points_of(np.reshape(values, (-1, 2)).tolist())
            if abs(points).max() > _MOST_SHARE:
                raise UserError(
                    f"{place} has coordinates up to {abs(points).max():g}: they must be shares of "
                    "the image's width and height, from 0 to 1, not pixels"
                )
            name = classes[index] if classes else f"class {index}"
            shapes.append(Shape(name, functools.partial(_inside, points)))
    found = Annotations()
    if shapes:
        found.add(image, Drawing(str(path), None, shapes))
    if boxes:
        found.add_boxes(str(path), {image: boxes})
    elif not shapes:
        found.left_out.append((str(path), "is empty: not labelled"))
    numbered = sorted({s.name for s in shapes}, key=lambda n: int(n[6:])) if not classes else None
    return found.number_drawn(classes or numbered)


class Writer:
    """Makes the file of an image: a polygon for each connected piece of a class.

    Args:
      classes: names without the background; `names_file` says which number each has.
    """

    def __init__(self, classes: list[str]):
        self._classes = classes
        self._lines: list[str] = []

    def add(self, image: str, labels: Integer[np.ndarray, "h w"]) -> None:
        """Takes the label map (0 background) of an image; it replaces the one before."""
        del image  # The file's name says it.
        size = np.array(labels.shape[::-1], np.float64)
        self._lines = [
            " ".join([str(index), *(f"{share:.8g}" for share in (np.array(ring) / size).ravel())])
            for index in range(len(self._classes))
            for ring in raster.polygons(labels == index + 1)
        ]

    def content(self) -> str:
        """Returns the file."""
        return "".join(f"{line}\n" for line in self._lines)


def names_file(classes: list[str]) -> str:
    """Returns `data.yaml` with the names of the classes, numbered from 0."""
    return f"names: {json.dumps(classes, ensure_ascii=False)}\nnc: {len(classes)}\n"

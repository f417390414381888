"""Reads the lists that CUB-200-2011 and NABirds come with: lines of an image's id and values."""

import dataclasses
import pathlib

import numpy as np
from jaxtyping import Float

from ganseg_jax.data.builders import base
from ganseg_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Bird:
    """Holds what the lists say about an image.

    Attributes:
      path: below `images`.
      training: whether it belongs to the official training images.
      parts: x, y in pixels, visible, of each landmark.
      box: x, y, width, height in pixels.
    """

    path: str
    training: bool
    parts: Float[np.ndarray, "l 3"]
    box: Float[np.ndarray, " 4"]

    def relative(self, height: int, width: int) -> base.Example:
        """Returns landmarks and box as fractions of the image, without the image."""
        x, y, visible = self.parts.T
        left, top, box_width, box_height = self.box
        return base.Example(
            name=self.path,
            image=b"",
            landmarks=np.stack([y / height, x / width], axis=-1),
            visible=visible > 0,
            box=np.array([top / height, left / width, box_height / height, box_width / width]),
        )


def read_lines(path: pathlib.Path) -> list[str]:
    """Returns the lines of a list that are not empty."""
    return [line for line in path.read_text().splitlines() if line.strip()]


def read_birds(root: pathlib.Path, num_parts: int) -> list[Bird]:
    """Reads the lists in `root`: images.txt, train_test_split.txt, bounding_boxes.txt, parts/.

    Raises:
      UserError: a list is missing or has no line for an image.
    """
    paths = _table(root / "images.txt", 1)
    split = _table(root / "train_test_split.txt", 1)
    boxes = _table(root / "bounding_boxes.txt", 4)
    parts = {id_: np.zeros((num_parts, 3)) for id_ in paths}
    file = root / "parts/part_locs.txt"
    file = file if file.exists() else root / "part_locs.txt"
    for line in _lines(file):
        id_, number, *values = line.split()
        if id_ not in parts or not 1 <= int(number) <= num_parts:
            raise UserError(f"{file} has an unknown image or part: {line!r}; get it again")
        parts[id_][int(number) - 1] = [float(value) for value in values]
    birds = []
    for id_, (path,) in paths.items():
        for name, table in (("train_test_split.txt", split), ("bounding_boxes.txt", boxes)):
            if id_ not in table:
                raise UserError(f"{root / name} has no line for {id_}; get it again")
        box = np.array([float(value) for value in boxes[id_]])
        birds.append(Bird(path, split[id_] == ["1"], parts[id_], box))
    return birds


def _lines(path: pathlib.Path) -> list[str]:
    try:
        return read_lines(path)
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; is the data complete?") from error


def _table(path: pathlib.Path, columns: int) -> dict[str, list[str]]:
    """Reads lines of an id and `columns` values; a path may have spaces."""
    return {
        (cells := line.split(maxsplit=columns))[0]: cells[1:]
        for line in _lines(path)
        if len(line.split(maxsplit=columns)) == columns + 1
    }

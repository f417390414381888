"""Results of segmenting beside label maps: each part cut out, and tables."""

import csv
import io
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from etils import epath
from jaxtyping import Integer
from PIL import Image

from ganseg_jax import files
from ganseg_jax.data import images

CUTOUTS = "cutouts"
"""The format of `Cutouts`."""

COLUMNS = ("photo", "height", "width", "part", "name", "center_row", "center_col", "area", "share")
"""Columns of `parts.csv`; centres and areas in pixels, shares of the photo's pixels."""


class Output(Protocol):
    """Makes files of label maps, one photo after the other."""

    def add(self, image: str, labels: Integer[np.ndarray, "h w"], result: str) -> None:
        """Adds the label map of a photo.

        Args:
          image: its path below the input.
          labels: its label map.
          result: name of its label map's file.
        """

    def finish(self) -> None:
        """Writes what belongs to all photos."""


class Cutouts:
    """Writes each part of each photo as a PNG that is transparent elsewhere, cropped to the part.

    Args:
      root: folder of the photos.
      output: folder to write to: `output / NAME / PART.png`.
      classes: names of the parts; their spaces and slashes become "_".
      max_megapixels: of a photo.
    """

    def __init__(
        self,
        root: epath.Path,
        output: epath.Path,
        classes: Sequence[str],
        max_megapixels: float = images.MAX_MEGAPIXELS,
    ):
        self._root, self._output, self._most = root, output, max_megapixels
        self._names: list[str] = []
        for name in classes:
            plain = "".join(c if c.isalnum() else "_" for c in name)
            while plain in self._names:  # Of "a b" and "a/b".
                plain += "_"
            self._names.append(plain)

    def add(self, image: str, labels: Integer[np.ndarray, "h w"], result: str) -> None:
        """Writes the parts of a photo; one that it does not show has no file.

        Raises:
          UserError: a file cannot be written.
        """
        photo = images.open_photo((self._root / image).read_bytes(), max_megapixels=self._most)
        pixels = np.asarray(photo.image)
        for part, name in enumerate(self._names, start=1):
            inside = labels == part
            rows, cols = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
            if not len(rows):
                continue
            box = np.s_[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
            alpha = np.where(inside[box], np.uint8(255), np.uint8(0))
            buffer = io.BytesIO()
            Image.fromarray(np.dstack([pixels[box], alpha])).save(buffer, format="PNG")
            files.write_whole(self._output / image / f"{name}.png", buffer.getvalue())

    def finish(self) -> None:
        """Does nothing: each photo has its own files."""


def table(content: dict[str, Any]) -> str:
    """Returns `parts.json` as CSV with `COLUMNS`, a row for each part of each photo."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for photo, entry in content["photos"].items():
        height, width = entry["height"], entry["width"]
        for part in entry["parts"]:
            name = part.get("name", f"part {part['part']}")
            share = f"{part['area'] / (height * width):.6f}"
            row = (photo, height, width, part["part"], name, *part["center"], part["area"], share)
            writer.writerow(row)
    return buffer.getvalue()

"""Writes label maps so that they can be corrected in a labelling tool and read back."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from etils import epath
from jaxtyping import Integer

from ganseg_jax import files
from ganseg_jax.data.annotations import coco, cvat, label_studio, labelme, supervisely, via, yolo

FORMATS = {
    "coco": "annotations.coco.json",
    "cvat": "annotations.xml",
    "label_studio": "tasks.json",
    "labelme": "NAME.json",
    "supervisely": "ann/IMAGE.json",
    "via": "via_project.json",
    "yolo": "NAME.txt",
}
"""Formats, and the files that they consist of."""

_OF_ALL: dict[str, tuple[str, Callable[[list[str]], str]]] = {
    "supervisely": ("meta.json", supervisely.meta_file),
    "yolo": ("data.yaml", yolo.names_file),
}
"""What formats with a file for each image have beside them."""


class Writer(Protocol):
    """Makes files of label maps in a tool's format."""

    def add(self, image: str, labels: Integer[np.ndarray, "h w"]) -> None:
        """Adds the label map of an image."""

    def content(self) -> str:
        """Returns the file."""


_WRITERS: dict[str, Callable[[list[str]], Writer]] = {
    "coco": coco.Writer,
    "cvat": cvat.Writer,
    "label_studio": label_studio.Writer,
    "labelme": labelme.Writer,
    "supervisely": supervisely.Writer,
    "via": via.Writer,
    "yolo": yolo.Writer,
}


def is_of_each(kind: str) -> bool:
    """Says whether a format has a file for each image."""
    return "NAME" in FORMATS[kind] or "IMAGE" in FORMATS[kind]


class Export:
    """Collects label maps one by one and writes them in a tool's format, pixel for pixel.

    Args:
      kind: one of `FORMATS`.
      output: folder to write to.
      classes: names without the background.
    """

    def __init__(self, kind: str, output: epath.Path, classes: Sequence[str]):
        self._kind, self._output, self._classes = kind, output, list(classes)
        self._writer: Writer = _WRITERS[kind](self._classes)

    def add(self, image: str, labels: Integer[np.ndarray, "h w"], result: str) -> None:
        """Adds the label map of an image.

        Args:
          image: its path below the input.
          labels: its label map.
          result: name of its label map's file, which others take with another ending.

        Raises:
          UserError: a file cannot be written.
        """
        self._writer.add(image, labels)
        if is_of_each(self._kind):
            name = FORMATS[self._kind].replace("IMAGE", image)
            name = name.replace("NAME", str(epath.Path(result).with_suffix("")))
            files.write_whole(self._output / name, self._writer.content())

    def finish(self) -> None:
        """Writes the file of all images, or what belongs to the files of each.

        Raises:
          UserError: it cannot be written.
        """
        if not is_of_each(self._kind):
            files.write_whole(self._output / FORMATS[self._kind], self._writer.content())
        elif self._kind in _OF_ALL:
            name, content = _OF_ALL[self._kind]
            files.write_whole(self._output / name, content(self._classes))

"""The images of one folder and the label maps beside them, as the painting page needs them."""

import importlib.resources
import io
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ganseg_jax.data import images
from ganseg_jax.errors import UserError
from ganseg_jax.fewshot.label_files import MASK_SUFFIX, image_files
from ganseg_jax.fewshot.labels import (
    CLASSES_FILE,
    classes_json,
    image_size,
    read_class_map,
    read_classes,
)
from ganseg_jax.files import write_whole
from ganseg_jax.pixels import UNLABELLED
from ganseg_jax.report.palette import palette
from ganseg_jax.report.png import save_label_png

STATIC_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/labeller.js": ("labeller.js", "text/javascript; charset=utf-8"),
    "/labeller.css": ("labeller.css", "text/css; charset=utf-8"),
}
"""Name and type of the page's files, by path."""


class LabelFolder:
    """Reads and writes nothing but the images of one folder and the label maps beside them.

    Args:
      directory: folder with the images; label maps `NAME_mask.png` and `classes.json` are
        written there.
      classes: names without the background; None takes those of the folder's `classes.json`.

    Raises:
      UserError: the folder has no images or cannot be written, the classes cannot be, or an image
        cannot be read.
    """

    def __init__(self, directory: str | Path, classes: Sequence[str] | None):
        self.directory = Path(directory)
        self.images = image_files(self.directory)
        self.sizes = {name: image_size(path) for name, path in self.images.items()}
        if classes is None:
            classes = read_classes(self.directory)
            if classes is None:
                raise UserError(f"--classes is missing, and {directory} has no {CLASSES_FILE}")
        self.classes = list(classes)
        write_whole(self.directory / CLASSES_FILE, classes_json(classes))
        self._lock = threading.Lock()

    def mask_path(self, name: str) -> Path:
        """Returns the path of an image's label map: beside it, or where an earlier one lies."""
        above = self.directory / f"{name}{MASK_SUFFIX}"
        beside = self.images[name].parent / above.name
        return above if above.exists() else beside

    def overview(self) -> dict[str, Any]:
        """Returns classes with their colours, and images with their sizes, for the page."""
        names = ["background", *self.classes]
        colors = ["#{:02x}{:02x}{:02x}".format(*c) for c in palette(len(names))]
        return {
            "classes": [{"name": n, "color": c} for n, c in zip(names, colors, strict=True)],
            "unlabelled": UNLABELLED,
            "images": [
                {"name": n, "width": w, "height": h, "labelled": self.mask_path(n).exists()}
                for n, (h, w) in self.sizes.items()
            ],
        }

    def picture(self, name: str) -> bytes:
        """Returns an image as PNG."""
        buffer = io.BytesIO()
        photo = images.open_photo(self.images[name].read_bytes())  # Upright, as training sees it.
        photo.image.save(buffer, format="PNG")
        return buffer.getvalue()

    def labels(self, name: str) -> bytes | None:
        """Returns an image's label map, one byte for each pixel, or None if it has none.

        Raises:
          UserError: it does not fit the image.
        """
        path = self.mask_path(name)
        if not path.exists():
            return None
        return read_class_map(path, self.sizes[name], self.classes).tobytes()

    def save(self, name: str, values: bytes) -> None:
        """Writes a label map given as one byte for each pixel, row by row.

        Raises:
          UserError: there are more or fewer bytes than pixels, or classes that do not exist.
        """
        height, width = self.sizes[name]
        labels = np.frombuffer(values, np.uint8)
        if labels.size != height * width:
            raise UserError(f"{name}: {labels.size} values for {width}x{height} pixels")
        if np.any((labels > len(self.classes)) & (labels != UNLABELLED)):
            raise UserError(f"{name}: a value is no class")
        with self._lock:
            save_label_png(self.mask_path(name), labels.reshape(height, width))


def static_file(path: str) -> tuple[bytes, str]:
    """Returns content and type of a file of the page, a key of `STATIC_FILES`."""
    file, kind = STATIC_FILES[path]
    return importlib.resources.files(__package__).joinpath(file).read_bytes(), kind

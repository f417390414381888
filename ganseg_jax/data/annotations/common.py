"""What the readers share: drawn shapes, and answers to malformed files."""

import collections
import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath
from jaxtyping import Float, UInt8

from ganseg_jax import pixels
from ganseg_jax.errors import UserError
from ganseg_jax.pixels import UNLABELLED

MOST_CLASSES = UNLABELLED - 1

BACKGROUND_NAMES = ("background", "_background_", "bg")
IGNORE_NAMES = ("ignore", "__ignore__", "void", "unlabeled", "unlabelled")

MOST_PIXELS = 1e9
"""Coordinates beyond it, and those that are no numbers, are malformed."""

MOST_DRAWN = 1 << 28
"""Pixels of an image that was drawn on."""

Size = tuple[int, int]
"""(height, width) in pixels."""


@dataclasses.dataclass(frozen=True)
class Shape:
    """Holds a drawn region.

    Attributes:
      name: of its class.
      pixels: gives the region's pixels in an image of a size, bool (H, W).
    """

    name: str
    pixels: Callable[[Size], np.ndarray]


@dataclasses.dataclass
class Drawing:
    """Holds what was drawn on an image, in the order of painting.

    Attributes:
      where: the file, for messages.
      size: of the image that it was drawn on, if the file says so.
      shapes: later ones cover earlier ones.
      name: what the file calls the image; "" if it says so by its own name.
    """

    where: str
    size: Size | None
    shapes: list[Shape]
    name: str = ""


@dataclasses.dataclass
class Annotations:
    """Holds what a reader found.

    Attributes:
      drawings: by the image's path below the folder.
      classes: names in the order of their numbers; only those that a shape has.
      left_out: what was not used, and why.
    """

    drawings: dict[str, Drawing] = dataclasses.field(default_factory=dict)
    classes: list[str] = dataclasses.field(default_factory=list)
    left_out: list[tuple[str, str]] = dataclasses.field(default_factory=list)

    def add(self, image: str, drawing: Drawing) -> None:
        """Adds a drawing; if the image has one already, the new shapes are painted over it.

        Raises:
          UserError: they were drawn on images of different sizes, or one file calls the image by
            two names.
        """
        before = self.drawings.setdefault(image, dataclasses.replace(drawing, shapes=[]))
        if before.where == drawing.where and before.name != drawing.name:
            raise UserError(
                f"{drawing.where} has both {before.name} and {drawing.name}, and the folder only "
                f"{image}: add the other image, or delete what is not drawn on this one"
            )
        if None not in (before.size, drawing.size) and before.size != drawing.size:
            raise UserError(
                f"{before.where} and {drawing.where} annotate {image} at different sizes; "
                "keep one of them"
            )
        before.size = before.size or drawing.size
        before.shapes += drawing.shapes

    def add_boxes(self, where: str, boxes: Mapping[str, Sequence[Shape]]) -> None:
        """Leaves out boxes without an outline: what they hold and no shape covers is not labelled.

        Args:
          where: the file, for messages.
          boxes: by image, shapes of the class for pixels that are not labelled.
        """
        for image, shapes in boxes.items():
            if image in self.drawings:
                self.drawings[image].shapes[:0] = shapes
        if count := sum(map(len, boxes.values())):
            why = "have no outline: their pixels count as not labelled; export polygons"
            self.left_out.append((f"{where}: {count} boxes", why))

    def note_images(self, where: str, called: Sequence[str], images: Sequence[str | None]) -> None:
        """Says which images the folder lacks, as a part of a set does, and which are there twice.

        Args:
          where: the file, for messages.
          called: what the file calls its images.
          images: these images; None if the folder lacks it.

        Raises:
          UserError: the folder has none of them.
        """
        missing = [name for name, image in zip(called, images, strict=True) if image is None]
        if missing and len(missing) == len(called):
            name = missing[0] or "an image without a name"
            raise UserError(f"{where} annotates {name}, which the folder lacks")
        if missing:
            names = ", ".join(missing[:3]) + ", ..." * (len(missing) > 3)
            self.left_out.append((f"{where}: {len(missing)} images", f"the folder lacks {names}"))
        for (name, image), count in collections.Counter(zip(called, images, strict=True)).items():
            if image is not None and count > 1:
                why = f"is listed {count} times: what each entry has is drawn on the one image"
                self.left_out.append((f"{where}: {name}", why))

    def merge(self, other: "Annotations") -> None:
        """Adds what another file of the same format holds."""
        for image, drawing in other.drawings.items():
            self.add(image, drawing)
        self.classes = list(dict.fromkeys([*self.classes, *other.classes]))
        self.left_out += other.left_out

    def number_drawn(self, order: Sequence[str] | None = None) -> "Annotations":
        """Sets the classes to those that were drawn, in the given order or sorted by name."""
        drawn = {shape.name for drawing in self.drawings.values() for shape in drawing.shapes}
        known = sorted(drawn) if order is None else dict.fromkeys(order)
        special = (*BACKGROUND_NAMES, *IGNORE_NAMES)
        self.classes = [n for n in known if n in drawn and n.lower() not in special]
        return self


def paint(drawing: Drawing, size: Size, classes: Sequence[str]) -> UInt8[np.ndarray, "h w"]:
    """Returns a drawing as a label map: 0 background, then the classes; 255 not labelled.

    A drawing on a larger or smaller copy of the image is resized.

    Raises:
      UserError: it was drawn on an image of another shape, or has a class that is not known.
    """
    drawn_size = drawing.size or size
    if not pixels.same_aspect(drawn_size, size):
        raise UserError(
            f"{drawing.where} was drawn on an image of {drawn_size[1]}x{drawn_size[0]}, "
            f"this one is {size[1]}x{size[0]}: keep the one that was labelled"
        )
    labels = np.zeros(drawn_size, np.uint8)
    for shape in drawing.shapes:
        if shape.name.lower() in IGNORE_NAMES:
            value = UNLABELLED
        elif shape.name in classes:
            value = list(classes).index(shape.name) + 1
        elif shape.name.lower() in BACKGROUND_NAMES:
            value = 0
        else:
            raise UserError(
                f"{drawing.where} has class {shape.name!r}, known are {', '.join(classes)}"
            )
        with reading(drawing.where):
            labels[shape.pixels(drawn_size)] = value
    return labels if drawn_size == size else pixels.resize_labels(labels, *size)


@contextlib.contextmanager
def reading(where: object) -> Iterator[None]:
    """Turns what malformed content raises into one line that names the place and the field."""
    try:
        yield
    except UserError:
        raise
    except KeyError as error:
        raise UserError(f"{where}: the field {error.args[0]!r} is missing") from error
    except (AttributeError, IndexError, TypeError, ValueError, OverflowError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{where}: malformed: {reason}; export it again") from error


def read_text(path: epath.Path) -> str:
    """Returns a file's text, without a byte-order mark.

    Raises:
      UserError: it cannot be read, or is not UTF-8.
    """
    try:
        data = path.read_bytes()
        wide = data[:2] in (b"\xff\xfe", b"\xfe\xff")
        return data.decode("utf-16" if wide else "utf-8-sig")
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as text: {error}") from error


def read_json(path: epath.Path) -> Any:
    """Returns the content of a JSON file; a byte-order mark is allowed.

    Raises:
      UserError: it cannot be read or is no JSON.
    """
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as JSON: {error}") from error


def text_of(content: Any, field: str) -> str:
    """Returns a field that must be text, without spaces around it.

    Raises:
      UserError: by way of `reading`, if it is missing or something else.
    """
    value = content[field]
    if not isinstance(value, str):
        raise TypeError(f"{field!r} must be text, not {value!r:.40}")
    return value.strip()


def list_of(content: Any, field: str) -> list:
    """Returns a field that must be a list; raises as `text_of` does."""
    value = content[field]
    if not isinstance(value, list):
        raise TypeError(f"{field!r} must be a list, not {value!r:.40}")
    return value


def number(value: Any, field: str) -> float:
    """Returns a finite number, given as one or as text; raises as `text_of` does."""
    try:
        result = float(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{field!r} must be a number, not {value!r:.40}") from error
    if not abs(result) <= MOST_PIXELS or isinstance(value, bool):
        raise TypeError(f"{field!r} must be a number, not {value!r:.40}")
    return result


def size_of(height: Any, width: Any) -> Size | None:
    """Returns the size of an image, or None if the file does not say; raises as `text_of` does."""
    if not height or not width:
        return None
    size = int(number(height, "height")), int(number(width, "width"))
    if min(size) < 1 or size[0] * size[1] > MOST_DRAWN:
        raise TypeError(f"an image of {size[1]}x{size[0]} is not possible")
    return size


def points_of(values: Any, least: int = 3) -> Float[np.ndarray, "p 2"]:
    """Returns (x, y) points.

    Raises:
      UserError: by way of `reading`, if they are not at least so many pairs of finite numbers.
    """
    try:
        points = np.asarray(values, np.float64)
    except (TypeError, ValueError, OverflowError):
        points = np.zeros(0)
    if points.ndim != 2 or points.shape[1:] != (2,) or not (abs(points) <= MOST_PIXELS).all():
        raise TypeError("a shape's points must be pairs of numbers")
    if len(points) < least:
        raise TypeError(f"a shape needs {least} or more points, this one has {len(points)}")
    return points

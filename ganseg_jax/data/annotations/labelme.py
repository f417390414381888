"""LabelMe (and X-AnyLabeling): one JSON file for an image, named after it."""

import functools
import json
from typing import Any

import numpy as np
from etils import epath
from jaxtyping import Integer

from ganseg_jax.data.annotations import common, raster
from ganseg_jax.data.annotations.common import Annotations, Drawing, Shape
from ganseg_jax.data.annotations.names import Claim, Names
from ganseg_jax.errors import UserError

_WITHOUT_AREA = ("point", "points", "line", "linestrip")


def recognises(content: Any) -> bool:
    """Says whether JSON content is a LabelMe file."""
    return isinstance(content, dict) and "shapes" in content


def image_of(path: epath.Path, content: Any, names: Names, claim: Claim) -> str | None:
    """Returns the image of a file: the one that it is named after, else the one that it names.

    Raises:
      UserError: the file is malformed, or its image may be each of several.
    """
    if not recognises(content) or not isinstance(content["shapes"], list):
        raise UserError(f"{path} is no LabelMe file: it has no list of 'shapes'")
    if len(claim.images) == 1:
        return claim.images[0]
    image = names.find(str(content.get("imagePath")), path, claim.images or None)
    if image is None and claim.images:
        raise names.unclear(path, claim.images)
    return image


def read(path: epath.Path, content: dict, image: str) -> Annotations:
    """Reads polygons, rectangles of two or four corners, circles and masks.

    Polygons of one class and group form one region, in which a ring inside the others is a hole.
    Points and lines are left out.

    Raises:
      UserError: the file is malformed, or has a shape of another type; it is named.
    """
    with common.reading(path):
        size = common.size_of(content.get("imageHeight"), content.get("imageWidth"))
        found = Annotations()
        shapes: list[Shape] = []
        groups: dict[Any, list[np.ndarray]] = {}
        for index, entry in enumerate(content["shapes"]):
            with common.reading(f"{path}: shape {index + 1}"):
                kind = entry.get("shape_type") or "polygon"
                label = common.text_of(entry, "label")
                if not label:
                    found.left_out.append((f"{path}: shape {index + 1}", "has no label"))
                    continue
                if kind in _WITHOUT_AREA:
                    found.left_out.append((f"{path}: shape {index + 1}", f"a {kind} has no area"))
                    continue
                group = entry.get("group_id")
                if kind == "polygon" and group is not None:
                    ring = common.points_of(entry["points"])
                    key = (str(group), label)
                    if key in groups:
                        groups[key].append(ring)
                        continue
                    groups[key] = rings = [ring]
                    shapes.append(Shape(label, functools.partial(raster.nested, rings)))
                    continue
                shapes.append(Shape(label, _region(path, kind, entry)))
        if shapes:
            found.add(image, Drawing(str(path), size, shapes))
        else:
            found.left_out.append((str(path), "has no shapes: not labelled"))
        return found.number_drawn()


def _region(path: epath.Path, kind: str, entry: dict):
    if kind == "mask":
        (left, top), *_ = common.points_of(entry["points"], 1).round().astype(int).tolist()
        patch = raster.png_mask(raster.base64_bytes(common.text_of(entry, "mask")))
        return lambda s: raster.pasted(patch, left, top, s)
    points = common.points_of(entry.get("points"), 2)
    if kind == "circle" and len(points) == 2:
        (x, y), radius = points[0], float(np.hypot(*(points[1] - points[0])))
        return lambda s: raster.inside_ellipse((x, y), (radius, radius), s)
    if kind == "rectangle" and len(points) == 2:
        points = raster.box_corners(*points.ravel())
    elif kind not in ("polygon", "rotation", "oriented_rectangle") and not (
        kind == "rectangle" and len(points) == 4
    ):
        raise UserError(f"{path}: shapes of type {kind!r} are not read, draw polygons")
    points = common.points_of(points)
    return lambda s: raster.inside_polygon(points, s)


class Writer:
    """Makes the file of an image: polygons along the pixels' edges, a group for each class.

    Args:
      classes: names without the background.
    """

    def __init__(self, classes: list[str]):
        self._classes = classes
        self._content: dict[str, Any] = {}

    def add(self, image: str, labels: Integer[np.ndarray, "h w"]) -> None:
        """Takes the label map (0 background) of an image; it replaces the one before."""
        shapes = [
            {"label": name, "shape_type": "polygon", "group_id": value, "points": ring, "flags": {}}
            for value, name in enumerate(self._classes, 1)
            for ring in raster.outlines(labels == value)
        ]
        self._content = {
            "version": "5.5.0",
            "flags": {},
            "shapes": shapes,
            "imagePath": image.rpartition("/")[2],
            "imageData": None,
            "imageHeight": labels.shape[0],
            "imageWidth": labels.shape[1],
        }

    def content(self) -> str:
        """Returns the file."""
        return json.dumps(self._content, ensure_ascii=False, indent=1) + "\n"

"""COCO instances: one JSON file for many images (also Roboflow's and CVAT's)."""

import functools
import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from etils import epath
from jaxtyping import Integer

from ganseg_jax.data.annotations import common, raster, rle
from ganseg_jax.data.annotations.common import Annotations, Drawing, Shape
from ganseg_jax.data.annotations.names import Names
from ganseg_jax.errors import UserError


def recognises(content: Any) -> bool:
    """Says whether JSON content is a COCO file."""
    return isinstance(content, dict) and {"images", "annotations"} <= set(content)


def read(path: epath.Path, content: dict, names: Names) -> Annotations:
    """Reads polygons and run lengths, compressed or not; crowds too are regions of their class.

    Categories that no outline has are no classes: they group others, or were not used. Of boxes
    without an outline, see `Annotations.add_boxes`.

    Raises:
      UserError: the file is malformed, or an image is missing.
    """
    for part in ("images", "annotations", "categories"):
        entries = content.get(part, [])
        if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
            raise UserError(f"{path}: {part!r} must be a list of objects, as COCO files have it")
    if any("segments_info" in annotation for annotation in content["annotations"]):
        why = "is of COCO's panoptic format: export instances, or indexed PNGs"
        return Annotations(left_out=[(str(path), why)])
    if any("caption" in annotation for annotation in content["annotations"]):
        return Annotations(left_out=[(str(path), "holds captions, no outlines")])
    with common.reading(f"{path}: 'images'"):
        listed = {_id(entry.get("id")): entry for entry in content["images"]}
        called = _by_id(f"{path}: image", [(e.get("id"), _called(e)) for e in content["images"]])
    images = dict(zip(called, names.find_all(list(called.values()), path), strict=True))
    found = Annotations()
    found.note_images(str(path), list(called.values()), list(images.values()))
    with common.reading(f"{path}: 'categories'"):
        given = content.get("categories", [])
        if any("id" not in entry or "name" not in entry for entry in given):
            raise UserError(f"{path}: a category has no id or name")
        pairs = [(entry["id"], str(entry["name"]).strip()) for entry in given]
        categories = _by_id(f"{path}: category", pairs)
        categories = dict(sorted(categories.items(), key=lambda pair: _order(pair[0])))
    boxed: dict[str, list[Shape]] = {}
    for annotation in content["annotations"]:
        where = f"{path}: annotation {annotation.get('id')}"
        with common.reading(where):
            id_, category = _id(annotation.get("image_id")), _id(annotation.get("category_id"))
            if id_ not in listed or category not in categories:
                raise UserError(f"{where} has no image or category")
            if (image := images[id_]) is None:
                continue
            size = common.size_of(listed[id_].get("height"), listed[id_].get("width"))
            if not annotation.get("segmentation"):
                boxed.setdefault(image, []).append(_box(annotation))
                continue
            shapes = [
                Shape(categories[category], draw)
                for draw in regions(where, annotation["segmentation"])
            ]
            found.add(image, Drawing(str(path), size, shapes, called[id_]))
    found.add_boxes(str(path), boxed)
    found.left_out += [
        (f"{path}: {called[id_]}", "has no outlines: not labelled")
        for id_, image in images.items()
        if image is not None and image not in found.drawings
    ]
    found.number_drawn(list(categories.values()))
    found.left_out += [
        (f"{path}: category {name}", "no outline has it")
        for name in categories.values()
        if name not in found.classes and name.lower() not in common.BACKGROUND_NAMES
    ]
    return found


def _by_id(what: str, pairs: Sequence[tuple[Any, str]]) -> dict[Any, str]:
    """Returns names by their ids.

    Args:
      what: they are of, with the file, for messages.
      pairs: (id, name).

    Raises:
      UserError: two names have one id, as in exports that were joined.
    """
    named: dict[Any, str] = {}
    for id_, name in pairs:
        before = named.setdefault(_id(id_), name)
        if before != name:
            raise UserError(
                f"{what} {id_} is both {before} and {name}: give the exports that were joined "
                "their own ids, or keep them as files of their own"
            )
    return named


def _called(entry: dict) -> str:
    """Returns an image's name; some programs write its folders into another field."""
    name, path = str(entry.get("file_name")), entry.get("path")
    return path if isinstance(path, str) and path.endswith(name) else name


def _id(value: Any) -> Any:
    """Returns an id as a number if it is one: some programs write it as text here, not there."""
    return int(value) if isinstance(value, str) and re.fullmatch(r"\d{1,18}", value) else value


def _order(id_: Any) -> tuple[bool, Any]:
    return isinstance(id_, str), id_


def _box(annotation: dict) -> Shape:
    x, y, width, height = (common.number(v, "bbox") for v in annotation.get("bbox") or [0] * 4)
    corners = raster.box_corners(x, y, x + width, y + height)
    return Shape(common.IGNORE_NAMES[0], functools.partial(raster.inside_polygon, corners))


def regions(where: str, drawn: Any) -> list:
    """Returns a function for each outline of an annotation, from (height, width) to its pixels.

    Args:
      where: of the annotation, for messages.
      drawn: its `segmentation`: polygons or run lengths.

    Raises:
      UserError: it is neither.
    """
    if isinstance(drawn, dict):
        height, width = (int(common.number(v, "size")) for v in common.list_of(drawn, "size"))
        counts = drawn["counts"]
        lengths = rle.coco_counts(counts) if isinstance(counts, str) else counts
        if not isinstance(lengths, list) or not 0 < height * width <= 1 << 28:
            raise TypeError("'counts' must be text or a list, and 'size' that of an image")
        rle.unroll(lengths, height * width)

        def pixels(size):
            if size != (height, width):
                raise UserError(
                    f"{where} has run lengths of {width}x{height}, its image is {size[1]}x{size[0]}"
                )
            return rle.unroll(lengths, height * width).reshape(width, height).T

        return [pixels]
    # Some programs leave out the outer brackets, or make pairs.
    if isinstance(drawn, list) and all(isinstance(v, int | float) for v in drawn):
        drawn = [drawn]
    elif isinstance(drawn, list) and all(isinstance(v, list) and len(v) == 2 for v in drawn):
        drawn = [sum(drawn, [])]
    if not isinstance(drawn, list) or not all(isinstance(flat, list) for flat in drawn):
        raise UserError(f"{where}: 'segmentation' must be a list of polygons, each a list")
    if any(len(flat) % 2 or len(flat) < 6 for flat in drawn):
        raise UserError(f"{where}: a polygon needs three or more pairs of coordinates")
    rings = [common.points_of([flat[i : i + 2] for i in range(0, len(flat), 2)]) for flat in drawn]
    return [lambda size, r=ring: raster.inside_coco_polygon(r, size) for ring in rings]


class Writer:
    """Makes the file of many images, with compressed run lengths.

    Args:
      classes: names without the background.
    """

    def __init__(self, classes: list[str]):
        self._classes = classes
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []

    def add(self, image: str, labels: Integer[np.ndarray, "h w"]) -> None:
        """Adds the label map (0 background) of an image."""
        height, width = labels.shape
        entry = {"file_name": image, "height": height, "width": width}
        self._images.append({"id": len(self._images) + 1} | entry)
        for value in range(1, len(self._classes) + 1):
            region = labels == value
            if not region.any():
                continue
            patch, left, top = raster.crop(region)
            counts = rle.coco_text(rle.runs(region.T.ravel()))
            self._annotations.append(
                {
                    "id": len(self._annotations) + 1,
                    "image_id": len(self._images),
                    "category_id": value,
                    "iscrowd": 0,
                    "area": int(region.sum()),
                    "bbox": [left, top, patch.shape[1], patch.shape[0]],
                    "segmentation": {"size": [height, width], "counts": counts},
                }
            )

    def content(self) -> str:
        """Returns the file."""
        categories = [
            {"id": i, "name": name, "supercategory": ""} for i, name in enumerate(self._classes, 1)
        ]
        content = {
            "images": self._images,
            "annotations": self._annotations,
            "categories": categories,
        }
        return json.dumps(content, ensure_ascii=False) + "\n"

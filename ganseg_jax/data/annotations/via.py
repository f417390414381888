"""VGG Image Annotator: JSON of a project or an export, and CSV."""

import csv
import io
import json
import re
from typing import Any

import numpy as np
from etils import epath
from jaxtyping import Integer

from ganseg_jax.data.annotations import common, raster
from ganseg_jax.data.annotations.common import Annotations, Drawing, Shape
from ganseg_jax.data.annotations.names import Names

_CLASS_FIELDS = ("label", "class", "name", "part", "type")
_WITHOUT_AREA = ("point", "polyline")


def recognises(content: Any) -> bool:
    """Says whether JSON content is a file of VIA."""
    if not isinstance(content, dict):
        return False
    entries = content.get("_via_img_metadata", content)
    return (
        "_via_img_metadata" in content
        or bool(entries)
        and all(isinstance(e, dict) and {"filename", "regions"} <= set(e) for e in entries.values())
    )


def read(path: epath.Path, content: dict, names: Names) -> Annotations:
    """Reads polygons, rectangles, circles and ellipses.

    Raises:
      UserError: the file is malformed, or its image is missing; the region is named.
    """
    entries = []
    with common.reading(path):
        for entry in content.get("_via_img_metadata", content).values():
            regions = entry["regions"]
            regions = list(regions.values()) if isinstance(regions, dict) else regions
            name = common.text_of(entry, "filename")
            entries.append((name, _length(entry.get("size")), regions))
            if not isinstance(regions, list):
                raise TypeError("'regions' must be a list")
    return _read(path, entries, names)


def read_csv(path: epath.Path, names: Names) -> Annotations:
    """Reads the CSV export; see `read`."""
    entries: dict[tuple[str, int | None], list] = {}
    text = common.read_text(path).removeprefix("#")  # Of version 1.
    with common.reading(path):
        try:
            for row in csv.DictReader(io.StringIO(text)):
                name = common.text_of(row, "filename")
                shape = json.loads(row["region_shape_attributes"])
                attributes = json.loads(row["region_attributes"])
                regions = entries.setdefault((name, _length(row.get("file_size"))), [])
                if shape:
                    regions.append({"shape_attributes": shape, "region_attributes": attributes})
        except (csv.Error, RecursionError) as error:
            raise ValueError(str(error)) from error
    return _read(path, [(*key, regions) for key, regions in entries.items()], names)


def _length(value: Any) -> int | None:
    """Returns the size of an image's file in bytes; VIA writes -1 for files at an address."""
    return int(value) if re.fullmatch(r"\d{1,15}", str(value)) else None


def _read(
    path: epath.Path, entries: list[tuple[str, int | None, list]], names: Names
) -> Annotations:
    found = Annotations()
    called, lengths = [name for name, _, _ in entries], [length for _, length, _ in entries]
    images = names.find_all(called, path, lengths)
    for (name, length, regions), image in zip(entries, images, strict=True):
        if image is None:
            continue
        shapes = []
        for index, region in enumerate(regions, 1):
            place = f"{path}: {name}: region {index}"
            with common.reading(place):
                shape = region["shape_attributes"]
                kind = common.text_of(shape, "name")
                if kind in _WITHOUT_AREA:
                    found.left_out.append((place, f"a {kind} has no area"))
                    continue
                label = _class(region["region_attributes"])
                shapes.append(Shape(label, _region(kind, shape)))
        if shapes:
            found.add(
                image,
                Drawing(str(path), None, shapes, f"{name} ({length} bytes)" if length else name),
            )
        else:
            found.left_out.append((f"{path}: {name}", "has no regions: not labelled"))
    found.note_images(str(path), called, images)
    if not entries:
        found.left_out.append((str(path), "has no images: not labelled"))
    return found.number_drawn()


def _class(attributes: dict) -> str:
    field = next((f for f in _CLASS_FIELDS if f in attributes), None)
    if field is None and len(attributes) == 1:
        field = next(iter(attributes))
    if field is None:
        raise TypeError(f"'region_attributes' must have one of {', '.join(_CLASS_FIELDS)}")
    value = attributes[field]
    if isinstance(value, dict):  # A checkbox.
        chosen = [name for name, on in value.items() if on]
        value = chosen[0] if len(chosen) == 1 else ""
    if not isinstance(value, str) or not value.strip():
        raise TypeError(f"{field!r} names no class, or more than one")
    return value.strip()


def _region(kind: str, shape: dict):
    def value(field: str) -> float:
        return common.number(shape[field], field)

    if kind == "polygon":
        x, y = (common.list_of(shape, f"all_points_{axis}") for axis in "xy")
        points = common.points_of(list(zip(x, y, strict=True)))
        return lambda s: raster.inside_polygon(points, s)
    if kind == "rect":
        x0, y0 = value("x"), value("y")
        corners = raster.box_corners(x0, y0, x0 + value("width"), y0 + value("height"))
        return lambda s: raster.inside_polygon(corners, s)
    if kind in ("circle", "ellipse"):
        rx, ry = (value("r"),) * 2 if kind == "circle" else (value("rx"), value("ry"))
        center = value("cx"), value("cy")
        degrees = float(np.degrees(common.number(shape.get("theta") or 0, "theta")))
        return lambda s: raster.inside_ellipse(center, (rx, ry), s, degrees)
    raise TypeError(f"shapes of type {kind!r} are not read, draw polygons")


class Writer:
    """Makes a project of many images, with a polygon for each connected piece of a class.

    Args:
      classes: names without the background.
    """

    def __init__(self, classes: list[str]):
        self._classes = classes
        self._entries: dict[str, dict[str, Any]] = {}

    def add(self, image: str, labels: Integer[np.ndarray, "h w"]) -> None:
        """Adds the label map (0 background) of an image."""
        regions = []
        for value, name in enumerate(self._classes, 1):
            for ring in raster.polygons(labels == value):
                x, y = ([corner[axis] for corner in ring] for axis in (0, 1))
                shape = {"name": "polygon", "all_points_x": x, "all_points_y": y}
                regions.append({"shape_attributes": shape, "region_attributes": {"label": name}})
        # VIA names entries by file and size in bytes; -1 stands for files at an address.
        self._entries[f"{image}-1"] = {
            "filename": image,
            "size": -1,
            "regions": regions,
            "file_attributes": {},
        }

    def content(self) -> str:
        """Returns the file."""
        options = dict.fromkeys(self._classes, "")
        label = {"type": "dropdown", "description": "", "options": options, "default_options": {}}
        project = {
            "_via_settings": {
                "ui": {},
                "core": {"buffer_size": 18, "filepath": {}, "default_filepath": ""},
                "project": {"name": "parts"},
            },
            "_via_img_metadata": self._entries,
            "_via_attributes": {"region": {"label": label}, "file": {}},
            "_via_data_format_version": "2.0.10",
            "_via_image_id_list": list(self._entries),
        }
        return json.dumps(project, ensure_ascii=False, indent=1) + "\n"

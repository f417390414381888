"""Supervisely: `ann/NAME.png.json` for each image, and `meta.json`."""

import base64
import io
import json
import zlib
from typing import Any

import numpy as np
from etils import epath
from jaxtyping import Integer
from PIL import Image

from ganseg_jax.data.annotations import common, raster
from ganseg_jax.data.annotations.common import Annotations, Drawing, Shape

_WITHOUT_AREA = ("point", "line", "graph", "cuboid")
_MOST_BYTES = 1 << 26


def recognises(content: Any) -> bool:
    """Says whether JSON content is an annotation of Supervisely."""
    return isinstance(content, dict) and {"objects", "size"} <= set(content)


def read(path: epath.Path, content: dict, image: str) -> Annotations:
    """Reads polygons with holes, bitmaps and rectangles.

    Raises:
      UserError: the file is malformed; the object is named.
    """
    found = Annotations()
    with common.reading(path):
        size = common.size_of(content["size"]["height"], content["size"]["width"])
        shapes = []
        for index, entry in enumerate(common.list_of(content, "objects"), 1):
            place = f"{path}: object {index}"
            with common.reading(place):
                kind = common.text_of(entry, "geometryType")
                if kind in _WITHOUT_AREA:
                    found.left_out.append((place, f"a {kind} has no area"))
                    continue
                shapes.append(Shape(common.text_of(entry, "classTitle"), _region(kind, entry)))
    if shapes:
        found.add(image, Drawing(str(path), size, shapes))
    else:
        found.left_out.append((str(path), "has no objects: not labelled"))
    return found.number_drawn()


def _region(kind: str, entry: dict):
    if kind == "bitmap":
        left, top = (
            int(common.number(v, "origin")) for v in common.list_of(entry["bitmap"], "origin")
        )
        packed = raster.base64_bytes(common.text_of(entry["bitmap"], "data"))
        try:
            data = zlib.decompressobj().decompress(packed, _MOST_BYTES)
        except zlib.error as error:
            raise ValueError(f"its bitmap cannot be unpacked: {error}") from error
        patch = raster.png_mask(data)
        return lambda s: raster.pasted(patch, left, top, s)
    if kind not in ("polygon", "rectangle"):
        raise TypeError(f"shapes of type {kind!r} are not read, draw polygons or bitmaps")
    outer = common.points_of(entry["points"]["exterior"], 2)
    if kind == "rectangle":
        outer = raster.box_corners(*outer[:2].ravel())
    common.points_of(outer)
    holes = [common.points_of(hole) for hole in entry["points"].get("interior") or []]

    def pixels(size):
        region = raster.inside_polygon(outer, size)
        for hole in holes:
            region &= ~raster.inside_polygon(hole, size)
        return region

    return pixels


class Writer:
    """Makes the file of an image, with a bitmap for each class.

    Args:
      classes: names without the background; `meta_file` declares them.
    """

    def __init__(self, classes: list[str]):
        self._classes = classes
        self._content: dict[str, Any] = {}

    def add(self, image: str, labels: Integer[np.ndarray, "h w"]) -> None:
        """Takes the label map (0 background) of an image; it replaces the one before."""
        del image  # The file's name says it.
        objects = []
        for value, name in enumerate(self._classes, 1):
            region = labels == value
            if not region.any():
                continue
            patch, left, top = raster.crop(region)
            png = io.BytesIO()
            Image.fromarray(patch.astype(np.uint8) * 255).convert("1").save(png, "PNG")
            data = base64.b64encode(zlib.compress(png.getvalue())).decode()
            objects.append(
                {
                    "id": value,
                    "classTitle": name,
                    "geometryType": "bitmap",
                    "bitmap": {"data": data, "origin": [left, top]},
                    "description": "",
                    "tags": [],
                }
            )
        height, width = labels.shape
        size = {"height": height, "width": width}
        self._content = {"description": "", "tags": [], "size": size, "objects": objects}

    def content(self) -> str:
        """Returns the file."""
        return json.dumps(self._content, ensure_ascii=False) + "\n"


def meta_file(classes: list[str]) -> str:
    """Returns `meta.json`, which declares the classes."""
    colors = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")
    declared = [
        {"title": name, "shape": "bitmap", "color": colors[index % len(colors)]}
        for index, name in enumerate(classes)
    ]
    return json.dumps({"classes": declared, "tags": []}, ensure_ascii=False, indent=1) + "\n"

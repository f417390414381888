"""Supervisely: `ann/NAME.png.json` for each image, and `meta.json`."""

import zlib
from typing import Any

from etils import epath

from ganseg_jax.data.annotations import common, raster
from ganseg_jax.data.annotations.common import Annotations, Drawing, Shape
from ganseg_jax.errors import UserError

_WITHOUT_AREA = ("point", "line", "graph", "cuboid")
_MOST_BYTES = 1 << 26


def recognises(content: Any) -> bool:
    """Says whether JSON content is an annotation of Supervisely."""
    return isinstance(content, dict) and {"objects", "size"} <= set(content)


def read(path: epath.Path, content: dict, names: common.Names) -> Annotations:
    """Reads polygons with holes, bitmaps and rectangles.

    Raises:
      UserError: the file is malformed, or its image is missing; the object is named.
    """
    found = Annotations()
    if (stem := names.find(path.name.removesuffix(".json"))) is None:
        raise UserError(f"{path} annotates an image that the folder lacks")
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
        found.add(stem, Drawing(str(path), size, shapes))
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

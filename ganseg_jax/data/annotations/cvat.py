"""CVAT for images: one XML file for many images."""

import xml.etree.ElementTree as ElementTree

import numpy as np
from etils import epath
from jaxtyping import Integer

from ganseg_jax.data.annotations import common, raster, rle
from ganseg_jax.data.annotations.common import Annotations, Drawing, Shape
from ganseg_jax.data.annotations.names import Names
from ganseg_jax.errors import UserError

_WITHOUT_AREA = ("polyline", "points", "tag", "skeleton", "cuboid")


def read(path: epath.Path, names: Names) -> Annotations:
    """Reads polygons, boxes, ellipses and masks, painted in the order of their `z_order`.

    Raises:
      UserError: the file is malformed, or its image is missing; the field is named.
    """
    text = common.read_text(path)
    if "<!ENTITY" in text:
        raise UserError(f"{path} defines entities, which CVAT does not write; export it again")
    try:
        root = ElementTree.fromstring(text.partition("?>")[2] if text[:5] == "<?xml" else text)
    except (ElementTree.ParseError, ValueError) as error:
        raise UserError(f"{path} cannot be read as XML: {error}") from error
    if root.tag != "annotations":
        why = f"is no file of CVAT: its root is {root.tag!r}, not 'annotations'"
        return Annotations(left_out=[(str(path), why)])
    if root.find("track") is not None:
        raise UserError(f"{path} holds tracks of a video; export it as 'CVAT for images'")
    entries = list(root.iter("image"))
    called = [entry.get("name", "") for entry in entries]
    images = names.find_all(called, path)
    found = Annotations()
    for entry, name, image in zip(entries, called, images, strict=True):
        where = f"{path}: image {name}"
        if image is None:
            continue
        with common.reading(where):
            size = common.size_of(entry.get("height"), entry.get("width"))
            shapes = []
            for index, child in enumerate(entry, 1):
                place = f"{where}: {child.tag} {index}"
                if child.tag in _WITHOUT_AREA:
                    found.left_out.append((place, f"a {child.tag} has no area"))
                    continue
                with common.reading(place):
                    order = common.number(child.get("z_order") or 0, "z_order")
                    shapes.append(
                        (order, Shape(child.attrib["label"].strip(), _region(child, place)))
                    )
        if shapes:
            ordered = [shape for _, shape in sorted(shapes, key=lambda pair: pair[0])]
            found.add(image, Drawing(str(path), size, ordered, name))
        else:
            found.left_out.append((where, "has no annotations: not labelled"))
    found.note_images(str(path), called, images)
    listed = [(node.text or "").strip() for node in root.iterfind("meta//labels/label/name")]
    drawn = [s.name for d in found.drawings.values() for s in d.shapes]
    return found.number_drawn([*listed, *sorted(set(drawn))])


def _region(node: ElementTree.Element, place: str):
    def value(field: str) -> float:
        return common.number(node.attrib[field], field)

    turned = common.number(node.get("rotation") or 0, "rotation")
    if node.tag == "polygon":
        pairs = [pair.split(",") for pair in node.attrib["points"].split(";")]
        points = common.points_of(pairs)
        return lambda s: raster.inside_polygon(points, s)
    if node.tag == "box":
        corners = raster.box_corners(value("xtl"), value("ytl"), value("xbr"), value("ybr"), turned)
        return lambda s: raster.inside_polygon(corners, s)
    if node.tag == "ellipse":
        center, radii = (value("cx"), value("cy")), (value("rx"), value("ry"))
        return lambda s: raster.inside_ellipse(center, radii, s, turned)
    if node.tag == "mask":
        left, top, width, height = (int(value(f)) for f in ("left", "top", "width", "height"))
        if not 0 < width * height <= 1 << 28:
            raise TypeError(f"a mask of {width}x{height} pixels is not possible")
        lengths = [int(length) for length in node.attrib["rle"].split(",")]
        patch = rle.unroll(_filled(lengths, width * height), width * height).reshape(height, width)
        return lambda s: raster.pasted(patch, left, top, s)
    raise UserError(f"{place}: shapes of this type are not read, draw polygons or masks")


def _filled(lengths: list[int], count: int) -> list[int]:
    """Adds the last run of unset pixels, which may be missing."""
    missing = count - sum(lengths)
    return lengths if missing <= 0 or len(lengths) % 2 else [*lengths, missing]


class Writer:
    """Makes the file of many images, with masks.

    Args:
      classes: names without the background.
    """

    def __init__(self, classes: list[str]):
        self._classes, self._count = classes, 0
        self._root = ElementTree.Element("annotations")
        ElementTree.SubElement(self._root, "version").text = "1.1"
        node = self._root
        for tag in ("meta", "task", "labels"):
            node = ElementTree.SubElement(node, tag)
        for name in classes:
            label = ElementTree.SubElement(node, "label")
            ElementTree.SubElement(label, "name").text = name

    def add(self, image: str, labels: Integer[np.ndarray, "h w"]) -> None:
        """Adds the label map (0 background) of an image."""
        fields = {"id": self._count, "name": image}
        fields |= {"width": labels.shape[1], "height": labels.shape[0]}
        self._count += 1
        node = ElementTree.SubElement(self._root, "image", {k: str(v) for k, v in fields.items()})
        for value, name in enumerate(self._classes, 1):
            region = labels == value
            if not region.any():
                continue
            patch, left, top = raster.crop(region)
            lengths = ", ".join(str(n) for n in rle.runs(patch.ravel()))
            mask = {"label": name, "source": "auto", "occluded": 0, "rle": lengths, "left": left}
            mask |= {"top": top, "width": patch.shape[1], "height": patch.shape[0], "z_order": 0}
            ElementTree.SubElement(node, "mask", {k: str(v) for k, v in mask.items()})

    def content(self) -> str:
        """Returns the file."""
        ElementTree.indent(self._root)
        text = ElementTree.tostring(self._root, "unicode")
        return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'

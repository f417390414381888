"""Label Studio: JSON and JSON-MIN with brush run lengths, polygons, rectangles and ellipses."""

import json
import re
import urllib.parse
from collections.abc import Sequence
from typing import Any

import numpy as np
from etils import epath
from jaxtyping import Integer

from ganseg_jax.data.annotations import common, raster, rle
from ganseg_jax.data.annotations.common import Annotations, Drawing, Shape
from ganseg_jax.data.annotations.names import Names
from ganseg_jax.errors import UserError

_KINDS = {"rle": "brush", "points": "polygon", "radiusX": "ellipse", "width": "rectangle"}
"""Kind of a region by a field that only it has."""

_LABELS = ("brushlabels", "polygonlabels", "rectanglelabels", "ellipselabels", "labels")

BRUSH_FILE = re.compile(r"task-(\d+)-annotation-(\d+)-by-.*-tag-(.+)-(\d+)\.(png|npy)")
"""Name of a mask in the brush exports: task, annotation, class, number."""


_LIKE_A_FILE = re.compile(r"\.\w{3,4}($|[?#])|[?&]fileuri=")


def recognises(content: Any) -> bool:
    """Says whether JSON content is an export of Label Studio."""
    return isinstance(content, list) and all(
        isinstance(task, dict) and not {"image_id", "category_id"} <= set(task) for task in content
    )


def unwrapped(content: Any) -> Any:
    """Returns a list of tasks if content is one task, or an annotation of target storage."""
    if isinstance(content, dict) and isinstance(content.get("data"), dict):
        return [content]
    if isinstance(content, dict) and isinstance(content.get("result"), list):
        task = content.get("task")
        if isinstance(task, dict) and "data" in task:
            return [{"id": task.get("id"), "data": task["data"], "annotations": [content]}]
    return content


def read(path: epath.Path, content: list, names: Names) -> Annotations:
    """Reads the first annotation of each task that was not cancelled; others are left out.

    Positions are those in the image itself, also where a person has turned it in the tool.

    Raises:
      UserError: the file is malformed, or its image is missing; the task is named.
    """
    found = Annotations()
    called, images = _images(path, content, names)
    # Predictions that nobody looked at are labels only if there is nothing else.
    touched = any(task.get("annotations") or task.get("completions") for task in content)
    for task, name, image in zip(content, called, images, strict=True):
        where = f"{path}: task {task.get('id')}"
        if image is None:
            continue
        with common.reading(where):
            results = _results(task, where, found, touched)
            if not results:
                found.left_out.append((where, "has no annotation: not labelled"))
                continue
            labels = {r["id"]: label for r in results if "id" in r and (label := _label(r))}
            size, shapes, seen = None, [], set()
            for index, result in enumerate(results, 1):
                place = f"{where}: region {index}"
                with common.reading(place):
                    value = result.get("value", result)
                    kind = next((kind for field, kind in _KINDS.items() if field in value), None)
                    # With a tag for shapes and one for labels, a region is written twice.
                    label = _label(result) or labels.get(result.get("id"))
                    if result.get("id") in seen and result.get("id") is not None:
                        continue
                    if kind is None or label is None:
                        why = f"is a {result.get('type')}: no brush, polygon, rectangle or ellipse"
                        found.left_out.append((place, "has no label" if kind else why))
                        continue
                    if len(given := _labels(result)) > 1:
                        why = f"has the labels {', '.join(given)}: the first is taken"
                        found.left_out.append((place, why))
                    size = common.size_of(result["original_height"], result["original_width"])
                    if size is None:
                        raise TypeError("'original_height' must be a number")
                    shapes.append(Shape(label, _region(kind, value, size)))
                    seen.add(result.get("id"))
            if shapes:
                found.add(image, Drawing(str(path), size, shapes, name))
    found.note_images(str(path), called, images)
    return found.number_drawn()


def _images(
    path: epath.Path, content: Sequence[dict], names: Names
) -> tuple[list[str], list[str | None]]:
    """Returns what tasks call their images, and which these are."""
    called = []
    for task in content:
        with common.reading(f"{path}: task {task.get('id')}"):
            called.append(_image(task))
    return called, names.find_all(called, path)


def read_tasks(path: epath.Path, content: list, names: Names) -> dict[str, str]:
    """Returns the images of an export's tasks by the task's id."""
    _, images = _images(path, content, names)
    return {
        str(task["id"]): image
        for task, image in zip(content, images, strict=True)
        if "id" in task and image is not None
    }


def read_brush_file(path: epath.Path, tasks: dict[str, str]) -> Annotations:
    """Reads a mask of the brush export (PNG or NPY); the JSON export beside it says of what image.

    Raises:
      UserError: the task's image is not known, or the mask cannot be read.
    """
    match = BRUSH_FILE.fullmatch(path.name)
    assert match
    task, _, label, _, ending = match.groups()
    if task not in tasks:
        raise UserError(
            f"{path} does not say which image task {task} is of: put the project's JSON export "
            "beside it"
        )
    with common.reading(path):
        try:
            if ending == "png":
                patch = raster.png_mask(path.read_bytes())
            else:
                with path.open("rb") as file:
                    patch = np.load(file, allow_pickle=False)
                if patch.ndim != 2:
                    raise ValueError(f"its array has {patch.ndim} dimensions, not 2")
                patch = patch > 0
        # NumPy's reader raises many kinds of exceptions for damaged files.
        except Exception as error:
            raise ValueError(f"cannot be read as a mask: {error}") from error
    found = Annotations()
    shape = Shape(label, lambda s: raster.pasted(patch, 0, 0, s))
    size = (int(patch.shape[0]), int(patch.shape[1]))
    found.add(tasks[task], Drawing(str(path), size, [shape]))
    return found.number_drawn()


def _image(task: dict) -> str:
    data = task.get("data", task)
    fields = [v for v in data.values() if isinstance(v, str) and _LIKE_A_FILE.search(v)]
    if not fields:
        raise TypeError("no field of 'data' names an image")
    return str(data.get("image") or fields[0])


def _label(result: dict) -> str | None:
    return next(iter(_labels(result)), None)


def _labels(result: dict) -> list[str]:
    value = result.get("value", result)
    field = next((field for field in _LABELS if field in value), None)
    return [str(name).strip() for name in common.list_of(value, field)] if field else []


def _results(task: dict, where: str, found: Annotations, touched: bool) -> list[dict]:
    if "completions" in task:  # Of versions before 1.0.
        task = task | {"annotations": task["completions"]}
    if "annotations" in task or "data" in task:
        given = [
            a
            for a in (task.get("annotations" if touched else "predictions") or [])
            if not a.get("was_cancelled")
        ]
        if len(given) > 1:
            found.left_out.append((where, f"{len(given) - 1} annotations after the first"))
        return common.list_of(given[0], "result") if given else []
    return [
        entry
        for value in task.values()
        if isinstance(value, list)
        for entry in value
        if isinstance(entry, dict)
    ]


def _region(kind: str, value: dict, size: common.Size):
    height, width = size
    if kind == "brush":
        if not 0 < height * width <= 1 << 27:
            raise TypeError("the image's size is not possible")
        alpha = rle.label_studio_alpha(common.list_of(value, "rle"), height * width)
        region = (alpha > 0).reshape(height, width)
        return lambda s: region
    scale = np.array([width, height]) / 100
    if kind == "polygon":
        points = common.points_of(value["points"]) * scale
        return lambda s: raster.inside_polygon(points, s)
    x, y = (common.number(value[f], f) for f in "xy")
    turned = common.number(value.get("rotation") or 0, "rotation")
    if kind == "ellipse":
        rx, ry = [common.number(value[f], f) for f in ("radiusX", "radiusY")] * scale
        center = (x * scale[0], y * scale[1])
        return lambda s: raster.inside_ellipse(center, (float(rx), float(ry)), s, turned)
    right, bottom = (
        (x + common.number(value["width"], "width")),
        y + common.number(value["height"], "height"),
    )
    (left, top), (right, bottom) = (x, y) * scale, (right, bottom) * scale
    corners = raster.box_corners(left, top, right, bottom, turned, (left, top))
    return lambda s: raster.inside_polygon(corners, s)


class Writer:
    """Makes tasks whose predictions are label maps, as brush run lengths.

    The labelling interface needs `<BrushLabels name="tag" toName="image">`. The images are looked
    for in Label Studio's local storage.

    Args:
      classes: names without the background.
    """

    def __init__(self, classes: list[str]):
        self._classes = classes
        self._tasks: list[dict[str, Any]] = []

    def add(self, image: str, labels: Integer[np.ndarray, "h w"]) -> None:
        """Adds the label map (0 background) of an image."""
        task = len(self._tasks) + 1
        results = []
        for value, name in enumerate(self._classes, 1):
            region = labels == value
            if not region.any():
                continue
            brush = {"format": "rle", "rle": rle.label_studio_bytes(region.ravel())}
            result: dict[str, Any] = {"id": f"{task}-{value}", "type": "brushlabels"}
            result |= {"from_name": "tag", "to_name": "image", "image_rotation": 0}
            result |= {"original_height": labels.shape[0], "original_width": labels.shape[1]}
            results.append(result | {"value": brush | {"brushlabels": [name]}})
        data = {"image": f"/data/local-files/?d={urllib.parse.quote(image)}"}
        predictions = [{"model_version": "ganseg_jax", "result": results}]
        self._tasks.append({"id": task, "data": data, "predictions": predictions})

    def content(self) -> str:
        """Returns the file."""
        return json.dumps(self._tasks, ensure_ascii=False) + "\n"

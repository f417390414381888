"""Finds out in which formats a folder is labelled, and reads them."""

import functools
from collections.abc import Collection
from typing import Any

from etils import epath

from ganseg_jax.data.annotations import (
    coco,
    common,
    cvat,
    label_studio,
    labelme,
    supervisely,
    via,
    yolo,
)
from ganseg_jax.data.annotations.common import Annotations

_OTHER_FILES = (
    *("classes.json", "meta.json", "obj_class_to_machine_color.json", "labelmap.txt"),
    *(
        "_classes.csv",
        "label_colors.txt",
        "landmarks.csv",
        "parts.txt",
        "train.txt",
        "val.txt",
        "test.txt",
    ),
)


def read(directory: epath.Path, stems: Collection[str]) -> dict[str, Annotations]:
    """Reads all annotation files in a folder and the folders in it.

    Args:
      directory: the folder.
      stems: names of its images without ending.

    Returns:
      What each format holds, by the format's name.

    Raises:
      UserError: a file is malformed; it is named.
    """
    names = common.Names(stems)
    files = sorted(_files(directory))
    found: dict[str, Annotations] = {}
    tasks: dict[str, str] = {}
    yolo_names = functools.cache(functools.partial(_yolo_names, directory))
    for path in files:
        ending = path.suffix.lower()
        kind, read_here = None, None
        if path.name in (*_OTHER_FILES, *yolo.NAME_FILES):
            continue
        if ending == ".json":
            content = label_studio.unwrapped(common.read_json(path))
            with common.reading(path):
                kind, read_here = read_json(path, content, names)
                if kind == "Label Studio":
                    tasks |= label_studio.read_tasks(content, names)
        elif ending == ".xml":
            kind, read_here = "CVAT", cvat.read(path, names)
        elif ending == ".csv" and common.read_text(path).startswith(("filename,", "#filename,")):
            kind, read_here = "VIA", via.read_csv(path, names)
        elif ending == ".txt" and names.find(path.name):
            kind, read_here = "YOLO", yolo.read(path, yolo_names(path.parent), names)
        elif ending in (".csv", ".txt", ".zip"):
            kind, why = "other files", "is no annotation file that is known"
            why = "is packed: unpack it" if ending == ".zip" else why
            read_here = Annotations(left_out=[(str(path), why)])
        if kind is not None and read_here is not None:
            found.setdefault(kind, Annotations()).merge(read_here)
    for path in files:
        if label_studio.BRUSH_FILE.fullmatch(path.name):
            kind, read_here = "Label Studio brush", label_studio.read_brush_file(path, tasks, names)
            found.setdefault(kind, Annotations()).merge(read_here)
    if "Label Studio brush" in found and "Label Studio" in found:
        # The JSON export holds the same regions; here it only says which task is of which image.
        for stem in found["Label Studio brush"].drawings:
            found["Label Studio"].drawings.pop(stem, None)
    return found


def _yolo_names(top: epath.Path, folder: epath.Path) -> list[str]:
    """Returns the names that YOLO's classes have, by the nearest file; it may lie above `top`."""
    places = [folder, *folder.parents]
    for place in places[: places.index(top) + 2]:
        for name in yolo.NAME_FILES if place != top.parent else yolo.DATA_FILES:
            if (place / name).exists():
                return yolo.read_names(place / name)
    return []


def _files(directory: epath.Path) -> list[epath.Path]:
    found = []
    for path in directory.iterdir():
        if path.name.startswith("."):
            continue
        if path.is_dir():
            found += _files(path)
        elif path.suffix.lower() in (".json", ".xml", ".csv", ".txt", ".png", ".npy", ".zip"):
            found.append(path)
    return found


def read_json(path: epath.Path, content: Any, names: common.Names) -> tuple[str, Annotations]:
    """Reads JSON content in the format that it is in; returns the format's name too.

    Raises:
      UserError: it is malformed.
    """
    if coco.recognises(content):
        return "COCO", coco.read(path, content, names)
    if supervisely.recognises(content):
        return "Supervisely", supervisely.read(path, content, names)
    if labelme.recognises(content) or names.find(path.name):
        return "LabelMe", labelme.read(path, content, names)
    if via.recognises(content):
        return "VIA", via.read(path, content, names)
    if label_studio.recognises(content):
        return "Label Studio", label_studio.read(path, content, names)
    if isinstance(content, list):
        why = "is a list without the names of images, as COCO's results are: export annotations"
        return "other files", Annotations(left_out=[(str(path), why)])
    why = (
        "is neither a COCO file nor one of Label Studio, VIA or Supervisely, nor named after an "
        "image (LabelMe)"
    )
    return "other files", Annotations(left_out=[(str(path), why)])

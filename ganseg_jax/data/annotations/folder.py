"""Finds out in which formats a folder is labelled, and reads them."""

import functools
from collections.abc import Collection, Sequence
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
from ganseg_jax.data.annotations.names import Claim, Names
from ganseg_jax.data.images import is_image
from ganseg_jax.errors import UserError

_OTHER = "other files"
_MISSING = "annotates an image that the folder lacks"
_UNKNOWN = "is no annotation file that is known, nor named after an image of the folder"
_TEXT = "is text, not YOLO's lines of numbers"
_NOT_READ = {
    ".zip": "is packed: unpack it",
    ".gz": "is packed: unpack it",
    ".jsonl": "is JSON line by line: export one JSON file",
    ".ndjson": "is JSON line by line: export one JSON file",
    ".npy": "is an array: save label maps as PNG files of their indices, NAME_mask.png",
    ".mat": "is an array: save label maps as PNG files of their indices, NAME_mask.png",
}
_ONE_FOR_EACH = ("LabelMe", "Supervisely", "YOLO")
"""Formats with a file for each image."""

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


def read(directory: epath.Path, images: Collection[str]) -> dict[str, Annotations]:
    """Reads all annotation files in a folder and the folders in it.

    Args:
      directory: the folder.
      images: paths of its images below it.

    Returns:
      What each format holds, by the format's name.

    Raises:
      UserError: a file is malformed, or does not say which image it is of; it is named.
    """
    names = Names(images, directory)
    files = sorted(_files(directory))
    claims = {
        file: claim
        for ending in (".json", ".txt")
        for file, claim in names.of_files(_named_after_images(files, ending)).items()
    }
    found: dict[str, Annotations] = {}
    tasks: dict[str, str] = {}
    yolo_names = functools.cache(functools.partial(_yolo_names, directory))
    for path in files:
        ending = path.suffix.lower()
        claim = claims.get(path, Claim())
        kind, read_here = "", Annotations()
        if path.name in (*_OTHER_FILES, *yolo.NAME_FILES):
            continue
        if ending == ".json":
            content = label_studio.unwrapped(common.read_json(path))
            with common.reading(path):
                kind, read_here = read_json(path, content, names, claim)
                if kind == "Label Studio":
                    tasks |= label_studio.read_tasks(path, content, names)
        elif ending == ".xml":
            kind, read_here = "CVAT", cvat.read(path, names)
        elif ending == ".csv" and common.read_text(path).startswith(("filename,", "#filename,")):
            kind, read_here = "VIA", via.read_csv(path, names)
        elif ending == ".txt" and claim.images:
            known = yolo_names(path.parent)
            if known is None and yolo.is_text(path):
                kind, read_here = _OTHER, Annotations(left_out=[(str(path), _TEXT)])
            else:
                image = names.only(claim, path)
                kind, read_here = "YOLO", yolo.read(path, known or [], image)
        elif ending in (".csv", ".txt", *_NOT_READ) and not _is_brush(path):
            why = _NOT_READ.get(ending) or claim.lost or _UNKNOWN
            kind, read_here = _OTHER, Annotations(left_out=[(str(path), why)])
        if kind:
            _merge(found.setdefault(kind, Annotations()), read_here, kind)
    for path in files:
        if _is_brush(path):
            read_here = label_studio.read_brush_file(path, tasks)
            found.setdefault("Label Studio brush", Annotations()).merge(read_here)
    if "Label Studio brush" in found and "Label Studio" in found:
        # The JSON export holds the same regions; here it only says which task is of which image.
        for image in found["Label Studio brush"].drawings:
            found["Label Studio"].drawings.pop(image, None)
    return found


def _named_after_images(files: Sequence[epath.Path], ending: str) -> list[epath.Path]:
    others = (*_OTHER_FILES, *yolo.NAME_FILES)
    return [file for file in files if file.suffix.lower() == ending and file.name not in others]


def _merge(found: Annotations, more: Annotations, kind: str) -> None:
    """Adds what a file holds; says which images another file of the format has too.

    Raises:
      UserError: the format has one file for an image, and this is the second.
    """
    for image, drawing in more.drawings.items():
        before = found.drawings.get(image)
        if before is None:
            continue
        if kind in _ONE_FOR_EACH:
            whole = f"{image.rpartition('/')[2]}{epath.Path(drawing.where).suffix}"
            raise UserError(
                f"{before.where} and {drawing.where} both label {image}: keep one of them, or name "
                f"them in full, such as {whole}"
            )
        why = f"is in {before.where} too: what both have is drawn"
        found.left_out.append((f"{drawing.where}: {image}", why))
    found.merge(more)


def _yolo_names(top: epath.Path, folder: epath.Path) -> list[str] | None:
    """Returns the names that YOLO's classes have, by the nearest file; it may lie above `top`.

    None if there is no such file.
    """
    places = [folder, *folder.parents]
    for place in places[: places.index(top) + 2]:
        for name in yolo.NAME_FILES if place != top.parent else yolo.DATA_FILES:
            if (place / name).exists():
                return yolo.read_names(place / name)
        if place != top.parent and (other := yolo.other_data_file(place)):
            return yolo.read_names(other)
    return None


def _is_brush(path: epath.Path) -> bool:
    return label_studio.BRUSH_FILE.fullmatch(path.name) is not None


def _files(directory: epath.Path) -> list[epath.Path]:
    found = []
    for path in directory.iterdir():
        if path.name.startswith("."):
            continue
        if path.is_dir():
            found += _files(path)
        elif path.suffix.lower() in (".json", ".xml", ".csv", ".txt", ".png", *_NOT_READ):
            found.append(path)
    return found


def read_json(
    path: epath.Path, content: Any, names: Names, claim: Claim
) -> tuple[str, Annotations]:
    """Reads JSON content in the format that it is in; returns the format's name too.

    Args:
      path: the file.
      content: of it.
      names: find its images.
      claim: the image that the file is named after.

    Raises:
      UserError: it is malformed, or does not say which image it is of.
    """
    if coco.recognises(content):
        return "COCO", coco.read(path, content, names)
    if supervisely.recognises(content):
        if not claim.images:
            return "Supervisely", Annotations(left_out=[(str(path), claim.lost or _MISSING)])
        return "Supervisely", supervisely.read(path, content, names.only(claim, path))
    # What a camera or a shop writes as a.jpg.json is something else.
    if labelme.recognises(content) or (claim.images and not is_image(path.stem)):
        image = None if claim.lost else labelme.image_of(path, content, names, claim)
        if image is None:
            return "LabelMe", Annotations(left_out=[(str(path), claim.lost or _MISSING)])
        return "LabelMe", labelme.read(path, content, image)
    if via.recognises(content):
        return "VIA", via.read(path, content, names)
    if label_studio.recognises(content):
        return "Label Studio", label_studio.read(path, content, names)
    if isinstance(content, list):
        why = "is a list without the names of images, as COCO's results are: export annotations"
        return _OTHER, Annotations(left_out=[(str(path), why)])
    why = (
        "is neither a COCO file nor one of Label Studio, VIA or Supervisely, nor named after an "
        "image (LabelMe)"
    )
    return _OTHER, Annotations(left_out=[(str(path), why)])

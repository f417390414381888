"""TFDS builders of the cars and horses of PASCAL-Part, each object cut out of its photo."""

import io
import pathlib
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import scipy.io
from PIL import Image

from ganseg_jax.data import images
from ganseg_jax.data.builders import base
from ganseg_jax.errors import UserError

_MIN_SIDE = 50


class _PascalPart(base.SetBuilder, skip_registration=True):  # type: ignore[call-arg]  # TFDS has no types.
    """Holds objects of at least 50 x 50 px, cut out at their bounding boxes.

    Splits: VOC 2010's `train`, and its `val` as `test`, since its test images have no annotations.
    What an object's mask holds beside the named parts belongs to the part `REST`.
    """

    CITATION = "Chen, Mottaghi, Liu, Fidler, Urtasun, Yuille: Detect What You Can, CVPR 2014."
    LAYOUT = (
        "a folder with Annotations_Part/ (roozbehm.info/pascal-parts) and VOC2010's JPEGImages/ "
        "and ImageSets/Main/ (host.robots.ox.ac.uk/pascal/VOC/voc2010)"
    )
    OBJECT: ClassVar[str]
    REST: ClassVar[str]
    # Part -> beginnings of the names that the annotations give to its pieces.
    GROUPS: ClassVar[dict[str, tuple[str, ...]]]

    def list_splits(self) -> Mapping[str, list[tuple[str, int]]]:
        self._annotations = self.find("Annotations_Part")
        self._images = self.find("JPEGImages")
        lists = self.find("ImageSets/Main")
        splits = {}
        for split, file in (("train", "train.txt"), ("test", "val.txt")):
            path = lists / file
            if not path.exists():
                raise UserError(f"{path} is missing; {self.name} is built from {self.LAYOUT}")
            names = [line.split()[0] for line in path.read_text().splitlines() if line.strip()]
            splits[split] = [key for name in names for key in self._find_objects(name)]
        return splits

    def read_item(self, item: tuple[str, int]) -> base.Example:
        name, index = item
        found = _objects(self._annotations / f"{name}.mat")[index]
        top, bottom, left, right = _bounds(found.mask)
        labels = np.zeros(found.mask.shape, np.uint8)
        rest = list(self.GROUPS).index(self.REST) + 1
        labels[found.mask > 0] = rest
        for part in np.atleast_1d(found.parts):
            label = self._label(part.part_name)
            # The sides of a car cover its wheels, so pieces of the rest are never painted.
            if label not in (None, rest):
                labels[part.mask > 0] = label
        photo = images.decode_rgb(self.read(self._images / f"{name}.jpg"))
        if photo.shape[:2] != labels.shape:
            raise UserError(f"{name}.jpg and its annotation differ in size; get them again")
        buffer = io.BytesIO()
        Image.fromarray(photo[top:bottom, left:right]).save(buffer, "JPEG", quality=95)
        return base.Example(
            name=f"{name}_{index}.jpg",
            image=buffer.getvalue(),
            labels=np.ascontiguousarray(labels[top:bottom, left:right]),
        )

    def _label(self, part_name: str) -> int | None:
        for label, beginnings in enumerate(self.GROUPS.values(), start=1):
            if part_name.startswith(beginnings):
                return label
        return None

    def _find_objects(self, name: str) -> list[tuple[str, int]]:
        path = self._annotations / f"{name}.mat"
        if not path.exists():
            return []  # only part of VOC is annotated
        keys = []
        for index, found in enumerate(_objects(path)):
            if _class_of(found) != self.OBJECT:
                continue
            top, bottom, left, right = _bounds(found.mask)
            if min(bottom - top, right - left) >= _MIN_SIDE:
                keys.append((name, index))
        return keys


class PascalPartCar(_PascalPart):
    """Builds cars: wheels, windows, plates, lights and the body."""

    DESCRIPTION = "Cars of PASCAL VOC 2010 with five parts."
    OBJECT, REST = "car", "body"
    GROUPS = {
        "wheel": ("wheel",),
        "window": ("window",),
        "plate": ("fliplate", "bliplate"),
        "light": ("headlight",),
        "body": (
            *("leftside", "rightside", "frontside", "backside", "roofside", "door"),
            *("leftmirror", "rightmirror"),
        ),
    }
    part_names = tuple(GROUPS)


class PascalPartHorse(_PascalPart):
    """Builds horses: head, neck and torso, legs, tail."""

    DESCRIPTION = "Horses of PASCAL VOC 2010 with four parts."
    OBJECT, REST = "horse", "neck and torso"
    GROUPS = {
        "head": ("head", "lear", "rear", "leye", "reye", "muzzle"),
        "neck and torso": ("neck", "torso"),
        "leg": ("lf", "rf", "lb", "rb"),
        "tail": ("tail",),
    }
    part_names = tuple(GROUPS)


def _objects(path: pathlib.Path) -> list[Any]:
    try:
        annotation = scipy.io.loadmat(path, squeeze_me=True, struct_as_record=False)["anno"]
        return list(np.atleast_1d(annotation.objects))
    # A damaged file can fail in any way.
    except Exception as error:  # noqa: BLE001
        raise UserError(f"{path} cannot be read ({error}); get it again") from error


def _class_of(found: Any) -> str:
    # `class` is a word of the language, so the field cannot be written with a dot.
    return getattr(found, "class")


def _bounds(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return 0, 0, 0, 0
    return int(rows[0]), int(rows[-1]) + 1, int(cols[0]), int(cols[-1]) + 1

"""TFDS builders of DeepFashion's in-shop photos: clothing labels, and body landmarks."""

import csv
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import UInt8

from ganseg_jax.data import images
from ganseg_jax.data.builders import base
from ganseg_jax.errors import UserError

_CITATION = (
    "Liu, Luo, Qiu, Wang, Tang: DeepFashion, powering robust clothes recognition, CVPR 2016."
)

COLORS = (
    *((0, 100, 0), (16, 78, 139), (50, 205, 50), (70, 130, 180), (127, 255, 212)),
    *((144, 238, 144), (211, 211, 211), (220, 220, 220), (245, 222, 179), (250, 235, 215)),
    *((255, 0, 0), (255, 140, 0), (255, 250, 205), (255, 250, 250), (255, 255, 0)),
)
"""The colours of the clothing labels; black is background."""

_FRAME = 256
"""Side in pixels of the photos that the landmarks are given in."""


class DeepfashionParsing(base.SetBuilder):
    """Builds the in-shop photos with clothing labels; query and gallery photos are the test.

    The publisher's masks are colours, so parts are named by their colour.
    """

    DESCRIPTION = "In-shop clothing photos with 15 labels."
    CITATION = _CITATION
    LAYOUT = (
        "the folder 'In-shop Clothes Retrieval Benchmark' with Anno/segmentation/, which holds "
        "DeepFashion_segmentation_train.json, _query.json, _gallery.json and the photos with "
        "their _segment.png (mmlab.ie.cuhk.edu.hk/projects/DeepFashion.html)"
    )
    EXPECTED_COUNTS = {"test": 6922}
    part_names = tuple("#" + "".join(f"{value:02x}" for value in color) for color in COLORS)

    def list_splits(self) -> Mapping[str, list[str]]:
        first = "DeepFashion_segmentation_train.json"
        self._root = self.find(f"Anno/segmentation/{first}", first).parent
        return {
            "train": self._names("train"),
            "test": self._names("query") + self._names("gallery"),
        }

    def read_item(self, item: str) -> base.Example:
        # The lists name photos below the folder they lie in, or below the benchmark's own.
        folders = (self._root, self._root.parent.parent)
        path = next((f / item for f in folders if (f / item).is_file()), self._root / item)
        data = self.read(path)
        height, width = images.image_size(data, camera_rotation=False)
        mask_name = str(pathlib.PurePosixPath(item).with_suffix("")) + "_segment.png"
        picture = images.decode_rgb(self.read(self._root / mask_name))
        if picture.shape[:2] != (height, width):
            raise UserError(f"{mask_name} is not of its photo's size; get it again")
        return base.Example(item, data, labels=clothing(picture, mask_name))

    def _names(self, part: str) -> list[str]:
        file = self._root / f"DeepFashion_segmentation_{part}.json"
        try:
            content = json.loads(self.read(file))
            return [str(entry["file_name"]) for entry in content["images"]]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{file} is no list of photos ({error}); get it again") from error


class DeepfashionKeypoints(base.SetBuilder):
    """Builds 10,604 / 1,179 full-body photos of 256 px with body landmarks (Lorenz et al. 2019)."""

    DESCRIPTION = "Full-body in-shop photos with body landmarks."
    CITATION = _CITATION
    LAYOUT = (
        "a folder with img/, data_train.csv, data_test.csv, data_train.json and data_test.json "
        "(the lists of unsupervised-disentangling, github.com/theRealSuperMario)"
    )
    EXPECTED_COUNTS = {"train": 10604, "test": 1179}

    def __init__(self, *, source: str | pathlib.Path | None = None, **kwargs: Any):
        self._points: dict[tuple[str, str], np.ndarray] = {}
        self._splits: dict[str, list[tuple[str, str]]] = {}
        self.landmark_names = ()
        if source is not None:
            root = _find_lists(pathlib.Path(source), self.LAYOUT)
            for split in ("train", "test"):
                names, points = _read_lists(root, split)
                self._splits[split] = [(split, name) for name in names]
                self._points |= {(split, n): p for n, p in zip(names, points, strict=True)}
            count = len(next(iter(self._points.values())))
            self.landmark_names = tuple(f"joint {i}" for i in range(1, count + 1))
            self._root = root / "img" if (root / "img").is_dir() else root
        super().__init__(source=source, **kwargs)

    def list_splits(self) -> Mapping[str, list[tuple[str, str]]]:
        return self._splits

    def read_item(self, item: tuple[str, str]) -> base.Example:
        _, name = item
        xy = self._points[item]
        return base.Example(name, self.read(self._root / name), landmarks=xy[:, ::-1] / _FRAME)


def clothing(picture: UInt8[np.ndarray, "h w 3"], name: str) -> UInt8[np.ndarray, "h w"]:
    """Returns the labels of a coloured mask: 0 background, 1 to 15 in the order of `COLORS`.

    Raises:
      UserError: it has another colour; the line says which.
    """
    codes = picture.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])
    numbers = {0: 0}
    for number, (red, green, blue) in enumerate(COLORS, start=1):
        numbers[red << 16 | green << 8 | blue] = number
    found, where = np.unique(codes, return_inverse=True)
    if unknown := [int(code) for code in found if int(code) not in numbers]:
        raise UserError(f"{name} has the unknown colour #{unknown[0]:06x}; get it again")
    labels = np.array([numbers[int(code)] for code in found], np.uint8)
    return labels[where].reshape(codes.shape)


def _find_lists(source: pathlib.Path, layout: str) -> pathlib.Path:
    try:
        return base.find_root(source, "data_train.csv")
    except FileNotFoundError as error:
        raise UserError(
            f"{source} has no {error}; deepfashion_keypoints is built from {layout}"
        ) from error


def _read_lists(root: pathlib.Path, split: str) -> tuple[list[str], list[np.ndarray]]:
    """Reads the file names of a split from its CSV list, and the landmarks (x, y) from its JSON."""
    table, points = root / f"data_{split}.csv", root / f"data_{split}.json"
    for file in (table, points):
        if not file.exists():
            raise UserError(f"{file} is missing; is the data complete?")
    try:
        with table.open(newline="") as lines:
            names = [row[1].strip() for row in list(csv.reader(lines))[1:] if row]
        found = [np.array(entry["keypoints"], float) for entry in json.loads(points.read_bytes())]
    except (ValueError, IndexError, KeyError, TypeError) as error:
        raise UserError(f"{table} or {points.name} cannot be read ({error})") from error
    shapes = {one.shape for one in found}
    if len(names) != len(found) or len(shapes) != 1 or next(iter(shapes))[1:] != (2,):
        raise UserError(
            f"{table} names {len(names)} photos, {points.name} has landmarks (x, y) of "
            f"{len(found)}; get them again"
        )
    return names, found

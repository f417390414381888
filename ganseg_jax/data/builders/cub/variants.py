"""TFDS builders of CUB-200-2011 as papers on keypoints use it: official split, cut-out birds."""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.io

from ganseg_jax.data import images
from ganseg_jax.data.builders import base
from ganseg_jax.data.builders.cub import lists
from ganseg_jax.data.builders.cub.builder import LANDMARKS
from ganseg_jax.errors import UserError

_CITATION = "Wah, Branson, Welinder, Perona, Belongie: The Caltech-UCSD Birds-200-2011 Dataset."
_CATEGORIES = ("001", "002", "003")
_MULTIPLE = 16
"""The published preparation cuts photos to multiples of this many pixels first."""


class BoxedBirds(base.SetBuilder, skip_registration=True):  # type: ignore[call-arg]  # TFDS has no types.
    """Builds whole photos in the official split, with landmarks and the bird's bounding box."""

    MAX_SIDE = images.WHOLE
    has_boxes = True

    def list_splits(self) -> Mapping[str, list[lists.Bird]]:
        assert self.landmark_names is not None
        self._root = self.find("images.txt").parent
        birds = lists.read_birds(self._root, len(self.landmark_names))
        return {
            "train": [bird for bird in birds if bird.training],
            "test": [bird for bird in birds if not bird.training],
        }

    def read_item(self, item: lists.Bird) -> base.Example:
        data = self.read(self._root / "images" / item.path)
        example = item.relative(*images.image_size(data, camera_rotation=False))
        example.image = data
        return example


class CubOfficial(BoxedBirds):
    """Builds 11,788 birds in the official split, 5,994 / 5,794."""

    DESCRIPTION = "Birds with 15 landmarks and bounding boxes, official split."
    CITATION = _CITATION
    LAYOUT = "the folder CUB_200_2011 (www.vision.caltech.edu/datasets/cub_200_2011)"
    EXPECTED_COUNTS = {"train": 5994, "test": 5794}
    landmark_names = LANDMARKS


class _CutOut(base.SetBuilder, skip_registration=True):  # type: ignore[call-arg]  # TFDS has no types.
    """Cuts birds out as AutoLink does, at the square around the box, as far as the photo goes."""

    CITATION = _CITATION
    MAX_SIDE = images.WHOLE
    landmark_names = LANDMARKS

    def read_item(self, item: lists.Bird) -> base.Example:
        photo = images.decode_rgb(self.read(self._root / "images" / item.path))
        left, top, right, bottom, shift = square(photo.shape[0], photo.shape[1], item.box)
        x, y, visible = item.parts.T
        x, y = x - shift[0], y - shift[1]
        height, width = photo.shape[0] // _MULTIPLE, photo.shape[1] // _MULTIPLE
        # The published preparation hides what lies in the border that it cuts off.
        inside = (x >= 0) & (y >= 0) & (x < width * _MULTIPLE) & (y < height * _MULTIPLE)
        rows, cols = (
            slice(*(round(edge) + offset for edge in edges))
            for edges, offset in (((top, bottom), shift[1]), ((left, right), shift[0]))
        )
        return base.Example(
            name=item.path,
            image=images.encode_jpeg(photo[rows, cols]),
            landmarks=np.stack([(y - top) / (bottom - top), (x - left) / (right - left)], axis=-1),
            visible=(visible > 0) & inside,
        )

    _root: pathlib.Path


class CubThree(_CutOut):
    """Builds the first three categories: their 90 training images, and each one's test images."""

    DESCRIPTION = "Birds of three categories, cut out, with 15 landmarks."
    LAYOUT = CubOfficial.LAYOUT
    EXPECTED_COUNTS = {"train": 90, "test_001": 30, "test_002": 30, "test_003": 28}

    def list_splits(self) -> Mapping[str, list[lists.Bird]]:
        self._root = self.find("images.txt").parent
        birds = lists.read_birds(self._root, len(LANDMARKS))
        birds = [bird for bird in birds if bird.path.startswith(_CATEGORIES)]
        splits = {"train": [bird for bird in birds if bird.training]}
        for category in _CATEGORIES:
            splits[f"test_{category}"] = [
                bird for bird in birds if bird.path.startswith(category) and not bird.training
            ]
        return splits


class CubAligned(_CutOut):
    """Builds the birds of CMR's lists, 5,964 / 2,874, cut out."""

    DESCRIPTION = "Birds cut out at their boxes, with 15 landmarks."
    LAYOUT = (
        "a folder with CUB_200_2011/ (www.vision.caltech.edu/datasets/cub_200_2011) and CMR's "
        "cachedir/cub/data/train_cub_cleaned.mat and test_cub_cleaned.mat "
        "(github.com/akanazawa/cmr)"
    )
    EXPECTED_COUNTS = {"train": 5964, "test": 2874}

    def list_splits(self) -> Mapping[str, list[lists.Bird]]:
        self._root = self.find("images.txt").parent
        splits = {}
        for split in ("train", "test"):
            name = f"{split}_cub_cleaned.mat"
            file = self.find(f"cachedir/cub/data/{name}", f"cub/data/{name}", f"data/{name}", name)
            splits[split] = _read_cleaned(file)
        return splits


def square(
    height: int, width: int, box: np.ndarray
) -> tuple[float, float, float, float, tuple[int, int]]:
    """Returns where a bird is cut out.

    The photo is cut to multiples of 16 px first, evenly on both sides. The square has the longer
    side of the box and its middle, and ends where the photo ends.

    Args:
      height: of the photo, in pixels.
      width: likewise.
      box: x, y, width, height in pixels of the photo.

    Returns:
      Left, top, right and bottom edge in pixels of the cut photo, and how many pixels (x, y) were
      cut off before it.
    """
    cut = (width % _MULTIPLE, height % _MULTIPLE)
    shift = (cut[0] // 2, cut[1] // 2)
    half = max(box[2], box[3]) / 2
    middle = (box[0] + box[2] / 2, box[1] + box[3] / 2)
    low, high = [], []
    for axis, size in enumerate((width, height)):
        # The far edge is not moved with the border in the published preparation.
        low.append(max(0.0, max(0.0, middle[axis] - half) - shift[axis]))
        high.append(min(float(size - cut[axis]), middle[axis] + half))
    return low[0], low[1], high[0], high[1], shift


def _read_cleaned(file: pathlib.Path) -> list[lists.Bird]:
    try:
        table = scipy.io.loadmat(file, struct_as_record=False, squeeze_me=True)
        found: Any = np.atleast_1d(table["images"])
        return [
            lists.Bird(
                str(one.rel_path),
                file.name.startswith("train"),
                np.asarray(one.parts, float).T,
                np.array(
                    [
                        *(one.bbox.x1, one.bbox.y1),
                        *(one.bbox.x2 - one.bbox.x1, one.bbox.y2 - one.bbox.y1),
                    ],
                    float,
                ),
            )
            for one in found
        ]
    # A damaged file can fail in any way.
    except Exception as error:  # noqa: BLE001
        raise UserError(f"{file} cannot be read ({error}); get it again") from error

"""TFDS builders of CelebA, with the landmark splits of MAFL.

Training images are CelebA's training partition without MAFL's test images; MAFL's training images
stay in, since training sees no landmarks.
"""

import concurrent.futures
import os
import pathlib
from collections.abc import Mapping

import numpy as np
import tensorflow_datasets as tfds
from tqdm import tqdm

from ganseg_jax.data import images
from ganseg_jax.data.builders import base
from ganseg_jax.errors import UserError

_FACE_SHARE = 0.3
_WHERE = (
    "list_eval_partition.txt (mmlab.ie.cuhk.edu.hk/projects/CelebA.html) and MAFL's training.txt "
    "and testing.txt (mmlab.ie.cuhk.edu.hk/projects/TCDCN.html)"
)


class _Celeba(base.SetBuilder, skip_registration=True):  # type: ignore[call-arg]  # TFDS has no types.
    """Builds both sets; `test` has the images of `landmark_test`, as other sets have a test."""

    CITATION = "Liu, Luo, Wang, Tang: Deep Learning Face Attributes in the Wild, ICCV 2015."
    VERSION = tfds.core.Version("2.0.0")
    MAX_SIDE = images.WHOLE
    IMAGE_FOLDER: str
    LANDMARK_LIST: str

    landmark_names = ("left eye", "right eye", "nose", "left mouth corner", "right mouth corner")

    def list_splits(self) -> Mapping[str, list[str]]:
        self._folder = self.find(self.IMAGE_FOLDER)
        if (self._folder / self.IMAGE_FOLDER).is_dir():  # Kaggle's archive has it twice.
            self._folder /= self.IMAGE_FOLDER
        self._landmarks = self.find_list(self.LANDMARK_LIST, columns=10)
        partition = self.find_list("list_eval_partition.txt", columns=1)
        mafl = {
            split: self.find(f"MAFL/{split}.txt", f"{split}.txt").read_text().split()
            for split in ("training", "testing")
        }
        testing = set(mafl["testing"])
        training = [n for n, (part,) in partition.items() if part == 0 and n not in testing]
        test = self.select(mafl["testing"])
        return {
            "train": self.select(training),
            "landmark_train": self.select(mafl["training"]),
            "landmark_test": test,
            "test": test,
        }

    def find_list(self, name: str, columns: int) -> dict[str, np.ndarray]:
        """Reads a list, as its publisher has it or as Kaggle's .csv."""
        return read_list(self.find(name, name.removesuffix(".txt") + ".csv"), columns)

    def select(self, names: list[str]) -> list[str]:
        """Keeps the images that the protocol uses."""
        return names

    def read_item(self, item: str) -> base.Example:
        if item not in self._landmarks:
            raise UserError(f"{self.LANDMARK_LIST} has no line for {item}; get it again")
        data = self.read(self._folder / item)
        height, width = images.image_size(data, camera_rotation=False)
        xy = self._landmarks[item].reshape(5, 2)
        # A few points lie slightly outside of their image, and stay there: errors are measured to
        # the points as published.
        landmarks = xy[:, ::-1] / np.array([height, width])
        return base.Example(item, data, landmarks=landmarks)


class CelebaWild(_Celeba):
    """Builds CelebA-in-the-wild: images whose face box covers at least 30 % of them."""

    DESCRIPTION = "Uncropped CelebA photos in which the face is large, with five landmarks."
    LAYOUT = "a folder with img_celeba/, list_bbox_celeba.txt, list_landmarks_celeba.txt, " + _WHERE
    EXPECTED_COUNTS = {"train": 45609, "landmark_train": 5379, "landmark_test": 283, "test": 283}
    IMAGE_FOLDER = "img_celeba"
    LANDMARK_LIST = "list_landmarks_celeba.txt"

    def list_splits(self) -> Mapping[str, list[str]]:
        self._boxes = self.find_list("list_bbox_celeba.txt", columns=4)
        return super().list_splits()

    def select(self, names: list[str]) -> list[str]:
        with concurrent.futures.ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            large = tqdm(
                pool.map(self._has_large_face, names),
                desc=f"{self.name} sizes",
                total=len(names),
                unit=" images",
                disable=None if self._progress else True,
            )
            return [name for name, keep in zip(names, large, strict=True) if keep]

    def _has_large_face(self, name: str) -> bool:
        try:
            height, width = images.image_size(self.read(self._folder / name), camera_rotation=False)
        except images.ImageError as error:
            raise UserError(f"{self._folder / name}: {error}; get it again") from error
        if name not in self._boxes:
            raise UserError(f"list_bbox_celeba.txt has no line for {name}; get it again")
        _, _, box_width, box_height = self._boxes[name]
        return box_width * box_height >= _FACE_SHARE * height * width


class CelebaAligned(_Celeba):
    """Builds CelebA, aligned and cropped to 178 x 218 px."""

    DESCRIPTION = "Aligned CelebA faces with five landmarks."
    LAYOUT = "a folder with img_align_celeba/, list_landmarks_align_celeba.txt, " + _WHERE
    EXPECTED_COUNTS = {
        **{"train": 161962, "landmark_train": 19000, "landmark_test": 1000, "test": 1000},
    }
    IMAGE_FOLDER = "img_align_celeba"
    LANDMARK_LIST = "list_landmarks_align_celeba.txt"


def read_list(path: pathlib.Path, columns: int) -> dict[str, np.ndarray]:
    """Reads one of CelebA's lists: lines of a file name and `columns` integers, or the like as CSV.

    Headers, which have other shapes, are passed over.

    Raises:
      UserError: if no line fits.
    """
    table = {}
    with path.open() as lines:
        for line in lines:
            name, *cells = line.replace(",", " ").split() or [""]
            if len(cells) == columns and name.endswith((".jpg", ".png")):
                table[name] = np.array(cells, dtype=np.int64)
    if not table:
        raise UserError(f"{path} is no list of file names with {columns} numbers each")
    return table

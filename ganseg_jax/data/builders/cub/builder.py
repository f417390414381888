"""TFDS builder of CUB-200-2011: birds with foreground masks and 15 parts."""

from collections.abc import Mapping

import numpy as np
import tensorflow_datasets as tfds

from ganseg_jax.data import images
from ganseg_jax.data.builders import base
from ganseg_jax.data.builders.cub.lists import read_lines
from ganseg_jax.errors import UserError

LANDMARKS = (
    *("back", "beak", "belly", "breast", "crown", "forehead", "left eye", "left leg"),
    *("left wing", "nape", "right eye", "right leg", "right wing", "tail", "throat"),
)
"""Names of the 15 landmarks."""

_SPLIT_CODES = {"0": "train", "1": "validation", "2": "test"}


class Cub(base.SetBuilder):
    """Builds 11,788 birds in ReDO's split, 10,000 / 788 / 1,000 (Chen, Artieres, Denoyer 2019)."""

    VERSION = tfds.core.Version("2.0.0")
    TRUTH_RULE = "above_half"
    MAX_SIDE = images.WHOLE

    DESCRIPTION = "Birds with foreground masks and 15 parts."
    CITATION = "Wah, Branson, Welinder, Perona, Belongie: The Caltech-UCSD Birds-200-2011 Dataset."
    LAYOUT = (
        "a folder with CUB_200_2011/ and segmentations/ (www.vision.caltech.edu/datasets/"
        "cub_200_2011) and train_val_test_split.txt (github.com/mickaelChen/ReDO)"
    )
    EXPECTED_COUNTS = {"train": 10000, "validation": 788, "test": 1000}

    part_names = ("bird",)
    landmark_names = LANDMARKS

    def list_splits(self) -> Mapping[str, list[str]]:
        # The archive's own root; `images` alone would also match a folder beside it.
        self._root = self.find("images.txt").parent
        self._masks = self.find("segmentations")
        paths = dict(line.split(maxsplit=1) for line in read_lines(self._root / "images.txt"))
        codes = dict(
            line.split()
            for line in read_lines(
                self.find("train_val_test_split.txt", "cub_train_val_test_split.txt")
            )
        )
        self._landmarks = self._read_parts(paths)
        splits: dict[str, list[str]] = {split: [] for split in _SPLIT_CODES.values()}
        for number, path in paths.items():
            if codes.get(number) not in _SPLIT_CODES:
                raise UserError(f"train_val_test_split.txt has no split 0, 1 or 2 for {number}")
            splits[_SPLIT_CODES[codes[number]]].append(path)
        return splits

    def read_item(self, item: str) -> base.Example:
        data = self.read(self._root / "images" / item)
        height, width = images.image_size(data, camera_rotation=False)
        mask_path = (self._masks / item).with_suffix(".png")
        mask = images.decode_labels(self.read(mask_path))
        # Grey levels are the share of annotators; a few masks have several equal channels.
        mask = mask[..., 0] if mask.ndim == 3 else mask
        if mask.shape != (height, width):
            raise UserError(f"{mask_path} is not of its image's size; get it again")
        x, y, visible = self._landmarks[item].T
        return base.Example(
            name=item,
            image=data,
            labels=np.ascontiguousarray(mask),
            landmarks=np.stack([y / height, x / width], axis=-1),
            visible=visible > 0,
        )

    def _read_parts(self, paths: dict[str, str]) -> dict[str, np.ndarray]:
        """Reads the part locations of each image: (15, 3) of x, y in pixels, visible."""
        file = self._root / "parts" / "part_locs.txt"
        if not file.exists():
            file = self.find("part_locs.txt")
        count = len(self.landmark_names)
        table = {path: np.zeros((count, 3)) for path in paths.values()}
        for line in read_lines(file):
            number, part, *values = line.split()
            table[paths[number]][int(part) - 1] = [float(value) for value in values]
        return table

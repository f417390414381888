"""TFDS builder of the Taichi set of motion co-segmentation: video frames, landmarks, masks."""

from collections.abc import Mapping

import numpy as np
import tensorflow_datasets as tfds

from ganseg_jax.data import images
from ganseg_jax.data.builders import base
from ganseg_jax.data.builders.taichi import tables
from ganseg_jax.errors import UserError

_TRAINING_VIDEOS = 3049


class Taichi(base.SetBuilder):
    """Holds frames of 3,049 training videos; 5,000 and 300 with landmarks, the latter with masks.

    Splits: `train`, all frames of the training videos; `landmark_train`, to fit regressions;
    `test`.  Missing landmarks (-1 in the tables) are not visible.
    """

    VERSION = tfds.core.Version("2.0.0")
    TRUTH_RULE = "white"

    DESCRIPTION = "Tai chi video frames with 18 landmarks and foreground masks."
    CITATION = "Siarohin et al.: Motion-supervised Co-Part Segmentation, ICPR 2020."
    LAYOUT = (
        "a folder with train/VIDEO/*.png, eval_images/taichi-256/train/, eval_images/taichi-256/"
        "test/, taichi-test-masks/ and landmark/taichi_train_gt.pkl, landmark/taichi_test_gt.pkl "
        "(github.com/AliaksandrSiarohin/motion-cosegmentation)"
    )
    EXPECTED_COUNTS = {"landmark_train": 5000, "test": 300}

    part_names = ("person",)
    landmark_names = (
        *("nose", "neck", "right shoulder", "right elbow", "right wrist", "left shoulder"),
        *("left elbow", "left wrist", "right hip", "right knee", "right ankle", "left hip"),
        *("left knee", "left ankle", "right eye", "left eye", "right ear", "left ear"),
    )

    def list_splits(self) -> Mapping[str, list[tuple[str, str]]]:
        evaluation = self.find("eval_images/taichi-256")
        root = evaluation.parents[1]
        self._masks = self.find("taichi-test-masks")
        self._folders = {
            "train": root / "train",
            "landmark_train": evaluation / "train",
            "test": evaluation / "test",
        }
        self._landmarks: dict[tuple[str, str], np.ndarray] = {}
        for split, table in (("landmark_train", "train"), ("test", "test")):
            file = f"taichi_{table}_gt.pkl"
            names, values = tables.read_table(self.find(f"landmark/{file}", file))
            self._landmarks |= {(split, name): xy for name, xy in zip(names, values, strict=True)}
        splits = {"train": [("train", name) for name in self._training_frames()]}
        for split in ("landmark_train", "test"):
            splits[split] = sorted(key for key in self._landmarks if key[0] == split)
        return splits

    def read_item(self, item: tuple[str, str]) -> base.Example:
        split, name = item
        data = self.read(self._folders[split] / name)
        example = base.Example(name, data)
        size = images.image_size(data, camera_rotation=False)
        if item in self._landmarks:
            rows_cols = self._landmarks[item][:, ::-1]
            example.visible = (rows_cols != -1).all(axis=-1)
            example.landmarks = rows_cols / np.array(size)
        if split == "test":
            mask = images.decode_labels(self.read(self._masks / name))
            mask = mask[..., 0] if mask.ndim == 3 else mask
            example.labels = np.ascontiguousarray(mask)
        return example

    def _training_frames(self) -> list[str]:
        folder = self._folders["train"]
        if not folder.is_dir():
            raise UserError(f"{folder} is missing; taichi is built from {self.LAYOUT}")
        videos = sorted(path for path in folder.iterdir() if path.is_dir())
        if self._verify_counts and len(videos) != _TRAINING_VIDEOS:
            raise UserError(
                f"{folder} should hold {_TRAINING_VIDEOS} folders of frames, one per video, found "
                f"{len(videos)}; is the data complete?"
            )
        return [
            f"{video.name}/{frame.name}"
            for video in videos
            for frame in sorted(video.iterdir())
            if frame.suffix.lower() in images.IMAGE_SUFFIXES
        ]

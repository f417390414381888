"""TFDS builder of MTFL: faces in the wild with five landmarks."""

from collections.abc import Mapping

import numpy as np

from ganseg_jax.data.builders import base

_HELD_OUT_EVERY = 10


class FacesMtfl(base.SetBuilder):
    """Builds 12,995 faces of 80 x 80 px.

    Splits: `train`, MTFL's training images (LFW and web) without every tenth (the 10th, 20th, ...)
    by name, for the GAN and to fit landmark regressions; `landmark_test`, those 1,000; `test`,
    MTFL's test images (AFLW), which are of another kind.
    """

    DESCRIPTION = "Faces in the wild with five landmarks, 80 x 80 px."
    CITATION = "Zhang, Luo, Loy, Tang: Facial Landmark Detection by Deep Multi-task Learning, 2014."
    LAYOUT = "faces_mtfl.tar, or its folder with images/ and annotations.npz"
    ROOT_MARKER = "annotations.npz"
    EXPECTED_COUNTS = {"train": 9000, "landmark_test": 1000, "test": 2995}

    landmark_names = ("left eye", "right eye", "nose", "left mouth corner", "right mouth corner")

    def list_splits(self) -> Mapping[str, list[str]]:
        with np.load(self.source / "annotations.npz", allow_pickle=False) as table:
            names, split = table["names"].tolist(), table["split"]
            fractions = table["keypoints"][..., ::-1] / table["image_size"]  # [N, 5, 2] (row, col)
        self._landmarks = dict(zip(names, fractions, strict=True))
        training = sorted(np.array(names)[split == "train"].tolist())
        held_out = training[_HELD_OUT_EVERY - 1 :: _HELD_OUT_EVERY]
        return {
            "train": sorted(set(training) - set(held_out)),
            "landmark_test": held_out,
            "test": sorted(np.array(names)[split == "test"].tolist()),
        }

    def read_item(self, item: str) -> base.Example:
        data = self.read(self.source / "images" / item)
        return base.Example(item, data, landmarks=self._landmarks[item])

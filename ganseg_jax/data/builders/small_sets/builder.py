"""TFDS builders of three small sets: cars, horses, white blood cells."""

import json
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from ganseg_jax.data import images
from ganseg_jax.data.builders import base
from ganseg_jax.errors import UserError


class _ImagesAndLabels(base.SetBuilder, skip_registration=True):  # type: ignore[call-arg]  # TFDS has no types.
    """Builds a set from a folder `images` of JPEG files and a folder of label maps."""

    LABEL_FOLDER: ClassVar[str] = "parts"
    TEST_EVERY: ClassVar[int] = 5
    part_names: Sequence[str] = ()

    def list_splits(self) -> Mapping[str, list[str]]:
        """Takes every `TEST_EVERY`-th image by name for tests, as the sets have no split."""
        names = sorted(path.stem for path in (self.source / "images").glob("*.jpg"))
        test = names[:: self.TEST_EVERY]
        return {"train": sorted(set(names) - set(test)), "test": test}

    def read_item(self, item: str) -> base.Example:
        data = self.read(self.source / "images" / f"{item}.jpg")
        path = self.source / self.LABEL_FOLDER / f"{item}.png"
        labels = self.to_parts(images.decode_labels(self.read(path)))
        if labels.max() > len(self.part_names):
            raise UserError(f"{path} has the unknown label {labels.max()}; get it again")
        return base.Example(f"{item}.jpg", data, labels=labels)

    def to_parts(self, labels: np.ndarray) -> np.ndarray:
        """Maps the file's labels to 0 = background and 1.. in the order of `part_names`."""
        return labels


class CarParts(_ImagesAndLabels):
    """Builds 400 training and 100 test photos of cars with 18 parts."""

    DESCRIPTION = "Cars with 18 parts."
    CITATION = "Pasupa et al.: Evaluation of deep learning algorithms for car parts, 2021."
    LAYOUT = "car_parts.tar, or its folder with images/, parts/ and meta.json"
    ROOT_MARKER = "meta.json"
    EXPECTED_COUNTS = {"train": 400, "test": 100}

    part_names = (
        *("back bumper", "back glass", "back left door", "back left light", "back right door"),
        *("back right light", "front bumper", "front glass", "front left door"),
        *("front left light", "front right door", "front right light", "hood", "left mirror"),
        *("right mirror", "tailgate", "trunk", "wheel"),
    )

    def list_splits(self) -> Mapping[str, list[str]]:
        meta = json.loads((self.source / "meta.json").read_text())
        names = [meta["categories"][key].replace("_", " ") for key in meta["categories"]]
        if tuple(names[1:]) != self.part_names:
            raise UserError(f"{self.source}/meta.json names other parts; get it again")
        splits: dict[str, list[str]] = {"train": [], "test": []}
        for name, _, _, kind in meta["rows"]:
            splits["train" if kind == "trainingset" else "test"].append(name)
        return splits

    def to_parts(self, labels: np.ndarray) -> np.ndarray:
        # The files count the background as category 1.
        return np.maximum(labels, 1) - 1


class HorsesWeizmann(_ImagesAndLabels):
    """Builds 328 side views of horses with foreground masks."""

    DESCRIPTION = "Horses with foreground masks."
    CITATION = "Borenstein, Ullman: Class-specific, top-down segmentation, ECCV 2002."
    LAYOUT = "horses_weizmann.tar, or its folder with images/ and masks/"
    ROOT_MARKER = "masks"
    LABEL_FOLDER = "masks"
    EXPECTED_COUNTS = {"train": 262, "test": 66}

    part_names = ("horse",)

    def to_parts(self, labels: np.ndarray) -> np.ndarray:
        return (labels > 127).astype(np.uint8)


class WhiteBloodCells(_ImagesAndLabels):
    """Builds 400 microscope photos of white blood cells with cytoplasm and nucleus.

    They come from two laboratories, 300 and 100 of them; both splits hold photos of both.
    """

    DESCRIPTION = "White blood cells with two parts."
    CITATION = "Zheng et al.: Fast and robust segmentation of white blood cell images, 2018."
    LAYOUT = "white_blood_cells.tar, or its folder with images/ and parts/"
    ROOT_MARKER = "parts"
    EXPECTED_COUNTS = {"train": 300, "test": 100}
    TEST_EVERY = 4

    part_names = ("cytoplasm", "nucleus")

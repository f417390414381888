"""TFDS builder of Clothing Co-Parsing: full-length street photos with clothing labels."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from ganseg_jax.data import images
from ganseg_jax.data.builders import base
from ganseg_jax.errors import UserError

# The 58 labels of the data set (beside `null`) by the part of a dressed person they belong to.
GROUPS: dict[str, tuple[str, ...]] = {
    "hair and hat": ("hair", "hat"),
    "skin": ("skin",),
    "upper body": (
        *("blazer", "blouse", "bodysuit", "bra", "cape", "cardigan", "coat", "dress", "hoodie"),
        *("intimate", "jacket", "jumper", "romper", "scarf", "shirt", "suit", "sweater"),
        *("sweatshirt", "swimwear", "t-shirt", "top", "vest"),
    ),
    "lower body": (
        *("jeans", "leggings", "panties", "pants", "shorts", "skirt", "stockings", "tights"),
    ),
    "shoes": (
        *("boots", "clogs", "flats", "heels", "loafers", "pumps", "sandals", "shoes"),
        *("sneakers", "socks", "wedges"),
    ),
    "carried and small things": (
        *("accessories", "bag", "belt", "bracelet", "earrings", "glasses", "gloves", "necklace"),
        *("purse", "ring", "sunglasses", "tie", "wallet", "watch"),
    ),
}


class PeopleCcp(base.SetBuilder):
    """Builds 1,897 street photos; 803 have label maps, among them all for validation and test."""

    DESCRIPTION = "Full-length street photos with clothing labels in six groups."
    CITATION = "Yang, Luo, Lin: Clothing Co-Parsing by Joint Image Segmentation and Labeling, 2014."
    LAYOUT = "people_ccp.tar, or its folder with images/, labels/ and splits.json"
    ROOT_MARKER = "splits.json"
    EXPECTED_COUNTS = {"train": 1497, "validation": 100, "test": 300}

    part_names = tuple(GROUPS)

    def list_splits(self) -> Mapping[str, list[str]]:
        table = json.loads((self.source / "splits.json").read_text())
        self._labeled = set(table["labelled"])
        self._group_of = group_table(table["labels"])
        return {split: sorted(table[split]) for split in ("train", "validation", "test")}

    def read_item(self, item: str) -> base.Example:
        example = base.Example(f"{item}.jpg", self.read(self.source / f"images/{item}.jpg"))
        if item in self._labeled:
            labels = images.decode_labels(self.read(self.source / f"labels/{item}.png"))
            if labels.max() >= len(self._group_of):
                raise UserError(f"{self.source}/labels/{item}.png: unknown label {labels.max()}")
            example.labels = self._group_of[labels]
        return example

    def metadata(self) -> dict[str, Any]:
        groups = {name: list(labels) for name, labels in GROUPS.items()}
        return super().metadata() | {"groups": groups}


def group_table(labels: list[str]) -> np.ndarray:
    """Returns the part (uint8) of each of the set's labels, in its own numbering.

    Raises:
      UserError: if a label belongs to no group.
    """
    part_of = {label: k for k, group in enumerate(GROUPS.values(), start=1) for label in group}
    part_of["null"] = 0
    if unknown := [label for label in labels if label not in part_of]:
        raise UserError(f"splits.json: unknown labels {', '.join(unknown)}")
    return np.array([part_of[label] for label in labels], np.uint8)

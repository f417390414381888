"""TFDS builder of CelebAMask-HQ: faces with nine parts."""

import pathlib
from collections.abc import Mapping

import numpy as np

from ganseg_jax.data import images
from ganseg_jax.data.builders import base
from ganseg_jax.errors import UserError

# Part -> the masks it is made of.  The first three are the parts of the three-class problem.
# Glasses lie on the face; hats belong to the background, which has no part of its own for them.
GROUPS: dict[str, tuple[str, ...]] = {
    "eye": ("l_eye", "r_eye"),
    "mouth": ("mouth", "u_lip", "l_lip"),
    "nose": ("nose",),
    "hair": ("hair",),
    "brow": ("l_brow", "r_brow"),
    "skin": ("skin", "eye_g"),
    "ear": ("l_ear", "r_ear", "ear_r"),
    "neck": ("neck", "neck_l"),
    "cloth": ("cloth",),
}

# Masks overlap; the publisher's tool paints them in this order, the last one wins.
_PAINT_ORDER = (
    *("skin", "nose", "eye_g", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear", "r_ear", "mouth"),
    *("u_lip", "l_lip", "hair", "hat", "ear_r", "neck_l", "neck", "cloth"),
)

# The last numbers of CelebA's training and validation images, which CelebA-HQ inherits.
_LAST_TRAIN, _LAST_VALIDATION = 162770, 182637
_MASKS_PER_FOLDER = 2000
_MASK_SIZE = 512


class CelebamaskHq(base.SetBuilder):
    """Builds 30,000 faces in CelebA's own split."""

    DESCRIPTION = "CelebA-HQ faces with nine parts."
    CITATION = "Lee, Liu, Wu, Luo: MaskGAN, CVPR 2020."
    LAYOUT = (
        "the folder CelebAMask-HQ with CelebA-HQ-img/, CelebAMask-HQ-mask-anno/ and "
        "CelebA-HQ-to-CelebA-mapping.txt (github.com/switchablenorms/CelebAMask-HQ)"
    )
    EXPECTED_COUNTS = {"train": 24183, "validation": 2993, "test": 2824}

    part_names = tuple(GROUPS)

    def list_splits(self) -> Mapping[str, list[int]]:
        self._images = self.find("CelebA-HQ-img")
        self._masks = self.find("CelebAMask-HQ-mask-anno")
        splits: dict[str, list[int]] = {"train": [], "validation": [], "test": []}
        for number, original in _read_mapping(self.find("CelebA-HQ-to-CelebA-mapping.txt")):
            if original <= _LAST_TRAIN:
                splits["train"].append(number)
            elif original <= _LAST_VALIDATION:
                splits["validation"].append(number)
            else:
                splits["test"].append(number)
        return splits

    def read_item(self, item: int) -> base.Example:
        name = f"{item}.jpg"
        data = self.read(self._images / name)
        part_of = {mask: k for k, group in enumerate(GROUPS.values(), 1) for mask in group}
        labels = np.zeros((_MASK_SIZE, _MASK_SIZE), np.uint8)
        folder = self._masks / str(item // _MASKS_PER_FOLDER)
        found = False
        for mask_name in _PAINT_ORDER:
            path = folder / f"{item:05d}_{mask_name}.png"
            if path.exists():
                found = True
                mask = images.decode_rgb(path.read_bytes())[..., 0] > 127
                if mask.shape != labels.shape:
                    raise UserError(f"{path} is not of {_MASK_SIZE}x{_MASK_SIZE} px; get it again")
                labels[mask] = part_of.get(mask_name, 0)
        if not found:
            raise UserError(f"{folder} has no masks of {name}; is the data complete?")
        return base.Example(name, data, labels=labels)


def _read_mapping(path: pathlib.Path) -> list[tuple[int, int]]:
    """Reads (number in CelebA-HQ, number in CelebA) from lines of index, index, file name."""
    pairs = []
    for line in path.read_text().splitlines()[1:]:
        if cells := line.split():
            # The file name counts from 1, the index beside it from 0.
            pairs.append((int(cells[0]), int(cells[2].split(".")[0])))
    return pairs

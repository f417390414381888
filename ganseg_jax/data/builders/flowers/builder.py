"""TFDS builder of Oxford Flowers-102 with the published segmentations as foreground masks."""

from collections.abc import Mapping

import scipy.io
import tensorflow_datasets as tfds

from ganseg_jax.data import images
from ganseg_jax.data.builders import base
from ganseg_jax.errors import UserError

# The official splits by the set's own names; the largest, officially for tests, trains.
_SPLITS = {"train": "tstid", "validation": "valid", "test": "trnid"}


class Flowers(base.SetBuilder):
    """Builds 8,189 flowers in the split of ReDO: 6,149 / 1,020 / 1,020."""

    VERSION = tfds.core.Version("2.0.0")
    TRUTH_RULE = "not_blue"
    MAX_SIDE = images.WHOLE

    DESCRIPTION = "Flowers with foreground masks."
    CITATION = "Nilsback, Zisserman: Automated flower classification over many classes, 2008."
    LAYOUT = (
        "a folder with jpg/ (102flowers.tgz), segmim/ (102segmentations.tgz) and setid.mat, all "
        "from www.robots.ox.ac.uk/~vgg/data/flowers/102"
    )
    EXPECTED_COUNTS = {"train": 6149, "validation": 1020, "test": 1020}

    part_names = ("flower",)

    def list_splits(self) -> Mapping[str, list[int]]:
        self._images, self._masks = self.find("jpg"), self.find("segmim")
        file = self.find("setid.mat")
        try:
            table = scipy.io.loadmat(file)
            return {split: table[key].ravel().tolist() for split, key in _SPLITS.items()}
        # A damaged file can fail in any way.
        except Exception as error:  # noqa: BLE001
            raise UserError(f"{file} cannot be read ({error}); get it again") from error

    def read_item(self, item: int) -> base.Example:
        name = f"image_{item:05d}.jpg"
        data = self.read(self._images / name)
        segmented = self.read(self._masks / f"segmim_{item:05d}.jpg")
        images.open_image(segmented)  # A damaged file is named now.
        return base.Example(name, data, labels=segmented)

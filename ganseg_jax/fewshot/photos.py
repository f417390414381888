"""Labelled real photos: read beside labelled generated images, at the generator's size."""

import dataclasses
import logging
import re
from collections.abc import Sequence

import numpy as np
from etils import epath
from jaxtyping import UInt8

from ganseg_jax.data.folder import read_photo
from ganseg_jax.errors import UserError
from ganseg_jax.fewshot.label_files import image_files
from ganseg_jax.fewshot.labels import LabelSet
from ganseg_jax.fewshot.samples import LATENTS_FILE, generated_names
from ganseg_jax.files import resolve

LOG = logging.getLogger(__name__)

_SAMPLE = re.compile(r"sample_\d{4,}")


@dataclasses.dataclass(frozen=True)
class LabelledPhotos:
    """Holds labelled photos at the size that the U-Net sees.

    Attributes:
      names: of their files, without ending.
      images: resized as training photos are.
      labels: class of every pixel, 0 background; 255 if a pixel is not labelled.
    """

    names: list[str]
    images: UInt8[np.ndarray, "m s s 3"]
    labels: UInt8[np.ndarray, "m s s"]

    def __len__(self) -> int:
        return len(self.names)

    def only(self, rows: Sequence[int]) -> "LabelledPhotos":
        """Returns some of them."""
        chosen = np.asarray(rows, int)
        return LabelledPhotos(
            [self.names[i] for i in rows], self.images[chosen], self.labels[chosen]
        )


def split(
    directory: epath.PathLike, labelled: LabelSet, size: int
) -> tuple[LabelSet, LabelledPhotos]:
    """Separates labelled generated images from labelled photos, and reads the photos.

    An image is a generated one if `latents.npz` in the folder names it.

    Args:
      directory: the folder that `labelled` was read from.
      labelled: maps of `size` pixels a side.
      size: of the generator's images.

    Raises:
      UserError: a generated image has another size than the generator's, or a photo cannot be read.
    """
    known = set(generated_names(directory))
    made = labelled.only(known)
    for height, width in made.sizes:
        if (height, width) != (size, size):
            raise UserError(
                f"the images in {directory} are {width}x{height}, but this generator makes "
                f"{size}x{size}"
            )
    names = [name for name in labelled.names if name not in known]
    lost = [name for name in names if _SAMPLE.fullmatch(name.rpartition("/")[2])]
    if lost:
        LOG.warning(
            "%s: %s has no latents of them, so they are used as photos. If they are generated "
            "images, put their %s there",
            ", ".join(lost),
            directory,
            LATENTS_FILE,
        )
    files, images = image_files(resolve(directory)), []
    for name in names:
        photo = read_photo(files[name], name, size)
        if isinstance(photo, str):
            raise UserError(f"{files[name]} is labelled, but cannot be read: {photo}")
        images.append(photo.small)
    pictures = np.stack(images) if images else np.zeros((0, size, size, 3), np.uint8)
    return made, LabelledPhotos(names, pictures, labelled.only(names).labels)

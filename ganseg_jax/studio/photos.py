"""Photos that are dropped on the page: decoded, segmented, and how sure the network is."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import UInt8

from ganseg_jax import pixels
from ganseg_jax.data.folder import Photo, photo_of
from ganseg_jax.segmenter import Segmenter

MOST_BYTES = 48_000_000
MOST_MEGAPIXELS = 110.0


@dataclasses.dataclass(frozen=True)
class Segmented:
    """Holds a photo and its parts, at most 512 px a side.

    Attributes:
      photo: as it was read.
      labels: of the most probable part, 0 background.
      sure: by how much it leads the second, 255 for certain.
      parts: for each part of the network its `center` (row, col; of the file's pixels) and `share`
        of all pixels.
    """

    photo: Photo
    labels: UInt8[np.ndarray, "h w"]
    sure: UInt8[np.ndarray, "h w"]
    parts: list[dict[str, Any]]


def decode(data: bytes, size: int) -> Photo:
    """Returns an uploaded photo.

    Raises:
      ImageError: it is none, or has too many pixels.
    """
    return photo_of(data, "photo", size, MOST_MEGAPIXELS)


def segment(segmenter: Segmenter, photo: Photo) -> Segmented:
    """Finds the parts of a photo."""
    probabilities = segmenter.probabilities_as_seen(photo.small[None])[0]
    height, width = photo.picture.shape[:2]
    resized = pixels.resize_probabilities(probabilities, height, width)
    labels = np.argmax(resized, -1).astype(np.uint8)
    second, first = np.partition(resized, -2, axis=-1)[..., -2:].transpose(2, 0, 1)
    sure = np.clip(np.round(255 * (first - second)), 0, 255).astype(np.uint8)
    centers = Segmenter.centers_of(probabilities[None], photo.height, photo.width)[0]
    shares = np.bincount(labels.ravel(), minlength=probabilities.shape[-1]) / labels.size
    parts = [
        {"center": [round(float(x), 1) for x in center], "share": round(float(share), 5)}
        for center, share in zip(centers, shares[1:], strict=True)
    ]
    return Segmented(photo, labels, sure, parts)

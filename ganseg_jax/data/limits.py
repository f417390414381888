"""How large an image may be."""

from typing import Any

from ganseg_jax.config.schema import Dataset
from ganseg_jax.data.depth import ImageError

MAX_MEGAPIXELS = Dataset.max_megapixels
"""Photos of more pixels are refused, unless a higher limit is given."""

_LONGEST_SIDE = 2**18
"""Pillow takes seconds and gigabytes for the rows of an image that is one pixel wide."""
_MEASURED = ("PNG", "GIF", "JPEG", "MPO", "BMP", "PPM")
_MOST_PIXELS_A_BYTE = 9000
"""No file of these formats holds more: Deflate makes 1032 bytes of one, and 8 pixels may be one."""


def check_pixels(image: Any, data: bytes, max_megapixels: float) -> None:
    """Refuses an opened image of too many pixels, or that promises more than its file can hold.

    Args:
      image: opened by Pillow, not loaded, or a `depth.DeepTiff`.
      data: the whole file.
      max_megapixels: of an image that is not refused.

    Raises:
      ImageError: it is refused.
    """
    size = image.size
    if min(size) < 1:
        raise ImageError("it has no pixels")
    megapixels = size[0] * size[1] / 1e6
    if megapixels > max_megapixels:
        raise ImageError(
            f"it has {megapixels:.4g} megapixels, more than max_megapixels={max_megapixels:g}: "
            "raise that or make the image smaller"
        )
    if max(size) > _LONGEST_SIDE:
        raise ImageError(f"it is {size[0]}x{size[1]}, its sides may have {_LONGEST_SIDE} pixels")
    if image.format in _MEASURED and size[0] * size[1] > _MOST_PIXELS_A_BYTE * len(data):
        raise ImageError("the image is cut off")

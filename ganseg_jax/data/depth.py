"""Images of more than 8 bits a channel, of which Pillow keeps only the upper eight."""

import io
import math
from typing import Any

import numpy as np
from PIL import Image, TiffImagePlugin

ORIENTATION_TAG = 0x0112
_SIGNED = 2
"""Value of a TIFF's tag SampleFormat for whole numbers that may be negative."""
_WHITE_IS_ZERO = 0
_PLANAR = 284
"""A TIFF's tag PlanarConfiguration: 2 for one channel behind the other."""
_COLOURS = {0: "grey", 1: "grey", 2: "RGB", 3: "a palette", 5: "CMYK", 6: "YCbCr", 8: "Lab"}
"""Value of a TIFF's tag PhotometricInterpretation -> what its channels are."""
_PNG_HEADER = b"\x89PNG\r\n\x1a\n"
_MOST_DEFLATED = 1032
"""Bytes that one byte of a PNG can stand for."""


class ImageError(Exception):
    """Reports an image that cannot be used; the message is the reason, without the file's name."""


class DeepTiff:
    """Stands for a TIFF that Pillow does not know, such as one of floats in several channels."""

    format, mode = "TIFF", "F"

    def __init__(self, data: bytes):
        tags = TiffImagePlugin.ImageFileDirectory_v2(data[:8])
        file = io.BytesIO(data)
        file.seek(tags.next)
        tags.load(file)
        self.size = int(tags[TiffImagePlugin.IMAGEWIDTH]), int(tags[TiffImagePlugin.IMAGELENGTH])
        self.tag_v2, self.info = tags, dict[str, object]()

    def getexif(self) -> dict[int, int]:
        return {ORIENTATION_TAG: orientation(self)}

    def draft(self, mode: None, size: tuple[int, int]) -> None:
        """Does nothing: TIFF has no smaller sizes."""


def orientation(image: Any) -> int:
    """Returns how the file is turned; whatever loads a TIFF turns it already."""
    # This may load a PNG to its end.
    tags = image.tag_v2 if image.format == "TIFF" else image.getexif()
    return tags.get(ORIENTATION_TAG, 1)


def is_deep(image: Any, data: bytes) -> bool:
    """Says whether an opened image has more than 8 bits a channel, which Pillow may cut off."""
    if image.mode in ("I", "I;16", "I;16B", "I;16L", "F"):
        return True
    if data[:8] == _PNG_HEADER:
        return data[24:25] == b"\x10"  # The header's bit depth.
    if image.format == "TIFF":
        signed = _SIGNED in image.tag_v2.get(TiffImagePlugin.SAMPLEFORMAT, (1,))
        return signed or max(image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (1,))) > 8
    return False


def decode(image: Any, data: bytes) -> tuple[Image.Image, str]:
    """Decodes an opened image of more than 8 bits to one of 8 bits, and says how.

    Args:
      image: opened by Pillow but not loaded, or a `DeepTiff`.
      data: the whole file.

    Raises:
      ImageError: it is cut off or damaged.
    """
    if image.format == "TIFF":
        _check_tiff(image.tag_v2)
    values = _values(image, data)
    alpha = None
    if values.ndim == 3 and values.shape[2] in (2, 4):
        values, alpha = values[..., :-1], values[..., -1]
    eight, note = _eight_bits(values)
    if image.format == "TIFF" and _photometric(image.tag_v2) == _WHITE_IS_ZERO:
        eight = 255 - eight
    if alpha is not None:
        full = np.iinfo(alpha.dtype).max if alpha.dtype.kind == "u" else 1.0
        eight = np.concatenate([eight, _scaled(alpha, full)[..., None]], -1)
    made = Image.fromarray(eight[..., 0] if eight.shape[2:] == (1,) else eight)
    if image.format != "TIFF":
        made.getexif()[ORIENTATION_TAG] = orientation(image)
    return made, note


def _values(image: Any, data: bytes) -> np.ndarray:
    """Returns values as they are in the file: (H, W) or (H, W, C) with RGB in this order."""
    if not isinstance(image, DeepTiff) and image.mode in ("I", "I;16", "I;16B", "I;16L", "F"):
        return np.asarray(image)
    if data[:8] == _PNG_HEADER:
        _check_png(data, 2 * math.prod(image.size))
    import cv2

    # It prints what is said here in one line.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None:
        raise ImageError("the image is damaged, or of a kind that is not supported")
    if values.ndim == 3 and values.shape[2] >= 3:
        values[..., :3] = values[..., 2::-1].copy()  # OpenCV has blue first.
    return values


def _photometric(tags: Any) -> int:
    return tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION, 1)


def _check_tiff(tags: Any) -> None:
    """Refuses a TIFF whose values would be read as something else.

    Raises:
      ImageError: naming how to save it instead.
    """
    bits = max(tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,)))
    kind = f"a TIFF of {bits}-bit values"
    if (colours := _photometric(tags)) not in (0, 1, 2):
        name = _COLOURS.get(colours, f"colours of kind {colours}")
        raise ImageError(f"{kind} in {name}: save it as RGB, or with 8 bits")
    if len(tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,))) > 1 and tags.get(_PLANAR, 1) == 2:
        raise ImageError(
            f"{kind} with one channel behind the other (planar): save it interleaved, or as PNG"
        )
    if bits == 16 and 3 in tags.get(TiffImagePlugin.SAMPLEFORMAT, (1,)):
        raise ImageError("a TIFF of 16-bit floats: save it with 32-bit floats or whole numbers")


def _check_png(data: bytes, pixel_bytes: int) -> None:
    """Refuses a PNG that promises more than it holds, for which OpenCV would take gigabytes."""
    start = len(_PNG_HEADER)
    while start < len(data):
        start += 12 + int.from_bytes(data[start : start + 4], "big")
    if start > len(data) or pixel_bytes > _MOST_DEFLATED * len(data):
        raise ImageError("the image is cut off")


def _eight_bits(values: np.ndarray) -> tuple[np.ndarray, str]:
    """Returns values of any range as uint8, and a note on how.

    Whole numbers are taken to have as many bits as the highest needs, at least 8: cameras of 10 to
    14 bits write 16-bit files whose upper bits are 0.  Floats up to 1 are taken as they are, others
    likewise, or up to the highest of them if that is below what pictures in bytes have.  Where some
    are negative, the lowest becomes black and the highest white.
    """
    if values.dtype.kind == "f":
        values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    lowest = float(values.min(initial=0))
    if lowest < 0:
        highest = float(values.max())
        values = values.astype(np.float32) - np.float32(lowest)
        white = max(highest - lowest, 1e-30)
        return _scaled(values, white), f"values from {lowest:.4g} to {highest:.4g} scaled to 8 bits"
    highest = float(values.max(initial=0))
    bits = max(8, math.ceil(math.log2(highest + 1.0))) if highest > 0 else 8
    if values.dtype.kind != "f":
        return _scaled(values, 2.0**bits - 1.0), f"{bits}-bit values scaled to 8 bits"
    white = 1.0 if highest <= 1.0 else 2.0**bits - 1.0 if highest >= 32.0 else highest
    return _scaled(values, white), f"floats from 0 to {white:.4g} scaled to 8 bits"


def _scaled(values: np.ndarray, white: float) -> np.ndarray:
    if values.dtype == np.uint16:  # A table takes less memory than floats of all pixels.
        table = np.clip(np.round(np.arange(2**16) * (255.0 / white)), 0, 255).astype(np.uint8)
        return table[values]
    return np.round(np.clip(values * np.float32(255.0 / white), 0.0, 255.0)).astype(np.uint8)

"""Reading and writing image files: whatever a folder holds, turned into plain 8-bit RGB."""

import io
import math
import warnings

import numpy as np
from PIL import Image, ImageOps

MAX_STORED_SIDE = 512
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp")

_ORIENTATION_TAG = 0x0112


class ImageError(Exception):
    """Reports an image that cannot be used; the message is the reason, without the file's name."""


def decode_rgb(data: bytes) -> np.ndarray:
    """Decodes a stored image (see `stored_image`) to uint8 (H, W, 3)."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def decode_labels(data: bytes) -> np.ndarray:
    """Decodes a stored label map to uint8 (H, W)."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def encode_labels(labels: np.ndarray) -> bytes:
    """Encodes a uint8 (H, W) label map as PNG."""
    return _encode(Image.fromarray(np.asarray(labels, np.uint8)), "PNG")


def encode_rgb(image: np.ndarray) -> bytes:
    """Encodes a uint8 (H, W, 3) image as PNG, lightly compressed."""
    return _encode(Image.fromarray(image), "PNG", compress_level=3)


def open_photo(data: bytes) -> Image.Image:
    """Decodes a photo as a viewer shows it: RGB, turned as the camera noted, on white.

    Raises:
      ImageError: the data is no image or is cut off.
    """
    return _rgb(ImageOps.exif_transpose(_open(data)))


def open_image(data: bytes) -> Image.Image:
    """Decodes an image as it is stored, in its own mode.

    Raises:
      ImageError: the data is no image or is cut off.
    """
    return _open(data)


def stored_image(
    data: bytes, *, max_side: int = MAX_STORED_SIDE, camera_rotation: bool = True
) -> tuple[bytes, int, int]:
    """Makes the bytes that a data set stores for an image file.

    A plain RGB JPEG or PNG of at most `max_side` px is kept byte for byte.  Everything else is
    converted to RGB, downsized so that the longer side is `max_side`, and encoded again: as JPEG
    (quality 95, full chroma) if the source was one or had to be downsized, else as PNG.  Grey,
    palette and 16-bit images are converted, transparent ones are put on white, of an animation the
    first frame is taken.

    Args:
      data: the file's bytes.
      max_side: the longest side to store, px.
      camera_rotation: whether to carry out the rotation that a camera noted.  Published sets were
        labeled without it.

    Returns:
      (bytes, height, width) of the stored image.

    Raises:
      ImageError: if the data is no image or is cut off.
    """
    # A large JPEG is decoded at a fraction of its size, twice as large as needed.
    image = _open(data, draft=2 * max_side)
    small = max(image.size) <= max_side
    plain = (
        image.mode == "RGB"
        and image.format in ("JPEG", "PNG")
        and "transparency" not in image.info
        and not (camera_rotation and image.getexif().get(_ORIENTATION_TAG, 1) != 1)
    )
    if small and plain:
        return data, image.height, image.width
    as_jpeg = not small or image.format == "JPEG"
    if camera_rotation:
        image = ImageOps.exif_transpose(image)
    image = _rgb(image)
    if not small:
        image.thumbnail((max_side, max_side), Image.Resampling.LANCZOS, reducing_gap=3.0)
    if as_jpeg:
        encoded = _encode(image, "JPEG", quality=95, subsampling=0)
    else:
        encoded = _encode(image, "PNG")
    return encoded, image.height, image.width


def image_size(data: bytes, *, camera_rotation: bool = True) -> tuple[int, int]:
    """Returns (height, width) of an image file, without decoding it all.

    Raises:
      ImageError: if the data is no image.
    """
    image = _open(data, load=False)
    turned = camera_rotation and image.getexif().get(_ORIENTATION_TAG, 1) in (5, 6, 7, 8)
    return image.size if turned else image.size[::-1]


def _open(data: bytes, *, draft: int | None = None, load: bool = True) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # large or oddly tagged images are fine
            image = Image.open(io.BytesIO(data))
            if draft is not None:
                image.draft(None, (draft, draft))
            if load:
                image.load()
    # Pillow's decoders raise many kinds of exceptions for damaged files.
    except Exception as error:  # noqa: BLE001
        if not data:
            raise ImageError("the file is empty") from error
        reason = str(error).split(" <_io")[0]
        if isinstance(error, Image.UnidentifiedImageError):
            reason = "not an image"
        raise ImageError(reason or type(error).__name__) from error
    return image


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "I;16", "I;16B", "I;16L", "F"):
        image = Image.fromarray(_eight_bits(np.asarray(image, np.float64)))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        background = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(background, image)
    return image.convert("RGB")


def _eight_bits(grey: np.ndarray) -> np.ndarray:
    """Returns grey values of any range as uint8: 0 to 1, 8 bits, or as many bits as they need.

    Cameras of 10 to 14 bits write 16-bit files whose upper bits are 0.
    """
    highest = float(grey.max(initial=0.0))
    if highest <= 1.0 and (grey % 1.0).any():
        white = 1.0
    else:
        bits = max(8, math.ceil(math.log2(highest + 1.0)))
        white = 2.0**bits - 1.0
    return np.round(np.clip(grey / white, 0.0, 1.0) * 255.0).astype(np.uint8)


def _encode(image: Image.Image, file_format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()

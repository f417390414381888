"""Reading and writing image files: whatever a folder holds, turned into plain 8-bit RGB."""

import contextlib
import dataclasses
import functools
import io
import math
import pathlib
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, ParamSpec, TypeVar

import numpy as np
from PIL import Image, ImageOps, TiffImagePlugin

from ganseg_jax.data import depth
from ganseg_jax.data.depth import ImageError
from ganseg_jax.data.limits import MAX_MEGAPIXELS, check_pixels

MAX_STORED_SIDE = 512
WHOLE = 2**30
"""A `max_side` that no photo has."""
REDUCED = 1.5
"""How many times as large as needed a JPEG is decoded at least, where it can be decoded smaller.

Photos of 1632 and 4000 px, resized to 512 px after that, differ from ones resized from all of their
pixels as much as bicubic from Lanczos resizing does: 41 to 46 dB, and 54 dB at 128 px.
"""

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff"),
    *(".gif", ".ppm", ".pgm", ".pnm", ".heic", ".heif", ".avif"),
)
_RAW_SUFFIXES = (
    *(".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".sr2", ".srf", ".orf", ".rw2"),
    *(".raf", ".pef", ".srw", ".x3f", ".3fr", ".iiq", ".erf", ".mrw", ".rwl", ".raw"),
)
_OTHER_SUFFIXES = (
    *(".jp2", ".j2k", ".jxl", ".svg", ".psd", ".xcf", ".pbm", ".pfm", ".tga", ".dds", ".exr"),
    *(".hdr", ".ico", ".pcx", ".eps"),
)

_TIFF_HEADERS = (b"II*\0", b"MM\0*")
_FINE = {"quality": 95, "subsampling": 0}
_LOSSY = ("JPEG", "MPO")
"""An MPO is a JPEG with further pictures behind the first, as some phones write it."""


class StoredImage(NamedTuple):
    """Holds what a data set stores for a photo.

    Attributes:
      data: encoded JPEG or PNG.
      height: of the stored image, in pixels.
      width: likewise.
      note: what was done to its values, such as "12-bit values scaled to 8 bits", or "".
    """

    data: bytes
    height: int
    width: int
    note: str


@dataclasses.dataclass(frozen=True)
class Decoded:
    """Holds a photo as a viewer shows it, possibly decoded at a fraction of its size.

    Attributes:
      image: RGB, upright.
      height: of the file, upright, in pixels; the image may have fewer.
      width: likewise.
      note: as of `StoredImage`.
    """

    image: Image.Image
    height: int
    width: int
    note: str


Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def _raises_image_errors(read: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Has a function raise `ImageError` for whatever decoders raise for damaged files."""

    @functools.wraps(read)
    def guarded(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        try:
            return read(*args, **kwargs)
        except ImageError:
            raise
        except Image.UnidentifiedImageError as error:
            raise ImageError("not an image") from error
        # There are many kinds.
        except Exception as error:  # noqa: BLE001
            reason = " ".join(str(error).split(" <_io")[0].split())
            raise ImageError(reason or type(error).__name__) from error

    return guarded


def is_image(name: str) -> bool:
    """Says whether a file's name has the ending of an image that is read."""
    return pathlib.PurePath(name).suffix.lower() in IMAGE_SUFFIXES


def refusal(name: str) -> str:
    """Returns why a file of an image format is not read, and the remedy, or ""."""
    suffix = pathlib.PurePath(name).suffix.lower()
    if suffix in _RAW_SUFFIXES:
        return f"{suffix} is a camera's raw file: export it as JPEG or TIFF"
    if suffix in _OTHER_SUFFIXES:
        return f"{suffix} is not supported, convert it to jpg or png"
    return ""


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


def encode_jpeg(image: np.ndarray) -> bytes:
    """Encodes a uint8 (H, W, 3) image as JPEG of high quality."""
    return _encode(Image.fromarray(np.ascontiguousarray(image)), "JPEG", **_FINE)


@_raises_image_errors
def open_photo(
    data: bytes,
    *,
    longest: int | None = None,
    shortest: int = 0,
    max_megapixels: float = MAX_MEGAPIXELS,
) -> Decoded:
    """Decodes a photo as a viewer shows it: RGB, turned as the camera noted, on white.

    Args:
      data: the file's bytes.
      longest: the longer side that is needed; a JPEG may be decoded at a half, quarter or eighth
        of its size, at least `REDUCED` times as large as needed. None for the whole.
      shortest: likewise, of the shorter side.
      max_megapixels: of a photo that is not refused.

    Raises:
      ImageError: the data is no image or is cut off, or it has too many pixels.
    """
    header = _open(data, load=False)
    check_pixels(header, data, max_megapixels)
    width, height = _file_size(header)[:: -1 if _turned(header) else 1]
    if longest is not None:
        _reduce(header, longest, shortest)
    image, note = _decode(header, data)
    ImageOps.exif_transpose(image, in_place=True)
    return Decoded(_rgb(image), height, width, note)


@_raises_image_errors
def upright_size(data: bytes) -> tuple[int, int]:
    """Returns (height, width) of a photo as a viewer shows it, in most formats without decoding it.

    Raises:
      ImageError: the data is no image, or it has more than `MAX_MEGAPIXELS`.
    """
    header = _open(data, load=False)
    check_pixels(header, data, MAX_MEGAPIXELS)  # Whether a PNG is turned may stand at its end.
    width, height = _file_size(header)[:: -1 if _turned(header) else 1]
    return height, width


@_raises_image_errors
def open_image(data: bytes) -> Image.Image:
    """Decodes an image as it is stored, in its own mode.

    Raises:
      ImageError: the data is no image or is cut off, has too many pixels, or is a TIFF that only
        photos are read from.
    """
    image = _open(data, load=False)
    if isinstance(image, depth.DeepTiff):
        raise ImageError("a TIFF of floats in several channels")
    check_pixels(image, data, MAX_MEGAPIXELS)
    image.load()
    return image


@_raises_image_errors
def stored_image(
    data: bytes,
    *,
    max_side: int = MAX_STORED_SIDE,
    camera_rotation: bool = True,
    max_megapixels: float = MAX_MEGAPIXELS,
) -> StoredImage:
    """Makes the bytes that a data set stores for an image file.

    A plain RGB JPEG or PNG of at most `max_side` px is kept byte for byte.  Everything else is
    converted to RGB, downsized so that the longer side is `max_side`, and encoded again: as JPEG
    (quality 95, full chroma) if the source was one or had to be downsized, else as PNG.  Grey,
    palette and images of more than 8 bits are converted, transparent ones are put on white, of an
    animation the first frame is taken.

    Args:
      data: the file's bytes.
      max_side: the longest side to store, px.
      camera_rotation: whether to carry out the rotation that a camera noted.  Published sets were
        labeled without it.
      max_megapixels: of an image that is not refused.

    Raises:
      ImageError: if the data is no image or is cut off, or it has too many pixels.
    """
    header = _open(data, load=False)
    check_pixels(header, data, max_megapixels)
    turned = camera_rotation and depth.orientation(header) != 1
    plain = (
        header.mode == "RGB"
        and header.format in ("JPEG", "PNG")
        and "transparency" not in header.info
        and not depth.is_deep(header, data)
        and not turned
    )
    small = max(header.size) <= max_side
    as_jpeg = not small or header.format in _LOSSY
    _reduce(header, max_side)
    image, note = _decode(header, data)
    if small and plain:
        return StoredImage(data, image.height, image.width, note)
    image = _rgb(image)
    if not small:
        image.thumbnail((max_side, max_side), Image.Resampling.LANCZOS, reducing_gap=3.0)
    if turned:  # Last: a small image is turned faster.
        ImageOps.exif_transpose(image, in_place=True)
    if as_jpeg:
        encoded = _encode(image, "JPEG", **_FINE)
    else:
        encoded = _encode(image, "PNG")
    return StoredImage(encoded, image.height, image.width, note)


@_raises_image_errors
def looks_like_labels(data: bytes, *, strict: bool = False) -> bool:
    """Says whether an image looks like a mask or label map: few colours cover nearly all of it.

    Args:
      data: the file's bytes.
      strict: whether they must cover all of it but one pixel in a hundred.

    Raises:
      ImageError: if it is no image.
    """
    image = _open(data, load=False)
    check_pixels(image, data, MAX_MEGAPIXELS)
    if isinstance(image, depth.DeepTiff):
        return False
    image.thumbnail((256, 256), Image.Resampling.NEAREST, reducing_gap=None)
    pixels = np.asarray(image)
    colours = pixels.reshape(pixels.shape[0] * pixels.shape[1], -1)
    _, counts = np.unique(colours, axis=0, return_counts=True)
    share: float = np.sort(counts)[-32:].sum() / len(colours)
    return share >= (0.99 if strict else 0.9)


@_raises_image_errors
def image_size(
    data: bytes, *, camera_rotation: bool = True, max_megapixels: float = MAX_MEGAPIXELS
) -> tuple[int, int]:
    """Returns (height, width) of an image file, in most formats without decoding it.

    Raises:
      ImageError: if the data is no image, or if it has too many pixels.
    """
    image = _open(data, load=False)
    check_pixels(image, data, max_megapixels)
    width, height = _file_size(image)
    return (width, height) if camera_rotation and _turned(image) else (height, width)


def _open(data: bytes, *, load: bool = True) -> Any:
    """Opens an image of Pillow, or a `depth.DeepTiff`."""
    with _patient_pillow():
        try:
            image = Image.open(io.BytesIO(data))
        except Image.UnidentifiedImageError:
            image = _open_otherwise(data)
    if load:
        image.load()
    return image


_PILLOW = threading.Lock()
_ONE_LARGE = threading.Lock()
"""Threads that read photos decode one large one at a time, whose copies take gigabytes."""
_LARGE_PIXELS = 2**25


@contextlib.contextmanager
def _patient_pillow() -> Iterator[None]:
    """Has Pillow open large or oddly tagged images without a word; the limit is ours."""
    with _PILLOW, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _open_otherwise(data: bytes):
    """Opens what Pillow alone does not."""
    if data[:4] in _TIFF_HEADERS:
        try:
            return depth.DeepTiff(data)
        # A damaged file can fail in any way.
        except Exception as error:  # noqa: BLE001
            raise ImageError("not an image") from error
    if data[4:8] != b"ftyp":
        raise ImageError("not an image" if data else "the file is empty")
    if data[8:12] in (b"avif", b"avis"):
        raise ImageError("AVIF needs a newer Pillow: pip install -U pillow")
    try:
        import pillow_heif
    except ImportError as error:
        raise ImageError('HEIC needs pillow-heif: pip install "ganseg-jax[heic]"') from error
    pillow_heif.register_heif_opener()
    return Image.open(io.BytesIO(data))


def _turned(image: Any) -> bool:
    return depth.orientation(image) in (5, 6, 7, 8)


def _file_size(image: Any) -> tuple[int, int]:
    """Returns (width, height) of an opened image, before it is turned."""
    if image.format != "TIFF":
        return image.size
    return image.tag_v2[TiffImagePlugin.IMAGEWIDTH], image.tag_v2[TiffImagePlugin.IMAGELENGTH]


def _reduce(image: Any, longest: int, shortest: int = 0) -> None:
    """Has a large JPEG decoded at a fraction of its size that is more than is needed."""
    scale = REDUCED * max(longest / max(image.size), shortest / min(image.size))
    if scale < 1:
        image.draft(None, tuple(math.ceil(side * scale) for side in image.size))


def _decode(image: Any, data: bytes) -> tuple[Image.Image, str]:
    """Decodes an opened image; returns it in 8 bits a channel, and a note if it had more."""
    large = image.size[0] * image.size[1] > _LARGE_PIXELS
    with _ONE_LARGE if large else contextlib.nullcontext():
        return _decode_now(image, data)


def _decode_now(image: Any, data: bytes) -> tuple[Image.Image, str]:
    if not depth.is_deep(image, data):
        image.load()
        return image, _first_of_several(image)
    made, note = depth.decode(image, data)
    return made, "; ".join(text for text in (_first_of_several(image), note) if text)


def _first_of_several(image: Any) -> str:
    """Returns what to say of a file with several pictures, of which the first is taken."""
    if image.format == "TIFF":
        return "the first of several pages" if image.tag_v2.next else ""
    animated = image.format in ("GIF", "WEBP", "PNG") and getattr(image, "n_frames", 1) > 1
    return "the first frame of an animation" if animated else ""


def _rgb(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        image = image.convert("RGBA")
        background = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(background, image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _encode(image: Image.Image, file_format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()

"""Images of odd kinds, as files, and what is kept of them."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

from ganseg_jax.data import images


def encoded(array, file_format="PNG", mode=None, **options) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(array)
    (image if mode is None else image.convert(mode)).save(buffer, file_format, **options)
    return buffer.getvalue()


def stored(data: bytes, **options) -> np.ndarray:
    kept, height, width, _ = images.stored_image(data, **options)
    with Image.open(io.BytesIO(kept)) as image:
        assert image.mode == "RGB" and image.format in ("JPEG", "PNG")
    decoded = images.decode_rgb(kept)
    assert decoded.shape == (height, width, 3) and decoded.dtype == np.uint8
    return decoded


def chunk(kind: bytes, content: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + check


def png_of_16_bits(values: np.ndarray, orientation: int = 1) -> bytes:
    """A PNG of 16 bits a channel, which Pillow does not write: (H, W, 2 to 4)."""
    height, width, channels = values.shape
    head = struct.pack(">IIBBBBB", width, height, 16, {2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    exif = Image.Exif()
    exif[0x0112] = orientation
    parts = [(b"IHDR", head), (b"eXIf", exif.tobytes()[6:]), (b"IDAT", zlib.compress(rows))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in [*parts, (b"IEND", b"")])


def tiff_of_16_bits(
    values: np.ndarray, orientation: int = 1, colours: int = 2, planar: int = 1, kind: int = 1
) -> bytes:
    """A TIFF of (H, W, 3) with 16 bits a channel, which Pillow does not write.

    `colours`, `planar` and `kind` are the tags of these values: 2 RGB, 1 interleaved, 1 whole.
    """
    height, width, _ = values.shape
    data, short, long = values.astype("<u2").tobytes(), 3, 4
    tags = [
        *((256, long, 1, width), (257, long, 1, height), (258, short, 3, 8), (259, short, 1, 1)),
        *((262, short, 1, colours), (273, long, 1, 14), (274, short, 1, orientation)),
        *((277, short, 1, 3), (278, long, 1, height), (279, long, 1, len(data))),
        *((284, short, 1, planar), (339, short, 1, kind)),
    ]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    ifd = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    return b"II*\0" + struct.pack("<I3H", 14 + len(data), 16, 16, 16) + data + ifd

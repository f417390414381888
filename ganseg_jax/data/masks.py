"""Masks and label maps as any program draws them, read as classes."""

import concurrent.futures
import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np
from jaxtyping import Integer, UInt8

from ganseg_jax.data import encodings, images
from ganseg_jax.data.encodings import Encoding, Used
from ganseg_jax.data.images import ImageError
from ganseg_jax.data.legends import LEGEND_FILES, VOC_COLORS, Color, Legend
from ganseg_jax.pixels import UNLABELLED


class Path(Protocol):
    """Names a file, on disk or elsewhere."""

    def read_bytes(self) -> bytes:
        """Returns the file's content."""
        ...


@dataclasses.dataclass(frozen=True)
class Mask:
    """Holds a decoded mask.

    Attributes:
      values: of the pixels, -1 if there are only colours.
      colors: RGB of the pixels, if the mask has a palette or is a colour picture.
      indexed: whether it has a palette.
      lossy: whether the file's format blurs values, as JPEG, HEIC, AVIF and most WebP files do.
    """

    values: Integer[np.ndarray, "h w"]
    colors: UInt8[np.ndarray, "h w 3"] | None = None
    indexed: bool = False
    lossy: bool = False

    def used_palette(self) -> dict[int, Color]:
        """Returns the colours of the palette's entries that pixels use, by index."""
        if not self.indexed or self.colors is None:
            return {}
        used, first = np.unique(self.values, return_index=True)
        flat = self.colors.reshape(-1, 3)[first].tolist()
        return {int(v): (c[0], c[1], c[2]) for v, c in zip(used, flat, strict=True)}


def decode_mask(data: bytes) -> Mask:
    """Decodes a mask as `_decoded` does, and says whether its values may be blurred."""
    lossy = data[:3] == b"\xff\xd8\xff" or data[4:8] == b"ftyp" or _is_lossy_webp(data)
    return dataclasses.replace(_decoded(data), lossy=lossy)


def _is_lossy_webp(data: bytes) -> bool:
    """Returns whether a file is WebP whose pixels, not only the alpha, are compressed lossily."""
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        return False
    place = 12
    while place + 8 <= len(data):
        kind = data[place : place + 4]
        if kind in (b"VP8 ", b"VP8L"):
            return kind == b"VP8 "
        # A frame of an animation has a header of 16 bytes, then the chunks of a picture.
        size = int.from_bytes(data[place + 4 : place + 8], "little")
        place += 8 + (16 if kind == b"ANMF" else size + size % 2)
    return False


def _decoded(data: bytes) -> Mask:
    """Decodes a mask of 1 to 32 bits, grey, indexed or coloured; transparent pixels are 0.

    A picture that is black or white all over is a mask by its alpha. -1, and the highest value of
    16 bits, are 255.

    Raises:
      ImageError: it is no image, or holds values that are no classes.
    """
    image = images.open_image(data)
    if image.mode == "P":
        values = np.asarray(image).astype(np.int64)
        colors = np.asarray(image.convert("RGBA"))[..., :3]
        return Mask(values, colors, indexed=True)
    if image.mode in ("1", "L", "I", "F") or image.mode.startswith("I;16"):
        raw = np.asarray(image)
        if raw.dtype.kind == "f" and not (np.isfinite(raw) & (raw == np.round(raw))).all():
            raise ImageError("a label map holds whole numbers, this one has others")
        values = raw.astype(np.int64)
        # Of fewer than 8 bits, the decoder spreads grey values over 0 to 255.
        if image.mode == "L" and data[:4] == b"\x89PNG" and data[25:26] == b"\0":
            values //= {2: 85, 4: 17}.get(data[24], 1)
            values[values == {2: 3, 4: 15}.get(data[24], 256)] = {2: 3, 4: 15}.get(data[24], 0)
        values[(values == -1) | ((values == 65535) & (image.mode != "L"))] = UNLABELLED
        return Mask(values)
    if image.mode not in ("RGB", "RGBA", "LA", "PA", "CMYK", "La", "RGBa", "RGBX"):
        raise ImageError(f"a label map must be indexed, grey or coloured, not {image.mode}")
    rgba = np.asarray(image.convert("RGBA"))
    colors, alpha = rgba[..., :3], rgba[..., 3]
    if alpha.min() < 128:
        if alpha.max() < 128:
            raise ImageError("the label map is transparent all over")
        opaque = colors[alpha > 127]
        if (opaque == opaque[0]).all() and opaque[0].tolist() in ([0] * 3, [255] * 3):
            return Mask((alpha > 127).astype(np.int64))
        colors = np.where(alpha[..., None] > 127, colors, np.uint8(0))
    if (colors == colors[..., :1]).all():  # Some paint programs store grey as equal channels.
        return Mask(colors[..., 0].astype(np.int64))
    return Mask(np.full(alpha.shape, -1), colors)


def to_labels(
    mask: Mask,
    legend: Legend | None = None,
    encoding: Encoding | None = None,
) -> UInt8[np.ndarray, "h w"]:
    """Returns the classes of a mask or label map drawn by any program.

    With a legend of colours, a colour is its class. Otherwise palette images give their indices and
    grey ones their values, and pictures in PASCAL VOC's colours its labels. A mask that holds soft
    grey shades up to 255 (more than 64 different values) is a foreground mask: above 127 becomes 1.
    What other values mean, the encoding says.

    Args:
      mask: as `decode_mask` returns it.
      legend: of the folder.
      encoding: of the folder, see `folder_encoding`; by default that of the mask alone.

    Raises:
      ImageError: its colours or values do not say which part is which.
      UserError: neither does the mask alone, if there is no encoding.
    """
    if mask.lossy:
        return _sharpened(mask)
    if (colors := _colors_of_legend(mask, legend)) is not None and legend is not None:
        return by_color(colors, legend.colors, "the colour list")
    if mask.values.size and mask.values.min() == -1 and mask.colors is not None:
        try:
            return by_color(mask.colors, VOC_COLORS, "PASCAL VOC's palette")
        except ImageError as error:
            raise ImageError(
                f"a label map must be an indexed or grey PNG, this one has colors ({error}); put a "
                f"{LEGEND_FILES[0]} with lines NAME:R,G,B:: beside it"
            ) from error
    labels = mask.values
    values = np.unique(labels)
    if values.size == 0 or values[0] < 0 or values[-1] > 255:
        worst = values[0] if values.size and values[0] < 0 else values[-1:]
        raise ImageError(
            f"a label map holds labels up to 255, this one has {worst}".replace("[", "").replace(
                "]", ""
            )
        )
    if legend is not None and legend.values:
        return _by_table(labels, {UNLABELLED: UNLABELLED} | dict(legend.values))
    used = Used(tuple(values.tolist()), _is_grey(mask))
    encoding = encoding or encodings.of_folder({"the mask": used})
    if encoding.soft:
        return (labels > 127).astype(np.uint8)
    return _by_table(labels, encoding.table) if encoding.table else labels.astype(np.uint8)


def _by_table(labels: Integer[np.ndarray, "h w"], known: Mapping[int, int]) -> np.ndarray:
    table = np.full(256, -1)
    for value, number in known.items():
        if 0 <= value < 256:
            table[value] = number
    if (table[labels] < 0).any():
        missing = int(labels[table[labels] < 0][0])
        raise ImageError(f"value {missing} is not in the list of classes")
    return table[labels].astype(np.uint8)


def _colors_of_legend(mask: Mask, legend: Legend | None) -> UInt8[np.ndarray, "h w 3"] | None:
    """Returns a mask's colours if the legend says what they are."""
    if legend is None or not legend.colors or mask.colors is not None:
        return mask.colors if legend is not None and legend.colors else None
    shades = {c[0] for c in legend.colors if len({*c}) == 1}
    if not set(np.unique(mask.values).tolist()) <= shades:
        return None
    return np.repeat(mask.values[..., None], 3, axis=-1).astype(np.uint8)


def _is_grey(mask: Mask) -> bool:
    """Returns whether a viewer shows a mask's values as shades."""
    return all(color == (value,) * 3 for value, color in mask.used_palette().items())


def folder_encoding(
    paths: Iterable[Path], legend: Legend | None = None, named: int = 0
) -> Encoding:
    """Returns how the masks of a folder are read; files that cannot be read do not matter.

    Args:
      paths: of the masks.
      legend: of the folder; what it explains needs no encoding.
      named: number of classes that have a name, 0 if it is not known.

    Raises:
      UserError: the values do not say which class they are, see `encodings.of_folder`.
    """
    if legend is not None and legend.values:
        return Encoding()
    listed = list(paths)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        used = pool.map(functools.partial(_used, legend=legend), listed)
        found = {str(path): u for path, u in zip(listed, used, strict=True) if u is not None}
    return encodings.of_folder(found, named)


def _used(path: Path, legend: Legend | None) -> Used | None:
    try:
        mask = decode_mask(path.read_bytes())
    except (OSError, ImageError):
        return None
    if mask.lossy or _colors_of_legend(mask, legend) is not None:
        return None
    if not mask.values.size or mask.values.min() < 0 or mask.values.max() > 255:
        return None
    values = np.flatnonzero(np.bincount(mask.values.ravel()))  # Quicker than sorting.
    return Used(tuple(values.tolist()), _is_grey(mask))


def _sharpened(mask: Mask) -> UInt8[np.ndarray, "h w"]:
    """Returns the foreground of a black and white JPEG or WebP."""
    grey = mask.values if mask.colors is None else mask.colors.astype(np.int64)
    far = np.minimum(abs(grey), abs(grey - 255)) > _BLURRED
    if far.mean() > _MOST_BLURRED or grey.max() < 255 - _BLURRED:
        raise ImageError("JPEG and lossy WebP blur the values of a label map: save it as PNG")
    return (grey.reshape(*mask.values.shape, -1).mean(-1) > 127).astype(np.uint8)


_BLURRED, _MOST_BLURRED = 40, 0.05
"""Most of a black and white JPEG is this near to black or white."""


def by_color(
    colors: UInt8[np.ndarray, "h w 3"], known: Mapping[Color, int], source: str
) -> UInt8[np.ndarray, "h w"]:
    """Returns the class of every pixel's colour; black is background if it is not listed.

    Raises:
      ImageError: a colour is not known.
    """
    codes = colors.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])
    found, where = np.unique(codes, return_inverse=True)
    numbers = []
    for code in found.tolist():
        color = (code >> 16, code >> 8 & 255, code & 255)
        if color not in known and color != (0, 0, 0):
            count = int((codes == code).sum())
            raise ImageError(f"{count} pixels have the colour {color}, which {source} lacks")
        numbers.append(known.get(color, 0))
    return np.array(numbers, np.uint8)[where].reshape(codes.shape)


class Palettes:
    """Compares the palettes of a folder's masks: programs renumber the entries to save space.

    Attributes:
      differ: whether an index has two colours, or a colour two indices.
    """

    def __init__(self) -> None:
        self._colors: dict[int, Color] = {}
        self._indices: dict[Color, int] = {}
        self.differ = False

    def add(self, mask: Mask) -> None:
        """Adds the palette that a mask uses."""
        for index, color in mask.used_palette().items():
            same = self._colors.setdefault(index, color) == color
            self.differ |= not same or self._indices.setdefault(color, index) != index

    def legend(self, known: Sequence[Mapping[Color, int]]) -> Legend | None:
        """Returns what the colours mean, if they are all of one of the known palettes."""
        used = {c for c in [*self._colors.values(), *self._indices] if c != (0, 0, 0)}
        for colors in known:
            if used <= set(colors):
                return Legend([], colors)
        return None

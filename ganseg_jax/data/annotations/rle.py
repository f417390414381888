"""Run lengths as COCO, CVAT and Label Studio write them."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, UInt8


def runs(flat: Bool[np.ndarray, " n"]) -> list[int]:
    """Returns the lengths of runs, of unset pixels first."""
    edges = np.flatnonzero(np.diff(flat.astype(np.int8))) + 1
    lengths = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    return [0, *lengths] if flat.size and flat[0] else lengths


def unroll(lengths: Sequence[int], count: int) -> Bool[np.ndarray, " n"]:
    """Returns the pixels of runs that begin with unset ones.

    Raises:
      ValueError: a length is no whole number from 0, or they do not add up to `count`.
    """
    if any(type(n) is not int or n < 0 for n in lengths):
        raise ValueError("run lengths must be whole numbers from 0")
    if sum(lengths) != count:
        raise ValueError(f"the run lengths add up to {sum(lengths)}, not to {count} pixels")
    return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)


def coco_counts(text: str) -> list[int]:
    """Returns the run lengths of COCO's compressed text: 5 bits a character, low ones first.

    From the fourth on, a number is the difference to the one before last.

    Raises:
      ValueError: the text is cut off or has other characters.
    """
    numbers: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or shift > 60:
            raise ValueError(f"the compressed run lengths hold {character!r}")
        value |= (code & 31) << shift
        shift += 5
        if not code & 32:
            if code & 16:
                value -= 1 << shift
            numbers.append(value + (numbers[-2] if len(numbers) > 2 else 0))
            value = shift = 0
    if shift:
        raise ValueError("the compressed run lengths are cut off")
    return numbers


def coco_text(lengths: Sequence[int]) -> str:
    """Returns run lengths as COCO's compressed text."""
    characters = []
    for i, length in enumerate(lengths):
        value = length - lengths[i - 2] if i > 2 else length
        while True:
            code, value = value & 31, value >> 5
            more = value != (-1 if code & 16 else 0)
            characters.append(chr(48 + code + (32 if more else 0)))
            if not more:
                break
    return "".join(characters)


_SIZES = (3, 4, 8, 16)


def label_studio_alpha(data: Sequence[int], count: int) -> UInt8[np.ndarray, " n"]:
    """Returns the alpha of pixels from Label Studio's brush run lengths.

    The bytes hold the number of values (32 bits), the bits of a value (5), of four sizes (4 each),
    then runs: one value for all (1) or one for each (0), which size (2 bits), the length, values.
    Four values are a pixel.

    Raises:
      ValueError: the bytes are no such run lengths, or not of `count` pixels.
    """
    if any(type(n) is not int or not 0 <= n < 256 for n in data):
        raise ValueError("'rle' must be a list of bytes")
    bits = "".join(f"{n:08b}" for n in data)
    place = 0

    def take(n: int) -> int:
        nonlocal place
        if place + n > len(bits):
            raise ValueError("the brush's run lengths are cut off")
        place += n
        return int(bits[place - n : place], 2)

    total, word = take(32), take(5) + 1
    if total != 4 * count:
        raise ValueError(f"the brush covers {total // 4} pixels, the image has {count}")
    sizes = [take(4) + 1 for _ in range(4)]
    values, filled = np.zeros(total, np.uint8), 0
    while filled < total:
        same, length = take(1), take(sizes[take(2)]) + 1
        if filled + length > total:
            raise ValueError("the brush's run lengths are longer than the image")
        values[filled : filled + length] = (
            take(word) & 255 if same else [take(word) & 255 for _ in range(length)]
        )
        filled += length
    return values[3::4]


def label_studio_bytes(flat: Bool[np.ndarray, " n"]) -> list[int]:
    """Returns pixels as Label Studio's brush run lengths."""
    bits = [f"{4 * flat.size:032b}", f"{7:05b}", *(f"{n - 1:04b}" for n in _SIZES)]
    for i, run in enumerate(runs(flat)):
        left, value = 4 * run, 255 * (i % 2)
        while left:
            length = min(left, 1 << 16)
            index = next(k for k, n in enumerate(_SIZES) if length <= 1 << n)
            bits.append(f"1{index:02b}{length - 1:0{_SIZES[index]}b}{value:08b}")
            left -= length
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return [int(text[i : i + 8], 2) for i in range(0, len(text), 8)]

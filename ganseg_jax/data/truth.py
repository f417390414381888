"""How stored ground truth becomes small label maps: what is resized, and what is decided after it.

Published foreground masks were resized as pictures and turned into labels after that. The other way
round gives other masks: mixed pixels at the border fall to the other side.
"""

import dataclasses
import io
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Int, UInt8
from PIL import Image

from ganseg_jax import pixels

LABELS = "labels"
"""The rule of label maps: each pixel takes the label of the nearest one."""


@dataclasses.dataclass(frozen=True)
class Rule:
    """Describes how a stored mask is read.

    Attributes:
      channels: of the stored mask.
      foreground: from a mask, (H, W) or (H, W, 3), to whether a pixel is foreground.
    """

    channels: int
    foreground: Callable[[UInt8[np.ndarray, "..."]], Bool[np.ndarray, "h w"]]


def not_blue(picture: UInt8[np.ndarray, "h w 3"]) -> Bool[np.ndarray, "h w"]:
    """Tells flowers from the background, which the published pictures paint over in blue."""
    red, green, blue = (picture[..., i] for i in range(3))
    return ~((red == 0) | (green == 0) | (blue == 254))


RULES = {
    "white": Rule(1, lambda mask: mask == 255),
    "above_half": Rule(1, lambda mask: mask > 127.5),
    "not_blue": Rule(3, not_blue),
}
"""The rules of foreground masks by their names, which prepared sets keep."""


def channels(rule: str) -> int:
    """Returns the number of channels of the masks of a rule."""
    return 1 if rule == LABELS else RULES[rule].channels


def shrink(data: bytes, size: int, rule: str) -> Int[np.ndarray, "s s"]:
    """Returns a stored mask at S = `size`: 0 background, 1, 2, ... labels, -1 no ground truth.

    Args:
      data: the encoded mask. One pixel of 255 stands for an image without ground truth.
      size: S, in pixels.
      rule: `LABELS` or a name in `RULES`, whose masks are resized bilinearly (antialiased), without
        keeping their aspect ratio, before they are decided on.

    Returns:
      (S, S) int32.
    """
    with Image.open(io.BytesIO(data)) as image:
        if rule == LABELS:
            labels = pixels.resize_labels(np.asarray(image), size, size).astype(np.int32)
            return np.where(labels == pixels.UNLABELLED, np.int32(-1), labels)
        if image.size == (1, 1):
            return np.full((size, size), -1, np.int32)
        wanted = image.convert("RGB" if RULES[rule].channels == 3 else "L")
        small = np.asarray(wanted.resize((size, size), Image.Resampling.BILINEAR))
        return RULES[rule].foreground(small).astype(np.int32)

"""Names of classes beside their colours, above a picture."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from ganseg_jax.report.palette import palette

_PAPER, _TEXT = (14, 16, 20), (205, 210, 220)
_LINE, _SQUARE, _GAP = 22, 12, 8  # pixels


def with_legend(
    picture: UInt8[np.ndarray, "h w 3"],
    classes: Sequence[str],
    colors: UInt8[np.ndarray, "c 3"] | None = None,
) -> UInt8[np.ndarray, "g w 3"]:
    """Returns the picture above as many lines of coloured squares and names as they need.

    Args:
      picture: any; it is not changed.
      classes: names, background (not shown) first, in the order of `palette`.
      colors: of the classes, if not those of `palette`.
    """
    colors = palette(len(classes)) if colors is None else colors
    font = ImageFont.load_default(13)
    width, x, y, places = picture.shape[1], _GAP, 0, []
    for name in classes[1:]:
        needed = _SQUARE + _GAP + round(font.getlength(name)) + 2 * _GAP
        if x > _GAP and x + needed > width:
            x, y = _GAP, y + _LINE
        places.append((x, y))
        x += needed
    strip = Image.new("RGB", (width, y + _LINE), _PAPER)
    draw = ImageDraw.Draw(strip)
    for (x, y), name, color in zip(places, classes[1:], colors[1:], strict=True):
        top = y + (_LINE - _SQUARE) // 2
        draw.rectangle((x, top, x + _SQUARE - 1, top + _SQUARE - 1), fill=tuple(map(int, color)))
        draw.text((x + _SQUARE + _GAP, y + _LINE / 2), name, fill=_TEXT, font=font, anchor="lm")
    return np.concatenate([np.asarray(strip), picture])

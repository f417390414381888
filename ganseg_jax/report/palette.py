"""Colours of parts: distinct for people with and without colour blindness.

The first seven are those of Okabe and Ito (2008). The others were added one at a time, each the
colour of an sRGB grid farthest in OKLab from all before it, counting the smallest distance among
normal vision, protanopia and deuteranopia (simulated after Machado et al. 2009).
"""

import colorsys

import numpy as np
from jaxtyping import UInt8

BACKGROUND = (33, 37, 46)
"""Colour of background pixels in a picture of masks."""

_PARTS = (
    "E69F00 56B4E9 009E73 F0E442 0072B2 D55E00 CC79A7 FFE1FF 961E4B 0000FF 00E1A5 8778FF 964B00 "
    "C31E96 A5FFB4 691EC3 FF4B69 87D2E1 E10FD2 960087 FFB478 A54B5A 96B4A5 3C5AFF E1C300 00962D "
    "C3E1D2 D2A578 874B78 7896FF 5A78D2 FF69D2"
).split()


def palette(num_classes: int) -> UInt8[np.ndarray, "c 3"]:
    """Returns colours of labels 0 (background, dark) to num_classes - 1.

    A class has the same colour however many there are. Beyond 33 classes, hues go round by the
    golden ratio, still all different but no longer all easy to tell apart.

    Returns:
      (num_classes, 3) uint8 sRGB.
    """
    colors = [BACKGROUND, *(tuple(bytes.fromhex(color)) for color in _PARTS)]
    for index in range(len(colors), num_classes):
        hue = (index * 0.6180339887) % 1.0
        rgb = colorsys.hsv_to_rgb(hue, 0.5 + 0.4 * (index % 2), 0.95 - 0.35 * (index // 2 % 2))
        colors.append(tuple(round(255 * channel) for channel in rgb))
    return np.array(colors[:num_classes], np.uint8).reshape(num_classes, 3)

"""Colours stay distinct, also for people who lack one kind of cone."""

import numpy as np
import pytest

from ganseg_jax.report.palette import BACKGROUND, palette

# Machado, Oliveira, Fernandes (2009), severity 1, on linear RGB.
VISION = {
    "normal": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
}


def oklab(colors, vision):
    """sRGB uint8 -> OKLab (Ottosson 2020) as seen with the given vision."""
    values = colors / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    linear = np.clip(linear @ np.array(VISION[vision]).T, 0, 1)
    to_lms = [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
    to_lab = [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
    return np.cbrt(linear @ np.array(to_lms).T) @ np.array(to_lab).T


# A just noticeable difference is about 0.02 in OKLab.
@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("classes,least", [(6, 0.11), (17, 0.07), (33, 0.05)])
def test_colors_differ_for_every_kind_of_vision(vision, classes, least):
    lab = oklab(palette(classes), vision)
    distance = np.linalg.norm(lab[:, None] - lab[None], axis=-1)
    assert distance[~np.eye(classes, dtype=bool)].min() > least


def test_palette_grows_without_changing_colors():
    few, many = palette(5), palette(60)
    assert few.dtype == np.uint8 and few.shape == (5, 3)
    np.testing.assert_array_equal(many[:5], few)
    np.testing.assert_array_equal(few[0], BACKGROUND)
    assert len(np.unique(many, axis=0)) == 60
    assert palette(0).shape == (0, 3)

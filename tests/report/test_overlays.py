"""Overlays put the right colour on the right pixel."""

import numpy as np
import pytest

from ganseg_jax import pixels
from ganseg_jax.report import overlays
from ganseg_jax.report.palette import palette


def grey(size=8, count=1):
    return np.full((count, size, size, 3), 128, np.uint8)


def test_to_uint8_covers_the_range_and_bears_anything():
    values = np.array([-1.0, 0.0, 1.0, 7.0, -7.0, np.nan, np.inf, 0.5]).reshape(1, 1, 8, 1)
    images = pixels.to_uint8(np.repeat(values, 3, -1))
    np.testing.assert_array_equal(images[0, 0, :, 0], [0, 128, 255, 255, 0, 128, 255, 191])


def test_enlarge_repeats_pixels():
    image = np.arange(4).reshape(1, 2, 2)
    expected = [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]
    np.testing.assert_array_equal(overlays.enlarge(image, 2)[0], expected)


def test_masks_mix_the_colors_of_their_classes():
    masks = np.zeros((1, 1, 3, 3), np.float32)
    masks[0, 0, 0, 0] = masks[0, 0, 1, 2] = 1
    masks[0, 0, 2, 1:] = 0.5
    colors = palette(3).astype(float)
    expected = [colors[0], colors[2], (colors[1] + colors[2]) / 2]
    np.testing.assert_allclose(overlays.color_masks(masks)[0, 0], expected, atol=0.5)


def test_overlaid_masks_leave_the_background_as_it_is():
    masks = np.zeros((1, 8, 8, 3), np.float32)
    masks[..., 0] = 1
    masks[0, 2, 3] = [0, 0, 1]
    drawn = overlays.overlay_masks(grey(), masks, opacity=0.5)
    expected = 0.5 * 128 + 0.5 * palette(3)[2].astype(float)
    np.testing.assert_allclose(drawn[0, 2, 3], expected, atol=0.51)
    drawn[0, 2, 3] = 128
    np.testing.assert_array_equal(drawn, grey())


def test_overlaid_labels_have_borders_in_full_color():
    labels = np.zeros((1, 8, 8), int)
    labels[0, 2:7, 2:7] = 2
    drawn = overlays.overlay_labels(grey(), labels, opacity=0.5)
    color = palette(3)[2].astype(float)
    np.testing.assert_array_equal(drawn[0, 2, 2:7], np.tile(color, (5, 1)))
    np.testing.assert_allclose(drawn[0, 4, 4], 64 + color / 2, atol=0.51)
    np.testing.assert_array_equal(drawn[0, 1], grey()[0, 1])


@pytest.mark.parametrize(
    "grid,place,pixel",
    [
        ("corners", (-1.0, 1.0), (8, 120)),  # centres of the first and last of 8 pixels
        ("centers", (-0.5, 0.5), (32, 96)),
        ("corners", (0.0, 0.0), (64, 64)),
    ],
)
def test_centers_are_drawn_where_they_lie(grid, place, pixel):
    image = overlays.enlarge(grey(8), 16)
    center = np.array(place).reshape(1, 1, 2)
    drawn = overlays.draw_points(image, center[:, :, None], center, pixels=8, grid=grid)
    changed = np.argwhere((drawn[0] != 128).any(-1))
    middle = (changed.min(0) + changed.max(0) + 1) / 2
    np.testing.assert_allclose(middle, pixel, atol=1)
    np.testing.assert_array_equal(drawn[0, pixel[0], pixel[1]], palette(2)[1])


def test_points_far_outside_or_not_finite_are_not_drawn():
    image = overlays.enlarge(grey(8), 8)
    points = np.full((1, 2, 3, 2), 5.0)
    points[0, 1] = np.nan
    drawn = overlays.draw_points(image, points, points.mean(2), pixels=8)
    np.testing.assert_array_equal(drawn, image)

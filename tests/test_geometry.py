"""Grids, heatmaps, centres and resizing, against figures worked out by hand or in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganseg_jax import geometry


def random_map(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def resize_by_hand(x, size, axis):
    """PyTorch's `interpolate(mode="bilinear", align_corners=False)` along one axis."""
    length = x.shape[axis]
    position = np.maximum((np.arange(size) + 0.5) * length / size - 0.5, 0)
    before = np.floor(position).astype(int)
    after = np.minimum(before + 1, length - 1)
    share = (position - before).reshape([-1 if i == axis else 1 for i in range(x.ndim)])
    return np.take(x, before, axis) * (1 - share) + np.take(x, after, axis) * share


def test_corner_grid_ends_on_the_centres_of_the_end_pixels():
    np.testing.assert_allclose(geometry.pixel_axis(5), [-1, -0.5, 0, 0.5, 1], atol=1e-7)
    with_margin = geometry.pixel_axis(5, 2)
    np.testing.assert_allclose(with_margin[2:-2], geometry.pixel_axis(5), atol=1e-7)
    assert with_margin[-1] == pytest.approx(1 + 2 * 2 / 4)  # 1 + 2 margin / (n - 1)


def test_center_grid_ends_on_the_edges_and_halves_exactly():
    np.testing.assert_allclose(geometry.pixel_axis(4, kind="centers"), [-0.75, -0.25, 0.25, 0.75])
    assert geometry.pixel_axis(4, 1, "centers")[0] == -1.25
    small, large = geometry.pixel_axis(8, 2, "centers"), geometry.pixel_axis(16, 4, "centers")
    np.testing.assert_allclose(small, large.reshape(-1, 2).mean(1), atol=1e-6)


def test_grid_is_row_then_column():
    grid = geometry.pixel_grid(3, 1, "corners")
    assert grid.shape == (5, 5, 2)
    np.testing.assert_allclose(grid[1, 3], [-1, 1])
    np.testing.assert_allclose(grid[4, 2], [2, 0])


def test_unknown_grid_is_named():
    with pytest.raises(ValueError, match="'middles'"):
        geometry.pixel_axis(4, kind="middles")


def test_heatmaps_by_hand():
    grid = geometry.pixel_grid(3)
    centers = jnp.array([[[0.0, 0.5], [-1.0, -1.0]]])
    squared = np.zeros((1, 3, 3, 2))
    for i, row in enumerate((-1, 0, 1)):
        for j, col in enumerate((-1, 0, 1)):
            squared[0, i, j] = [row**2 + (col - 0.5) ** 2, (row + 1) ** 2 + (col + 1) ** 2]
    np.testing.assert_allclose(geometry.squared_distances(grid, centers), squared, atol=1e-6)
    scale = jnp.array([[0.5, 2.0]])
    gaussian = geometry.gaussian_heatmaps(grid, centers, scale)
    np.testing.assert_allclose(gaussian, np.exp(-squared / [0.5, 2.0]), atol=1e-6)
    linear = geometry.linear_heatmaps(grid, centers, scale)
    np.testing.assert_allclose(linear, np.maximum(0, 1 - np.sqrt(squared) / [0.5, 2.0]), atol=1e-6)
    assert linear[0, 1, 1, 0] == 0 and linear[0, 0, 0, 1] == 1


def test_linear_heatmap_has_a_gradient_where_a_centre_lies_on_a_pixel():
    grid, scale = geometry.pixel_grid(3), jnp.full((1, 1), 0.7)
    total = jax.grad(
        lambda c: jnp.sum(geometry.linear_heatmaps(grid, c, scale) * grid[None, ..., :1])
    )
    assert np.isfinite(total(jnp.zeros((1, 1, 2)))).all()


@pytest.mark.parametrize("kind", ["corners", "centers"])
def test_mass_centers(kind):
    maps = np.zeros((2, 4, 4, 2), np.float32)
    maps[0, 0, 3, 0] = 1
    maps[0, 1, 2, 1], maps[0, 3, 2, 1] = 1, 3
    axis = np.asarray(geometry.pixel_axis(4, kind=kind))
    centers = geometry.mass_centers(maps, kind)
    np.testing.assert_allclose(centers[0, 0], [axis[0], axis[3]], atol=1e-5)
    np.testing.assert_allclose(centers[0, 1], [0.25 * axis[1] + 0.75 * axis[3], axis[2]], atol=1e-5)
    np.testing.assert_array_equal(centers[1], 0)  # Nothing there: the image's centre.


def test_upsampling_is_bilinear_by_exactly_two():
    x = random_map((2, 5, 3, 2))
    expected = jax.image.resize(x, (2, 10, 6, 2), "bilinear", antialias=False)
    np.testing.assert_allclose(geometry.upsample_2x(x), expected, atol=1e-6)
    by_hand = geometry.upsample_2x(np.array([0.0, 4.0]).reshape(1, 1, 2, 1))
    np.testing.assert_allclose(by_hand[0, :, :, 0], [[0, 1, 3, 4]] * 2)


@pytest.mark.parametrize("margin", [0, 1, 2, 3, 10])
def test_upsampling_and_cropping_reads_no_more_than_it_says(margin):
    x = random_map((1, 4 + 2 * margin, 4 + 2 * margin, 2))
    unread = geometry.unread_by_upsampling(margin)
    result = geometry.crop(geometry.upsample_2x(geometry.crop(x, unread)), margin - 2 * unread)
    assert result.shape == (1, 8 + 2 * margin, 8 + 2 * margin, 2)
    expected = geometry.crop(geometry.upsample_2x(x), margin)
    np.testing.assert_allclose(result, expected, atol=1e-6)
    # One pixel more would be too many.
    read = np.abs(jax.grad(lambda x: geometry.crop(geometry.upsample_2x(x), margin).sum())(x))
    assert np.all(geometry.crop(read, unread) > 0)


@pytest.mark.parametrize("size", [(2, 3), (6, 8), (9, 5)])
def test_resize_follows_pytorch(size):
    x = random_map((2, 6, 8, 2))
    expected = resize_by_hand(resize_by_hand(x, size[0], 1), size[1], 2)
    np.testing.assert_allclose(geometry.resize_bilinear(x, *size), expected, atol=1e-5)


def test_crop_and_edge_padding():
    x = random_map((1, 3, 3, 1))
    padded = geometry.pad_edges(x, 2)
    np.testing.assert_array_equal(geometry.crop(padded, 2), x)
    np.testing.assert_array_equal(padded[0, :3, :3], np.broadcast_to(x[0, 0, 0], (3, 3, 1)))
    np.testing.assert_array_equal(padded[0, -1, 2:5], x[0, -1])

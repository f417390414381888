"""Equivariance errors of made-up outputs that move exactly, and of small generators."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganseg_jax.evaluation.equivariance import (
    all_foreground,
    equivariance_errors,
    errors_of_both_grids,
)
from ganseg_jax.latents import sample_latents
from ganseg_jax.models.generator import Generator
from ganseg_jax.models.initialise import init_variables
from ganseg_jax.report.plots import plot_equivariance

SIZE = 16


def moving_blob(grid, broken_edge=False):
    """A decoder whose blob follows its point exactly, plus an error at the image's left edge."""
    axis = np.linspace(-1, 1, SIZE) if grid == "corners" else (2 * np.arange(SIZE) + 1) / SIZE - 1

    def decode(points):
        center = np.asarray(points, np.float64).mean((1, 2))  # [B, 2]
        rows, cols = axis - center[:, :1], axis - center[:, 1:]
        blob = np.minimum(1, 1.5 * np.exp(-4 * (rows[:, :, None] ** 2 + cols[:, None, :] ** 2)))
        masks = np.stack([1 - blob, blob], -1)
        image = np.repeat(blob[..., None], 3, -1) - 0.5
        if broken_edge:
            masks[:, :, 0] = [0, 1]
        return masks, image

    return decode


POINTS = jnp.array([[[[0.1, -0.2], [0.3, 0.0]]], [[[-0.4, 0.2], [0.0, 0.3]]]])


@pytest.mark.parametrize("grid", ["corners", "centers"])
def test_what_follows_exactly_has_no_error(grid):
    errors = equivariance_errors(moving_blob(grid), POINTS, [1, 3, 8], grid)
    assert errors.masks.shape == errors.image.shape == (3, SIZE // 2)
    assert np.nanmax(errors.masks) < 1e-6 and np.nanmax(errors.image) < 1e-6
    assert np.isfinite(errors.image).any(1).all()
    # A move by half of the image leaves only pixels close to the border to compare.
    assert np.isnan(errors.masks[2, -1]) and np.isfinite(errors.masks[0]).all()


def test_errors_are_found_where_they_are():
    errors = equivariance_errors(moving_blob("corners", broken_edge=True), POINTS, [1], "corners")
    assert errors.masks[0, 0] > 1e-2
    inner_masks, inner_image = errors.beyond(2)
    assert inner_masks[0] < 1e-6 and inner_image[0] < 1e-6


def test_the_other_grid_s_pitch_is_not_a_pixel():
    errors = equivariance_errors(moving_blob("corners"), POINTS, [4], "centers")
    assert errors.beyond(0)[0][0] > 1e-3


def test_what_stays_has_an_error():
    fixed = moving_blob("corners")(POINTS)
    errors = equivariance_errors(lambda points: fixed, POINTS, [4], "corners")
    assert errors.beyond(0)[0][0] > 0.05
    with pytest.raises(ValueError, match="shift 16 must lie between 1 and 15"):
        equivariance_errors(lambda points: fixed, POINTS, [16], "corners")


@pytest.fixture(scope="module")
def small_generators():
    """Errors of a generator of both grids under moves by whole pixels of its first stage.

    A bias takes the background's share away, so that the image is all foreground.
    """
    module = Generator(
        num_parts=2,
        noise_dim=16,
        embedding_dim=8,
        stage_sizes=(32, 64),
        stage_channels=(16, 8),
        margin=10,
        spade_hidden=8,
        point_divisor=2.0,
        heatmap="gaussian",
        part_scale="std",
    )
    latents = sample_latents(jax.random.key(1), 2, 16)
    variables = init_variables(module, 0, latents, train=False)
    foreground = all_foreground(module, variables)
    assert variables["params"]["mask_generator"]["block_1"]["conv_1"]["bias"][0] == 0
    return errors_of_both_grids(module, foreground, latents, [2, 6])


def test_centers_are_exact_away_from_the_border_and_corners_are_not(small_generators):
    masks, image = small_generators["centers"].beyond(18)
    assert masks.max() < 1e-4 and image.max() < 1e-3
    corner_masks, corner_image = small_generators["corners"].beyond(18)
    assert (corner_masks > 10 * masks).all() and (corner_image > 10 * image).all()


def test_both_grids_are_drawn(small_generators):
    picture = plot_equivariance(small_generators)
    assert picture.dtype == np.uint8 and picture.shape[2] == 3
    for color in ((0, 114, 178), (213, 94, 0)):
        assert (np.abs(picture.astype(int) - color).max(-1) < 30).sum() > 100

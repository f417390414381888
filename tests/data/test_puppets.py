"""The rendered set shows what its ground truth says."""

import numpy as np

from ganseg_jax.data.builders.puppets import render


def test_same_seed_same_figures():
    first, second = render.render(20, 32, seed=3), render.render(20, 32, seed=3)
    np.testing.assert_array_equal(first.images, second.images)
    np.testing.assert_array_equal(first.labels, second.labels)
    np.testing.assert_array_equal(first.joints, second.joints)
    assert (render.render(20, 32, seed=4).images != first.images).any()


def test_figures_vary_and_cover_a_sensible_share():
    puppets = render.render(64, 64, seed=0)
    covered = (puppets.labels > 0).mean(axis=(1, 2))
    assert covered.min() > 0.17 and covered.max() < 0.42
    assert len(np.unique(puppets.joints[:, 4, 0])) == 64
    assert puppets.visible.all()
    for part in range(1, len(render.PART_NAMES) + 1):
        shown = (puppets.labels == part).sum(axis=(1, 2))
        assert (shown > 30).all(), render.PART_NAMES[part - 1]


def test_joints_lie_on_their_parts():
    puppets = render.render(48, 128, seed=1)
    parts = {"head": 1, "left hand": 3, "right hand": 4, "left foot": 5, "right foot": 5}
    for name, part in parts.items():
        joints = puppets.joints[:, render.JOINT_NAMES.index(name)]
        rows, cols = np.floor(joints * 128).astype(int).T
        on_part = puppets.labels[np.arange(48), rows, cols] == part
        # A hand may be hidden behind the head or the other arm.
        assert on_part.mean() > 0.9, name


def test_parts_differ_in_hue_from_each_other_and_from_the_background():
    puppets = render.render(32, 64, seed=2)
    pixels = puppets.images.astype(np.float32)
    saturation = 1 - pixels.min(axis=-1) / np.maximum(pixels.max(axis=-1), 1)
    assert np.median(saturation[puppets.labels > 0]) > 0.6
    assert np.median(saturation[puppets.labels == 0]) < 0.35
    means = np.array([pixels[puppets.labels == k].mean(axis=0) for k in range(1, 6)])
    distances = np.linalg.norm(means[:, None] - means[None], axis=-1)
    assert distances[~np.eye(5, dtype=bool)].min() > 60


def test_scale_of_rendering_does_not_change_the_scene():
    small, large = render.render(8, 32, seed=5), render.render(8, 64, seed=5)
    np.testing.assert_array_equal(small.joints, large.joints)
    agreement = (small.labels == large.labels[:, 1::2, 1::2]).mean()
    assert agreement > 0.93


def test_distances_are_float32():
    # In float64 single pixels of the set would round to another value.
    bones = [((0, 0), (0, 1), 0.5, 0.25)]
    grid = np.zeros((1, 4, 4), np.float32)
    to_image = lambda point: np.array([point], np.float32)  # noqa: E731
    distance, radius = render._distance(grid, grid, to_image, np.ones(1, np.float32), bones)
    assert distance.dtype == radius.dtype == np.float32

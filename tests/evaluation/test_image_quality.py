"""Image quality measures against closed forms, brute force and OpenCV's pyramids."""

import cv2
import numpy as np
import pytest
from scipy import linalg

from ganseg_jax.evaluation import image_quality
from ganseg_jax.evaluation.statistics_cache import collect


def photos(seed, count=24, size=32, smooth=2.0):
    """Random smooth uint8 images; the wider the smoothing, the less fine detail they have."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(count, size, size, 3)).astype(np.float32)
    blurred = np.stack([cv2.GaussianBlur(image, (0, 0), smooth) for image in noise])
    blurred /= blurred.std()
    return np.clip(blurred * 50 + 128, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("size,levels", [(16, 1), (31, 1), (32, 2), (63, 3), (64, 3), (128, 4)])
def test_pyramids_end_at_16_pixels(size, levels):
    a, b = photos(0, count=2, size=size), photos(1, count=2, size=size)
    figures = image_quality.sliced_wasserstein(a, b, seed=0, patches_per_image=2, directions=2)
    assert len(figures) == levels + 1
    last = image_quality.laplacian_level(a.astype(np.float32), levels - 1)
    assert last.mean() == pytest.approx(a.mean(), rel=0.02)  # the low-pass image keeps the mean


@pytest.mark.parametrize("size", [32, 48, 66])
def test_pyramid_levels_are_opencv_s(size):
    image = photos(0, count=1, size=size)[0].astype(np.float32)
    half = cv2.pyrDown(image)
    fine = image_quality.laplacian_level(image[None], 0)[0]
    up = np.zeros_like(image)
    up[::2, ::2] = half  # pyrUp mirrors differently at the far edge, so compare inside
    expected = image - cv2.pyrUp(half, dstsize=(size, size))
    np.testing.assert_allclose(fine[:-3, :-3], expected[:-3, :-3], atol=2e-3)
    if size < 64:
        coarse = image_quality.laplacian_level(image[None], 1)[0]
        np.testing.assert_allclose(coarse, half, atol=1e-3)


def test_sliced_wasserstein_of_like_sets_is_far_below_that_of_unlike_ones():
    a, b = photos(0, count=96, smooth=1.0), photos(1, count=96, smooth=1.0)
    blurred = photos(2, count=96, smooth=3.0)
    same = image_quality.sliced_wasserstein(a, b, seed=0)
    other = image_quality.sliced_wasserstein(a, blurred, seed=0)
    assert set(same) == {"32", "16", "mean"}
    assert same["mean"] == pytest.approx((same["32"] + same["16"]) / 2)
    assert other["mean"] > 3 * same["mean"]


def test_sliced_wasserstein_is_reproducible_and_takes_both_kinds_of_images():
    a, b = photos(0, size=16), photos(1, size=16, smooth=1.0)
    first = image_quality.sliced_wasserstein(a, b, seed=3)
    assert first == image_quality.sliced_wasserstein(a, b, seed=3)
    assert first != image_quality.sliced_wasserstein(a, b, seed=4)
    assert set(first) == {"16", "mean"}
    as_floats = image_quality.sliced_wasserstein(a.astype(np.float32) / 127.5 - 1, b, seed=3)
    assert as_floats["mean"] == pytest.approx(first["mean"], rel=1e-5)


def test_sliced_wasserstein_compares_equal_numbers():
    a, b = photos(0, count=10), photos(1, count=24)
    cut = image_quality.sliced_wasserstein(a, b, seed=0, max_images=8)
    assert cut["mean"] > 0
    assert image_quality.sliced_wasserstein(a, b, seed=0)["mean"] > 0


def test_sorted_distance_by_hand():
    # One-dimensional descriptors: the distance is that of the sorted numbers, 1 and 3 apart.
    a = np.array([[5.0], [0.0]], np.float32)
    b = np.array([[1.0], [8.0]], np.float32)
    measured = image_quality._sorted_distance(a, b, 3, np.random.default_rng(0))
    assert measured == pytest.approx(2.0)


@pytest.mark.usefixtures("unchecked")
def test_sliced_wasserstein_refuses_small_and_unlike_images():
    with pytest.raises(ValueError, match="at least 16 px"):
        image_quality.sliced_wasserstein(photos(0, size=12), photos(1, size=12), seed=0)
    with pytest.raises(ValueError, match="do not compare"):
        image_quality.sliced_wasserstein(photos(0, size=16), photos(1, size=32), seed=0)


def gaussian(seed, dimension=12):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(dimension, dimension))
    return rng.normal(size=dimension), root @ root.T / dimension


def test_frechet_distance_of_diagonal_gaussians_is_the_closed_form():
    mean_a, mean_b = np.array([1.0, 2.0, 3.0]), np.array([1.5, 1.0, 3.0])
    deviation_a, deviation_b = np.array([1.0, 2.0, 0.0]), np.array([3.0, 0.5, 0.2])
    expected = ((mean_a - mean_b) ** 2 + (deviation_a - deviation_b) ** 2).sum()
    measured = image_quality.frechet_distance(
        mean_a, np.diag(deviation_a**2), mean_b, np.diag(deviation_b**2)
    )
    assert measured == pytest.approx(expected, abs=1e-12)


def test_frechet_distance_is_the_one_by_matrix_square_root():
    (mean_a, cov_a), (mean_b, cov_b) = gaussian(0), gaussian(1)
    root = linalg.sqrtm(cov_a @ cov_b).real
    difference = mean_a - mean_b
    expected = difference @ difference + np.trace(cov_a + cov_b - 2 * root)
    measured = image_quality.frechet_distance(mean_a, cov_a, mean_b, cov_b)
    assert measured == pytest.approx(expected, rel=1e-9)


def test_fid_of_a_set_with_itself_vanishes_even_where_the_covariance_is_singular():
    features = np.random.default_rng(0).normal(0.5, 3.0, (50, 200)).astype(np.float32)
    statistics = collect([features]).statistics
    assert image_quality.fid(statistics, statistics) < 1e-6


def test_streamed_statistics_are_those_of_all_features():
    features = np.random.default_rng(1).normal(1000.0, 1.0, (101, 7))
    batches = [features[start : start + 10] for start in range(0, 101, 10)] + [features[:0]]
    statistics = collect(batches).statistics
    assert statistics.count == 101
    np.testing.assert_allclose(statistics.mean, features.mean(0), rtol=1e-12)
    np.testing.assert_allclose(statistics.covariance, np.cov(features.T), atol=1e-9)
    with pytest.raises(ValueError, match="at least 2"):
        _ = collect([features[:1]]).statistics.covariance


def test_polynomial_mmd_is_the_double_sum():
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(9, 4)), rng.normal(0.5, 1, (7, 4))

    def kernel(x, y):
        return (x @ y / 4 + 1) ** 3

    within_a = np.mean([kernel(a[i], a[j]) for i in range(9) for j in range(9) if i != j])
    within_b = np.mean([kernel(b[i], b[j]) for i in range(7) for j in range(7) if i != j])
    between = np.mean([kernel(x, y) for x in a for y in b])
    expected = within_a + within_b - 2 * between
    assert image_quality.polynomial_mmd(a, b) == pytest.approx(expected, rel=1e-10)
    assert image_quality.polynomial_mmd(a, b, chunk=2) == pytest.approx(expected, rel=1e-10)


def test_kernel_distance_is_unbiased_around_zero_and_large_for_other_features():
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(2, 200, 8))
    mean, deviation = image_quality.kernel_distance(a, b, seed=0, subsets=20, subset_size=50)
    assert abs(mean) < 3 * deviation / np.sqrt(20) + 0.02 and deviation > 0
    shifted, _ = image_quality.kernel_distance(a, b + 1, seed=0, subsets=20, subset_size=50)
    assert shifted > 10 * abs(mean)
    again = image_quality.kernel_distance(a, b + 1, seed=0, subsets=20, subset_size=50)
    assert again[0] == shifted


def test_features_in_batches_fill_up_the_last_batch_and_drop_the_filling():
    sizes = []

    def feature_fn(images):
        sizes.append(len(images))
        return images.reshape(len(images), -1)[:, :2].astype(np.float32)

    images = photos(0, count=7, size=16)
    features = np.concatenate(list(image_quality.features_in_batches(feature_fn, images, 3)))
    assert sizes == [3, 3, 3]
    np.testing.assert_array_equal(features, images.reshape(7, -1)[:, :2])

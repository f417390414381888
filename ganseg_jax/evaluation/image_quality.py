"""How close a set of generated images is to a set of photos.

`sliced_wasserstein` compares patches of Laplacian pyramids and needs no weights; `frechet_distance`
(FID) and `kernel_distance` (KID) compare features of a network that the caller computes. Statistics
are kept in float64.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Shaped

from ganseg_jax.pixels import to_unit_range

SMALLEST_LEVEL = 16
"""Pixels a side of the pyramid's last level (Karras et al. 2018)."""

_KERNEL = np.array([1.0, 4.0, 6.0, 4.0, 1.0], np.float32) / 16


def sliced_wasserstein(
    images_a: Shaped[np.ndarray, "n h w c"],
    images_b: Shaped[np.ndarray, "m h w c"],
    seed: int,
    *,
    max_images: int = 16384,
    patches_per_image: int = 128,
    directions: int = 512,
) -> dict[str, float]:
    """Measures the sliced Wasserstein distance of pyramid patches (Karras et al. 2018, sec. 5).

    7x7 patches are drawn at random places of every pyramid level, normalised to mean 0 and
    deviation 1 by colour channel within each set, projected onto random directions, and compared by
    the mean absolute difference of the sorted projections. As in the paper the distances are given
    times 1000. The normalisation hides a colour cast common to a whole set.

    Args:
      images_a: uint8, or floats in [-1, 1]; at least 16 px a side.
      images_b: as `images_a`, of the same height, width and channels.
      seed: draws images, patches and directions; the same seed gives the same figure.
      max_images: both sets are cut to the smaller of their sizes and this number by drawing
        without replacement, since the distance depends on the number of patches.
      patches_per_image: patches of each image and level.
      directions: random projections.

    Returns:
      The distance of each level, named by its height in pixels ('32', '16'), and their 'mean'.

    Raises:
      ValueError: for images that do not match, are too small, or none.
    """
    if images_a.shape[1:] != images_b.shape[1:]:
        raise ValueError(f"images of {images_a.shape[1:]} and {images_b.shape[1:]} do not compare")
    size = min(images_a.shape[1:3])
    if size < SMALLEST_LEVEL:
        raise ValueError(f"images must be at least {SMALLEST_LEVEL} px a side, not {size}")
    count = min(len(images_a), len(images_b), max_images)
    if count == 0:
        raise ValueError("sliced_wasserstein needs at least one image in each set")
    # One generator for each purpose, so that adding a level moves no other draw.
    pick_a, pick_b, *level_seeds = np.random.SeedSequence(seed).spawn(2 + 16)
    chosen_a = _choose(len(images_a), count, pick_a)
    chosen_b = _choose(len(images_b), count, pick_b)
    distances = {}
    for level in range(_num_levels(size)):
        patch_a, patch_b, direction = level_seeds[level].spawn(3)
        descriptors_a = _descriptors(images_a, chosen_a, level, patches_per_image, patch_a)
        descriptors_b = _descriptors(images_b, chosen_b, level, patches_per_image, patch_b)
        height = -(-images_a.shape[1] // 2**level)
        distances[str(height)] = 1e3 * _sorted_distance(
            descriptors_a, descriptors_b, directions, np.random.default_rng(direction)
        )
    return {**distances, "mean": float(np.mean(list(distances.values())))}


def laplacian_level(
    images: Float[np.ndarray, "n h w c"], level: int
) -> Float[np.ndarray, "n i j c"]:
    """Returns one level of the Laplacian pyramids of images; the last is the low-pass image.

    Level l has ceil(H / 2^l) rows. Filtering is with (1, 4, 6, 4, 1) / 16, mirrored at the border.
    """
    current = np.asarray(images, np.float32)
    for _ in range(level):
        current = _half(current)
    if min(current.shape[1:3]) < 2 * SMALLEST_LEVEL:
        return current
    return current - _double(_half(current), current.shape)


@dataclass
class FeatureStatistics:
    """Gathers mean and covariance of features, in float64, from batches that are never kept.

    Attributes:
      count: examples seen.
      mean: (D,).
      scatter: (D, D) sum of the outer products of the deviations from the mean.
    """

    count: int = 0
    mean: Float[np.ndarray, " d"] = field(default_factory=lambda: np.zeros(0))
    scatter: Float[np.ndarray, "d d"] = field(default_factory=lambda: np.zeros((0, 0)))

    def add(self, features: Float[np.ndarray, "n d"]) -> None:
        """Takes in a batch of features, (N, D), by Chan, Golub and LeVeque's update."""
        features = np.asarray(features, np.float64)
        if not len(features):
            return
        if not self.count:
            dimension = features.shape[1]
            self.mean, self.scatter = np.zeros(dimension), np.zeros((dimension, dimension))
        batch_mean = features.mean(0)
        deviations = features - batch_mean
        step = batch_mean - self.mean
        total = self.count + len(features)
        self.scatter = self.scatter + deviations.T @ deviations
        self.scatter += np.outer(step, step) * (self.count * len(features) / total)
        self.mean = self.mean + step * (len(features) / total)
        self.count = total

    @property
    def covariance(self) -> Float[np.ndarray, "d d"]:
        """Returns the unbiased covariance; raises ValueError for fewer than two examples."""
        if self.count < 2:
            raise ValueError(f"a covariance needs at least 2 examples, not {self.count}")
        return self.scatter / (self.count - 1)


def frechet_distance(
    mean_a: Float[np.ndarray, " d"],
    covariance_a: Float[np.ndarray, "d d"],
    mean_b: Float[np.ndarray, " d"],
    covariance_b: Float[np.ndarray, "d d"],
) -> float:
    """Returns the squared Fréchet distance of two Gaussians (Dowson, Landau 1982), as in FID.

    |m_a - m_b|^2 + tr C_a + tr C_b - 2 tr (C_a C_b)^(1/2). The last trace is the nuclear norm of
    C_a^(1/2) C_b^(1/2), which stays accurate for the singular covariances of small sets, where a
    matrix square root of the product does not.
    """
    difference = np.asarray(mean_a, np.float64) - mean_b
    product = _square_root(covariance_a) @ _square_root(covariance_b)
    cross = np.linalg.svd(product, compute_uv=False).sum()
    distance = difference @ difference + np.trace(covariance_a) + np.trace(covariance_b) - 2 * cross
    return float(max(distance, 0.0))


def fid(a: FeatureStatistics, b: FeatureStatistics) -> float:
    """Returns the Fréchet inception distance (Heusel et al. 2017) from both sets' statistics."""
    return frechet_distance(a.mean, a.covariance, b.mean, b.covariance)


def polynomial_mmd(
    features_a: Float[np.ndarray, "n d"],
    features_b: Float[np.ndarray, "m d"],
    chunk: int = 2048,
) -> float:
    """Returns the unbiased squared maximum mean discrepancy with the kernel (x.y / D + 1)^3.

    (Binkowski et al. 2018, sec. 4.) Kernel values of an example with itself are left out, so that
    the estimate is unbiased and may be negative. Gram matrices are summed in blocks of `chunk`
    rows.
    """
    features_a = np.asarray(features_a, np.float64)
    features_b = np.asarray(features_b, np.float64)
    n, m = len(features_a), len(features_b)
    if n < 2 or m < 2:
        raise ValueError(
            f"the unbiased estimate needs at least 2 examples of each, not {n} and {m}"
        )
    within_a = _kernel_sum(features_a, features_a, chunk) - _kernel_diagonal(features_a).sum()
    within_b = _kernel_sum(features_b, features_b, chunk) - _kernel_diagonal(features_b).sum()
    between = _kernel_sum(features_a, features_b, chunk)
    return float(within_a / (n * (n - 1)) + within_b / (m * (m - 1)) - 2 * between / (n * m))


def kernel_distance(
    features_a: Float[np.ndarray, "n d"],
    features_b: Float[np.ndarray, "m d"],
    seed: int,
    *,
    subsets: int = 100,
    subset_size: int = 1000,
) -> tuple[float, float]:
    """Returns the kernel inception distance: `polynomial_mmd` averaged over random subsets.

    Args:
      features_a: (N, D).
      features_b: (M, D).
      seed: draws the subsets.
      subsets: their number.
      subset_size: examples of each set in one of them, at most the smaller set's size.

    Returns:
      Mean and standard deviation over the subsets.
    """
    rng = np.random.default_rng(seed)
    size = min(subset_size, len(features_a), len(features_b))
    values = [
        polynomial_mmd(
            features_a[rng.choice(len(features_a), size, replace=False)],
            features_b[rng.choice(len(features_b), size, replace=False)],
        )
        for _ in range(subsets)
    ]
    return float(np.mean(values)), float(np.std(values))


def features_in_batches(
    feature_fn: Callable[[np.ndarray], np.ndarray],
    images: Shaped[np.ndarray, "n h w c"],
    batch_size: int,
) -> Iterable[Float[np.ndarray, "b d"]]:
    """Yields features of images batch by batch; the last is filled up, its filling dropped."""
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        filling = np.repeat(batch[-1:], batch_size - len(batch), axis=0)
        yield np.asarray(feature_fn(np.concatenate([batch, filling])))[: len(batch)]


def _unit(images: np.ndarray) -> np.ndarray:
    return to_unit_range(images) if images.dtype == np.uint8 else images.astype(np.float32)


def _num_levels(size: int) -> int:
    """Counts the pyramid's levels: halved, rounding up, down to SMALLEST_LEVEL at the least."""
    levels = 1
    while size >= 2 * SMALLEST_LEVEL:
        size = -(-size // 2)
        levels += 1
    return levels


def _choose(available: int, count: int, seed: np.random.SeedSequence) -> np.ndarray:
    if available == count:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(available, count, replace=False))


def _half(images: np.ndarray) -> np.ndarray:
    return _blur(images)[:, ::2, ::2]


def _double(images: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    spread = np.zeros(shape, np.float32)
    spread[:, ::2, ::2] = images
    return 4 * _blur(spread)


def _blur(images: np.ndarray) -> np.ndarray:
    from scipy import ndimage  # Slow to import, and seldom needed.

    rows = ndimage.correlate1d(images, _KERNEL, axis=1, mode="mirror")
    return ndimage.correlate1d(rows, _KERNEL, axis=2, mode="mirror")


def _descriptors(
    images: np.ndarray,
    chosen: np.ndarray,
    level: int,
    patches_per_image: int,
    seed: np.random.SeedSequence,
    chunk: int = 256,
) -> np.ndarray:
    """Returns normalised 7x7 patches of a level, (len(chosen) * patches_per_image, 49 * C)."""
    rng = np.random.default_rng(seed)
    patch, offsets = 7, np.arange(7)
    channels = images.shape[-1]
    patches = np.empty((len(chosen), patches_per_image, patch, patch, channels), np.float32)
    for start in range(0, len(chosen), chunk):
        batch = laplacian_level(_unit(images[chosen[start : start + chunk]]), level)
        count, height, width, _ = batch.shape
        top = rng.integers(0, height - patch + 1, (count, patches_per_image))
        left = rng.integers(0, width - patch + 1, (count, patches_per_image))
        patches[start : start + count] = batch[
            np.arange(count)[:, None, None, None],
            (top[..., None] + offsets)[..., :, None],
            (left[..., None] + offsets)[..., None, :],
        ]
    mean = patches.mean((0, 1, 2, 3), dtype=np.float64)
    deviation = patches.std((0, 1, 2, 3), dtype=np.float64)
    patches -= mean.astype(np.float32)
    # A channel without any variation stays at zero.
    patches /= np.where(deviation > 1e-8, deviation, 1.0).astype(np.float32)
    return patches.reshape(-1, patch * patch * channels)


def _sorted_distance(
    a: np.ndarray, b: np.ndarray, directions: int, rng: np.random.Generator, chunk: int = 32
) -> float:
    """Returns the mean over random directions of the projections' 1-Wasserstein distance."""
    vectors = rng.standard_normal((a.shape[1], directions))
    vectors /= np.linalg.norm(vectors, axis=0)
    vectors = vectors.astype(np.float32)
    total = 0.0
    for start in range(0, directions, chunk):
        part = vectors[:, start : start + chunk]
        # Sorting contiguous rows is several times faster than sorting strided columns.
        projected_a = np.sort(part.T @ a.T, axis=1)
        projected_b = np.sort(part.T @ b.T, axis=1)
        total += float(np.abs(projected_a - projected_b).mean(1, dtype=np.float64).sum())
    return total / directions


def _square_root(covariance: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(np.asarray(covariance, np.float64))
    return (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T


def _kernel_sum(a: np.ndarray, b: np.ndarray, chunk: int) -> float:
    blocks = (a[start : start + chunk] @ b.T for start in range(0, len(a), chunk))
    return float(sum(((block / a.shape[1] + 1) ** 3).sum() for block in blocks))


def _kernel_diagonal(a: np.ndarray) -> np.ndarray:
    return ((a * a).sum(1) / a.shape[1] + 1) ** 3

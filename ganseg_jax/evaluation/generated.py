"""Figures of generated images: sliced Wasserstein distance and, given features, FID and KID."""

from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Float, Shaped, UInt8

from ganseg_jax.evaluation import image_quality, statistics_cache
from ganseg_jax.pixels import to_uint8

SampleFn = Callable[[int], Float[np.ndarray, "b s s 3"]]
FeatureFn = Callable[[UInt8[np.ndarray, "b s s 3"]], Float[np.ndarray, "b d"]]

MOST_FOR_PATCHES = 16384
"""Images that the sliced Wasserstein distance looks at (Karras et al. 2018)."""


def image_figures(
    sample_fn: SampleFn,
    real_images: Shaped[np.ndarray, "n s s 3"],
    num_samples: int,
    seed: int,
    *,
    held_out: Shaped[np.ndarray, "m s s 3"] | None = None,
    feature_fn: FeatureFn | None = None,
    real_statistics: statistics_cache.SetStatistics | None = None,
) -> dict[str, float]:
    """Compares freshly generated images with photos.

    Samples are generated once for all figures and quantised to uint8 as if they had been saved.

    Args:
      sample_fn: number of a batch -> images in [-1, 1]; batches need not be equally large.
      real_images: photos, uint8 or in [-1, 1], at the samples' size.
      num_samples: how many samples to generate.
      seed: of the random patches, directions and subsets.
      held_out: photos of the same kind that are not among the others, for the floor.
      feature_fn: uint8 images -> features; without it there is no FID and KID.
      real_statistics: of the photos' features, needed with `feature_fn`.

    Returns:
      `sliced_wasserstein`, its levels as `sliced_wasserstein_16` and so on, `fid`, `kid` and its
      standard deviation over random subsets, `kid_spread`; each with the number of generated
      images as `..._count`. With held-out photos `sliced_wasserstein_floor`, their distance from
      the others, and their number.
    """
    if (feature_fn is None) is not (real_statistics is None):
        raise ValueError("feature_fn and real_statistics belong together")
    kept: list[np.ndarray] = []

    def features() -> Iterator[np.ndarray]:
        for batch in _batches(sample_fn, num_samples):
            if sum(map(len, kept)) < MOST_FOR_PATCHES:
                kept.append(batch)
            if feature_fn is not None:
                yield np.asarray(feature_fn(batch))

    figures: dict[str, float] = {}
    if real_statistics is None:
        for _ in features():
            pass
    else:
        made = statistics_cache.collect(features())
        figures["fid"] = image_quality.fid(made.statistics, real_statistics.statistics)
        distance, spread = image_quality.kernel_distance(made.sample, real_statistics.sample, seed)
        figures |= {"kid": distance, "kid_spread": spread}
    figures = {**figures, **{name + "_count": num_samples for name in figures}}
    samples = np.concatenate(kept)[:MOST_FOR_PATCHES]
    distances = image_quality.sliced_wasserstein(samples, real_images, seed)
    compared = min(len(samples), len(real_images))
    for level, distance in {"mean": distances.pop("mean"), **distances}.items():
        name = "sliced_wasserstein" + ("" if level == "mean" else f"_{level}")
        figures |= {name: distance, name + "_count": compared}
    if held_out is not None:
        floor = image_quality.sliced_wasserstein(held_out, real_images, seed)["mean"]
        compared = min(len(held_out), len(real_images), MOST_FOR_PATCHES)
        figures |= {
            "sliced_wasserstein_floor": floor,
            "sliced_wasserstein_floor_count": compared,
        }
    return figures


def _batches(sample_fn: SampleFn, num_samples: int) -> Iterator[UInt8[np.ndarray, "b s s 3"]]:
    made, index = 0, 0
    while made < num_samples:
        batch = to_uint8(sample_fn(index))[: num_samples - made]
        made, index = made + len(batch), index + 1
        yield batch

"""Feature statistics of training sets, computed once and kept in files.

A file holds the mean and the covariance for FID and a sample of the features for KID.
"""

import io
import os
import re
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from ganseg_jax.evaluation.image_quality import FeatureStatistics
from ganseg_jax.files import write_whole

SAMPLE = 10_000
"""Features kept of a set, those of its first images."""


@dataclass
class SetStatistics:
    """Holds statistics of the features of a set of images.

    Attributes:
      statistics: mean and covariance over all images.
      sample: features of the first images, float32, at most `SAMPLE` of them.
    """

    statistics: FeatureStatistics
    sample: Float[np.ndarray, "s d"]


def collect(batches: Iterable[Float[np.ndarray, "_ d"]]) -> SetStatistics:
    """Computes statistics of a set from batches of features; keeps only a sample of these."""
    statistics, kept, count = FeatureStatistics(), [], 0
    for batch in batches:
        statistics.add(batch)
        if count < SAMPLE:
            kept.append(np.asarray(batch[: SAMPLE - count], np.float32))
            count += len(kept[-1])
    if not kept:
        raise ValueError("there are no features to take statistics of")
    return SetStatistics(statistics, np.concatenate(kept))


def cached(
    folder: str | os.PathLike,
    *,
    dataset: str,
    split: str,
    image_size: int,
    count: int,
    weights: str,
    compute: Callable[[], SetStatistics],
) -> SetStatistics:
    """Reads the statistics of a set from its file in `folder`, or computes and writes them.

    A file that cannot be read, or was made of another number of images or with other weights, is
    made again.

    Args:
      folder: where the files are kept.
      dataset: name of the data set.
      split: name of the split.
      image_size: S; the same images at another size have other features.
      count: number of images in the split.
      weights: what tells one feature network from another, such as a hash of its file.
      compute: makes the statistics.

    Raises:
      UserError: the file cannot be written.
    """
    path = cache_path(folder, dataset, split, image_size)
    found = _read(path, count, weights)
    if found is not None:
        return found
    made = compute()
    buffer = io.BytesIO()
    np.savez(
        buffer,
        mean=made.statistics.mean,
        scatter=made.statistics.scatter,
        count=made.statistics.count,
        sample=made.sample,
        images=count,
        weights=weights,
    )
    write_whole(path, buffer.getvalue())
    return made


def cache_path(folder: str | os.PathLike, dataset: str, split: str, image_size: int) -> Path:
    """Returns the file of a data set's split at an image size."""
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", f"{dataset}-{split}-{image_size}")
    return Path(folder) / f"{name}.npz"


def _read(path: Path, count: int, weights: str) -> SetStatistics | None:
    try:
        with np.load(path, allow_pickle=False) as file:
            if int(file["images"]) != count or str(file["weights"]) != weights:
                return None
            statistics = FeatureStatistics(int(file["count"]), file["mean"], file["scatter"])
            return SetStatistics(statistics, file["sample"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None

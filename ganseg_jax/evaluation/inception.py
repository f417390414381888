"""Features of the FID Inception network, whose weights the user gives as a file."""

import hashlib
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from ganseg_jax.config import Config
from ganseg_jax.data import pipeline, prepare
from ganseg_jax.errors import UserError
from ganseg_jax.evaluation import image_quality, statistics_cache
from ganseg_jax.files import resolve
from ganseg_jax.interop import weights
from ganseg_jax.interop.torch_inception import load_fid_inception
from ganseg_jax.precision import EXACT, of_products

FIELD = "evaluation.inception_checkpoint"


class FeatureNetwork:
    """Maps images to features: uint8 (N, S, S, 3) -> float32 (N, D).

    Args:
      module: gives an object with `pool3`, (B, D), for images in [0, 1].
      variables: its variables.
      fingerprint: tells these weights from others.
      batch_size: images looked at together.
    """

    def __init__(self, module: Any, variables: Any, fingerprint: str, batch_size: int = 32):
        self.fingerprint, self.batch_size = fingerprint, batch_size
        self._variables = jax.device_put(variables)

        @jax.jit
        def pool3(variables: Any, images: Any) -> Any:
            with of_products(EXACT):
                return module.apply(variables, images.astype(jnp.float32) / 255).pool3

        self._pool3 = pool3

    def __call__(self, images: UInt8[np.ndarray, "n s s 3"]) -> Float[np.ndarray, "n d"]:
        """Returns features of images of one size."""

        def features_of(batch):
            return self._pool3(self._variables, batch)

        batches = image_quality.features_in_batches(features_of, images, self.batch_size)
        return np.concatenate(list(batches))


def load_network(config: Config) -> FeatureNetwork | None:
    """Loads the network of `evaluation.inception_checkpoint`; None if the field is empty.

    Raises:
      UserError: naming the field and the file, where that is missing, damaged, or of another
        network.
    """
    path = config.evaluation.inception_checkpoint
    if not path:
        return None
    try:
        content = weights.read(path)
        module, variables = load_fid_inception(content)
    except UserError as error:
        raise UserError(f"{FIELD}={path!r}: {error}") from error
    return FeatureNetwork(module, variables, _fingerprint(path), config.evaluation.batch_size)


def training_statistics(config: Config, network: FeatureNetwork) -> statistics_cache.SetStatistics:
    """Returns statistics of all training photos, kept beside the prepared data set.

    Raises:
      UserError: the set is not prepared or the statistics cannot be kept.
    """
    dataset = config.dataset
    count = pipeline.split_sizes(dataset.name, dataset.data_dir)["train"]
    # Inside the set's own folder: with another set in its place they are gone.
    prepared = prepare.find_prepared(dataset.name, dataset.data_dir)
    assert prepared is not None  # Its size was read.
    folder = prepared / "feature_statistics"
    batches = pipeline.image_batches(
        dataset.name, dataset.data_dir, "train", config.image_size, network.batch_size
    )
    return statistics_cache.cached(
        folder,
        dataset=dataset.name,
        split="train",
        image_size=config.image_size,
        count=count,
        weights=network.fingerprint,
        compute=lambda: statistics_cache.collect(map(network, batches)),
    )


def _fingerprint(path: str | os.PathLike) -> str:
    with resolve(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""Trained networks as plain functions: `load_generator`, `load_segmenter`."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from ganseg_jax import geometry, refinement
from ganseg_jax import packed as pretrained
from ganseg_jax.config import Config
from ganseg_jax.config import file as config_file
from ganseg_jax.errors import UserError
from ganseg_jax.evaluation import landmarks
from ganseg_jax.models import build
from ganseg_jax.models.autoencoder import MaskReader
from ganseg_jax.models.deeplab import DeepLabV3
from ganseg_jax.models.generator import Generator
from ganseg_jax.models.unet import UNet
from ganseg_jax.training import autoencoder_stage, stages
from ganseg_jax.training.gan import to_unit_range

_REFINED_PIXELS = 2**15


def load_generator(workdir: str | Path) -> tuple[Generator, Any]:
    """The workdir's generator: `(module, variables)`, for `module.apply(variables, latents, ...)`.

    Args:
      workdir: of a run; or a packed model: its folder, or the name of one of the package.

    Raises:
      UserError: where nothing was trained there.
    """
    packed = pretrained.find(workdir)
    if packed:
        config, variables = pretrained.load(packed, "generator")
        return build.build_generator(config), variables
    config = config_file.load_config(workdir)
    if config.model.kind != "gan":
        raise UserError(
            f"{workdir} holds an auto-encoder, which draws nothing: give the workdir of a GAN"
        )
    return build.build_generator(config), stages.restore_generator(config, workdir)


def load_segmenter(workdir: str | Path) -> "Segmenter":
    """The workdir's segmenter; an auto-encoder's masks serve as one.

    Args:
      workdir: of a run; the folder that `experiments.few_shot` wrote (`W/few_shot`), for its U-Net;
        or a packed model: its folder, or the name of one of the package (`"people"`).

    Raises:
      UserError: where none was trained there, or a few-shot one is not finished.
    """
    packed = pretrained.find(workdir)
    if packed:
        config, variables = pretrained.load(packed, "segmenter")
        return _of_config(config, variables)
    # Few-shot results are segmenters themselves, so that module imports this one.
    from ganseg_jax.fewshot import results

    if results.is_result(workdir):
        return results.load_segmenter(workdir)
    config = config_file.load_config(workdir)
    if config.model.kind != "gan":
        reader, variables = autoencoder_stage.restore_reader(config, workdir)
        return Segmenter(reader, variables, config.image_size, refine=config.segmenter.refine)
    return _of_config(config, stages.restore_segmenter(config, workdir))


def _of_config(config: Config, variables: Any) -> "Segmenter":
    module = build.build_segmenter(config)
    return Segmenter(module, variables, config.image_size, refine=config.segmenter.refine)


class Segmenter:
    """Segments photos of any size: uint8 (N, H, W, 3) to int32 labels (N, H, W), background 0.

    Photos are resized to the training size and the probabilities back, without keeping the
    aspect ratio in between, as in training.

    Args:
      module: a network from images in [-1, 1] to logits (a `DeepLabV3`, for example).
      variables: its variables.
      image_size: side of the images it was trained on; None to run at each photo's own size.
      batch_size: photos segmented at a time.
      classes: their names, background first; None where the parts have none.
      refine: bring the probabilities to the edges of each photo's colours
        (`ganseg_jax.refinement`), at the size that the network sees; may be changed at any time.
    """

    def __init__(
        self,
        module: DeepLabV3 | MaskReader | UNet,
        variables: Any,
        image_size: int | None,
        batch_size: int = 32,
        classes: Sequence[str] | None = None,
        refine: bool = False,
    ):
        self.module, self.image_size, self.batch_size = module, image_size, batch_size
        self.classes = None if classes is None else tuple(classes)
        self.refine = refine
        self._variables = jax.device_put(variables)

    def __call__(self, images: UInt8[np.ndarray, "n h w 3"]) -> Int[np.ndarray, "n h w"]:
        """The most probable class of every pixel."""
        return self._in_batches(images, classes=True)

    def probabilities(self, images: UInt8[np.ndarray, "n h w 3"]) -> Float[np.ndarray, "n h w c"]:
        """Probability of every class at every pixel."""
        return self._in_batches(images, classes=False)

    def part_centers(self, images: UInt8[np.ndarray, "n h w 3"]) -> Float[np.ndarray, "n k 2"]:
        """(row, col) of every part's centre of mass, in pixels of the photo."""
        return landmarks.part_centers(self.probabilities(images))

    def _in_batches(self, images: np.ndarray, classes: bool) -> np.ndarray:
        images = np.asarray(images)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
            raise ValueError(
                f"images must be uint8 (N, H, W, 3), not {images.dtype} {images.shape}"
            )
        results = []
        for start in range(0, len(images), self.batch_size):
            batch = images[start : start + self.batch_size]
            # Always the same shape: a compiled program for each remainder would be wasteful.
            missing = min(self.batch_size, len(images)) - len(batch)
            padded = np.concatenate([batch, np.repeat(batch[-1:], missing, axis=0)])
            result = _predict(
                self.module, self.image_size, classes, self.refine, self._variables, padded
            )
            results.append(np.asarray(result)[: len(batch)])
        if not results:
            tail = () if classes else (self.module.num_classes,)
            return np.zeros(images.shape[:3] + tail, np.int32 if classes else np.float32)
        return np.concatenate(results)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _predict(
    module: DeepLabV3 | MaskReader | UNet,
    size: int | None,
    classes: bool,
    refine: bool,
    variables: Any,
    images: Array,
) -> Array:
    height, width = images.shape[1:3]
    x = to_unit_range(images)
    if size is not None and (height, width) != (size, size):
        shape = (images.shape[0], size, size, 3)
        # Antialiased, as the photos of the training sets were made small.
        x = jax.image.resize(x, shape, "bilinear", antialias=True)
    logits = module.apply(variables, x, train=False)
    probabilities = jax.nn.softmax(logits.astype(jnp.float32))
    if refine:
        # A few at a time: it takes kilobytes for each pixel.
        probabilities = jax.lax.map(
            lambda given: refinement.refine(*jax.tree.map(lambda a: a[None], given))[0],
            (x, probabilities),
            batch_size=max(1, _REFINED_PIXELS // (x.shape[1] * x.shape[2])),
        )
    probabilities = geometry.resize_bilinear(probabilities, height, width)
    return jnp.argmax(probabilities, -1).astype(jnp.int32) if classes else probabilities

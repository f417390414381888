"""A trained network as a function from photos to parts."""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from ganseg_jax import pixels, refinement
from ganseg_jax.evaluation.landmarks import part_centers
from ganseg_jax.precision import Precision, of_products

_REFINED_PIXELS = 2**15
"""Pixels that are refined at a time; each takes kilobytes."""


class Segmenter:
    """Segments photos of any size: uint8 (N, H, W, 3) to int32 labels (N, H, W), background 0.

    Photos are resized to the training size as the photos of training sets are, without keeping the
    aspect ratio, and the probabilities are resized back.

    Args:
      module: a network from images in [-1, 1] to logits (a `DeepLabV3`, for example), with
        `num_classes`.
      variables: its variables.
      image_size: side of the images it was trained on; None to run at each photo's own size.
      batch_size: photos segmented at a time.
      classes: their names, background first; None if the parts have none.
      refine: bring the probabilities to the edges of each photo's colours
        (`ganseg_jax.refinement`), at the size that the network sees; may be changed at any time.
      precision: how exactly an accelerator multiplies (`ganseg_jax.precision`).
    """

    def __init__(
        self,
        module: nn.Module,
        variables: Any,
        image_size: int | None,
        batch_size: int = 32,
        classes: Sequence[str] | None = None,
        refine: bool = False,
        precision: Precision = "highest",
    ):
        self.module, self.image_size, self.batch_size = module, image_size, batch_size
        self.classes = None if classes is None else tuple(classes)
        self.refine, self.precision = refine, precision
        self._variables = jax.device_put(variables)

    @property
    def variables(self) -> Any:
        """Returns the network's variables, on the devices."""
        return self._variables

    def __call__(self, images: UInt8[np.ndarray, "n h w 3"]) -> Int[np.ndarray, "n h w"]:
        """Returns the most probable class of every pixel."""
        shape = _checked(images).shape[:3]
        small = self.probabilities_as_seen(self.as_seen(images))
        return _stack([pixels.most_probable(p, *shape[1:]) for p in small], shape, np.int32)

    def probabilities(self, images: UInt8[np.ndarray, "n h w 3"]) -> Float[np.ndarray, "n h w c"]:
        """Returns the probability of every class at every pixel."""
        shape = _checked(images).shape[:3]
        small = self.probabilities_as_seen(self.as_seen(images))
        resized = [pixels.resize_probabilities(p, *shape[1:]) for p in small]
        return _stack(resized, (*shape, self.module.num_classes), np.float32)

    def part_centers(self, images: UInt8[np.ndarray, "n h w 3"]) -> Float[np.ndarray, "n k 2"]:
        """Returns (row, col) of every part's centre of mass, in pixels of the photo."""
        height, width = _checked(images).shape[1:3]
        return self.centers_of(self.probabilities_as_seen(self.as_seen(images)), height, width)

    def as_seen(
        self, images: Sequence[UInt8[np.ndarray, "_ _ 3"]] | UInt8[np.ndarray, "n h w 3"]
    ) -> UInt8[np.ndarray, "n s t 3"]:
        """Returns photos, each of any size, at the size that the network sees."""
        if self.image_size is None:
            return np.asarray(images)
        small = [pixels.shrink(image, self.image_size) for image in images]
        return _stack(small, (0, self.image_size, self.image_size, 3), np.uint8)

    def probabilities_as_seen(
        self, small: UInt8[np.ndarray, "n s t 3"]
    ) -> Float[np.ndarray, "n s t c"]:
        """Returns the probabilities of photos at the size that the network sees."""
        results = []
        for start in range(0, len(small), self.batch_size):
            batch = small[start : start + self.batch_size]
            # Always the same shape: a compiled program for each remainder would be wasteful.
            missing = min(self.batch_size, len(small)) - len(batch)
            padded = np.concatenate([batch, np.repeat(batch[-1:], missing, axis=0)])
            result = _predict(self.module, self.refine, self.precision, self._variables, padded)
            results.append(np.asarray(result)[: len(batch)])
        shape = (*small.shape[:3], self.module.num_classes)
        return np.concatenate(results) if results else np.zeros(shape, np.float32)

    def apply(self, variables: Any, images: Float[Array, "n s t 3"]) -> Float[Array, "n s t c"]:
        """Returns what `probabilities_as_seen` does, as a pure function for programs in JAX.

        It may be compiled, mapped, sharded and differentiated with them; derivatives need
        `refine=False`.

        Args:
          variables: those of `segment.variables`, or others of the same network.
          images: in [0, 255], at the size that the network sees (`image_size`).
        """
        return _predict(self.module, self.refine, self.precision, variables, images)

    @staticmethod
    def centers_of(
        probabilities: Float[np.ndarray, "n s t c"], height: int, width: int
    ) -> Float[np.ndarray, "n k 2"]:
        """Returns part centres in pixels of photos whose probabilities are given as seen."""
        scale = np.array([height, width]) / probabilities.shape[1:3]
        return part_centers(probabilities) * scale


def _checked(images: Any) -> np.ndarray:
    if isinstance(images, jax.core.Tracer):
        raise TypeError(
            "photos of any size are no input of a traced function (jit, vmap, grad, pmap): use "
            "segmenter.apply(segmenter.variables, images) there"
        )
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise ValueError(f"images must be uint8 (N, H, W, 3), not {images.dtype} {images.shape}")
    return images


def _stack(rows: list[np.ndarray], shape: tuple[int, ...], dtype: type) -> np.ndarray:
    return np.stack(rows) if rows else np.zeros(shape, dtype)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _predict(
    module: nn.Module, refine: bool, precision: Precision, variables: Any, images: Array
) -> Array:
    x = pixels.to_unit_range(images)
    with of_products(precision):
        logits: Any = module.apply(variables, x, train=False)
    probabilities = jax.nn.softmax(logits.astype(jnp.float32))
    if not refine:
        return probabilities
    return jax.lax.map(
        lambda given: refinement.refine(*jax.tree.map(lambda a: a[None], given))[0],
        (x, probabilities),
        batch_size=max(1, _REFINED_PIXELS // (x.shape[1] * x.shape[2])),
    )

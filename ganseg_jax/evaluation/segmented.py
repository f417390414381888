"""What protocols keep of the segmentations of a split."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8

from ganseg_jax.evaluation import landmarks

PredictFn = Callable[[UInt8[np.ndarray, "n s s 3"]], Float[np.ndarray, "n s s c"]]


@dataclass(frozen=True)
class Segmented:
    """Holds what a protocol keeps of the segmentations of a split.

    Attributes:
      labels: most probable class of each pixel, background 0.
      parts: most probable part of each pixel, 1 to K, whatever the background's probability.
      centers: part centres, (row, col) in pixels.
      peaks: highest probability of each part in each image.
    """

    labels: Int[np.ndarray, "n s s"]
    parts: Int[np.ndarray, "n s s"]
    centers: Float[np.ndarray, "n k 2"]
    peaks: Float[np.ndarray, "n k"]

    @property
    def num_classes(self) -> int:
        """Returns K + 1."""
        return self.centers.shape[1] + 1


def segment(predict_fn: PredictFn, images: UInt8[np.ndarray, "n s s 3"], batch_size: int):
    """Segments images in batches of one size, the last one filled up and its filling dropped.

    Returns:
      `Segmented` of the images, each exactly once, in order.

    Raises:
      ValueError: there are no images, or the probabilities are not (N, S, S, K+1).
    """
    if len(images) == 0:
        raise ValueError("there are no images to segment")
    columns: list[list[np.ndarray]] = [[], [], [], []]
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        filling = np.repeat(batch[-1:], batch_size - len(batch), axis=0)
        full = np.concatenate([batch, filling])
        probabilities = np.asarray(predict_fn(full))
        if probabilities.shape[:-1] != full.shape[:-1]:
            raise ValueError(
                f"the segmenter made {probabilities.shape} of images of {full.shape}; "
                "(N, S, S, K+1) is needed"
            )
        probabilities = probabilities[: len(batch)]
        parts = probabilities[..., 1:]
        found = (
            probabilities.argmax(-1).astype(np.int16),
            (parts.argmax(-1) + 1).astype(np.int8 if parts.shape[-1] < 128 else np.int16),
            landmarks.part_centers(probabilities),
            parts.max((1, 2)),
        )
        for column, values in zip(columns, found, strict=True):
            column.append(values)
    return Segmented(*map(np.concatenate, columns))

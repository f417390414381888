"""What can be said about segmentations of photos that nobody labelled."""

import numpy as np
from jaxtyping import Int, UInt8

from ganseg_jax.evaluation import intervals
from ganseg_jax.evaluation.figures import COUNT, Figures
from ganseg_jax.evaluation.segmented import PredictFn, segment

LEAST_AREA = 0.002
"""Share of a photo's pixels from which on a part counts as present."""


def unlabelled_figures(
    predict_fn: PredictFn, images: UInt8[np.ndarray, "n s s 3"], batch_size: int
) -> Figures:
    """Measures segmentations by themselves; good values do not prove that parts are right.

    Args:
      predict_fn: uint8 images to probabilities.
      images: photos that were not trained on.
      batch_size: images predicted at a time.

    Returns:
      `parts_present`, the mean share of the parts that a photo shows; `rarest_part_present`, the
      share of photos that show the rarest part; `foreground_share`, of all pixels; `border_share`,
      the share of the outermost pixels that a part takes; `mirror_agreement`, the mean IoU of the
      foregrounds of photo and mirror image; all in [0, 1], each with its count.
    """
    segmented = segment(predict_fn, images, batch_size)
    mirrored = segment(predict_fn, images[:, :, ::-1], batch_size).labels[:, :, ::-1]
    figures = label_figures(segmented.labels, segmented.num_classes)
    figures["mirror_agreement"] = agreement(segmented.labels > 0, mirrored > 0)
    return figures | {name + COUNT: len(images) for name in figures}


def label_figures(labels: Int[np.ndarray, "n s s"], num_classes: int) -> Figures:
    """Returns the figures that label maps alone give; see `unlabelled_figures`."""
    areas = np.stack([(labels == part).mean((1, 2)) for part in range(1, num_classes)], -1)
    present = areas >= LEAST_AREA  # [N, K]
    foreground = labels > 0
    border = np.ones(labels.shape[1:], bool)
    border[1:-1, 1:-1] = False
    return {
        "parts_present": intervals.mean_of(present),
        "rarest_part_present": float(present.mean(0).min()),
        "foreground_share": intervals.mean_of(foreground.mean((1, 2))),
        "border_share": intervals.mean_of(foreground[:, border].mean(1)),
    }


def agreement(one: np.ndarray, other: np.ndarray) -> float:
    """Returns the mean IoU of two sets of masks; two empty masks agree."""
    both, either = (one & other).sum((1, 2)), (one | other).sum((1, 2))
    return intervals.mean_of(np.where(either > 0, both / np.maximum(either, 1), 1.0))

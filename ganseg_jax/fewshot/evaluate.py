"""Measures of few-shot segmentation on labelled photos."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Int, UInt8

from ganseg_jax.data.pipeline import Split
from ganseg_jax.errors import UserError
from ganseg_jax.evaluation import overlap
from ganseg_jax.pixels import UNLABELLED


@dataclasses.dataclass(frozen=True)
class Overlap:
    """Holds IoU over a whole set (not the mean of images).

    Attributes:
      by_class: class name to IoU in [0, 1]; NaN if neither truth nor prediction has it.
      mean: over the classes that occur, background included.
      weighted: each class weighted by its share of the true pixels.
      images: how many have ground truth.
    """

    by_class: dict[str, float]
    mean: float
    weighted: float
    images: int

    def figures(self) -> dict[str, float]:
        """Returns flat names for `metrics.json`; classes without pixels are left out."""
        flat = {
            f"iou_{name}": value for name, value in self.by_class.items() if not np.isnan(value)
        }
        return {**flat, "mean_iou": self.mean, "weighted_iou": self.weighted}


def true_labels(
    split: Split, classes: Sequence[str], class_map: Mapping[str, str] | None = None
) -> Int[np.ndarray, "n h w"] | None:
    """Returns the split's ground truth in the numbers of `classes` (background first).

    Parts are matched by name, or as `class_map` says; parts that are no class count as background.
    Pixels without ground truth become 255. If nothing says which part is which class, as with masks
    of the whole object, the result is None.

    Args:
      split: with ground truth.
      classes: names, background first.
      class_map: class name -> name or number of the part.

    Raises:
      UserError: the split has no ground truth, or a class has no part.
    """
    if split.segmentation is None:
        raise UserError("the data set has no part labels to measure against")
    parts = [name.lower() for name in split.part_names or []]
    wanted = {name.lower(): name.lower() for name in classes[1:]}
    for name, part in (class_map or {}).items():
        if name.lower() not in wanted:
            raise UserError(f"--class_map: {name!r} is none of {', '.join(classes[1:])}")
        wanted[name.lower()] = part.lower()
    if not class_map and not set(parts) & set(wanted):
        return None
    highest = int(split.segmentation.max(initial=0))
    numbers = np.zeros(max(highest, len(parts)) + 1, int)
    for label, (name, part) in enumerate(wanted.items(), start=1):
        if part in parts:
            numbers[parts.index(part) + 1] = label
        elif part.isdecimal() and 1 <= int(part) < len(numbers):
            numbers[int(part)] = label
        else:
            raise UserError(
                f"class {name!r} is no part of the data set, which has "
                f"{', '.join(parts) or f'parts 1 to {highest}'}; --class_map={name}=PART says which"
            )
    known = split.segmentation >= 0
    return np.where(known, numbers[split.segmentation], UNLABELLED)


def foreground_figures(
    predict: Callable[[UInt8[np.ndarray, "n h w 3"]], Int[np.ndarray, "n h w"]], split: Split
) -> dict[str, float]:
    """Measures all parts together, if nothing says which part is which class."""
    assert split.segmentation is not None
    known = (split.segmentation >= 0).any((1, 2))
    values = overlap.foreground_iou(predict(split.images[known]), split.segmentation[known])
    return {"foreground_iou": float(values.mean()), "num_images": int(known.sum())}


def measure(
    predict: Callable[[UInt8[np.ndarray, "n h w 3"]], Int[np.ndarray, "n h w"]],
    images: UInt8[np.ndarray, "n h w 3"],
    truth: Int[np.ndarray, "n h w"],
    classes: Sequence[str],
    chunk: int = 100,
) -> Overlap:
    """Returns the IoU of a segmenter; pixels whose truth is 255 count nowhere."""
    table = np.zeros((len(classes), len(classes)), np.int64)
    for start in range(0, len(images), chunk):
        here = slice(start, start + chunk)
        table += overlap.contingency(
            predict(images[here]),
            truth[here],
            len(classes),
            len(classes),
            where=truth[here] != UNLABELLED,
        )
    values = overlap.class_iou(table)
    return Overlap(
        by_class=dict(zip(classes, map(float, values), strict=True)),
        mean=overlap.mean_iou(table),
        weighted=overlap.weighted_iou(table),
        images=int(np.sum(np.any(truth != UNLABELLED, axis=(1, 2)))),
    )

"""What the U-Net learns from: generated images that the head labelled, labelled photos, or both.

If there are enough labelled photos, short trainings that leave some of them out measure it.
"""

import dataclasses
import logging
import math
from collections.abc import Collection, Sequence
from typing import Any, Literal

import numpy as np
from etils import epath
from jaxtyping import Int

from ganseg_jax import files
from ganseg_jax.config import few_shot as schema
from ganseg_jax.config.setting import flat
from ganseg_jax.fewshot import autoshot, evaluate, pipeline
from ganseg_jax.fewshot.photos import LabelledPhotos
from ganseg_jax.segmenter import Segmenter
from ganseg_jax.training import inputs

LOG = logging.getLogger(__name__)

Way = Literal["generated", "alone", "together"]
"""Generated images, photos alone, or both together."""

PHRASES: dict[str, str] = {
    "generated": "generated images alone",
    "alone": "labelled photos alone",
    "together": "labelled photos and generated images together",
}
LEAST = 4
"""Labelled photos that are needed to measure on those left out."""

MARGIN = 0.02
"""Mean IoU by which photos alone must be better to be taken alone.

On puppets photos alone win by 0.025 and 0.027 with 50 of them; with 1 to 10 the generated images
are needed, but so few photos measure it only roughly.
"""

FILE = "comparison.json"


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Holds which labels helped.

    Attributes:
      way: what the U-Net is to learn from.
      figures: mean IoU of each way, on labelled photos that its network did not see.
      left_out: what such networks of the chosen way predict for each photo; None if not measured.
      photos: number of labelled photos.
    """

    way: Way
    figures: dict[str, float]
    left_out: Int[np.ndarray, "m s s"] | None
    photos: int

    def lines(self) -> list[str]:
        """Returns what is to be said about it."""
        if not self.photos:
            return []
        taken = f"The U-Net learns from {PHRASES[self.way]}."
        if not self.figures:
            few = self.photos < LEAST
            why = f"fewer than {LEAST} labelled photos" if few else "--folds=1, or --photos decides"
            return [f"Which labels help is not measured ({why}).", taken]
        measured = ", ".join(f"{PHRASES[way]} {iou:.3f}" for way, iou in self.figures.items())
        what = f"Mean IoU on {self.photos} labelled photos, left out in training: {measured}."
        return [what, taken]


@dataclasses.dataclass(frozen=True)
class Taught:
    """Holds the generated images with the head's labels.

    Attributes:
      samples: as `pipeline.label_samples` returns them.
      digest: of the head that labelled them.
    """

    samples: tuple[np.ndarray, np.ndarray]
    digest: str


def ways(few: pipeline.FewShot) -> list[Way]:
    """Returns the ways to measure."""
    return ["generated", "alone", "together"] if few.uses_head else ["alone"]


def trainings(few: pipeline.FewShot) -> int:
    """Returns the number of short trainings that measuring takes."""
    folds = _folds(few)
    return sum(1 if way == "generated" else folds for way in ways(few)) if folds else 0


def _folds(few: pipeline.FewShot) -> int:
    """Returns the number of groups that are left out, 0 if nothing can be measured."""
    folds = min(few.settings.photos.folds, len(few.photos))
    decided = few.settings.photos.use != "auto"
    return folds if len(few.photos) >= LEAST and folds > 1 and not decided else 0


def short(settings: schema.FewShot) -> schema.FewShot:
    """Returns settings of a U-Net that is trained for measuring."""
    steps = math.ceil(settings.auto_shot.num_steps * settings.photos.check_steps)
    return dataclasses.replace(
        settings, auto_shot=dataclasses.replace(settings.auto_shot, num_steps=steps)
    )


def compare(
    few: pipeline.FewShot,
    taught: Taught | None,
    keep: Collection[str] = (),
    retrain: Collection[str] = (),
) -> Comparison:
    """Measures each way on photos that were left out, and chooses one; writes `F/comparison.json`.

    Args:
      few: what the stages work on.
      taught: generated images with labels; None without a head.
      keep: see `harness.train`.
      retrain: see `harness.train`.
    """
    folds, predicted = _folds(few), dict[str, np.ndarray]()
    settings, rows = short(few.settings), list(range(len(few.photos)))
    for way in ways(few) if folds else []:
        found = predicted[way] = np.zeros(few.photos.labels.shape, np.int32)
        # A network that learns from no photo has none to be left out.
        for fold in [None] if way == "generated" else list(range(folds)):
            out = rows if fold is None else rows[fold::folds]
            seen = few.photos.only([row for row in rows if row not in out])
            folder = few.folder / "comparison" / f"{way}_{fold or 0}"
            LOG.info("measuring: %s, without %s", PHRASES[way], _listed(few.photos, out))
            network = train(few, taught, way, seen, folder, settings, keep, retrain)
            found[out] = network(few.photos.images[out])
    figures = {way: _mean_iou(few, found) for way, found in predicted.items()}
    chosen = _choose(few, figures)
    result = Comparison(chosen, figures, predicted.get(chosen), len(few.photos))
    if result.photos:
        content = {"way": chosen, "photos": result.photos, "left_out_mean_iou": figures}
        files.write_json(few.folder / FILE, content)
    return result


def _mean_iou(few: pipeline.FewShot, predicted: Int[np.ndarray, "m s s"]) -> float:
    labels = few.photos.labels.astype(np.int32)
    images, classes = few.photos.images, few.labelled.classes
    return evaluate.measure(lambda _: predicted, images, labels, classes, len(images)).mean


def _listed(photos: LabelledPhotos, rows: Sequence[int]) -> str:
    names = [photos.names[i] for i in rows]
    return (
        ", ".join(names) if len(names) <= 4 else f"{', '.join(names[:3])} and {len(names) - 3} more"
    )


def _choose(few: pipeline.FewShot, figures: dict[str, float]) -> Way:
    if not few.photos:
        return "generated"
    if not few.uses_head or few.settings.photos.use == "alone":
        return "alone"
    if few.settings.photos.use == "together" or not figures:
        return "together"
    return "alone" if figures["alone"] > figures["together"] + MARGIN else "together"


def train(
    few: pipeline.FewShot,
    taught: Taught | None,
    way: Way,
    photos: LabelledPhotos,
    folder: epath.PathLike,
    settings: schema.FewShot,
    keep: Collection[str] = (),
    retrain: Collection[str] = (),
) -> Segmenter:
    """Trains the U-Net in one of the ways, or resumes.

    Args:
      few: what the stages work on.
      taught: generated images with labels; may be None if photos are alone.
      way: what it learns from.
      photos: labelled ones to learn from; not used by "generated".
      folder: gets `auto_shot`.
      settings: of few-shot segmentation.
      keep: see `harness.train`.
      retrain: see `harness.train`.
    """
    classes, share = few.labelled.classes, settings.photos.share
    soft = autoshot.one_hot(photos.labels.astype(np.int32), len(classes))
    made_from: dict[str, Any] = {"settings": flat(settings.auto_shot), "way": way}
    made_from["photos"] = None if way == "generated" else inputs.digest((photos.images, soft))
    beside = None
    if way == "alone":
        images, labels = photos.images, soft
    else:
        assert taught is not None
        images, labels = taught.samples
        made_from["head"] = taught.digest
    if way == "together":
        beside = autoshot.Photos(photos.images, soft, share)
        made_from["settings"] |= {"share": share}
    return pipeline.train_auto_shot(
        folder,
        images,
        labels,
        settings,
        classes,
        photos=beside,
        made_from=made_from,
        keep=keep,
        retrain=retrain,
    )

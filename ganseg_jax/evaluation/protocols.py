"""Published protocols by name: which splits they need, what they measure, what was published.

A protocol sees a segmenter as a plain function from uint8 images (N, S, S, 3) to probabilities
(N, S, S, K+1), and the ground truth as `ganseg_jax.data.pipeline.Split`s, and returns a flat dict
of figures with, for each `figure`, the number of images it was measured on as `figure_count`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8

from ganseg_jax.data.pipeline import Split
from ganseg_jax.errors import UserError
from ganseg_jax.evaluation import intervals, landmarks, overlap, published

PredictFn = Callable[[UInt8[np.ndarray, "n s s 3"]], Float[np.ndarray, "n s s c"]]
Figures = dict[str, float]

COUNT = "_count"
"""Suffix of the key that holds a figure's number of images."""

TAICHI_FRAME = 256
"""Side in pixels of the frames that the published Taichi errors are given in."""


@dataclass(frozen=True)
class Segmented:
    """Holds what a protocol keeps of the segmentations of a split.

    Attributes:
      labels: most probable class of each pixel, background 0.
      centers: part centres, (row, col) in pixels.
    """

    labels: Int[np.ndarray, "n s s"]
    centers: Float[np.ndarray, "n k 2"]

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
    labels, centers = [], []
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
        labels.append(probabilities.argmax(-1).astype(np.int16))
        centers.append(landmarks.part_centers(probabilities))
    return Segmented(np.concatenate(labels), np.concatenate(centers))


@dataclass(frozen=True)
class Protocol:
    """Describes a named way to measure a segmenter.

    Attributes:
      name: as in `--config.evaluation.protocols`.
      datasets: names of the data sets it fits; empty for any.
      splits: names of the splits it needs, all of them keys of what `measure` is given.
      measure: (predict_fn, splits, batch_size) -> figures and counts.
      table: the published table, if any.
      variants: (label, suffix) of the figures that get a row of their own in the table.
      references: names of the simple references that make sense
        (`ganseg_jax.evaluation.references`).
      reference_split: the split whose ground truth the references learn from.
    """

    name: str
    datasets: tuple[str, ...]
    splits: tuple[str, ...]
    measure: Callable[[PredictFn, Mapping[str, Split], int], Figures]
    table: published.PublishedTable | None = None
    variants: Sequence[tuple[str, str]] = ()
    references: tuple[str, ...] = ()
    reference_split: str = "train"

    def rows(
        self,
        figures: Figures,
        dataset: str,
        num_parts: int,
        references: Mapping[str, Figures] | None = None,
    ) -> tuple[str, list[str], list[list]] | None:
        """Returns our row beneath the published rows; None if there is no published table."""
        if self.table is None:
            return None
        return self.table.with_own(figures, dataset, num_parts, self.variants, references)


def split_counts(figures: Mapping[str, float]) -> tuple[Figures, dict[str, int]]:
    """Separates a flat dict into the figures and, by the same names, their counts.

    The ends of intervals are left out; see `intervals.ends_of`.
    """
    counts = {
        name.removesuffix(COUNT): int(value)
        for name, value in figures.items()
        if name.endswith(COUNT)
    }
    left_out = (COUNT, intervals.LOW, intervals.HIGH)
    return {name: value for name, value in figures.items() if not name.endswith(left_out)}, counts


def get_protocol(name: str) -> Protocol:
    """Returns the protocol of that name.

    Raises:
      UserError: there is none; the line names those there are.
    """
    if name not in PROTOCOLS:
        known = ", ".join(PROTOCOLS)
        raise UserError(f"evaluation.protocols: there is no protocol {name!r}; known are {known}")
    return PROTOCOLS[name]


def chosen_protocols(names: Sequence[str], dataset: str) -> dict[str, Protocol]:
    """Returns the protocols of these names, or those of the data set if there are no names.

    Raises:
      UserError: there is none of a name, or it is made for other data sets.
    """
    chosen = {name: get_protocol(name) for name in names or fit_protocols(dataset)}
    for name, protocol in chosen.items():
        if protocol.datasets and dataset not in protocol.datasets:
            raise UserError(
                f"evaluation.protocols: {name} is made for {', '.join(protocol.datasets)}, "
                f"not for {dataset}"
            )
    return chosen


def fit_protocols(dataset: str) -> list[str]:
    """Returns the names of a data set's protocols; `image_folder` if it has none."""
    fitting = [name for name, protocol in PROTOCOLS.items() if dataset in protocol.datasets]
    return fitting or ["image_folder"]


def part_figures(segmented: Segmented, split: Split) -> Figures:
    """Measures foreground IoU and, if the truth tells parts apart, part agreement.

    Pixels of -1 have no ground truth and are left out, and so are images of such pixels alone.
    """
    if split.segmentation is None:
        return {}
    labeled = (split.segmentation >= 0).any((1, 2))
    truth, labels = split.segmentation[labeled], segmented.labels[labeled]
    if not len(truth):
        return {}
    figures: Figures = {"foreground_iou": intervals.mean_of(overlap.foreground_iou(labels, truth))}
    num_truth = int(truth.max()) + 1
    if num_truth > 2:
        where = truth >= 0
        tables = overlap.contingency_each(labels, truth, segmented.num_classes, num_truth, where)
        figures |= intervals.part_agreement(tables)
    return _counted(figures, len(truth))


def landmark_agreement(segmented: Segmented, split: Split) -> Figures:
    """Measures NMI and ARI of parts and landmarks over the pixels at visible landmarks."""
    points, visible = _points(split)
    tables = overlap.landmark_tables(segmented.labels, points, visible, segmented.num_classes)
    count = int(visible.any(1).sum())
    figures = {f"landmark_{rule}": intervals.Figure(tables, rule) for rule in ("nmi", "ari")}
    return _counted(figures, count)


def _counted(figures: Mapping[str, float], count: int) -> Figures:
    return {**figures, **{name + COUNT: count for name in figures}}


def _points(split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Returns a split's landmarks, which it must have, and which of them are visible."""
    assert split.landmarks is not None and split.visible is not None
    return split.landmarks, split.visible


def _need_landmarks(splits: Mapping[str, Split], names: Sequence[str]) -> None:
    for name in names:
        if splits[name].landmarks is None:
            raise UserError(f"split {name!r} has no landmarks; prepare the data set with them")


def _need_segmentation(splits: Mapping[str, Split], names: Sequence[str]) -> None:
    for name in names:
        if splits[name].segmentation is None:
            raise UserError(f"split {name!r} has no label maps; prepare the data set with them")


def _foreground(predict_fn: PredictFn, splits: Mapping[str, Split], batch_size: int) -> Figures:
    _need_segmentation(splits, ["test"])
    figures = part_figures(segment(predict_fn, splits["test"].images, batch_size), splits["test"])
    return {name: figures[name] for name in ("foreground_iou", "foreground_iou" + COUNT)}


def _people(predict_fn: PredictFn, splits: Mapping[str, Split], batch_size: int) -> Figures:
    _need_segmentation(splits, ["test"])
    return part_figures(segment(predict_fn, splits["test"].images, batch_size), splits["test"])


def _celeba(predict_fn: PredictFn, splits: Mapping[str, Split], batch_size: int) -> Figures:
    _need_landmarks(splits, ["landmark_train", "landmark_test"])
    train, test = splits["landmark_train"], splits["landmark_test"]
    fitted = segment(predict_fn, train.images, batch_size)
    return _face_figures(predict_fn, fitted, train, test, batch_size)


def _faces(predict_fn: PredictFn, splits: Mapping[str, Split], batch_size: int) -> Figures:
    _need_landmarks(splits, ["train", "landmark_test", "test"])
    train = splits["train"]
    fitted = segment(predict_fn, train.images, batch_size)
    figures = _face_figures(predict_fn, fitted, train, splits["landmark_test"], batch_size)
    aflw = _face_figures(predict_fn, fitted, train, splits["test"], batch_size)
    return figures | {f"aflw/{name}": value for name, value in aflw.items()}


def _face_figures(
    predict_fn: PredictFn, fitted: Segmented, train: Split, test: Split, batch_size: int
) -> Figures:
    tested = segment(predict_fn, test.images, batch_size)
    (train_points, _), (test_points, _) = _points(train), _points(test)
    errors = landmarks.celeba_errors(fitted.centers, train_points, tested.centers, test_points)
    measurable = int((landmarks.interocular_distance(test_points) > 0).sum())
    return _counted(errors, measurable) | landmark_agreement(tested, test)


def _cub_landmarks(predict_fn: PredictFn, splits: Mapping[str, Split], batch_size: int) -> Figures:
    return _edge_figures(predict_fn, splits, batch_size, "train")


def _edge_figures(
    predict_fn: PredictFn, splits: Mapping[str, Split], batch_size: int, fit_split: str
) -> Figures:
    _need_landmarks(splits, [fit_split, "test"])
    train, test = splits[fit_split], splits["test"]
    fitted = segment(predict_fn, train.images, batch_size)
    tested = segment(predict_fn, test.images, batch_size)
    errors = landmarks.edge_errors(
        fitted.centers,
        *_points(train),
        tested.centers,
        *_points(test),
        edge=test.images.shape[1],
    )
    counted = _counted(errors, int(_points(test)[1].any(1).sum()))
    return part_figures(tested, test) | counted | landmark_agreement(tested, test)


def _taichi(predict_fn: PredictFn, splits: Mapping[str, Split], batch_size: int) -> Figures:
    _need_landmarks(splits, ["landmark_train", "test"])
    _need_segmentation(splits, ["test"])
    train, test = splits["landmark_train"], splits["test"]
    fitted = segment(predict_fn, train.images, batch_size)
    tested = segment(predict_fn, test.images, batch_size)
    to_frame = TAICHI_FRAME / test.images.shape[1]
    (train_points, train_visible), (test_points, test_visible) = _points(train), _points(test)
    error = landmarks.summed_absolute_error(
        fitted.centers,
        train_points * to_frame,
        train_visible,
        tested.centers,
        test_points * to_frame,
        test_visible,
    )
    figures = _counted({"taichi_mae": error}, len(test))
    return figures | part_figures(tested, test) | landmark_agreement(tested, test)


def _puppets(predict_fn: PredictFn, splits: Mapping[str, Split], batch_size: int) -> Figures:
    return _edge_figures(predict_fn, splits, batch_size, "validation")


def _any_folder(predict_fn: PredictFn, splits: Mapping[str, Split], batch_size: int) -> Figures:
    """Measures what the test split's truth allows; landmarks are regressed in two halves."""
    test = splits["test"]
    tested = segment(predict_fn, test.images, batch_size)
    figures = part_figures(tested, test)
    if test.landmarks is None:
        return figures
    figures |= landmark_agreement(tested, test)
    points, visible = _points(test)
    shown = np.flatnonzero(visible.any(1))
    halves = shown[::2], shown[1::2]
    # With fewer images than inputs, a regression would only repeat its training images.
    if min(map(len, halves)) <= 2 * tested.centers.shape[1] + 1:
        return figures
    folds = [
        landmarks.edge_errors(
            tested.centers[fit],
            points[fit],
            visible[fit],
            tested.centers[held],
            points[held],
            visible[held],
            edge=test.images.shape[1],
        )
        for fit, held in (halves, halves[::-1])
    ]
    errors = {name: intervals.mean_of_folds([fold[name] for fold in folds]) for name in folds[0]}
    return figures | _counted(errors, len(shown))


_LANDMARK_VARIANTS = (("with a constant", "_bias"), ("standardised", "_standardized"))

PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "celeba_landmarks",
            ("celeba_wild", "celeba_aligned"),
            ("landmark_train", "landmark_test"),
            _celeba,
            published.CELEBA_LANDMARKS,
            _LANDMARK_VARIANTS,
            references=("mean_landmarks", "kmeans", "kmeans_place"),
            reference_split="landmark_train",
        ),
        Protocol(
            "cub_foreground",
            ("cub",),
            ("test",),
            _foreground,
            published.FOREGROUND,
            references=("mean_mask", "grabcut", "kmeans", "kmeans_place"),
        ),
        Protocol(
            "cub_landmarks",
            ("cub",),
            ("train", "test"),
            _cub_landmarks,
            published.CUB_LANDMARKS,
            _LANDMARK_VARIANTS,
            references=("mean_landmarks", "kmeans", "kmeans_place"),
        ),
        Protocol(
            "flowers_foreground",
            ("flowers",),
            ("test",),
            _foreground,
            published.FOREGROUND,
            references=("mean_mask", "grabcut", "kmeans", "kmeans_place"),
        ),
        Protocol(
            "taichi",
            ("taichi",),
            ("landmark_train", "test"),
            _taichi,
            published.TAICHI,
            references=("mean_landmarks", "kmeans", "kmeans_place"),
            reference_split="landmark_train",
        ),
        Protocol(
            "people_parts",
            ("people_ccp",),
            ("test",),
            _people,
            references=("mean_mask", "grabcut", "kmeans", "kmeans_place"),
        ),
        Protocol(
            "faces_landmarks",
            ("faces_mtfl",),
            ("train", "landmark_test", "test"),
            _faces,
            references=("mean_landmarks", "kmeans", "kmeans_place"),
        ),
        Protocol(
            "puppets_parts",
            ("puppets",),
            ("validation", "test"),
            _puppets,
            references=("mean_mask", "mean_landmarks", "grabcut_native", "kmeans", "kmeans_place"),
            reference_split="validation",
        ),
        Protocol(
            "image_folder",
            (),
            ("test",),
            _any_folder,
            references=("mean_mask", "grabcut", "kmeans", "kmeans_place"),
        ),
    )
}
"""Every protocol by its name."""

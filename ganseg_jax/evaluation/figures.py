"""What each protocol measures: from a segmenter and splits to a flat dict of figures and counts."""

from collections.abc import Mapping, Sequence

import numpy as np

from ganseg_jax.data.pipeline import Split
from ganseg_jax.errors import UserError
from ganseg_jax.evaluation import intervals, landmark_measures, landmarks, overlap
from ganseg_jax.evaluation.segmented import PredictFn, Segmented, segment

Figures = dict[str, float]
Splits = Mapping[str, Split]

COUNT = "_count"
"""Suffix of the key that holds a figure's number of images."""

FRAME = 256
"""Side in pixels of the frames that published errors on Taichi and DeepFashion are given in."""

CORRECT_WITHIN = 6.0
"""Pixels of such a frame within which a landmark of DeepFashion counts as correct."""

PRESENT = 0.5
"""A part whose probability nowhere exceeds this is not in the image (van der Klis et al. 2023)."""


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
    """Measures NMI and ARI of parts and landmarks over the pixels at visible landmarks.

    `landmark_nmi` and `landmark_ari` take the most probable class, which may be the background;
    `landmark_fg_nmi` and `landmark_fg_ari` the most probable part.
    """
    points, visible = _points(split)
    figures = {}
    for suffix, labels in (("", segmented.labels), ("_fg", segmented.parts)):
        tables = overlap.landmark_tables(labels, points, visible, segmented.num_classes)
        for rule in ("nmi", "ari"):
            figures[f"landmark{suffix}_{rule}"] = intervals.Figure(tables, rule)
    return _counted(figures, int(visible.any(1).sum()))


def pixel_ious(segmented: Segmented, split: Split) -> Figures:
    """Measures IoU of foreground and background over all pixels of a split together."""
    assert split.segmentation is not None
    known = split.segmentation >= 0
    found, true = (segmented.labels > 0).astype(int), (split.segmentation > 0).astype(int)
    tables = overlap.contingency_each(found, true, 2, 2, known)
    figures = {
        "pixel_iou": intervals.Figure(tables, "second_iou"),
        "background_pixel_iou": intervals.Figure(tables, "first_iou"),
    }
    return _counted(figures, int(known.any((1, 2)).sum()))


def _counted(figures: Mapping[str, float], count: int) -> Figures:
    return {**figures, **{name + COUNT: count for name in figures}}


def _points(split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Returns a split's landmarks, which it must have, and which of them are visible."""
    assert split.landmarks is not None and split.visible is not None
    return split.landmarks, split.visible


def _need_landmarks(splits: Splits, names: Sequence[str]) -> None:
    for name in names:
        if splits[name].landmarks is None:
            raise UserError(f"split {name!r} has no landmarks; prepare the data set with them")


def _need_segmentation(splits: Splits, names: Sequence[str]) -> None:
    for name in names:
        if splits[name].segmentation is None:
            raise UserError(f"split {name!r} has no label maps; prepare the data set with them")


def foreground(predict_fn: PredictFn, splits: Splits, batch_size: int) -> Figures:
    """Measures the foreground IoU of the test images, the mean over images."""
    _need_segmentation(splits, ["test"])
    figures = part_figures(segment(predict_fn, splits["test"].images, batch_size), splits["test"])
    return {name: figures[name] for name in ("foreground_iou", "foreground_iou" + COUNT)}


def part_agreement(predict_fn: PredictFn, splits: Splits, batch_size: int) -> Figures:
    """Measures foreground IoU and part agreement of the test images."""
    _need_segmentation(splits, ["test"])
    return part_figures(segment(predict_fn, splits["test"].images, batch_size), splits["test"])


def clothing(predict_fn: PredictFn, splits: Splits, batch_size: int) -> Figures:
    """Measures part agreement, also of the most probable parts inside the true foreground."""
    _need_segmentation(splits, ["test"])
    test = splits["test"]
    tested = segment(predict_fn, test.images, batch_size)
    truth = test.segmentation
    assert truth is not None
    sizes = tested.num_classes, int(truth.max()) + 1
    tables = overlap.contingency_each(tested.parts, truth, *sizes, truth > 0)
    figures: Figures = {
        "parts_nmi": intervals.Figure(tables, "nmi"),
        "parts_ari": intervals.Figure(tables, "ari"),
    }
    shown = int((truth > 0).any((1, 2)).sum())
    return part_figures(tested, test) | _counted(figures, shown)


def celeba(predict_fn: PredictFn, splits: Splits, batch_size: int) -> Figures:
    """Measures the landmarks of faces by the distance between the eyes."""
    _need_landmarks(splits, ["landmark_train", "landmark_test"])
    train, test = splits["landmark_train"], splits["landmark_test"]
    fitted = segment(predict_fn, train.images, batch_size)
    return _face_figures(predict_fn, fitted, train, test, batch_size)


def faces(predict_fn: PredictFn, splits: Splits, batch_size: int) -> Figures:
    """Measures landmarks of held-out faces, and of faces of another set (AFLW)."""
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


def train_edge(predict_fn: PredictFn, splits: Splits, batch_size: int) -> Figures:
    """Measures landmarks by the image's edge, fitted on the training images."""
    return _edge_figures(predict_fn, splits, batch_size, "train")


def _edge_figures(
    predict_fn: PredictFn, splits: Splits, batch_size: int, fit_split: str
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


def official_flowers(predict_fn: PredictFn, splits: Splits, batch_size: int) -> Figures:
    """Measures IoU over all pixels of the set's own test images, which other protocols train on."""
    _need_segmentation(splits, ["train"])
    return pixel_ious(segment(predict_fn, splits["train"].images, batch_size), splits["train"])


def boxed(predict_fn: PredictFn, splits: Splits, batch_size: int) -> Figures:
    """Measures landmarks by the bounding box and by the edge, and part agreement at them."""
    _need_landmarks(splits, ["train", "test"])
    train, test = splits["train"], splits["test"]
    if train.boxes is None or test.boxes is None:
        raise UserError("the data set has no bounding boxes; prepare it again")
    fitted = segment(predict_fn, train.images, batch_size)
    tested = segment(predict_fn, test.images, batch_size)
    fit = (fitted.centers, *_points(train), train.boxes)
    held = (tested.centers, *_points(test), test.boxes)
    figures = {
        "box_error": landmark_measures.box_error(*fit, *held),
        "box_error_present": landmark_measures.box_error(
            *fit,
            *held,
            train_active=fitted.peaks > PRESENT,
            test_active=tested.peaks > PRESENT,
        ),
    }
    edge = landmarks.edge_errors(*fit[:3], *held[:3], edge=test.images.shape[1])
    shown = int(_points(test)[1].any(1).sum())
    return _counted(figures | edge, shown) | landmark_agreement(tested, test)


def bird_categories(predict_fn: PredictFn, splits: Splits, batch_size: int) -> Figures:
    """Measures three categories of birds alone, landmarks fitted on the three together."""
    names = ("test_001", "test_002", "test_003")
    _need_landmarks(splits, ["train", *names])
    train = splits["train"]
    fitted = segment(predict_fn, train.images, batch_size)
    figures: Figures = {}
    for name in names:
        test = splits[name]
        tested = segment(predict_fn, test.images, batch_size)
        errors = landmarks.edge_errors(
            fitted.centers,
            *_points(train),
            tested.centers,
            *_points(test),
            edge=test.images.shape[1],
        )
        one = _counted(errors, len(test)) | landmark_agreement(tested, test)
        prefix = name.removeprefix("test_")
        figures |= {f"{prefix}/{figure}": value for figure, value in one.items()}
    return figures


def deepfashion_keypoints(predict_fn: PredictFn, splits: Splits, batch_size: int) -> Figures:
    """Measures the share of landmarks within 6 pixels of a 256-px photo."""
    _need_landmarks(splits, ["train", "test"])
    train, test = splits["train"], splits["test"]
    fitted = segment(predict_fn, train.images, batch_size)
    tested = segment(predict_fn, test.images, batch_size)
    to_frame = FRAME / test.images.shape[1]
    (points, _), (truth, visible) = _points(train), _points(test)
    predicted = landmarks.regress_landmarks(fitted.centers, points, tested.centers)
    share = landmark_measures.correct_share(
        predicted * to_frame, truth * to_frame, CORRECT_WITHIN, visible
    )
    return _counted({"pck": share}, len(test)) | landmark_agreement(tested, test)


def taichi(predict_fn: PredictFn, splits: Splits, batch_size: int) -> Figures:
    """Measures Taichi's landmarks in both published forms, its foreground and part agreement."""
    _need_landmarks(splits, ["landmark_train", "test"])
    _need_segmentation(splits, ["test"])
    train, test = splits["landmark_train"], splits["test"]
    fitted = segment(predict_fn, train.images, batch_size)
    tested = segment(predict_fn, test.images, batch_size)
    to_frame = FRAME / test.images.shape[1]
    (train_points, train_visible), (test_points, test_visible) = _points(train), _points(test)
    data = (
        fitted.centers * to_frame,
        train_points * to_frame,
        train_visible,
        tested.centers * to_frame,
        test_points * to_frame,
        test_visible,
    )
    mean = landmark_measures.centred_error(*data, edge=FRAME)
    errors = {
        "taichi_mae": landmarks.summed_absolute_error(*data),
        "taichi_keypoint_error": mean,
        "taichi_renormalised": intervals.times(mean, test_points.shape[1]),
    }
    figures = _counted(errors, len(test))
    return figures | part_figures(tested, test) | landmark_agreement(tested, test)


def puppets(predict_fn: PredictFn, splits: Splits, batch_size: int) -> Figures:
    """Measures landmarks by the image's edge, fitted on the validation images."""
    return _edge_figures(predict_fn, splits, batch_size, "validation")


def any_folder(predict_fn: PredictFn, splits: Splits, batch_size: int) -> Figures:
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

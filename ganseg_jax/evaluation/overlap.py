"""How well predicted label maps overlap with true ones: IoU, mutual information, Rand index.

Label maps are integer arrays with 0 for the background. Everything that is summed over a whole
data set goes through a contingency table, so that a set of any size is measured by adding up the
tables of its batches. Sums are kept in integers and scores computed in float64.
"""

import numpy as np
from jaxtyping import Float, Int, Shaped

Labels = Int[np.ndarray, "n h w"]
Table = Int[np.ndarray, "p t"]


def foreground_iou(pred: Labels, truth: Labels) -> Float[np.ndarray, " n"]:
    """Returns each image's intersection over union of the foregrounds (label not 0).

    Args:
      pred: predicted labels, (N, H, W).
      truth: true labels, (N, H, W); only whether they are 0 matters. Pixels of -1 have no ground
        truth and are left out.

    Returns:
      (N,) float64 in [0, 1]; two empty foregrounds agree, so they count as 1.

    Raises:
      ValueError: the shapes differ.
    """
    pred, truth = _same_shape(pred, truth)
    known = (truth >= 0).reshape(len(truth), -1)
    pred_fg = (pred != 0).reshape(len(pred), -1) & known  # [N, H*W]
    truth_fg = (truth != 0).reshape(len(truth), -1) & known
    intersection = np.count_nonzero(pred_fg & truth_fg, axis=1)
    union = np.count_nonzero(pred_fg | truth_fg, axis=1)
    return np.where(union == 0, 1.0, intersection / np.maximum(union, 1))


def contingency(
    pred: Shaped[np.ndarray, "..."],
    truth: Shaped[np.ndarray, "..."],
    num_pred: int,
    num_truth: int,
    where: Shaped[np.ndarray, "..."] | None = None,
) -> Table:
    """Counts how often predicted label p meets true label t.

    Args:
      pred: predicted labels in [0, num_pred), any shape.
      truth: true labels in [0, num_truth), of the same shape.
      num_pred: number of rows of the table.
      num_truth: number of columns of the table.
      where: boolean array of the same shape; if it is False nothing is counted, and the
        labels there may lie outside of their range.

    Returns:
      (num_pred, num_truth) int64. Tables of disjoint pixels add up.

    Raises:
      ValueError: shapes differ or a counted label is out of range.
    """
    pred, truth = _same_shape(pred, truth)
    if where is not None:
        where = np.asarray(where, bool)
        if where.shape != pred.shape:
            raise ValueError(f"where has shape {where.shape}, the labels {pred.shape}")
        pred, truth = pred[where], truth[where]
    for name, labels, count in (("predicted", pred, num_pred), ("true", truth, num_truth)):
        if labels.size and not 0 <= labels.min() <= labels.max() < count:
            raise ValueError(
                f"{name} labels run from {labels.min()} to {labels.max()}, "
                f"outside of 0 to {count - 1}"
            )
    index = pred.ravel().astype(np.int64) * num_truth + truth.ravel()
    return np.bincount(index, minlength=num_pred * num_truth).reshape(num_pred, num_truth)


def contingency_each(
    pred: Labels,
    truth: Labels,
    num_pred: int,
    num_truth: int,
    where: Shaped[np.ndarray, "n h w"] | None = None,
) -> Int[np.ndarray, "n p t"]:
    """Returns the `contingency` table of each image, whose sum is that of the set."""
    chosen = [None] * len(pred) if where is None else where
    tables = [
        contingency(found, true, num_pred, num_truth, which)
        for found, true, which in zip(pred, truth, chosen, strict=True)
    ]
    return np.stack(tables) if tables else np.zeros((0, num_pred, num_truth), np.int64)


def nmi(table: Table) -> float:
    """Returns the normalised mutual information of two labellings, from their contingency table.

    The mutual information divided by the arithmetic mean of both entropies, as scikit-learn's
    `normalized_mutual_info_score`: 1 where both labellings have a single label, 0 where just one
    has.
    """
    table = _without_empty(table)
    if table.shape[0] <= 1 and table.shape[1] <= 1:
        return 1.0
    joint = table / table.sum()
    rows, cols = joint.sum(1), joint.sum(0)
    present = joint > 0
    independent = np.outer(rows, cols)
    information = np.sum(joint[present] * np.log(joint[present] / independent[present]))
    mean_entropy = (_entropy(rows) + _entropy(cols)) / 2
    # Rounding can carry independent labellings a hair below zero.
    return float(np.clip(information / mean_entropy, 0.0, 1.0))


def ari(table: Table) -> float:
    """Returns the adjusted Rand index from a contingency table (Hubert, Arabie 1985).

    1 for the same partition, about 0 for independent ones, negative for worse than chance. The
    pair counts are exact Python integers, since those of a whole test set overflow 64 bits.
    """
    table = _without_empty(table)
    counts = [int(count) for count in table.ravel()]
    pairs_both = sum(n * (n - 1) // 2 for n in counts)
    pairs_rows = sum(n * (n - 1) // 2 for n in map(int, table.sum(1)))
    pairs_cols = sum(n * (n - 1) // 2 for n in map(int, table.sum(0)))
    total = sum(counts)
    pairs_all = total * (total - 1) // 2
    if pairs_both == pairs_rows == pairs_cols:
        return 1.0
    numerator = pairs_both * pairs_all - pairs_rows * pairs_cols
    denominator = (pairs_rows + pairs_cols) * pairs_all - 2 * pairs_rows * pairs_cols
    return float(2 * numerator / denominator)


def landmark_tables(
    pred: Labels,
    landmarks: Float[np.ndarray, "n l 2"],
    visible: Shaped[np.ndarray, "n l"],
    num_pred: int,
) -> Int[np.ndarray, "n p l"]:
    """Counts each image's labels predicted at visible landmarks, by the landmarks' numbers.

    For sets whose ground truth is landmarks only (Choudhury et al. 2021). A landmark at exactly
    the far edge takes the last pixel; one outside of the image is not counted.

    Args:
      pred: predicted labels, (N, H, W).
      landmarks: (row, col) in pixels, pixel (0, 0) spanning [0, 1) x [0, 1), (N, L, 2).
      visible: (N, L) bool.
      num_pred: number of rows of each table.

    Returns:
      (N, num_pred, L) int64; their sum is the table of the set.
    """
    num_images, height, width = pred.shape
    num_landmarks = landmarks.shape[1]
    finite = np.isfinite(landmarks).all(-1)
    positions = np.where(finite[..., None], landmarks, -1.0)
    inside = ((positions >= 0) & (positions <= (height, width))).all(-1)
    where = np.asarray(visible, bool) & inside & finite  # [N, L]
    pixels = np.clip(np.floor(positions).astype(np.int64), 0, (height - 1, width - 1))
    at_landmarks = pred[np.arange(num_images)[:, None], pixels[..., 0], pixels[..., 1]]  # [N, L]
    numbers = np.broadcast_to(np.arange(num_landmarks), where.shape)
    tables = np.zeros((num_images, num_pred, num_landmarks), np.int64)
    image = np.broadcast_to(np.arange(num_images)[:, None], where.shape)
    # Each landmark of an image is one pixel.
    tables[image[where], at_landmarks[where], numbers[where]] = 1
    return tables


def class_iou(table: Table) -> Float[np.ndarray, " c"]:
    """Returns the IoU of each class over a set, from the square contingency table of its pixels.

    Returns:
      (C,) float64 in [0, 1]; NaN for a class that neither predictions nor truth contain.

    Raises:
      ValueError: the table is not square.
    """
    if table.ndim != 2 or table.shape[0] != table.shape[1]:
        raise ValueError(f"the table of classes must be square, but is {table.shape}")
    intersection = np.diag(table).astype(np.float64)
    union = table.sum(0) + table.sum(1) - intersection
    return np.where(union > 0, intersection / np.maximum(union, 1), np.nan)


def mean_iou(table: Table) -> float:
    """Returns the mean of `class_iou` over the classes that occur."""
    return float(np.nanmean(class_iou(table)))


def weighted_iou(table: Table) -> float:
    """Returns the mean of `class_iou` weighted by each class's share of true pixels (columns)."""
    share = table.sum(0) / table.sum()
    # A class without true pixels has weight 0; its IoU may be NaN.
    return float(np.sum(share * np.nan_to_num(class_iou(table))))


def _same_shape(pred: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    pred, truth = np.asarray(pred), np.asarray(truth)
    if pred.shape != truth.shape:
        raise ValueError(f"predictions have shape {pred.shape}, the truth {truth.shape}")
    return pred, truth


def _without_empty(table: Table) -> Int[np.ndarray, "q u"]:
    table = np.asarray(table, np.int64)
    return table[table.sum(1) > 0][:, table.sum(0) > 0]


def _entropy(shares: np.ndarray) -> float:
    return float(-np.sum(shares * np.log(shares)))

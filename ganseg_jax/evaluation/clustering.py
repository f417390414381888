"""What clusterings of images and of features have in common: samples, borders, sizes."""

import cv2
import numpy as np
from jaxtyping import Float, Int, Shaped


def sampled(rows: Shaped[np.ndarray, "n d"], most: int, seed: int) -> Shaped[np.ndarray, "m d"]:
    """Returns at most so many rows, drawn without repetition."""
    if len(rows) <= most:
        return rows
    return rows[np.random.default_rng(seed).choice(len(rows), most, replace=False)]


def border(height: int, width: int) -> np.ndarray:
    """Returns bool (height, width), True on a frame of a sixteenth of the side, or one pixel."""
    frame = np.ones((height, width), bool)
    edge = max(1, min(height, width) // 16)
    frame[edge:-edge, edge:-edge] = False
    return frame


def labels_by_border(
    clusters: Int[np.ndarray, "n s s"], num_clusters: int, num_parts: int
) -> Int[np.ndarray, " c"]:
    """Returns each cluster's label: 1..K for the K least at the border, else 0."""
    frame = border(*clusters.shape[1:])
    total = np.bincount(clusters.ravel(), minlength=num_clusters)
    outside = np.bincount(clusters[:, frame].ravel(), minlength=num_clusters)
    # A cluster without pixels belongs to nothing.
    share = np.where(total > 0, outside / np.maximum(total, 1), 1.0)
    labels = np.zeros(num_clusters, int)
    labels[np.argsort(share, kind="stable")[:num_parts]] = np.arange(1, num_parts + 1)
    return labels


def resized(maps: Float[np.ndarray, "h w c"], size: tuple[int, int]) -> np.ndarray:
    """Returns maps resized bilinearly to (width, height) `size`."""
    large = cv2.resize(maps, size, interpolation=cv2.INTER_LINEAR)
    return large.reshape(size[1], size[0], maps.shape[-1])

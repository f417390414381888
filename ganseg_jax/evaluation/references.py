"""Simple references, each a predict function like a segmenter's, measured by the same protocols.

Every reference maps uint8 images (N, S, S, 3) to probabilities (N, S, S, C), background first, so
that the figures beside ours come from the same code on the same images.
"""

import concurrent.futures
import os
from collections.abc import Mapping
from functools import partial

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from threadpoolctl import threadpool_limits

from ganseg_jax.data.pipeline import Split
from ganseg_jax.evaluation import clustering, dino
from ganseg_jax.evaluation.backbone import FeatureMapFn
from ganseg_jax.evaluation.protocols import Figures, PredictFn, Protocol

Images = UInt8[np.ndarray, "n s s 3"]


def mean_mask(split: Split) -> PredictFn:
    """Returns the mean foreground of a labelled split, for every image alike.

    Raises:
      ValueError: the split has no label maps.
    """
    if split.segmentation is None:
        raise ValueError("the mean mask needs a split with label maps")
    known = np.count_nonzero(split.segmentation >= 0, axis=0)  # [S, S]
    inside = np.count_nonzero(split.segmentation > 0, axis=0)
    foreground = (inside / np.maximum(known, 1)).astype(np.float32)
    return _constant(np.stack([1 - foreground, foreground], -1))


def mean_landmarks(split: Split) -> PredictFn:
    """Returns a part that is always the whole image, so that regressions predict the mean.

    From an input that never changes, least squares with a constant, without one, and on
    standardised values all give the mean of the targets.
    """
    size = split.images.shape[1]
    return _constant(np.stack([np.zeros((size, size)), np.ones((size, size))], -1))


def grabcut(
    margin: float = 0.05, iterations: int = 5, seed: int = 0, least_size: int = 1
) -> PredictFn:
    """Runs GrabCut (Rother et al. 2004, OpenCV) from a centred rectangle, image by image.

    Args:
      margin: distance of the rectangle from the image's borders, as a fraction of its sides.
      iterations: rounds of colour model and graph cut.
      seed: of OpenCV's clustering.
      least_size: smaller images are enlarged to this side and the mask is brought back. A small
        photo has too few pixels for two colour models and too weak contours.
    """

    def foreground(image: UInt8[np.ndarray, "s s 3"]) -> np.ndarray:
        size = image.shape[0]
        if size >= least_size:
            return _cut(image, margin, iterations, seed)
        large = cv2.resize(image, (least_size, least_size), interpolation=cv2.INTER_LINEAR)
        mask = _cut(large, margin, iterations, seed).astype(np.float32)
        return cv2.resize(mask, (size, size), interpolation=cv2.INTER_AREA) > 0.5

    def predict(images: Images) -> Float[np.ndarray, "n s s 2"]:
        # OpenCV lets go of the interpreter while it cuts, and its seed is each thread's own.
        with concurrent.futures.ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            foreground_masks = np.stack(list(pool.map(foreground, images)))
        return np.eye(2, dtype=np.float32)[foreground_masks.astype(int)]

    return predict


def kmeans(
    split: Split, num_parts: int, seed: int, position_weight: float = 0.7, max_images: int = 500
) -> PredictFn:
    """Clusters a split by colour and position; clusters at the border are background.

    A pixel is described by its CIELAB colour and its place, each brought to unit deviation, the
    place weighted. Of 2K clusters, the K that reach the border least become the parts.

    Args:
      split: images to fit the clusters on; no ground truth is used.
      num_parts: K.
      seed: of the choice of pixels and of the clustering.
      position_weight: weight of the place against the colour.
      max_images: how many of the split's first images are used.
    """
    from sklearn.cluster import MiniBatchKMeans  # Slow to import, and seldom needed.

    images = split.images[:max_images]
    describe = partial(_color_and_place, weight=position_weight)
    descriptors = describe(images)  # [N, S, S, 5]
    pixels = clustering.sampled(descriptors.reshape(-1, 5), 200_000, seed)
    model = MiniBatchKMeans(2 * num_parts, random_state=seed, n_init=3, batch_size=4096)

    def cluster(descriptors):
        # Waiting threads on a busy machine cost far more than a second core gains.
        with threadpool_limits(1):
            return model.predict(descriptors.reshape(-1, 5)).reshape(descriptors.shape[:3])

    with threadpool_limits(1):
        model.fit(pixels)
    clusters = cluster(descriptors)
    label_of = clustering.labels_by_border(clusters, 2 * num_parts, num_parts)

    def predict(images: Images) -> Float[np.ndarray, "n s s c"]:
        return np.eye(num_parts + 1, dtype=np.float32)[label_of[cluster(describe(images))]]

    return predict


def feature_factorization(
    split: Split,
    feature_fn: FeatureMapFn,
    num_parts: int,
    seed: int,
    max_images: int = 200,
    batch_size: int = 32,
) -> PredictFn:
    """Factorises a backbone's maps, without negative factors (Collins et al. 2018).

    K + 1 factors of the features at all places of many images are found together; the factor that
    is strongest at the images' borders is the background. Factor maps are resized bilinearly to the
    image and normalised to sum 1.

    Args:
      split: images to fit the factors on; no ground truth is used.
      feature_fn: uint8 images -> feature maps (N, h, w, D); negative values count as 0.
      num_parts: K.
      seed: of the factorisation and of the choice of places.
      max_images: how many of the split's first images are used.
      batch_size: images given to `feature_fn` at a time while fitting.
    """

    from sklearn.decomposition import NMF  # Slow to import, and seldom needed.

    def non_negative(images):
        return np.maximum(np.asarray(feature_fn(images), np.float32), 0)

    images = split.images[:max_images]
    batches = [
        non_negative(images[start : start + batch_size])
        for start in range(0, len(images), batch_size)
    ]
    maps = np.concatenate(batches)  # [N, h, w, D]
    model = NMF(num_parts + 1, init="nndsvda", solver="mu", max_iter=300, random_state=seed)
    model.fit(clustering.sampled(maps.reshape(-1, maps.shape[-1]), 20_000, seed))

    def factors(maps):
        weights = model.transform(maps.reshape(-1, maps.shape[-1]).astype(np.float32))
        return weights.reshape(*maps.shape[:3], num_parts + 1)

    border = clustering.border(*maps.shape[1:3])
    strength = factors(maps)
    share = strength[:, border].mean((0, 1)) / np.maximum(strength.mean((0, 1, 2)), 1e-12)
    background = int(share.argmax())
    order = [background, *(index for index in range(num_parts + 1) if index != background)]

    def predict(images: Images) -> Float[np.ndarray, "n s s c"]:
        weights = factors(non_negative(images))[..., order]
        size = (images.shape[2], images.shape[1])
        resized = np.stack([clustering.resized(one, size) for one in weights.astype(np.float32)])
        total = resized.sum(-1, keepdims=True)
        # Where no factor is active there is nothing to tell apart: background.
        empty = np.eye(num_parts + 1, dtype=np.float32)[0]
        return np.where(total > 1e-12, resized / np.maximum(total, 1e-12), empty)

    return predict


def measure_references(
    protocol: Protocol,
    splits: Mapping[str, Split],
    reference_split: Split,
    *,
    num_parts: int,
    batch_size: int,
    seed: int,
    feature_fn: FeatureMapFn | None = None,
    patch_fn: dino.PatchFn | None = None,
) -> dict[str, Figures]:
    """Measures a protocol's references by the protocol itself.

    Args:
      protocol: whose `references` are measured; a reference that needs ground truth which
        `reference_split` does not have is left out.
      splits: the protocol's splits.
      reference_split: what the references learn from (`protocol.reference_split`).
      num_parts: K of those that have parts.
      batch_size: images predicted at a time.
      seed: of those that draw.
      feature_fn: a backbone; with one, deep feature factorisation is measured too.
      patch_fn: a DINO; with one, clusterings of its features are measured too.

    Returns:
      reference -> figures and counts.
    """
    makers = {
        "mean_mask": lambda: mean_mask(reference_split),
        "mean_landmarks": lambda: mean_landmarks(reference_split),
        "grabcut": lambda: grabcut(seed=seed, least_size=128),
        # Drawn images: what is enlarged holds nothing more.
        "grabcut_native": lambda: grabcut(seed=seed),
        # Colour finds painted parts best, place finds centred objects: neither is best for all.
        "kmeans": lambda: kmeans(reference_split, num_parts, seed),
        "kmeans_place": lambda: kmeans(reference_split, num_parts, seed, position_weight=2.0),
    }
    names = list(protocol.references)
    if feature_fn is not None:
        makers["feature_factorization"] = lambda: feature_factorization(
            reference_split, feature_fn, num_parts, seed, batch_size=batch_size
        )
        names.append("feature_factorization")
    if patch_fn is not None:
        total = sum(len(split) for split in splits.values())
        makers |= dino.clusterings(reference_split, patch_fn, num_parts, seed, total)
        names += dino.NAMES
    if reference_split.segmentation is None or not (reference_split.segmentation >= 0).any():
        names = [name for name in names if name != "mean_mask"]
    figures = {}
    for name in names:
        measured = protocol.measure(makers[name](), splits, batch_size)
        figures[name] = _meaningful(name, measured)
    return figures


def _meaningful(name: str, figures: Figures) -> Figures:
    """Leaves out figures that a reference was not made for and that would only look bad."""
    if name == "mean_landmarks":
        return {key: value for key, value in figures.items() if "_error" in key or "_mae" in key}
    if name in ("mean_mask", "grabcut", "grabcut_native"):
        return {key: value for key, value in figures.items() if "foreground_iou" in key}
    return figures


def _constant(probabilities: Float[np.ndarray, "s s c"]) -> PredictFn:
    fixed = probabilities.astype(np.float32)
    return lambda images: np.broadcast_to(fixed, (len(images), *fixed.shape))


def _cut(image: UInt8[np.ndarray, "s s 3"], margin: float, iterations: int, seed: int):
    height, width = image.shape[:2]
    top, left = round(margin * height), round(margin * width)
    inside = (left, top, width - 2 * left, height - 2 * top)
    labels = np.zeros((height, width), np.uint8)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(seed)
    bgr = np.ascontiguousarray(image[..., ::-1])
    try:
        cv2.grabCut(bgr, labels, inside, *models, iterations, cv2.GC_INIT_WITH_RECT)
    except cv2.error:
        # An image of one colour has no two colour models to cut between.
        return np.zeros((height, width), bool)
    return (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)


def _color_and_place(images: Images, weight: float) -> Float[np.ndarray, "n s s 5"]:
    lab = np.stack([cv2.cvtColor(image, cv2.COLOR_RGB2LAB) for image in images])
    rows, cols = np.meshgrid(*(np.linspace(-1, 1, n) for n in images.shape[1:3]), indexing="ij")
    place = np.broadcast_to(np.stack([rows, cols], -1), (*images.shape[:3], 2))
    # Fixed scales rather than the set's own, so that a pixel's description depends on it alone:
    # 40 is about the deviation of a CIELAB channel of photos, 0.58 that of a uniform place.
    return np.concatenate([(lab - 128.0) / 40, place / 0.58 * weight], -1).astype(np.float32)

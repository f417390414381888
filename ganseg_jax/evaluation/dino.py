"""Clusterings of a self-supervised network's features, for the table of references.

What one would try today before training anything: the patches of a DINO network (v1, v2 or v3),
grouped over all images of a category. Two ways to tell foreground from background: votes by the
class token's attention, as "Deep ViT features as dense visual descriptors" has it (Amir et al.
2021), and what lies at the images' borders.
"""

import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, UInt8
from threadpoolctl import threadpool_limits

from ganseg_jax.config import Config
from ganseg_jax.data.pipeline import Split
from ganseg_jax.errors import UserError
from ganseg_jax.evaluation import clustering
from ganseg_jax.evaluation.backbone import normalised
from ganseg_jax.evaluation.protocols import PredictFn
from ganseg_jax.interop import weights
from ganseg_jax.interop.torch_dino import load_dino
from ganseg_jax.models.vit import VisionTransformer
from ganseg_jax.precision import EXACT, of_products

LOG = logging.getLogger(__name__)

FIELD = "evaluation.dino_checkpoint"

NAMES = ("dino_vit_features", "dino_kmeans")
"""The two references, as in the report."""

# Images looked at together; attention needs 25 MB for each in a small network, twice that in a
# base network.
_BATCH = 8

# Of Amir et al.: attention above which a cluster counts as salient in an image, of 0 to 1, and the
# share of the images that must say so. Their elbow finds about so many clusters.
_SALIENT, _SHARE, _CLUSTERS = 0.065, 0.75, 10

# Heads of the small network with patches of 8 that they average.
_HEADS = (0, 2, 4, 5)

_LINE_EVERY = 10.0
"""Seconds between lines of progress."""

Images = UInt8[np.ndarray, "n s s 3"]


class Patches(NamedTuple):
    """Holds what a network says of the patches of some images.

    Attributes:
      tokens: features of length 1.
      keys: of the last attention, of length 1.
      saliency: attention of the class token, its mean over heads.
      salient: above which share of an image's range of saliency (0 to 1) a patch counts as salient;
        None for the image's own mean.
    """

    tokens: Float[np.ndarray, "n h w d"]
    keys: Float[np.ndarray, "n h w d"]
    saliency: Float[np.ndarray, "n h w"]
    salient: float | None = None


PatchFn = Callable[[Images], Patches]


def load_patch_features(config: Config) -> PatchFn | None:
    """Loads what gives the patches of `evaluation.dino_checkpoint`; None if that is empty.

    A patch covers 4 pixels of a photo, but there are 16 to 64 on a side; photos are enlarged
    bilinearly to what that takes. DINO v1's saliency is used as Amir et al. do. Later networks
    attend to single outlying patches, so that a share of their range says nothing.

    Raises:
      UserError: naming the field and the file, where that is missing, damaged, or of another
        network.
    """
    path = config.evaluation.dino_checkpoint
    if not path:
        return None
    try:
        module, variables = load_dino(weights.read(path))
    except UserError as error:
        raise UserError(f"{FIELD}={path!r}: {error}") from error
    return patch_features(module, variables)


def patch_features(module: VisionTransformer, variables: Mapping) -> PatchFn:
    """Returns what gives a network's patches of images of any number and size."""
    variables = jax.device_put(variables)
    first_version = module.table > 0 and not module.layer_scale
    heads = _HEADS if first_version and (module.width, module.patch) == (384, 8) else None

    @jax.jit
    def look(variables, images):
        size = min(max(images.shape[1] // 4, 16), 64) * module.patch
        x = jax.image.resize(normalised(images), (len(images), size, size, 3), "linear")
        with of_products(EXACT):
            seen: Any = module.apply(variables, x)
        attention = seen.attention if heads is None else seen.attention[:, np.array(heads)]
        unit = [x / jnp.linalg.norm(x, axis=-1, keepdims=True) for x in (seen.tokens, seen.keys)]
        return *unit, attention.mean(1)

    def patch_fn(images: Images) -> Patches:
        parts = []
        for start in range(0, len(images), _BATCH):
            batch = images[start : start + _BATCH]
            full = np.concatenate([batch, np.repeat(batch[-1:], _BATCH - len(batch), 0)])
            parts.append([np.asarray(x)[: len(batch)] for x in look(variables, full)])
        tokens, keys, saliency = map(np.concatenate, zip(*parts, strict=True))
        return Patches(tokens, keys, saliency, _SALIENT if first_version else None)

    return patch_fn


class Clusters(NamedTuple):
    """Holds clusters of patches and the part that each stands for, 0 for the background."""

    centers: Float[np.ndarray, "m d"]
    labels: Int[np.ndarray, " m"]


def clusterings(
    split: Split,
    patch_fn: PatchFn,
    num_parts: int,
    seed: int,
    total: int,
    max_images: int = 200,
) -> dict[str, Callable[[], PredictFn]]:
    """Returns, by name, what makes each reference; the first that is called fits both.

    An image that both or several protocols ask for is looked at once.

    Args:
      split: images to fit the clusters on; no ground truth is used.
      patch_fn: gives patches of images.
      num_parts: K.
      seed: of the choice of patches and of the clusterings.
      total: images that will be asked for, for the line of progress.
      max_images: how many of the split's first images are used.
    """
    images = split.images[:max_images]
    look = _Progress(patch_fn, total + len(images))
    fitted: dict[str, Clusters] = {}
    known: dict[bytes, dict[str, UInt8[np.ndarray, "s s"]]] = {}

    def fit() -> None:
        # Half as many bits hold directions well enough.
        parts = [_halved(look(images[i : i + _BATCH])) for i in range(0, len(images), _BATCH)]
        tokens, keys, saliency = (
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("tokens", "keys", "saliency")
        )
        LOG.info("DINO: clustering the patches of %d photos", len(images))
        salient = _share_of_range(saliency, parts[0].salient)
        fitted["dino_vit_features"] = fit_by_votes(keys, salient, num_parts, seed)
        fitted["dino_kmeans"] = fit_by_border(tokens, num_parts, seed)

    def predict(name: str, images: Images) -> Float[np.ndarray, "n s s c"]:
        ids = [hashlib.blake2b(image.tobytes()).digest() for image in images]
        new = {key: index for index, key in enumerate(ids) if key not in known}
        if new:
            unknown = images[list(new.values())]
            seen = look(unknown)
            size = images.shape[1]
            votes = segment(fitted["dino_vit_features"], seen.keys, size, num_parts)
            border = segment(fitted["dino_kmeans"], seen.tokens, size, num_parts)
            for key, *both in zip(new, votes, border, strict=True):
                known[key] = dict(zip(NAMES, both, strict=True))
        labels = np.stack([known[key][name] for key in ids])
        return np.eye(num_parts + 1, dtype=np.float32)[labels]

    def make(name: str) -> PredictFn:
        if not fitted:
            fit()
        return partial(predict, name)

    return {name: partial(make, name) for name in NAMES}


def fit_by_votes(
    keys: Float[np.ndarray, "n h w d"],
    salient: Float[np.ndarray, "n h w"],
    num_parts: int,
    seed: int,
) -> Clusters:
    """Groups patches twice: clusters that the images vote for, and these again into K parts.

    An image votes for a cluster if its patches there are salient on average. Where the votes leave
    nothing, the clusters with most votes are taken, and one is always background.

    Args:
      keys: of length 1.
      salient: by how much each patch lies above what counts as salient.
      num_parts: K.
      seed: of the clusterings.
    """
    first = _kmeans(keys, _CLUSTERS, seed)
    labels = _nearest(keys, first)  # [N, h, w]
    count = len(first)
    votes = np.zeros(count)
    for image, above in zip(labels, salient, strict=True):
        sizes = np.bincount(image.ravel(), minlength=count)
        sums = np.bincount(image.ravel(), weights=above.ravel(), minlength=count)
        votes += (sizes > 0) & (sums > 0)
    order = np.argsort(-votes, kind="stable")
    enough = int((votes >= np.ceil(_SHARE * len(keys))).sum())
    chosen = order[: min(max(enough, 1), count - 1)]
    inside = keys[np.isin(labels, chosen)]
    if not len(inside):  # All patches are alike.
        return Clusters(first, np.zeros(count, int))
    parts = _kmeans(inside, num_parts, seed)
    background = np.delete(first, chosen, 0)
    return Clusters(
        np.concatenate([background, parts]),
        np.concatenate([np.zeros(len(background), int), 1 + np.arange(len(parts))]),
    )


def fit_by_border(tokens: Float[np.ndarray, "n h w d"], num_parts: int, seed: int) -> Clusters:
    """Groups patches into 2K clusters, of which the K least at the images' borders are the parts.

    Args:
      tokens: features of length 1.
      num_parts: K.
      seed: of the clustering.
    """
    centers = _kmeans(tokens, 2 * num_parts, seed)
    labels = _nearest(tokens, centers)
    # Of few different patches there are fewer clusters than asked for, and one is background.
    parts = min(num_parts, len(centers) - 1)
    return Clusters(centers, clustering.labels_by_border(labels, len(centers), parts))


def segment(
    clusters: Clusters, features: Float[np.ndarray, "n h w d"], size: int, num_parts: int
) -> UInt8[np.ndarray, "n s s"]:
    """Returns the label of the nearest cluster at each pixel of images of a size.

    The squared distances to each part's nearest cluster are resized bilinearly.
    """
    found = []
    for image in features:
        distances = _distances(image, clusters.centers)  # [h, w, M]
        of_labels = np.full((*image.shape[:2], num_parts + 1), 1e3, np.float32)
        for label in np.unique(clusters.labels):
            of_labels[..., label] = distances[..., clusters.labels == label].min(-1)
        found.append(clustering.resized(of_labels, (size, size)).argmin(-1))
    return np.stack(found).astype(np.uint8)


def _distances(features: np.ndarray, centers: np.ndarray) -> Float[np.ndarray, "*n m"]:
    """Returns squared distances of features of length 1 to centres."""
    return 1 + np.square(centers).sum(-1) - 2 * features.astype(np.float32) @ centers.T


def _nearest(features: Float[np.ndarray, "n h w d"], centers: np.ndarray) -> np.ndarray:
    return np.stack([_distances(image, centers).argmin(-1) for image in features])


def _kmeans(features: np.ndarray, count: int, seed: int) -> Float[np.ndarray, "m d"]:
    """Returns centres of at most `count` clusters, fitted on some of the features."""
    from sklearn.cluster import KMeans  # Slow to import, and seldom needed.

    rows = features.reshape(-1, features.shape[-1])
    rows = clustering.sampled(rows, 20_000, seed).astype(np.float32)
    count = min(count, len(np.unique(rows, axis=0)))
    # Waiting threads on a busy machine cost far more than a second core gains.
    with threadpool_limits(1):
        return KMeans(count, n_init=3, random_state=seed).fit(rows).cluster_centers_


def _halved(patches: Patches) -> Patches:
    return patches._replace(
        tokens=patches.tokens.astype(np.float16), keys=patches.keys.astype(np.float16)
    )


def _share_of_range(
    saliency: Float[np.ndarray, "n h w"], threshold: float | None
) -> Float[np.ndarray, "n h w"]:
    """Returns by how much patches lie above a share of their image's range, or its mean if None."""
    if threshold is None:
        return saliency - saliency.mean((1, 2), keepdims=True)
    low, high = (f(saliency, axis=(1, 2), keepdims=True) for f in (np.min, np.max))
    return (saliency - low) / np.maximum(high - low, 1e-12) - threshold


class _Progress:
    """Gives the patches of images and says now and then how many have been looked at."""

    def __init__(self, patch_fn: PatchFn, total: int):
        self._patch_fn, self._total, self._done = patch_fn, total, 0
        self._start = self._said = time.monotonic()

    def __call__(self, images: Images) -> Patches:
        patches = self._patch_fn(images)
        self._done += len(images)
        now = time.monotonic()
        if now - self._said >= _LINE_EVERY:
            self._said = now
            rate = self._done / (now - self._start)
            left = max(self._total - self._done, 0) / rate
            LOG.info(
                "DINO: %d of %d photos, %.1f photos/s, %d:%02d left",
                self._done, self._total, rate, *divmod(int(left), 60),
            )  # fmt: skip
        return patches

"""What speaks for segmentations of photos that nobody labelled, term by term.

Each term needs photos and a segmenter, nothing else. `experiments/results/starts` says how well
each predicts the figures that are measured with labels.
"""

from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from ganseg_jax import pixels
from ganseg_jax.evaluation.protocols import PredictFn
from ganseg_jax.evaluation.without_labels import LEAST_AREA, agreement

Images = UInt8[np.ndarray, "n s s 3"]
Probabilities = Float[np.ndarray, "n s s c"]
Terms = dict[str, float]

NAMES = (
    *("mirror", "crop", "colors", "edges", "border", "rarest", "frame", "follows"),
    *("separation", "contrast", "share"),
)
"""Of all terms."""

CROP = 1 / 16
"""Share of the side that is cut off at each edge for the term `crop`."""

GAIN = 0.3
"""How far each colour channel is scaled up or down at most for the term `colors`."""

GAIN_OF_MERGING = 0.03
"""Share by which `separation` must rise for a part to be given to the background."""

LEAST_SEPARATION = 0.01
"""Of masks that follow photos at all; trainings that had just begun came to 0.04 and more."""

BAND = 3
"""Pixels on both sides of the border that the term `separation` looks at."""


def terms(
    predict_fn: PredictFn,
    refine_fn: Callable[[Images, Probabilities], Probabilities],
    images: Images,
    seed: int = 0,
) -> Terms:
    """Measures all terms on photos that may be those of training.

    Args:
      predict_fn: uint8 images to probabilities, background first.
      refine_fn: images and probabilities to probabilities at the images' edges.
      images: the photos.
      seed: of the changes of colour.

    Returns:
      By name:
      `mirror`, `crop`, `colors`: mean IoU of the foregrounds of a photo and of its mirror image,
        its middle, and the photo in other colours.
      `edges`: mean IoU of the foreground and what refinement makes of it.
      `border`: share of the outermost pixels that parts take.
      `rarest`: share of photos that show the rarest part.
      `frame`: mean IoU of the foreground and the pixels that are foreground in most photos; high if
        masks do not follow the photos.
      `follows`: how far parts move with the foreground's centre: 1 minus the share of the
        variance of their centres that is left when they are seen from there.
      `separation`: how well the colours on both sides of the border are told apart, from 0
        (alike) to 1: one minus the Bhattacharyya coefficient of two normal distributions.
      `contrast`: mean difference of the colours of neighbours across the border, over that of all
        neighbours.
      `share`: of the foreground, of all pixels.
    """
    found = np.asarray(predict_fn(images))
    foreground = _foreground(found)
    mirrored = _foreground(predict_fn(images[:, :, ::-1]))[:, :, ::-1]
    gains = np.random.default_rng(seed).uniform(1 - GAIN, 1 + GAIN, (len(images), 1, 1, 3))
    recolored = np.clip(images * gains, 0, 255).astype(np.uint8)
    cut = max(1, round(CROP * images.shape[1]))
    inner = slice(cut, -cut)
    size = images.shape[1]
    middles = np.stack([pixels.shrink(image, size) for image in images[:, inner, inner]])
    expected = pixels.resize_labels(foreground[:, inner, inner], size, size)
    labels = found.argmax(-1)
    parts = range(1, found.shape[-1])
    present = np.stack([(labels == part).mean((1, 2)) >= LEAST_AREA for part in parts], -1)
    edge = np.ones(labels.shape[1:], bool)
    edge[1:-1, 1:-1] = False
    typical = np.broadcast_to(foreground.mean(0) >= 0.5, foreground.shape)
    pairs = list(zip(images.astype(np.float32) / 255, foreground, strict=True))
    all_terms: dict[str, float] = {
        "mirror": agreement(foreground, mirrored),
        "crop": agreement(_foreground(predict_fn(middles)), expected),
        "colors": agreement(foreground, _foreground(predict_fn(recolored))),
        "edges": agreement(foreground, _foreground(refine_fn(images, found))),
        "border": float(foreground[:, edge].mean()),
        "rarest": float(present.mean(0).min()),
        "frame": agreement(foreground, typical),
        "follows": follows(found),
        "separation": float(np.mean([separation(*pair) for pair in pairs])),
        "contrast": float(np.mean([contrast(*pair) for pair in pairs])),
        "share": float(foreground.mean()),
    }
    return {name: float(value) for name, value in all_terms.items()}


WEIGHTS = {"separation": 3.2, "border": -0.2}
"""Of the terms in the score, as fitted in `experiments/results/starts`."""


def score(found: Mapping[str, float], weights: Mapping[str, float] | None = None) -> float:
    """Returns how much speaks for a segmentation: the weighted sum of some of the terms.

    Args:
      found: the terms.
      weights: by name of the term; those of the study if not given.
    """
    weights = WEIGHTS if weights is None else weights
    return sum(weight * found[name] for name, weight in weights.items())


def background_parts(images: Images, *maps: Int[np.ndarray, "n s s"]) -> list[int]:
    """Finds parts that paint background: without them, colours at the border differ more.

    The part without which `separation` rises most is given to the background, as long as it rises
    by `GAIN_OF_MERGING` or more, and at least one part is left. Each of the maps must say so: what
    a network finds is blurred at thin parts, and what refinement makes of it takes in what looks
    alike. Masks at whose border colours hardly differ (`LEAST_SEPARATION`) follow no photo, and
    nothing is said about them.

    Args:
      images: photos, at the size of the labels.
      maps: labels of the same parts, 0 for background, such as plain and refined ones.

    Returns:
      The labels of these parts, in the order in which they were found.
    """
    colors = images.astype(np.float32) / 255

    def separated(labels: np.ndarray, without: Collection[int]) -> float:
        pairs = zip(colors, (labels > 0) & ~np.isin(labels, list(without)), strict=True)
        return float(np.mean([separation(image, mask) for image, mask in pairs]))

    found: list[int] = []
    left = sorted({int(part) for labels in maps for part in np.unique(labels)} - {0})
    now = [separated(labels, ()) for labels in maps]
    while len(left) > 1 and min(now) >= LEAST_SEPARATION:
        then = {part: [separated(labels, [*found, part]) for labels in maps] for part in left}
        part = max(left, key=lambda part: _least_gain(then[part], now))
        if _least_gain(then[part], now) < GAIN_OF_MERGING:
            break
        found.append(part)
        left.remove(part)
        now = then[part]
    return found


def _least_gain(then: Sequence[float], now: Sequence[float]) -> float:
    return min(one / other - 1 for one, other in zip(then, now, strict=True))


def follows(probabilities: Probabilities) -> float:
    """Returns how far the parts move with the object; see `terms`."""
    place = np.linspace(-1, 1, probabilities.shape[1])

    def centers(weights: Float[np.ndarray, "n s s k"]) -> Float[np.ndarray, "n k 2"]:
        mass = weights.sum((1, 2)) + 1e-6
        rows = (weights * place[None, :, None, None]).sum((1, 2)) / mass
        cols = (weights * place[None, None, :, None]).sum((1, 2)) / mass
        return np.stack([rows, cols], -1)

    parts = centers(probabilities[..., 1:])
    whole = centers(probabilities[..., 1:].sum(-1, keepdims=True))
    variance = parts.var(0).sum(-1)
    left = (parts - whole).var(0).sum(-1)
    moved = variance > 1e-6  # A part that stays where it is follows nothing.
    return float(np.mean(np.where(moved, 1 - left / np.maximum(variance, 1e-6), 0.0)))


def separation(image: Float[np.ndarray, "h w 3"], foreground: Bool[np.ndarray, "h w"]) -> float:
    """Returns how well colours at both sides of the border are told apart; see `terms`."""
    near = _grown(foreground, BAND) & _grown(~foreground, BAND)
    inside, outside = image[near & foreground], image[near & ~foreground]
    if min(len(inside), len(outside)) < 6:
        return 0.0
    one, other = (np.cov(x.T) + 1e-3 * np.eye(3) for x in (inside, outside))
    both, offset = (one + other) / 2, inside.mean(0) - outside.mean(0)
    ratio = np.linalg.det(both) / np.sqrt(np.linalg.det(one) * np.linalg.det(other))
    distance = offset @ np.linalg.solve(both, offset) / 8 + np.log(ratio) / 2
    return float(1 - np.exp(-distance))


def contrast(image: Float[np.ndarray, "h w 3"], foreground: Bool[np.ndarray, "h w"]) -> float:
    """Returns how much colours change across the border, compared with elsewhere; see `terms`."""
    changes, across = [], []
    for axis in (0, 1):
        changes.append(np.linalg.norm(np.diff(image, axis=axis), axis=-1).ravel())
        across.append(np.diff(foreground, axis=axis).ravel())
    change, on = np.concatenate(changes), np.concatenate(across)
    return float(change[on].mean() / max(change.mean(), 1e-6)) if on.any() else 0.0


def _foreground(probabilities: Probabilities) -> Bool[np.ndarray, "n s s"]:
    return np.asarray(probabilities).argmax(-1) > 0


def _grown(mask: Bool[np.ndarray, "h w"], by: int) -> Bool[np.ndarray, "h w"]:
    """Returns a mask with the pixels that are at most so many steps up, down or aside from it."""
    for _ in range(by):
        grown = mask.copy()
        grown[1:] |= mask[:-1]
        grown[:-1] |= mask[1:]
        grown[:, 1:] |= mask[:, :-1]
        grown[:, :-1] |= mask[:, 1:]
        mask = grown
    return mask

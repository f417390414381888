"""Figures that keep what each image adds to them: confidence intervals and paired tests.

A figure of a set is a function of a sum over its images: of errors and how many they are, or of
contingency tables. Drawing images with replacement (the bootstrap: Efron 1979) thus takes weighted
sums alone, and a figure that pools the pixels of a whole set is drawn again as it was computed.
Regressions are not fitted again: an interval says how far the images measured on decide a figure.
"""

import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from etils import epath
from jaxtyping import Float, Int, Num, Shaped

from ganseg_jax import files
from ganseg_jax.errors import UserError
from ganseg_jax.evaluation import overlap

LOW, HIGH = "_low", "_high"
"""Suffixes of the keys that hold the ends of a figure's interval."""

CONFIDENCE = 0.95
RESAMPLES = 1000

_FACTS = "facts.json"
_SEED = 20220618
_MOST_AT_ONCE = 2**22


def _mean(sums: Float[np.ndarray, "*g 2"]) -> float:
    """Returns the mean over the groups of each group's total over its count."""
    return float(np.mean(_ratios(sums)))


def _sum(sums: Float[np.ndarray, "*g 2"]) -> float:
    """Returns the sum over the groups of each group's total over its count."""
    return float(np.sum(_ratios(sums)))


def _ratios(sums: np.ndarray) -> np.ndarray:
    # A group without any member makes the figure NaN: it would be another figure without it.
    return sums[..., 0] / np.where(sums[..., 1] > 0, sums[..., 1], np.nan)


def _of_table(measure: Callable[[np.ndarray], float]) -> Callable[[np.ndarray], float]:
    def measured(sums: np.ndarray) -> float:
        table = np.rint(sums).astype(np.int64)
        return measure(table) if table.any() else float("nan")

    return measured


RULES: dict[str, Callable[[np.ndarray], float]] = {
    "mean": _mean,
    "sum": _sum,
    "nmi": _of_table(overlap.nmi),
    "ari": _of_table(overlap.ari),
    "mean_iou": _of_table(overlap.mean_iou),
    "weighted_iou": _of_table(overlap.weighted_iou),
    "first_iou": _of_table(lambda table: float(overlap.class_iou(table)[0])),
    "second_iou": _of_table(lambda table: float(overlap.class_iou(table)[1])),
}
"""How a figure follows from the sum over the images, by name: totals and counts [..., 2] to a mean
or a sum over groups; a contingency table to what `overlap` measures."""


class Figure(float):
    """Holds a figure and what each image adds to it; in all else it is its value.

    Args:
      each: (N, ...), what each image adds to the sum.
      rule: the name in `RULES` of how the figure follows from the sum.
    """

    each: Num[np.ndarray, "n ..."]
    rule: str

    def __new__(cls, each: Num[np.ndarray, "n ..."], rule: str) -> "Figure":
        """Returns the figure of all images, each once."""
        figure = super().__new__(cls, RULES[rule](np.asarray(each).sum(0)))
        figure.each, figure.rule = np.asarray(each), rule
        return figure

    def __getnewargs__(self) -> tuple[np.ndarray, str]:  # type: ignore[override]
        """Returns what a copy is made from."""
        return self.each, self.rule


def mean_of(values: Shaped[np.ndarray, "n ..."], where: Any = True) -> Figure:
    """Returns the mean of what images have one or several of.

    Args:
      values: (N,) or (N, L).
      where: of the same shape; which values count.
    """
    values = np.asarray(values, np.float64)
    counted = np.broadcast_to(np.asarray(where, bool), values.shape)
    inner = tuple(range(1, values.ndim))
    totals = np.where(counted, values, 0.0).sum(inner)
    return Figure(np.stack([totals, counted.sum(inner)], -1), "mean")


def times(figure: Figure, factor: float) -> Figure:
    """Returns a mean or a sum in another unit."""
    return Figure(figure.each * np.array([factor, 1.0]), figure.rule)


def mean_of_folds(folds: list[Figure]) -> Figure:
    """Returns the mean of means that were each taken over images of their own."""
    count = sum(len(fold.each) for fold in folds)
    each, start = np.zeros((count, len(folds), 2)), 0
    for index, fold in enumerate(folds):
        each[start : start + len(fold.each), index] = fold.each
        start += len(fold.each)
    return Figure(each, "mean")


def part_agreement(tables: Int[np.ndarray, "n p t"]) -> dict[str, Figure]:
    """Measures how predicted and true parts agree over a set's pixels (Choudhury et al. 2021).

    Args:
      tables: of predicted labels and true ones for each image; column 0 is the true background. See
        `overlap.contingency`.

    Returns:
      `part_nmi` and `part_ari` over all pixels, `foreground_nmi` and `foreground_ari` over the
      pixels of the true foreground.
    """
    inside = tables[:, :, 1:]
    return {
        "part_nmi": Figure(tables, "nmi"),
        "part_ari": Figure(tables, "ari"),
        "foreground_nmi": Figure(inside, "nmi"),
        "foreground_ari": Figure(inside, "ari"),
    }


@dataclass(frozen=True)
class Difference:
    """Says how two figures of the same images differ.

    Attributes:
      value: the second less the first.
      low: lower end of its interval.
      high: upper end.
      p: the probability of a difference as large by the choice of images alone; at least
        1 / (RESAMPLES + 1).
    """

    value: float
    low: float
    high: float
    p: float


def interval(figure: Figure) -> tuple[float, float] | None:
    """Returns the 95 % interval of a figure by the percentile bootstrap over its images.

    The draws are the same each time. None for fewer than two images, or a figure that is no number.
    """
    if len(figure.each) < 2 or not np.isfinite(figure):
        return None
    return _ends(_redrawn(figure))


def difference(one: Figure, other: Figure) -> Difference | None:
    """Compares two figures of the same images by the paired bootstrap.

    Both are drawn again on the same images each time, so what makes an image hard for both does
    not hide a difference. The p-value is that of the differences about their value. None for
    fewer than two images, or figures that are no numbers.

    Raises:
      ValueError: the numbers of images differ.
    """
    if len(one.each) != len(other.each):
        raise ValueError(f"{len(one.each)} images cannot be paired with {len(other.each)}")
    value = float(other) - float(one)
    if len(one.each) < 2 or not np.isfinite(value):
        return None
    drawn = _redrawn(other) - _redrawn(one)
    # A draw may have no image that counts.
    drawn = drawn[np.isfinite(drawn)]
    if len(drawn) < 2:
        return None
    # Rounding must not make equal figures differ.
    as_far = np.abs(drawn - value) >= abs(value) - 1e-12
    return Difference(value, *_ends(drawn), p=float((as_far.sum() + 1) / (len(drawn) + 1)))


def with_intervals(figures: Mapping[str, float]) -> dict[str, float]:
    """Returns the figures and, beside each that keeps its images, NAME_low and NAME_high."""
    found: dict[str, float] = {}
    for name, value in figures.items():
        found[name] = float(value) if isinstance(value, Figure) else value
        if isinstance(value, Figure) and (ends := interval(value)) is not None:
            found[name + LOW], found[name + HIGH] = ends
    return found


def ends_of(figures: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    """Returns the intervals in a flat dict of figures, by the names of the figures."""
    names = [name for name in figures if name + LOW in figures and name + HIGH in figures]
    return {name: (figures[name + LOW], figures[name + HIGH]) for name in names}


def save(path: epath.PathLike, figures: Mapping[str, float], photos: Any) -> None:
    """Writes what each image adds to each figure, as a NumPy archive.

    Args:
      path: of the file, `.npz`.
      figures: those that keep no images are left out.
      photos: what tells the images measured on from others, fit for JSON.
    """
    kept = {name: value for name, value in figures.items() if isinstance(value, Figure)}
    facts = {"photos": photos, "rules": {name: value.rule for name, value in kept.items()}}
    arrays = {name: _smallest(value.each) for name, value in kept.items()}
    text = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **{_FACTS: text}, **arrays)
    files.write_whole(path, buffer.getvalue())


def load(path: epath.PathLike) -> tuple[dict[str, Figure], Any]:
    """Reads what `save` wrote: the figures, and what tells their images from others.

    Raises:
      UserError: the file is damaged.
    """
    try:
        with np.load(io.BytesIO(epath.Path(path).read_bytes()), allow_pickle=False) as archive:
            facts = json.loads(archive[_FACTS].tobytes())
            rules = facts["rules"]
            return {name: Figure(archive[name], rules[name]) for name in rules}, facts["photos"]
    except Exception as error:  # Whatever zip, NumPy and JSON raise for damaged bytes.
        raise UserError(f"{path} is damaged ({error}): evaluate again") from error


def _smallest(values: np.ndarray) -> np.ndarray:
    """Returns integers in the smallest type that holds them."""
    if values.dtype.kind not in "iu" or not values.size or values.min() < 0:
        return values
    return values.astype(np.min_scalar_type(values.max()))


def _redrawn(figure: Figure) -> Float[np.ndarray, " r"]:
    """Returns the figure of each draw of as many images; the draws depend on the number alone."""
    rule, count = RULES[figure.rule], len(figure.each)
    flat = figure.each.reshape(count, -1).astype(np.float64)  # Sums of counts stay exact.
    return np.array(
        [
            rule(sums.reshape(figure.each.shape[1:]))
            for weights in _draws(count)
            for sums in weights @ flat
        ]
    )


def _draws(count: int) -> Iterator[Float[np.ndarray, "r n"]]:
    """Yields how often each draw has each image, some draws at a time."""
    rng = np.random.default_rng(_SEED)
    left = RESAMPLES
    while left:
        now = min(left, max(1, _MOST_AT_ONCE // count))
        yield rng.multinomial(count, np.full(count, 1 / count), size=now).astype(np.float64)
        left -= now


def _ends(drawn: np.ndarray) -> tuple[float, float]:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.nanquantile(drawn, [tail, 1 - tail])
    return float(low), float(high)

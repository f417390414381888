"""Curves of logged scalars as inline SVG that takes its colours from the page around it."""

import html
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ganseg_jax.report.measures import humanize

_WIDTH, _HEIGHT = 340, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 12, 10, 24
_MOST_POINTS = 100

# Bookkeeping of the loop rather than anything a reader of curves looks for.
HARDWARE = "hardware/"
"""Begins names of scalars that say how the hardware is used; they are no curves."""

_HIDDEN = {"step", "time", "wall_time", "epoch", "seconds", "timestamp", "eta"}


def curves(rows: Sequence[dict]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns steps and values of each scalar of a log; rows may repeat or be out of order.

    Where a step occurs more than once (a run that was cut off and resumed), the last row counts.

    Args:
      rows: dicts with `step` and scalars; others are left out, and those that say how the
        hardware is used; see `report.hardware`.

    Returns:
      name -> (steps, values), those with at least two finite values, in order of appearance.
    """
    series: dict[str, dict[int, float]] = {}
    for row in rows:
        step: Any = row.get("step")
        if not _is_number(step):
            continue
        for name, value in row.items():
            if (
                name not in _HIDDEN
                and not name.startswith(HARDWARE)
                and _is_number(value)
                and math.isfinite(value)
            ):
                series.setdefault(name, {})[int(step)] = float(value)
    ordered = {name: sorted(points.items()) for name, points in series.items() if len(points) > 1}
    return {
        name: (np.array([step for step, _ in points]), np.array([value for _, value in points]))
        for name, points in ordered.items()
    }


def curve_svg(name: str, steps: np.ndarray, values: np.ndarray) -> str:
    """Draws a chart: the mean over short stretches of steps as a line, their range as a band.

    The vertical axis is logarithmic where values are positive and span more than a factor of 300.
    Colours are the CSS classes `band`, `line`, `grid` and `tick` of the page.
    """
    start, end = float(steps[0]), float(steps[-1])
    start = 0.0 if 0 <= start < 0.05 * end else start
    steps, low, middle, high = _stretches(steps, values)
    logarithmic = low.min() > 0 and high.max() / low.min() > 300
    if logarithmic:
        low, middle, high = np.log10(low), np.log10(middle), np.log10(high)
    x_ticks = _ticks(start, end, 5)
    bottom, top = _padded(low.min(), high.max())
    y_ticks = _log_ticks(bottom, top) if logarithmic else _ticks(bottom, top, 5)

    def x_of(step):
        return _LEFT + (step - start) / max(end - start, 1) * (_WIDTH - _LEFT - _RIGHT)

    def y_of(value):
        return _TOP + (top - value) / (top - bottom) * (_HEIGHT - _TOP - _BOTTOM)

    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{html.escape(humanize(name))} by step">'
    ]
    for tick in y_ticks:
        y = y_of(tick)
        label = _tick_label(10.0**tick if logarithmic else tick)
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="tick" x="{_LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{label}</text>'
        )
    for tick in x_ticks:
        x = x_of(tick)
        anchor = "end" if x > _WIDTH - _RIGHT - 14 else "middle"
        parts.append(
            f'<text class="tick" x="{x:.1f}" y="{_HEIGHT - 7}" text-anchor="{anchor}">'
            f"{_short(tick)}</text>"
        )
    upper = [f"{x_of(s):.1f},{y_of(v):.1f}" for s, v in zip(steps, high, strict=True)]
    lower = [f"{x_of(s):.1f},{y_of(v):.1f}" for s, v in zip(steps, low, strict=True)]
    line = [f"{x_of(s):.1f},{y_of(v):.1f}" for s, v in zip(steps, middle, strict=True)]
    parts.append(f'<polygon class="band" points="{" ".join(upper + lower[::-1])}"/>')
    parts.append(f'<polyline class="line" points="{" ".join(line)}"/></svg>')
    return "".join(parts)


def _stretches(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, ...]:
    """Returns the mean step, and smallest, mean and largest value, of each stretch."""
    edges = np.linspace(0, len(steps), min(len(steps), _MOST_POINTS) + 1).astype(int)[:-1]
    sizes = np.diff(np.append(edges, len(steps)))
    return (
        np.add.reduceat(steps, edges) / sizes,
        np.minimum.reduceat(values, edges),
        np.add.reduceat(values, edges) / sizes,
        np.maximum.reduceat(values, edges),
    )


def _padded(low: float, high: float) -> tuple[float, float]:
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin


def _ticks(low: float, high: float, about: int) -> list[float]:
    """Returns about so many round numbers between low and high."""
    span = max(high - low, 1e-30)
    magnitude = 10.0 ** math.floor(math.log10(span / about))
    step = next(
        magnitude * factor for factor in (1, 2, 5, 10) if span / (magnitude * factor) <= about
    )
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    # Rounding keeps 0.30000000000000004 out of the labels.
    digits = max(0, -math.floor(math.log10(step))) + 1
    return [round(index * step, digits) + 0.0 for index in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    powers = range(math.ceil(low), math.floor(high) + 1)
    every = max(1, -(-len(powers) // 5))
    return [float(power) for power in powers if power % every == 0]


def _tick_label(value: float) -> str:
    if value and not 1e-4 <= abs(value) < 1e6:
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value:,.10g}"


def _short(step: float) -> str:
    if abs(step) >= 1000:
        return f"{step / 1000:g}k"
    return f"{step:g}"


def _is_number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

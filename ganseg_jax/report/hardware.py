"""What a training's log says of how well the hardware was used, in sentences."""

from collections.abc import Sequence
from typing import Any

from ganseg_jax.report.curves import HARDWARE
from ganseg_jax.report.measures import format_number

_LOST = {
    "data": "waiting for data",
    "checkpoints": "saving checkpoints",
    "logging": "logging and pictures",
    "compilation": "compiling",
}
"""What time is lost to, as `training.meter` names it, in words."""


def sentences(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Returns what a stage's log says of the hardware; nothing if it says nothing.

    Args:
      rows: of the metrics log. Of a step that occurs more than once, the last row counts.
    """
    chosen = {row["step"]: row for row in rows if f"{HARDWARE}seconds" in row}
    used = [
        {name.removeprefix(HARDWARE): value for name, value in row.items()}
        for row in chosen.values()
    ]
    seconds = sum(row["seconds"] for row in used)
    if seconds <= 0:
        return []
    lost = {name: sum(row.get(f"lost_to_{name}", 0.0) for row in used) for name in _LOST}
    steps = seconds - sum(lost.values())
    shares = ", ".join(
        f"{_percent(lost[name] / seconds)} to {said}" for name, said in _LOST.items()
    )
    said = [f"{_percent(steps / seconds)} of the time went to the steps, {shares}."]
    computing = [row["seconds"] - row.get("lost_to_compilation", 0.0) for row in used]

    def mean(name: str) -> float | None:
        """Returns the mean over the time of training."""
        pairs = [(r[name], t) for r, t in zip(used, computing, strict=True) if name in r]
        total = sum(t for _, t in pairs)
        return sum(value * t for value, t in pairs) / total if total > 0 else None

    speed = f"An update took {format_number(float(mean('step_ms') or 0.0))} ms"
    if (images := mean("images_per_second")) is not None:
        speed += f"; with all pauses, {format_number(images)} images a second were trained on"
    said.append(f"{speed}.")
    if (share := mean("model_flops_utilization")) is not None:
        said.append(
            f"That is {_percent(share)} of the arithmetic that the devices can do at most "
            "(model FLOPs utilisation)."
        )
    peaks = [row["memory_peak_bytes"] for row in used if "memory_peak_bytes" in row]
    if peaks:
        said.append(f"A device held at most {format_number(max(peaks) / 2**30)} GiB.")
    return said


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"

"""What a terminal or a log shows of a training."""

import sys
import time

import jax
from tqdm import tqdm

NO_LOSSES = ("_norm", "_logit")
"""Endings of scalars that are not losses."""


class Progress:
    """Shows a bar with rate, time left and losses on a terminal, else a line at each log step."""

    def __init__(self, name: str, first: int, total: int):
        self._name, self._total = name, total
        self._start = self._mark = (first, time.monotonic())
        shown = jax.process_index() == 0
        self._lines = shown and not sys.stderr.isatty()
        self._bar = tqdm(
            desc=name,
            initial=first,
            total=total,
            unit="step",
            dynamic_ncols=True,
            disable=not shown or self._lines,
        )

    def rate(self, step: int) -> float:
        """Returns the steps a second since the last call."""
        now = time.monotonic()
        rate = (step - self._mark[0]) / max(now - self._mark[1], 1e-9)
        self._mark = (step, now)
        self._last_rate = rate
        return rate

    def show(self, step: int, values: dict[str, float]) -> None:
        """Brings the display up to `step`."""
        losses = {k: v for k, v in values.items() if not k.endswith(NO_LOSSES)}
        text = " ".join(f"{k}={v:.3g}" for k, v in losses.items())
        if self._lines:
            done, start = step - self._start[0], self._start[1]
            left = (time.monotonic() - start) / max(done, 1) * (self._total - step)
            minutes, seconds = divmod(int(left), 60)
            print(
                f"{self._name} {step}/{self._total} {self._last_rate:.2f} steps/s "
                f"{minutes}:{seconds:02d} left {text}",
                file=sys.stderr,
                flush=True,
            )
        else:
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update(step - self._bar.n)

    def close(self) -> None:
        """Ends the display."""
        self._bar.close()

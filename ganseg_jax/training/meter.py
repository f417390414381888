"""What the time of a training went to, measured on the host without holding the devices up."""

import collections
import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax

from ganseg_jax.report.curves import HARDWARE
from ganseg_jax.training.work import Work

REASONS = ("data", "checkpoints", "compilation", "logging")
"""What time is lost to: `hardware/lost_to_NAME`, in seconds."""


class Meter:
    """Measures how well the hardware is used, over each interval between two rows of metrics.

    Updates run in the background, many may be waiting, and nothing here waits for them: a thread
    notes when each has ended. Time is lost to an activity of the host as far as the devices had
    nothing to do meanwhile: reading photos while the last update still runs costs nothing.

    Times of this process's start, of a pause between two starts, and of what follows the last row
    (the last checkpoint) are in no row.

    Args:
      step: updates done so far.
      batch_size: images in an update; None if they have none.
      work: FLOPs of the updates; None if not known.
      compile_seconds: that compiling took before the first update; all of it is lost.
      clock: seconds.
      memory: -> memory statistics of this process's devices.
    """

    def __init__(
        self,
        step: int,
        batch_size: int | None = None,
        work: Work | None = None,
        compile_seconds: float = 0.0,
        clock: Callable[[], float] = time.perf_counter,
        memory: Callable[[], list[dict[str, int]]] = lambda: _memory(),
    ):
        self._batch_size, self._work, self._clock, self._memory = batch_size, work, clock, memory
        self._compile_seconds = compile_seconds
        self._spans: list[tuple[str, float, float]] = []
        self._lost: collections.defaultdict[str, float] = collections.defaultdict(float)
        self._step, self._mark = step, clock()
        self._ended = self._mark
        self._waiting: queue.Queue[tuple[Any, list[tuple[str, float, float]]] | None]
        self._waiting = queue.Queue()
        threading.Thread(target=self._watch, daemon=True).start()

    @contextlib.contextmanager
    def doing(self, reason: str) -> Iterator[None]:
        """Notes that the host does something else than starting updates."""
        start = self._clock()
        try:
            yield
        finally:
            self._spans.append((reason, start, self._clock()))

    def started(self, results: Any) -> None:
        """Notes that an update has been started, whose arrays come later."""
        self._waiting.put((results, self._spans))
        self._spans = []

    def row(self, step: int) -> dict[str, float]:
        """Returns the scalars of the interval that ends now, once its updates have ended.

        Args:
          step: updates done so far.

        Returns:
          Under `HARDWARE`: `seconds` (of the interval, with compilation), `step_ms` (without what
          was lost), `images_per_second`, `model_flops_utilization` (of the time without
          compilation, in [0, 1]), `memory_bytes` and `memory_peak_bytes` (of the fullest
          device of this process; the peak since it started), and `lost_to_...` (seconds) for each
          of `REASONS`. What is not known is left out.
        """
        self._waiting.join()
        now, count = self._clock(), step - self._step
        seconds = now - self._mark
        lost = sum(self._lost.values())
        row = {
            "seconds": seconds + self._compile_seconds,
            "step_ms": 1e3 * max(seconds - lost, 0.0) / count,
        }
        if self._batch_size:
            row["images_per_second"] = count * self._batch_size / max(seconds, 1e-9)
        if self._work:
            row["model_flops_utilization"] = self._work.utilization(self._step, step, seconds)
        row |= self._memory_row()
        self._lost["compilation"] = self._compile_seconds
        row |= {f"lost_to_{reason}": self._lost[reason] for reason in REASONS}
        self._compile_seconds, self._lost = 0.0, collections.defaultdict(float)
        self._step, self._mark = step, now
        return {f"{HARDWARE}{name}": value for name, value in row.items()}

    def close(self) -> None:
        """Ends the thread once the last update has ended."""
        self._waiting.put(None)

    def _watch(self) -> None:
        """Waits for each update, and counts what of the activities before it was lost."""
        while True:
            entry = self._waiting.get()
            try:
                if entry is None:
                    return
                results, spans = entry
                for reason, start, end in spans:
                    self._lost[reason] += max(0.0, end - max(start, self._ended))
                with contextlib.suppress(Exception):  # The loop meets it too, and reports it.
                    jax.block_until_ready(results)
                self._ended = self._clock()
            finally:
                self._waiting.task_done()

    def _memory_row(self) -> dict[str, float]:
        names = {"memory_bytes": "bytes_in_use", "memory_peak_bytes": "peak_bytes_in_use"}
        found = self._memory()
        known = {name: [s[key] for s in found if key in s] for name, key in names.items()}
        return {name: max(values) for name, values in known.items() if values}


def _memory() -> list[dict[str, int]]:
    return [device.memory_stats() or {} for device in jax.local_devices()]

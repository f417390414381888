"""Where a stage's scalars and pictures go: a JSON-lines file, TensorBoard, PNG files, W&B."""

import math
import tempfile
import time
from collections.abc import Mapping

import jax
import numpy as np
import tensorboardX
from etils import epath

from ganseg_jax import files
from ganseg_jax.files import resolve
from ganseg_jax.report.png import encode_png
from ganseg_jax.training import provenance
from ganseg_jax.training.watch import WandbRun


class Writer:
    """Writes `metrics.jsonl`, TensorBoard events and `samples/*.png` below `folder`.

    Only the first process writes; the others' calls do nothing. In a bucket, scalars and events
    arrive with each picture, with each `flush` and at the end.

    Args:
      folder: of the stage.
      from_step: rows of later steps, left by a run that was cut off, are dropped.
      wandb: project of Weights & Biases to write to as well; "" for none.
    """

    def __init__(self, folder: epath.PathLike, from_step: int = 0, wandb: str = ""):
        self._active = jax.process_index() == 0
        if not self._active:
            return
        self._folder = resolve(folder)
        path = self._folder / "metrics.jsonl"
        kept = [row for row in files.read_rows(path) if row["step"] <= from_step]
        self._rows = files.Rows(path, kept)
        # TensorBoard's writer opens local files alone: events of a bucket are copied there.
        self._local = tempfile.TemporaryDirectory() if files.is_remote(self._folder) else None
        events = self._local.name if self._local else str(self._folder)
        self._board = tensorboardX.SummaryWriter(events, purge_step=from_step + 1)
        self._wandb = WandbRun(self._folder, wandb) if wandb else None

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Writes one row of scalars."""
        if not self._active:
            return
        row = {"step": step, "time": round(time.time(), 3)}
        row |= {name: float(f"{value:.6g}") for name, value in values.items()}
        self._rows.add({k: v if math.isfinite(v) else str(v) for k, v in row.items()})
        for name, value in values.items():
            self._board.add_scalar(name, value, step)
        if self._wandb:
            self._wandb.scalars(step, values)

    def picture(self, step: int, name: str, picture: np.ndarray) -> None:
        """Writes a uint8 picture (H, W, 3) as `samples/NAME_STEP.png`."""
        if not self._active:
            return
        files.write_whole(self._folder / "samples" / f"{name}_{step:07d}.png", encode_png(picture))
        self._board.add_image(name, picture, step, dataformats="HWC")
        if self._wandb:
            self._wandb.picture(step, name, picture)
        self.flush()

    def flush(self) -> None:
        """Brings everything written so far to where it belongs."""
        if not self._active:
            return
        self._rows.flush()
        self._board.flush()
        if self._local:
            for events in epath.Path(self._local.name).iterdir():
                files.write_whole(self._folder / events.name, events.read_bytes())

    def close(self) -> None:
        """Flushes everything and ends."""
        if not self._active:
            return
        if self._wandb:
            self._wandb.close()
        self._board.close()
        self.flush()
        if self._local:
            self._local.cleanup()


def note_start(folder: epath.PathLike, step: int) -> None:
    """Adds a row to the stage's `starts.jsonl`: the step resumed from, and `provenance.facts`.

    Only the first process writes.
    """
    if jax.process_index():
        return
    path = resolve(folder) / "starts.jsonl"
    rows = files.read_rows(path)
    files.Rows(path, [*rows, {"step": step} | provenance.facts()])

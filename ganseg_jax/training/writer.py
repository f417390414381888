"""Where a stage's scalars and pictures go: a JSON-lines file, TensorBoard, PNG files."""

import json
import math
import time
from collections.abc import Mapping

import jax
import numpy as np
import tensorboardX
from etils import epath

from ganseg_jax.report.png import encode_png
from ganseg_jax.training import provenance


class Writer:
    """Writes `metrics.jsonl`, TensorBoard events and `samples/*.png` below `folder`.

    Only the first process writes; the others' calls do nothing.

    Args:
      folder: of the stage.
      from_step: rows of later steps, left by a run that was cut off, are dropped.
    """

    def __init__(self, folder: str | epath.Path, from_step: int = 0):
        self._active = jax.process_index() == 0
        if not self._active:
            return
        self._folder = epath.Path(folder)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._path = self._folder / "metrics.jsonl"
        kept = [row for row in read_rows(self._path) if row["step"] <= from_step]
        partial = self._folder / ".metrics.jsonl.partial"
        partial.write_text("".join(json.dumps(row) + "\n" for row in kept))
        partial.replace(self._path)
        # Local only: TensorBoard's own writer cannot open every kind of bucket.
        local = "://" not in str(self._folder)
        self._board = (
            tensorboardX.SummaryWriter(str(self._folder), purge_step=from_step + 1)
            if local
            else None
        )

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """One row of scalars."""
        if not self._active:
            return
        row = {"step": step, "time": round(time.time(), 3)}
        row |= {name: float(f"{value:.6g}") for name, value in values.items()}
        finite = {k: v if math.isfinite(v) else str(v) for k, v in row.items()}
        with self._path.open("a") as file:
            file.write(json.dumps(finite) + "\n")
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)

    def picture(self, step: int, name: str, picture: np.ndarray) -> None:
        """A uint8 picture (H, W, 3), as `samples/NAME_STEP.png`."""
        if not self._active:
            return
        folder = self._folder / "samples"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}_{step:07d}.png").write_bytes(encode_png(picture))
        if self._board is not None:
            self._board.add_image(name, picture, step, dataformats="HWC")

    def close(self) -> None:
        """Flushes everything."""
        if self._active and self._board is not None:
            self._board.close()


def note_start(folder: str | epath.Path, step: int) -> None:
    """Adds a line to the stage's `starts.jsonl`: `step` gone on from, `provenance.facts`.

    Only the first process writes.
    """
    if jax.process_index():
        return
    folder = epath.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "starts.jsonl").open("a") as file:
        file.write(json.dumps({"step": step} | provenance.facts()) + "\n")


def read_rows(path: str | epath.Path) -> list[dict]:
    """The rows of a JSON-lines file of a stage; a last line that was cut off is left out."""
    path = epath.Path(path)
    rows = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows

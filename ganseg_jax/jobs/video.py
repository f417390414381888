"""Segments videos: frames in, a video with the parts over the frames out."""

import csv
import io
import logging
import pathlib
from collections.abc import Iterator

import numpy as np
from etils import epath
from jaxtyping import UInt8
from tqdm import tqdm

from ganseg_jax import files, pixels
from ganseg_jax.errors import UserError
from ganseg_jax.files import resolve
from ganseg_jax.report import overlays
from ganseg_jax.segmenter import Segmenter

LOG = logging.getLogger(__name__)

BATCH_SIZE = 16
COLUMNS = ("frame", "seconds", "part", "name", "center_row", "center_col", "area")
"""Columns of the table beside a video; centres and areas in pixels of the frame."""

_UNKNOWN_RATE = 25.0


def segment_video(segmenter: Segmenter, source: epath.PathLike, output: epath.PathLike) -> int:
    """Writes `output / NAME_parts.mp4` (without sound) and `output / NAME_parts.csv`.

    Args:
      segmenter: finds the parts.
      source: a video that OpenCV reads.
      output: folder to write to.

    Returns:
      The number of frames.

    Raises:
      UserError: the video cannot be read, or a result cannot be written.
    """
    try:
        import cv2
    except ImportError as error:
        raise UserError("videos need: pip install opencv-python-headless") from error

    capture = cv2.VideoCapture(str(resolve(source)))
    try:
        frames = _frames(capture)
        first = next(frames, None)
        if first is None:
            raise UserError(f"{source} is no video that can be read")
        height, width = first[0].shape[:2]
        rate = capture.get(cv2.CAP_PROP_FPS) or _UNKNOWN_RATE
        expected = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) or None
        name = pathlib.PurePath(source).stem
        target = resolve(output) / f"{name}_parts.mp4"
        rows, count = [], 0
        with files.replacing(target) as temporary:
            writer = cv2.VideoWriter(
                str(temporary), cv2.VideoWriter.fourcc(*"mp4v"), rate, (width, height)
            )
            if not writer.isOpened():
                raise UserError(f"OpenCV cannot write {target}: is it built with FFmpeg?")
            progress = tqdm(total=expected, desc=name, unit=" frames", disable=None)
            with progress as bar:
                for batch in _with_first(first, frames):
                    drawn, entries = _segmented(segmenter, batch)
                    for frame in drawn:
                        writer.write(np.ascontiguousarray(frame[..., ::-1]))
                    for entry in entries:
                        rows += [(count, f"{count / rate:.3f}", *part) for part in entry]
                        count += 1
                    bar.update(len(batch))
            writer.release()
    finally:
        capture.release()
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([COLUMNS, *rows])
    files.write_whole(resolve(output) / f"{name}_parts.csv", buffer.getvalue())
    LOG.info("%d frames of %s segmented in %s", count, source, target)
    return count


def _frames(capture) -> Iterator[list[UInt8[np.ndarray, "h w 3"]]]:
    """Yields the frames in batches, RGB."""
    batch: list[np.ndarray] = []
    while True:
        found, frame = capture.read()
        if not found:
            break
        batch.append(np.ascontiguousarray(frame[..., ::-1]))
        if len(batch) == BATCH_SIZE:
            yield batch
            batch = []
    if batch:
        yield batch


def _with_first(first: list[np.ndarray], rest: Iterator[list[np.ndarray]]):
    yield first
    yield from rest


def _segmented(segmenter: Segmenter, batch: list[UInt8[np.ndarray, "h w 3"]]):
    """Returns frames with their parts drawn over them, and each frame's rows of the table."""
    height, width = batch[0].shape[:2]
    small = np.stack(
        [frame if not segmenter.image_size else pixels.shrink(frame, segmenter.image_size)
         for frame in batch]
    )  # fmt: skip
    # One compiled program does the last batch too.
    missing = BATCH_SIZE - len(batch)
    padded = np.concatenate([small, np.repeat(small[-1:], missing, 0)])
    probabilities = segmenter.probabilities_as_seen(padded)[: len(batch)]
    centers = Segmenter.centers_of(probabilities, height, width)
    drawn, entries = [], []
    for frame, given, center in zip(batch, probabilities, centers, strict=True):
        labels = pixels.most_probable(given, height, width, np.uint8)
        drawn.append(overlays.overlay_labels(frame[None], labels[None], segmenter.colors)[0])
        areas = np.bincount(labels.ravel(), minlength=given.shape[-1])
        names = segmenter.classes or [f"part {i}" for i in range(given.shape[-1])]
        entries.append(
            [
                (part, names[part], *(round(float(x), 2) for x in center[part - 1]), areas[part])
                for part in range(1, given.shape[-1])
            ]
        )
    return drawn, entries

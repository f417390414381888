"""Segments the photos of a folder that fills, as they come."""

import dataclasses
import json
import logging
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from etils import epath

from ganseg_jax import files
from ganseg_jax.data.folder import Photos, open_photos
from ganseg_jax.errors import UserError
from ganseg_jax.files import resolve
from ganseg_jax.jobs import outputs

LOG = logging.getLogger(__name__)


def segment_arriving(
    source: epath.PathLike,
    output: epath.PathLike,
    segment: Callable[[Photos, Mapping[str, Any]], dict[str, Any]],
    seconds: float = 1.0,
    rounds: int | None = None,
) -> int:
    """Segments photos that are new, again and again; those in `parts.json` are done.

    A photo is taken once its size has stayed the same from one look to the next.

    Args:
      source: the folder; it may be empty at first.
      output: folder of the results.
      segment: segments photos, given the entries of those before, and returns the content of
        `parts.json`.
      seconds: between two looks.
      rounds: looks to make; None for no end.

    Returns:
      The number of photos segmented.

    Raises:
      UserError: the source is no folder.
    """
    source, results = resolve(source), resolve(output) / "parts.json"
    if not source.is_dir():
        raise UserError(f"--watch needs a folder, and {source} is none")
    sizes: dict[str, int] = {}
    done, count = _read(results), 0
    LOG.info("watching %s (Ctrl+C ends)", source)
    while rounds is None or rounds > 0:
        rounds = None if rounds is None else rounds - 1
        found = _photos(source, output)
        known = done["photos"].keys() | done["skipped"].keys()
        names = [name for name in found.names if name not in known]
        now = {name: os.path.getsize(source / name) for name in names}
        ready = [name for name, size in now.items() if sizes.get(name) == size]
        sizes = now
        if ready:
            done = _with_new(done, ready, segment, dataclasses.replace(found, names=ready))
            # Again with all photos: the job has written its own alone.
            files.write_json(results, done, indent=1, ensure_ascii=False)
            files.write_whole(results.parent / "parts.csv", outputs.table(done))
            count += len(ready)
        time.sleep(seconds)
    return count


def _with_new(
    done: dict[str, Any],
    ready: list[str],
    segment: Callable[[Photos, Mapping[str, Any]], Any],
    photos: Photos,
) -> dict[str, Any]:
    try:
        made = segment(photos, done["photos"])
    except UserError as error:  # None of them can be read.
        LOG.warning("%s", error)
        made = {"photos": {}, "skipped": dict.fromkeys(ready, str(error))}
    return {kind: done[kind] | made[kind] for kind in ("photos", "skipped")}


def _read(results: epath.Path) -> dict[str, Any]:
    try:
        content = json.loads(results.read_text())
    except (OSError, ValueError):
        return {"photos": {}, "skipped": {}}
    return {"photos": content.get("photos", {}), "skipped": content.get("skipped", {})}


def _photos(source: epath.Path, output: epath.PathLike) -> Photos:
    try:
        with open_photos(source, output) as found:
            return found
    except UserError as error:
        if "has no images" not in str(error):
            raise
        return Photos([], source, str(source), {}, [])

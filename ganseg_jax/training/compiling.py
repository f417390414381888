"""Says before a long silence that it is compilation, and how long that took the last time."""

import json
import logging
import os
import pathlib

import jax

from ganseg_jax import files
from ganseg_jax.errors import UserError

LOG = logging.getLogger(__name__)

_FILE = "ganseg_seconds.json"


def announce(name: str, key: str) -> None:
    """Says that a stage is being compiled.

    Args:
      name: of the stage.
      key: what decides how long it takes, as far as that is known.
    """
    seconds = _read().get(key)
    before = "it may take a minute" if seconds is None else f"{seconds:.0f} s the last time"
    LOG.info("%s: compiling ... (%s)", name, before)


def note(key: str, seconds: float) -> None:
    """Keeps how long it took, beside the compiled programs; without such a folder, nowhere."""
    path = _path()
    if path is None or jax.process_index():
        return
    try:
        files.write_json(path, _read() | {key: round(seconds, 1)})
    except UserError:  # A cache that cannot be written to is no reason to stop.
        LOG.debug("cannot write %s", path)


def _path() -> pathlib.Path | None:
    folder = getattr(jax.config, "jax_compilation_cache_dir", None)
    if not folder or files.is_remote(folder) or not os.path.isdir(folder):
        return None
    return pathlib.Path(folder) / _FILE


def _read() -> dict[str, float]:
    path = _path()
    try:
        content = json.loads(path.read_text()) if path else {}
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}

"""Keeps the notes of libraries off the terminal."""

import contextlib
from collections.abc import Iterator

from absl import logging


@contextlib.contextmanager
def quiet(level: int) -> Iterator[None]:
    """Hides what libraries log through absl above a level while the block runs.

    Args:
      level: the least serious one still shown: `absl.logging.WARNING` or `absl.logging.ERROR`.
    """
    before = logging.get_verbosity()
    logging.set_verbosity(min(before, level))
    try:
        yield
    finally:
        logging.set_verbosity(before)

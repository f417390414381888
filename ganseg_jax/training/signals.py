"""The request to end: SIGTERM."""

import signal
from typing import Any


class TerminationFlag:
    """Becomes true when SIGTERM comes, so that the step in hand can be finished and saved."""

    def __enter__(self) -> "TerminationFlag":
        self._raised = False
        try:
            self._before = signal.signal(signal.SIGTERM, self._raise)
        except ValueError:  # Not the main thread: leave signals alone.
            self._before = None
        return self

    def _raise(self, *_: Any) -> None:
        self._raised = True

    def __bool__(self) -> bool:
        return self._raised

    def __exit__(self, *_: Any) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

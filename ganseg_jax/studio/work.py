"""One thread that computes for all open pages: small things first, the newest request wins."""

import asyncio
import heapq
import inspect
import itertools
import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future
from typing import Any

DRAG, REFINE, SAMPLE, PHOTO = range(4)
"""What is computed first, from the most to the least urgent."""


class Superseded(Exception):
    """Reports that a newer request of the same page has made this one useless."""


class Worker:
    """Runs jobs one at a time, on a thread of its own.

    A job is a function. If it is a generator function, others may run wherever it yields, and its
    returned value is the result. Of two jobs with the same key the older one, unless it has begun
    its last piece, ends with `Superseded`.
    """

    def __init__(self) -> None:
        self._order = itertools.count()
        self._queue: list[tuple[int, int, str | None, Any, Future]] = []
        self._newest: dict[str, int] = {}
        self._ready = threading.Condition()
        self._open = True
        self._thread = threading.Thread(target=self._serve, name="studio", daemon=True)
        self._thread.start()

    def submit(self, urgency: int, job: Callable[[], Any], key: str | None = None) -> Future:
        """Queues a job.

        Args:
          urgency: DRAG to PHOTO.
          job: a function or a generator function, without arguments.
          key: of the page and what it asks for; None if nothing replaces it.
        """
        future: Future = Future()
        with self._ready:
            if not self._open:
                raise RuntimeError("the worker has ended")
            order = next(self._order)
            if key is not None:
                self._newest[key] = order
            heapq.heappush(self._queue, (urgency, order, key, job, future))
            self._ready.notify()
        return future

    async def run(self, urgency: int, job: Callable[[], Any], key: str | None = None) -> Any:
        """Returns the result of a job; arguments are those of `submit`.

        Raises:
          Superseded: a newer one has come.
        """
        return await asyncio.wrap_future(self.submit(urgency, job, key))

    def close(self) -> None:
        """Ends the thread after the piece in hand; jobs that wait are dropped."""
        with self._ready:
            self._open = False
            waiting, self._queue = self._queue, []
            self._ready.notify()
        for entry in waiting:
            entry[-1].cancel()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            with self._ready:
                while self._open and not self._queue:
                    self._ready.wait()
                if not self._open:
                    return
                urgency, order, key, job, future = heapq.heappop(self._queue)
                stale = key is not None and self._newest.get(key) != order
            if stale:
                self._end(future, error=Superseded())
            elif future.cancelled() or not (
                future.running() or future.set_running_or_notify_cancel()
            ):
                continue
            else:
                self._piece(urgency, order, key, job, future)
            with self._ready:
                if key is not None and future.done() and self._newest.get(key) == order:
                    del self._newest[key]

    def _piece(self, urgency: int, order: int, key: str | None, job: Any, future: Future) -> None:
        try:
            made = job() if callable(job) else job
            if not inspect.isgenerator(made):
                self._end(future, made)
                return
            next(made)
        except StopIteration as end:
            self._end(future, end.value)
        except BaseException as error:  # noqa: BLE001  It is raised where the result is awaited.
            self._end(future, error=error)
        else:
            with self._ready:
                heapq.heappush(self._queue, (urgency, order, key, made, future))

    @staticmethod
    def _end(future: Future, result: Any = None, error: BaseException | None = None) -> None:
        if future.done():
            return
        if not future.running():
            future.set_running_or_notify_cancel()
        if future.cancelled():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)


Pieces = Generator[None, None, Any]
"""What a generator function gives as a job."""

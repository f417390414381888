"""Work done ahead by threads."""

import collections
import concurrent.futures
import os
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int | None = None
) -> Iterator[tuple[Item, Result]]:
    """Yields items with `function(item)`, in order, computed a few ahead by threads.

    An exception comes out where its item would.

    Args:
      function: called once for each item, by several threads.
      items: read as they are needed.
      threads: how many; None for one a core, at most 8.
    """
    count = threads or min(8, os.cpu_count() or 1)
    waiting: collections.deque[tuple[Item, concurrent.futures.Future[Result]]] = collections.deque()
    pool = concurrent.futures.ThreadPoolExecutor(count)
    try:
        for item in items:
            waiting.append((item, pool.submit(function, item)))
            if len(waiting) > 2 * count:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
    finally:
        pool.shutdown(cancel_futures=True)

"""Gets the next things ready in another thread while the present one is used."""

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")

# How many are made ready: one that waits and one in the making keep a steady consumer busy; more only hold memory.
AHEAD = 2

_END = object()


def read_ahead(items: Iterator[Item]) -> Generator[Item, None, None]:
    """The items in their order, each made before it is asked for, all by one thread.

    An error in the making is raised where its item would have come. Closing this generator ends the thread.
    """
    thread = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
    try:
        waiting = deque(thread.submit(next, items, _END) for _ in range(AHEAD))
        while (item := waiting.popleft().result()) is not _END:
            waiting.append(thread.submit(next, items, _END))
            yield item  # type: ignore[misc]
    finally:
        thread.shutdown(cancel_futures=True)

"""Work ahead of a consumer that takes items in order: by one thread, or by a pool of them."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, wait
from typing import Generic, Self, TypeVar

T = TypeVar("T")
R = TypeVar("R")

_POLL_S = 0.1


class _End:
    """Follows the last item, with the worker's exception if it raised one."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


class Prefetch(Generic[T]):
    """Runs an iterable in a thread of its own, with at most `depth` items waiting in the queue.

    An exception in the iterable reaches the consumer, with its traceback, after the items that
    came before it. Leaving the `with` block stops the thread and waits for it, so the iterable
    does not run on afterwards. A caller may `start` it before the block.
    """

    def __init__(self, items: Iterable[T], depth: int, name: str) -> None:
        self._items = items
        self._queue: queue.Queue[T | _End] = queue.Queue(depth)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def start(self) -> Self:
        """Starts the thread; entering the `with` block does this otherwise."""
        self._thread.start()
        return self

    def __enter__(self) -> Self:
        if not self._thread.ident:
            self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def items(self, while_waiting: Callable[[], None] = lambda: None) -> Iterator[T]:
        """The items in order. `while_waiting` is called every 0.1 s of waiting; it may raise."""
        while not isinstance(item := self._next(while_waiting), _End):
            yield item
        if item.error is not None:
            raise item.error

    def _next(self, while_waiting: Callable[[], None]) -> T | _End:
        while True:
            try:
                return self._queue.get(timeout=_POLL_S)
            except queue.Empty:
                while_waiting()

    def _work(self) -> None:
        iterator = iter(self._items)
        end = _End()
        try:
            for item in iterator:
                if not self._put(item):
                    break
        except BaseException as error:  # the consumer raises it
            end = _End(error)
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()
        self._put(end)

    def _put(self, item: T | _End) -> bool:
        while not self._stopping.is_set():
            try:
                self._queue.put(item, timeout=_POLL_S)
            except queue.Full:
                continue
            return True
        return False


def computed_ahead(
    function: Callable[[T], R], items: Iterable[T], pool: Executor, ahead: int
) -> Iterator[R]:
    """`function` of each item, in order, computed in the pool for up to `ahead` items to come.

    The items are taken in the consumer's thread. An exception reaches the consumer in its item's
    place. Nothing of it runs in the pool after the end, or after the generator was closed.
    """
    begun: deque[Future[R]] = deque()
    try:
        for item in items:
            begun.append(pool.submit(function, item))
            if len(begun) > ahead:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        for each in begun:
            each.cancel()
        wait(begun)

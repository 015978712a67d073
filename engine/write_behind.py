"""Work on finished items in a thread of its own, while the caller makes the next ones."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Generic, Self, TypeVar

from engine.errors import Cancelled

T = TypeVar("T")

_POLL_S = 0.1


class WriteBehind(Generic[T]):
    """Gives items to `work`, one after the other and in order, in a thread.

    What `work` raises reaches the caller at its next `put`, or at the end of the block; then no
    other item is begun. Leaving the `with` block waits for all items, after an error of the caller
    too. After a cancellation it only waits for the item that is at work, and drops the others.
    """

    def __init__(self, work: Callable[[T], None], depth: int, name: str) -> None:
        """At most `depth` items wait or are at work."""
        self._work = work
        self._depth = depth
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._unfinished: deque[Future[None]] = deque()
        self._failed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        cancelled = isinstance(error, Cancelled) or not isinstance(error, Exception | None)
        try:
            if error is None:
                self.finish()
        finally:
            self._pool.shutdown(cancel_futures=cancelled)

    def put(self, item: T, while_waiting: Callable[[], None] = lambda: None) -> None:
        """Takes an item, once there is a place for it.

        `while_waiting` is called every 0.1 s of waiting; it may raise.
        """
        self._wait_for_places(1, while_waiting)
        self._unfinished.append(self._pool.submit(self._do, item))

    def finish(self, while_waiting: Callable[[], None] = lambda: None) -> None:
        """Waits until no item is left. See `put`."""
        self._wait_for_places(self._depth, while_waiting)

    def _do(self, item: T) -> None:
        if self._failed:
            return
        try:
            self._work(item)
        except BaseException:
            self._failed = True
            raise

    def _wait_for_places(self, places: int, while_waiting: Callable[[], None]) -> None:
        unfinished = self._unfinished
        while unfinished and (unfinished[0].done() or len(unfinished) > self._depth - places):
            if wait([unfinished[0]], _POLL_S).done:
                unfinished.popleft().result()
            else:
                while_waiting()

"""Renders chunks in several threads of this process, which share its networks and its memory.

Codecs, kernels and x264 release the GIL, so the threads keep several cores busy. They start in no
time, where a process takes a second of imports. But a decoder that crashes takes all of them along.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Self, TypeAlias

from engine.errors import Cancelled
from engine.pipeline.chunk_queue import ChunkQueue
from engine.pipeline.executors import (
    RenderContext,
    RenderedChunk,
    RenderObserver,
    check_workers,
    render_in_turn,
)
from engine.timeline.chunks import Chunk
from engine.upscale.stage import LoadedStages

_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class LocalThreads:
    """An `Executor` that renders as many chunks at the same time as it has workers."""

    workers: int
    why: str = "asked for"
    name = "threads of this process"

    def __post_init__(self) -> None:
        check_workers(self.workers)

    def render(
        self, context: RenderContext, observer: RenderObserver
    ) -> Generator[RenderedChunk, None, None]:
        """See `Executor`. An error is not tried again: it reaches the caller, and ends the rest."""
        with _Threads(min(self.workers, len(context.job.chunks)), context) as threads:
            yield from threads.results(observer)


class _Rendered(int):
    """So many more frames were rendered."""


@dataclass(frozen=True, slots=True)
class _Ended:
    """A worker has ended, by this error where there is one."""

    error: BaseException | None = None


_Event: TypeAlias = _Rendered | str | RenderedChunk | _Ended
"""What a worker tells; a text is a warning."""


class _Threads:
    """The threads of one rendering. What they tell is heard in the thread of the caller."""

    def __init__(self, size: int, context: RenderContext) -> None:
        self._context = context
        self._waiting = ChunkQueue(context.job.chunks)
        self._lock = threading.Lock()
        """Of the queue of chunks."""
        self._stages = LoadedStages()
        self._events: SimpleQueue[_Event] = SimpleQueue()
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(place,), name=f"worker {place}", daemon=True)
            for place in range(size)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def results(self, observer: RenderObserver) -> Generator[RenderedChunk, None, None]:
        """The chunks as they are finished. Raises what a worker has raised."""
        working = len(self._threads)
        while working:
            match self._next_event():
                case _Rendered() as count:
                    observer.frames(count)
                case str() as warning:
                    observer.warn(warning)
                case RenderedChunk() as rendered:
                    yield rendered
                case _Ended(error):
                    working -= 1
                    if error is not None:
                        raise error
            observer.step()

    def _next_event(self) -> _Event | None:
        try:
            return self._events.get(timeout=_POLL_S)
        except Empty:
            return None

    def _work(self, place: int) -> None:
        try:
            chunks, observer = self._taken(place), _Worker(self._events, self._over)
            for rendered in render_in_turn(chunks, self._context, observer, self._stages):
                self._events.put(rendered)
        except BaseException as error:  # raised by the caller's thread
            self._events.put(_Ended(error))
        else:
            self._events.put(_Ended())

    def _taken(self, place: int) -> Iterator[tuple[Chunk, None]]:
        while not self._over.is_set():
            with self._lock:
                chunk = self._waiting.take(place)
            if chunk is None:
                return
            yield chunk, None


@dataclass(frozen=True, slots=True)
class _Worker:
    """The `RenderObserver` of one thread: passes all on, and stops it when all is over."""

    events: SimpleQueue[_Event]
    over: threading.Event

    def frames(self, count: int) -> None:
        self.events.put(_Rendered(count))
        self.step()

    def warn(self, warning: str) -> None:
        self.events.put(warning)

    def step(self) -> None:
        if self.over.is_set():
            raise Cancelled

"""A process that renders chunks for another one: what `processes.py` starts.

    orders ─▶ the numbers of chunks to render, one at a time
    events ◀─ `Frames`, `Warned`, and for each chunk `Finished` or `Failed`

The connection is the lifeline. Its other end closes when all is done, when the caller stops, or
when the caller's process is killed. Then this process ends. It imports little until it has its
orders, so that the sender does not wait.
"""

from __future__ import annotations

import pickle
import socket
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import TYPE_CHECKING, TypeAlias

from engine.child_process import watch_lifeline
from engine.errors import Cancelled, EngineError

if TYPE_CHECKING:
    from engine.pipeline.chunk_store import ChunkRecord
    from engine.pipeline.executors import RenderContext
    from engine.timeline.chunks import Chunk

SEND_INTERVAL_S = 0.1
"""Shortest time between two counts of frames."""

END_S = 1.0
"""How long a worker may take to end its work, once its connection is closed."""


@dataclass(frozen=True, slots=True)
class Frames:
    """`count` more frames of the chunk were rendered."""

    count: int


@dataclass(frozen=True, slots=True)
class Warned:
    """Something is not as it should be."""

    warning: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The chunk is in the chunk store. See `executors.RenderedChunk`."""

    record: ChunkRecord


@dataclass(frozen=True, slots=True)
class Failed:
    """The chunk could not be rendered."""

    error: EngineError
    """Why. An error of another kind is its cause."""
    trace: str = ""
    """The traceback of an error that the engine did not raise on purpose."""


WorkerEvent: TypeAlias = Frames | Warned | Finished | Failed


def serve(channel: socket.socket) -> None:
    """Renders what comes as orders over the channel until its other end is closed."""
    watch_lifeline(channel, END_S)
    with Connection(channel.detach()) as connection, suppress(EOFError):
        _Worker(connection, connection.recv_bytes()).work()


class _Worker:
    """One worker's life; the `RenderObserver` of its own rendering."""

    def __init__(self, connection: Connection, pickled: bytes) -> None:
        self._connection = connection
        self._pickled = pickled
        self._orders: SimpleQueue[int | None] = SimpleQueue()
        self._over = threading.Event()
        self._rendered = 0
        self._sent_s = 0.0

    def work(self) -> None:
        threading.Thread(target=self._listen, name="orders", daemon=True).start()
        while not self._over.is_set():
            try:
                self._render()
            except Cancelled:
                return
            except EngineError as error:
                self._send(Failed(error))
            except Exception as error:  # reported, and judged by the sender of the orders
                failure = EngineError(f"{type(error).__name__}: {error}".rstrip(": "))
                failure.__cause__ = error
                self._send(Failed(failure, traceback.format_exc()))

    def _render(self) -> None:
        """Renders until there are no more orders; what it raises is about the last one."""
        if (first := self._orders.get()) is None:
            return
        from engine.pipeline.executors import render_in_turn

        context = self._context
        chunks = self._ordered(first, context.job.chunks)
        for rendered in render_in_turn(chunks, context, self):
            self._send(Finished(rendered.record))

    @cached_property
    def _context(self) -> RenderContext:
        context: RenderContext = pickle.loads(self._pickled)
        return context

    def _ordered(self, first: int, chunks: Sequence[Chunk]) -> Iterator[tuple[Chunk, None]]:
        for order in chain([first], iter(self._orders.get, None)):
            self._rendered = 0
            yield chunks[order], None

    def _listen(self) -> None:
        try:
            while True:
                self._orders.put(self._connection.recv())
        except (EOFError, OSError):  # closed, here or there
            self._over.set()
            self._orders.put(None)

    def frames(self, count: int) -> None:
        self._rendered += count
        self.step()

    def warn(self, warning: str) -> None:
        self._send(Warned(warning))

    def step(self) -> None:
        if self._over.is_set():
            raise Cancelled
        if self._rendered and time.monotonic() - self._sent_s >= SEND_INTERVAL_S:
            self._send(Frames(self._rendered))
            self._rendered, self._sent_s = 0, time.monotonic()

    def _send(self, event: WorkerEvent) -> None:
        try:
            self._connection.send(event)
        except OSError as error:  # nobody listens any more
            raise Cancelled from error

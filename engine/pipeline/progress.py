"""What is reported while an export runs: one value, and the arithmetic of speed and ETA."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from engine.errors import Cancelled

T = TypeVar("T")

EMIT_INTERVAL_S = 0.1
"""Shortest time between two reports of the same phase."""


class Phase(StrEnum):
    """What an export is doing, in this order."""

    FRAMES = "frames"
    """The sound is mixed at the same time."""
    SOUND = "sound"
    """What is left of the sound, once all frames are rendered."""
    JOIN = "join"
    """Packets are copied into the final file, which is then read back."""
    DONE = "done"
    """The final file has its name."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The state of an export. Frames that were already rendered count as done."""

    phase: Phase
    frames_done: int
    frames_total: int
    fps: float
    """Frames rendered per second of this run; 0 before the first."""
    eta_s: float | None
    """Seconds until the last frame is rendered. None before the second frame of this run."""
    bottleneck: str | None = None
    """The stage that worked the longest in the chunks so far. None before the first is finished."""
    chunks_done: tuple[int, ...] = ()
    """Indices of the finished chunks, ascending."""


class ProgressMeter:
    """Counts frames, tells the listener at most every `EMIT_INTERVAL_S`, and stops on request.

    `should_stop` is asked at every step. When it says yes, the step raises `Cancelled`.
    """

    def __init__(
        self,
        frames_total: int,
        on_progress: Callable[[Progress], None] | None,
        should_stop: Callable[[], bool] | None,
        clock: StageClock | None = None,
    ) -> None:
        """`clock` tells the bottleneck."""
        self._total = frames_total
        self._listener = on_progress
        self._should_stop = should_stop
        self._clock = clock
        self._chunks_done: set[int] = set()
        self._phase = Phase.FRAMES
        self._kept = 0
        self._rendered = 0
        self._started_s: float | None = None
        self._emitted_s = float("-inf")

    def check(self) -> None:
        """Raises `Cancelled` when the caller wants to stop."""
        if self._should_stop is not None and self._should_stop():
            raise Cancelled

    def enter(self, phase: Phase) -> None:
        """Begins a phase, and tells the listener. Raises `Cancelled`."""
        self.check()
        self._phase = phase
        self._emit()

    def keep(self, frames: int) -> None:
        """Counts frames of a chunk that was already there."""
        self._kept += frames
        self.step()

    def finished(self, chunks: Iterable[int]) -> None:
        """Notes chunks, by index, that are finished."""
        self._chunks_done.update(chunks)

    def lost(self, chunks: Iterable[int], frames: int) -> None:
        """Takes back chunks, by index, and their frames: they are rendered again."""
        self._chunks_done.difference_update(chunks)
        self._kept -= frames

    def frames(self, count: int) -> None:
        """Counts frames that were rendered."""
        if self._started_s is None:
            self._started_s = time.monotonic()
        self._rendered += count
        self.step()

    def step(self) -> None:
        """Called often, from wherever time passes. Raises `Cancelled`."""
        self.check()
        if time.monotonic() - self._emitted_s >= EMIT_INTERVAL_S:
            self._emit()

    @property
    def fps(self) -> float:
        """Frames rendered per second of this run; 0 before the second frame."""
        if self._started_s is None or self._rendered < 2:
            return 0.0
        return self._rendered / max(time.monotonic() - self._started_s, 1e-6)

    def _emit(self) -> None:
        self._emitted_s = time.monotonic()
        if self._listener is None:
            return
        done, fps = self._kept + self._rendered, self.fps
        eta_s = (self._total - done) / fps if fps else None
        chunks_done = tuple(sorted(self._chunks_done))
        # before the first chunk is finished, only the sound has been clocked
        bottleneck = self._clock.busiest if self._clock and chunks_done else None
        self._listener(
            Progress(self._phase, done, self._total, fps, eta_s, bottleneck, chunks_done)
        )


class StageClock:
    """Seconds each stage was at work, by name. The busiest stage is the bottleneck.

    Stages overlap, so they add up to more than the wall time. A stage may run in several threads at
    once: in a dissolve, two clips are decoded.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._lock = threading.Lock()

    @property
    def busiest(self) -> str | None:
        """The stage that worked the longest. None where none has worked."""
        with self._lock:
            return max(self.seconds, key=self.seconds.__getitem__, default=None)

    def add(self, seconds: Mapping[str, float]) -> None:
        """Adds what another clock has measured."""
        for stage, each in seconds.items():
            self._add(stage, each)

    def taken(self) -> dict[str, float]:
        """The seconds since the last call; starts again at none."""
        with self._lock:
            seconds, self.seconds = self.seconds, {}
        return seconds

    @contextmanager
    def working(self, stage: str) -> Iterator[None]:
        """Adds the time the block takes."""
        start_s = time.perf_counter()
        try:
            yield
        finally:
            self._add(stage, time.perf_counter() - start_s)

    def timed(self, stage: str, items: Iterable[T]) -> Iterator[T]:
        """Passes on `items`, and adds the time that each one takes to come."""
        return self._each(stage, items, 1)

    def waited_for(self, stage: str, items: Iterable[T]) -> Iterator[T]:
        """Passes on `items`, and takes off the time that a timed stage waits for its input."""
        return self._each(stage, items, -1)

    def _each(self, stage: str, items: Iterable[T], sign: int) -> Iterator[T]:
        iterator = iter(items)
        while True:
            start_s = time.perf_counter()
            try:
                item = next(iterator)
            except StopIteration:
                return
            finally:
                self._add(stage, sign * (time.perf_counter() - start_s))
            yield item

    def _add(self, stage: str, seconds: float) -> None:
        with self._lock:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

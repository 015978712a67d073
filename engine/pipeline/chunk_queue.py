"""Which chunk a free worker takes next. Arithmetic only; the caller has the lock.

A *run* is a stretch of waiting chunks of which each shows a clip of the one before. A worker goes
on with its run, since its file is open and decoded up to there. When that is empty, it takes the
longest run that waits, or the second half of it where another worker is on it. So nobody is idle
while a chunk waits: the last worker ends at most one chunk after the first (R. L. Graham, "Bounds
on multiprocessing timing anomalies", 1969), and few GOPs are decoded twice.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from engine.timeline.chunks import Chunk


class ChunkQueue:
    """Chunks that wait for workers. Any hashable value names a worker."""

    def __init__(self, chunks: Sequence[Chunk]) -> None:
        self._runs: list[list[Chunk]] = []
        """None of them is empty."""
        self._run_of: dict[Hashable, list[Chunk]] = {}
        """The run that a worker is on; it may be empty by now."""
        self._put_back: list[Chunk] = []
        for before, chunk in zip([None, *chunks], chunks, strict=False):
            if before is not None and _continues(before, chunk):
                self._runs[-1].append(chunk)
            else:
                self._runs.append([chunk])

    def take(self, worker: Hashable) -> Chunk | None:
        """The next chunk of a worker; None where no chunk waits."""
        if self._put_back:
            return self._put_back.pop()
        run = self._run_of.get(worker) or self._another_run()
        if run is None:
            return None
        self._run_of[worker] = run
        chunk = run.pop(0)
        self._drop_if_empty(run)
        return chunk

    def put_back(self, chunk: Chunk) -> None:
        """Has a chunk that was taken wait again, before all others."""
        self._put_back.append(chunk)

    def _another_run(self) -> list[Chunk] | None:
        """The longest run, or its second half where a worker is on it."""
        run = max(self._runs, key=_frames, default=None)
        if run is None or not any(run is taken for taken in self._run_of.values()):
            return run
        kept = 0  # the worker on it has a chunk in hand, so it keeps the smaller half
        while _frames(run[: kept + 1]) <= _frames(run[kept + 1 :]):
            kept += 1
        half = run[kept:]
        del run[kept:]
        self._drop_if_empty(run)
        self._runs.append(half)
        return half

    def _drop_if_empty(self, run: list[Chunk]) -> None:
        if not run:
            self._runs = [each for each in self._runs if each is not run]


def _continues(before: Chunk, chunk: Chunk) -> bool:
    shown = {layer.clip.index for layer in before.layers}
    return any(layer.clip.index in shown for layer in chunk.layers)


def _frames(run: Sequence[Chunk]) -> int:
    return sum(len(chunk.frames) for chunk in run)

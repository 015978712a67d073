"""Gathers the chunks of an export: found, or rendered and given to the cache, and of one kind.

chunk store, cache ─▶ found   ┐
executor ─────────▶ rendered ─┴─▶ what does not join with the rest is rendered again
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace

from engine.errors import ChunkError, StoreError
from engine.pipeline.cache import ChunkCache
from engine.pipeline.chunk_store import ChunkRecord
from engine.pipeline.executors import (
    Executor,
    InProcess,
    RenderContext,
    RenderedChunk,
    RenderObserver,
)
from engine.pipeline.odd_chunks import commonest_kind, odd_chunks
from engine.pipeline.progress import ProgressMeter, StageClock
from engine.pipeline.report import FinishedChunks
from engine.timeline.chunks import Chunk
from engine.write_behind import WriteBehind

UNOFFERED_CHUNKS = 2
"""How many finished chunks may wait until the cache has them, the one it is given included."""

ODD = "their stream is not that of the others, as another encoder, driver or GPU may make it"


def collected_chunks(
    context: RenderContext,
    executor: Executor,
    cache: ChunkCache | None,
    observer: RenderObserver,
    meter: ProgressMeter,
    clock: StageClock,
) -> FinishedChunks:
    """Every chunk of the job. What is missing is rendered; a chunk that is shown twice, once.

    `meter` is told of what is done, `clock` of the stages' work. A cache that does not work is left
    out, with a warning. Raises what the executor raises, and `ChunkError` for chunks that do not
    join.
    """
    collection = _Collection(context, executor, cache, observer, meter, clock)
    return collection.of_one_kind(collection.finished())


@dataclass(slots=True)
class _Collection:
    context: RenderContext
    executor: Executor
    cache: ChunkCache | None
    observer: RenderObserver
    meter: ProgressMeter
    clock: StageClock
    _chunks: dict[str, Chunk] = field(init=False)
    """By digest."""
    _places: dict[str, list[int]] = field(init=False)
    """By digest: the indices of a chunk in the job."""

    def __post_init__(self) -> None:
        self._chunks = {chunk.digest: chunk for chunk in self.context.job.chunks}
        self._places = {digest: [] for digest in self._chunks}
        for chunk in self.context.job.chunks:
            self._places[chunk.digest].append(chunk.index)

    def finished(self) -> FinishedChunks:
        """All chunks, of whatever kind."""
        chunks = self._chunks
        found = {digest: rec for digest, chunk in chunks.items() if (rec := self._found(chunk))}
        for digest, record in found.items():
            for warning in record.warnings:
                self.observer.warn(warning)
            self.meter.finished(self._places[digest])
        missing = [chunk for digest, chunk in chunks.items() if digest not in found]
        frame_count = sum(len(chunk.frames) for chunk in self.context.job.chunks)
        self.meter.keep(frame_count - sum(len(chunk.frames) for chunk in missing))
        return FinishedChunks(found, self._rendered(self.executor, missing, self.observer))

    def of_one_kind(self, chunks: FinishedChunks) -> FinishedChunks:
        """Renders again what does not join with the rest.

        What was rendered in this run shows what the encoder makes now. So where nothing was, the
        first round may show that all the others are odd, and there are two by the executor. Its
        machines may differ. Then this process makes the odd chunks, and the second time all that
        are not like its own. Raises `ChunkError` where not even these fit each other.
        """
        found, rendered = dict(chunks.found), dict(chunks.rendered)
        here = InProcess()
        made_here: dict[str, ChunkRecord] = {}
        for executor in (self.executor, self.executor, here, here, None):
            made = {digest: each.record for digest, each in rendered.items()}
            odd = odd_chunks(found | made, commonest_kind((made_here or made or found).values()))
            if not odd:
                return FinishedChunks(found, rendered)
            if executor is None:
                break
            for digest, each in self._rendered_again(executor, odd).items():
                if executor is here:
                    made_here[digest] = each.record
                found.pop(digest, None)
                before = rendered.get(digest)
                failures = (*before.failures, ODD, *each.failures) if before else each.failures
                rendered[digest] = replace(each, failures=failures)
        raise ChunkError(
            f"{self.context.job.encoder.name} makes chunks here that do not join with each other"
        )

    def _found(self, chunk: Chunk) -> ChunkRecord | None:
        """The record of a chunk that an earlier run has left, here or in the cache."""
        self.observer.step()
        job = self.context.job
        record = self.context.chunk_store.find(chunk, job.encoder) or self._fetched(chunk)
        return None if record and job.strict and record.warnings else record

    def _fetched(self, chunk: Chunk) -> ChunkRecord | None:
        if chunk.is_copied:  # its packets are copied once more as fast as from a cache
            return None
        chunk_store = self.context.chunk_store
        with self._working_cache() as cache:
            if cache is not None and cache.fetch(chunk.digest, chunk_store.folder):
                if record := chunk_store.find(chunk, self.context.job.encoder):
                    return record
                cache.forget(chunk.digest)
                self.observer.warn(
                    f"chunk {chunk.digest} in the cache is not whole; it is rendered again"
                )
        return None

    def _rendered(
        self, executor: Executor, chunks: Iterable[Chunk], observer: RenderObserver
    ) -> dict[str, RenderedChunk]:
        """Renders the chunks, and gives each to the cache meanwhile."""
        rendered = {}
        with (
            WriteBehind(self._offer, UNOFFERED_CHUNKS, "offer chunks") as offers,
            closing(executor.render(self.context.only(chunks), observer)) as results,
        ):
            for each in results:
                rendered[each.chunk.digest] = each
                self.clock.add(each.record.stage_s)
                self.meter.finished(self._places[each.chunk.digest])
                with self._working_cache() as cache:
                    if cache is not None and not each.chunk.is_copied:
                        offers.put(each.chunk.digest, self.observer.step)
            with self._working_cache():
                offers.finish(self.observer.step)
        return rendered

    def _rendered_again(self, executor: Executor, odd: Sequence[str]) -> dict[str, RenderedChunk]:
        """Forgets the chunks and renders them."""
        chunks = [self._chunks[digest] for digest in odd]
        frames = ", ".join(f"{chunk.frames}" for chunk in chunks)
        self.observer.warn(f"frames {frames} are rendered again: {ODD}")
        for chunk in chunks:
            self.context.chunk_store.forget(chunk)
            with self._working_cache() as cache:
                if cache is not None:
                    cache.forget(chunk.digest)
            self.meter.lost(self._places[chunk.digest], len(chunk.frames))
        observer = _Again(self.observer, self.meter, sum(len(chunk.frames) for chunk in chunks))
        again = self._rendered(executor, chunks, observer)
        observer.frames(observer.left)
        return again

    def _offer(self, digest: str) -> None:
        """Called in a thread of its own."""
        if (cache := self.cache) is not None:
            cache.offer(digest, self.context.chunk_store.folder)

    @contextmanager
    def _working_cache(self) -> Iterator[ChunkCache | None]:
        """The cache while it works. An export never fails because of its cache."""
        try:
            yield self.cache
        except StoreError as error:
            self.cache = None
            self.observer.warn(f"the cache is left out from here on: {error}")


@dataclass(slots=True)
class _Again:
    """The `RenderObserver` of chunks that were counted before: not every executor tells of these
    frames once more."""

    observer: RenderObserver
    meter: ProgressMeter
    left: int
    """Frames that are not done again yet."""

    def frames(self, count: int) -> None:
        count = min(count, self.left)
        self.left -= count
        self.meter.keep(count)

    def warn(self, warning: str) -> None:
        self.observer.warn(warning)

    def step(self) -> None:
        self.observer.step()

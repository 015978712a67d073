"""What renders the chunks of an export: this process, its threads, or other processes.

An executor is given a job with the chunks that are missing, and gives each back once it is
finished, in any order. It decides where and when, never what: the frames given to the encoder are
the same wherever they are rendered. The exporter plans, mixes the sound, joins and reports.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from itertools import zip_longest
from queue import SimpleQueue
from typing import Protocol

from engine.errors import EngineError
from engine.pipeline.chunk_pictures import OpenSources
from engine.pipeline.chunk_store import ChunkRecord, ChunkStore
from engine.pipeline.job import RenderJob
from engine.pipeline.render import render_chunk
from engine.storage.cached_store import cached
from engine.storage.objects import ObjectReader
from engine.timeline.chunks import Chunk
from engine.upscale.stage import LoadedStages


@dataclass(frozen=True, slots=True)
class RenderContext:
    """A job, where its chunks are put, and where its sources come from."""

    job: RenderJob
    chunk_store: ChunkStore
    source_store: ObjectReader | None = None
    """Holds the sources that are objects. What a `CachedStore` has counted goes to the records."""

    def only(self, chunks: Iterable[Chunk]) -> RenderContext:
        """The same context with only these chunks of its job."""
        return RenderContext(self.job.only(chunks), self.chunk_store, self.source_store)


class RenderObserver(Protocol):
    """Follows the work, from the thread that takes the results. Each call may raise to stop."""

    def frames(self, count: int) -> None:
        """`count` more frames were rendered. None is counted twice, not when it is retried."""

    def warn(self, warning: str) -> None:
        """Something is not as it should be. The same warning may come more than once."""

    def step(self) -> None:
        """Called at least a few times a second, whatever happens."""


@dataclass(frozen=True, slots=True)
class RenderedChunk:
    """A chunk that is finished: checked, and recorded in the chunk store."""

    chunk: Chunk
    record: ChunkRecord
    failures: tuple[str, ...] = ()
    """Why earlier attempts at it failed."""


class Executor(Protocol):
    """Renders chunks, somewhere."""

    @property
    def name(self) -> str:
        """What the report calls it."""

    @property
    def why(self) -> str:
        """Why so many workers, for the report; asked when all is rendered."""

    @property
    def workers(self) -> int:
        """How many chunks it renders at the same time, at most."""

    def render(
        self, context: RenderContext, observer: RenderObserver
    ) -> Generator[RenderedChunk, None, None]:
        """Renders every chunk of the job into its chunk store, and yields each once it is there.

        The chunks have different digests. Closing the generator, or an error that passes through
        it, leaves nothing running behind. What was finished is kept. Raises `EngineError`.
        """


def check_workers(workers: int) -> None:
    """Raises `EngineError` for a number of workers that renders nothing."""
    if workers < 1:
        raise EngineError(f"{workers} workers render nothing; there must be one")


@dataclass(frozen=True, slots=True)
class InProcess:
    """One chunk after the other, in this process."""

    why: str = "asked for"
    name = "this process"
    workers = 1

    def render(
        self, context: RenderContext, observer: RenderObserver
    ) -> Generator[RenderedChunk, None, None]:
        """See `Executor`. An error is not tried again: it reaches the caller at once."""
        chunks = context.job.chunks
        return render_in_turn(zip_longest(chunks, chunks[1:]), context, observer)


def render_in_turn(
    chunks: Iterable[tuple[Chunk, Chunk | None]],
    context: RenderContext,
    observer: RenderObserver,
    stages: LoadedStages | None = None,
) -> Generator[RenderedChunk, None, None]:
    """Renders chunks of the job one by one, with sources that stay open between them.

    With each chunk comes the one that will follow, where it is known: its pictures are begun
    meanwhile. `stages` keeps loaded networks beyond this call. Raises what `render_chunk` does.
    """
    job, loaded = context.job, stages or LoadedStages()
    # warnings come from the readers' threads, by chunk, and are passed on from the caller's
    heard: dict[str, SimpleQueue[str]] = {}
    store = cached(context.source_store)
    with OpenSources(
        lambda clip: loaded.of(job.stage_of(clip)),
        strict=job.strict,
        on_warning=lambda chunk, text: heard.setdefault(chunk.digest, SimpleQueue()).put(text),
        store=store,
    ) as sources:
        for chunk, following in chunks:
            start_s = time.monotonic()
            telling = _ChunkObserver(observer, heard.setdefault(chunk.digest, SimpleQueue()), [])
            encoded = render_chunk(
                chunk,
                sources,
                job.encoder,
                context.chunk_store.path(chunk),
                following=following,
                on_frame=telling.frame,
                while_waiting=telling.step,
            )
            telling.pass_on()
            for event in loaded.events:
                observer.warn(event)
            record = context.chunk_store.accept(
                chunk,
                encoded,
                job.encoder,
                warnings=telling.warnings,
                render_s=round(time.monotonic() - start_s, 3),
                source_bytes_read=store.taken_bytes() if store else 0,
            )
            yield RenderedChunk(chunk, record)


@dataclass(frozen=True, slots=True)
class _ChunkObserver:
    """Passes on what the rendering of one chunk has to tell."""

    observer: RenderObserver
    heard: SimpleQueue[str]
    warnings: list[str]

    def frame(self) -> None:
        self.pass_on()
        self.observer.frames(1)

    def step(self) -> None:
        self.pass_on()
        self.observer.step()

    def pass_on(self) -> None:
        while not self.heard.empty():
            self.warnings.append(self.heard.get())
            self.observer.warn(self.warnings[-1])

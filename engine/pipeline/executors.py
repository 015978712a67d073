"""What renders the chunks of an export: this process, or several.

An executor is given the chunks that are missing and gives them back as they finish, in any order.
It decides where and when, never what: the frames given to the encoder are the same whoever renders.
Planning, the sound, the join and the report are the exporter's.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from queue import SimpleQueue
from typing import Protocol

from engine.media.encoders import Encoder
from engine.pipeline.chunk_store import ChunkRecord, ChunkStore
from engine.pipeline.progress import StageClock
from engine.pipeline.render import Sources, render_chunk
from engine.timeline.chunks import Chunk
from engine.upscale.stage import Upscaler


@dataclass(frozen=True, slots=True)
class Kit:
    """What every chunk of an export is rendered with, and where it is put."""

    upscaler: Upscaler
    encoder: Encoder
    chunk_store: ChunkStore
    strict: bool
    """Any damage in a source is an error."""


class Watch(Protocol):
    """Who follows the work, from the thread that takes the results. Each call may raise to stop."""

    def frames(self, count: int) -> None:
        """`count` more frames were rendered; none is counted twice, not when it is retried."""

    def warn(self, warning: str) -> None:
        """Something is not as it should be; the same warning may come more than once."""

    def step(self) -> None:
        """Called at least a few times a second, whatever happens."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """A chunk that lies finished, checked and recorded among the parts."""

    chunk: Chunk
    record: ChunkRecord
    stage_s: Mapping[str, float]
    """Seconds each stage was at work for it, by name; stages overlap."""
    decoded_frames: int
    """Pictures that decoders put out for it, those on the way to a wanted one included."""
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
        self, chunks: Sequence[Chunk], kit: Kit, watch: Watch
    ) -> Generator[Rendered, None, None]:
        """Renders every chunk into `kit.chunk_store`, and yields each once it is there.

        `chunks` have different digests. Closing the generator, or an error that passes through it,
        leaves nothing running behind; what was finished is kept. Raises `EngineError`.
        """


class InProcess:
    """One chunk after the other, in this process."""

    name = "this process"
    why = "nothing else was asked for"
    workers = 1

    def render(
        self, chunks: Sequence[Chunk], kit: Kit, watch: Watch
    ) -> Generator[Rendered, None, None]:
        """See `Executor`. An error is not tried again: the caller is told at once."""
        return render_in_turn(zip_longest(chunks, chunks[1:]), kit, watch)


def render_in_turn(
    chunks: Iterable[tuple[Chunk, Chunk | None]], kit: Kit, watch: Watch
) -> Generator[Rendered, None, None]:
    """Renders chunks one by one with sources that stay open between them.

    With each chunk comes the one that will follow, where it is known: its clips are opened
    meanwhile. Raises what `render_chunk` does.
    """
    clock = StageClock()
    # warnings come from the readers' threads and are told from the caller's
    heard: SimpleQueue[str] = SimpleQueue()
    decoded_frames = 0
    with Sources(strict=kit.strict, on_warning=heard.put) as sources:
        for chunk, following in chunks:
            start_s = time.monotonic()
            turn = _Turn(watch, heard, [])
            encoded = render_chunk(
                chunk,
                sources,
                kit.upscaler,
                kit.encoder,
                kit.chunk_store.path(chunk),
                following=following,
                clock=clock,
                on_frame=turn.frame,
                while_waiting=turn.step,
            )
            turn.tell()
            for event in kit.upscaler.events:
                watch.warn(event)
            record = kit.chunk_store.accept(
                chunk,
                encoded,
                kit.encoder,
                warnings=turn.warnings,
                render_s=round(time.monotonic() - start_s, 3),
            )
            before, decoded_frames = decoded_frames, sources.decoded_frames
            yield Rendered(chunk, record, clock.taken(), decoded_frames - before)


@dataclass(frozen=True, slots=True)
class _Turn:
    """The rendering of one chunk, as it is told."""

    watch: Watch
    heard: SimpleQueue[str]
    warnings: list[str]

    def frame(self) -> None:
        self.tell()
        self.watch.frames(1)

    def step(self) -> None:
        self.tell()
        self.watch.step()

    def tell(self) -> None:
        while not self.heard.empty():
            self.warnings.append(self.heard.get())
            self.watch.warn(self.warnings[-1])

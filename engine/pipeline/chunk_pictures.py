"""The pictures of chunks, made ahead of their encoder by threads that end with the chunk.

    decode ─▶ [crops] ─▶ crop / upscale ─▶ [pictures] ─▶ the encoder's thread
    a thread per layer     a thread per layer

The brackets are bounded queues. The threads of the chunk that follows are started with those of the
present one. What they need is opened, loaded and tried at once. Then each goes on where a thread of
the present chunk ends, so that nothing is idle at the border of two chunks while the encoder still
finishes the first.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from engine.geometry import Framing, Size
from engine.media.frame_sink import FrameSink
from engine.pipeline.clip_readers import ClipReaders
from engine.pipeline.progress import StageClock
from engine.pixels.blend import Compositor
from engine.pixels.picture import FinishedPicture
from engine.prefetch import Prefetch
from engine.storage.objects import ObjectReader
from engine.timeline.chunks import Chunk
from engine.timeline.plan import Layer, PlannedClip
from engine.upscale.stage import FrameCrop, Stage

PREFETCH_CROPS = 6
PREFETCH_PICTURES = 4
_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class EncoderInput:
    """How the pictures of one chunk get to its encoder."""

    compositor: Compositor
    sink: FrameSink
    route: tuple[str, ...]
    """What the report says of it."""


class OpenSources:
    """The open files behind a sequence of chunks, and the threads that make their pictures.

    Every chunk must be the one that was said to follow the chunk before it, if any was.
    """

    def __init__(
        self,
        stage_of: Callable[[PlannedClip], Stage],
        *,
        strict: bool,
        on_warning: Callable[[Chunk, str], None],
        store: ObjectReader | None = None,
    ) -> None:
        """`stage_of` gives the loaded stage of a clip, to any thread; `store` holds sources that
        are objects. `on_warning` is called from any thread, with the chunk that is being made."""
        self.stage_of = stage_of
        self.on_warning = on_warning
        self.readers = ClipReaders(
            lambda clip: stage_of(clip).frames_on, strict=strict, store=store
        )
        self._ahead: ChunkPictures | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.abandon()
        self.readers.close_all_but(set())

    def start(
        self,
        chunk: Chunk,
        size: Size,
        input_for: Callable[[Chunk], EncoderInput],
        *,
        following: Chunk | None,
    ) -> ChunkPictures:
        """Starts to make the chunk's pictures, unless that has begun, and those of the next.

        `input_for` is called in another thread. Closes the files that neither chunk shows.
        """
        present, self._ahead = self._ahead, None
        if present is None:
            present = ChunkPictures(chunk, self, size, input_for, after=None)
        assert present.chunk is chunk, "another chunk was said to follow"
        shown = [*chunk.layers, *(following.layers if following else ())]
        self.readers.close_all_but({layer.clip.index for layer in shown})
        if following is not None:
            self._ahead = ChunkPictures(following, self, size, input_for, after=present)
        return present

    def abandon(self) -> None:
        """Makes every reader stop at its next packet, and ends the threads of the next chunk."""
        self.readers.abandon()
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None


class ChunkPictures:
    """The pictures of one chunk in the making, by two threads per layer."""

    def __init__(
        self,
        chunk: Chunk,
        sources: OpenSources,
        size: Size,
        input_for: Callable[[Chunk], EncoderInput],
        *,
        after: ChunkPictures | None,
    ) -> None:
        """Starts the threads. Where they would disturb those of `after`, they wait for them."""
        self.chunk = chunk
        self.clock = StageClock()
        """Of the stages that were at work for this chunk."""
        self._routes: dict[int, str] = {}
        self._decoded_frames: dict[int, int] = {}
        self._sources = sources
        self._size = size
        self._input: Future[EncoderInput] = Future()
        self._decoded = {layer.clip.index: threading.Event() for layer in chunk.layers}
        """By clip: set once its reader is free."""
        self._made = {layer.clip.index: threading.Event() for layer in chunk.layers}
        """By clip: set once its stage has given the last picture."""
        with ExitStack() as stack:
            self._layers = [
                self._layer_pictures(stack, layer, after, input_for if place == 0 else None)
                for place, layer in enumerate(chunk.layers)
            ]
            self._threads = stack.pop_all()

    @property
    def routes(self) -> tuple[str, ...]:
        """Where the frames of its layers were decoded, once the threads have ended."""
        return tuple(self._routes[clip] for clip in self._decoded if clip in self._routes)

    @property
    def decoded_frames(self) -> int:
        """Pictures that were decoded for it, wanted or not, once the threads have ended."""
        return sum(self._decoded_frames.values())

    def close(self) -> None:
        """Ends the threads and waits for them. Where they wait, the readers must be abandoned."""
        self._threads.close()

    def encoder_input(self, while_waiting: Callable[[], None]) -> EncoderInput:
        """How the pictures get to the encoder, once that is known.

        `while_waiting` is called every 0.1 s until then; it may raise.
        """
        while not wait([self._input], _POLL_S).done:
            while_waiting()
        return self._input.result()

    def layers(self, while_waiting: Callable[[], None]) -> list[Iterator[FinishedPicture]]:
        """The pictures of each layer. See `encoder_input`."""
        return [layer.items(while_waiting) for layer in self._layers]

    def _layer_pictures(
        self,
        stack: ExitStack,
        layer: Layer,
        after: ChunkPictures | None,
        input_for: Callable[[Chunk], EncoderInput] | None,
    ) -> Prefetch[FinishedPicture]:
        index = layer.clip.index
        crops = Prefetch(self._crops(layer, after), PREFETCH_CROPS, f"decode clip {index}")
        stack.enter_context(crops)
        pictures = self._pictures(layer, crops, after, input_for)
        return stack.enter_context(Prefetch(pictures, PREFETCH_PICTURES, f"crop clip {index}"))

    def _crops(self, layer: Layer, after: ChunkPictures | None) -> Iterator[FrameCrop]:
        readers, clip = self._sources.readers, layer.clip
        try:
            if after is not None and clip.index in after._decoded:
                self._wait_for(after._decoded[clip.index])
            before = readers.decoded_frames(clip)
            yield from self.clock.timed("decode", readers.crops(layer, self._warn))
            self._decoded_frames[clip.index] = readers.decoded_frames(clip) - before
            if (route := readers.route(clip)) is not None:
                self._routes[clip.index] = route
        finally:
            self._decoded[clip.index].set()

    def _pictures(
        self,
        layer: Layer,
        crops: Prefetch[FrameCrop],
        after: ChunkPictures | None,
        input_for: Callable[[Chunk], EncoderInput] | None,
    ) -> Iterator[FinishedPicture]:
        clip, clock = layer.clip, self.clock
        try:
            if input_for is not None:
                self._decide(input_for)
            compositor = self._input.result().compositor
            stage = self._sources.stage_of(clip)
            for each in after._made.values() if after is not None else ():
                self._wait_for(each)  # the network's memory is for one chunk at a time
            pictures = stage.pictures(
                clock.waited_for("crop", crops.items()),
                clip.source,
                Framing(self._size, clip.fit, clip.rotation_deg),
            )
            yield from clock.timed("crop", map(compositor.to_device, pictures))
        finally:
            self._made[clip.index].set()

    def _decide(self, input_for: Callable[[Chunk], EncoderInput]) -> None:
        try:
            self._input.set_result(input_for(self.chunk))
        except BaseException as error:
            self._input.set_exception(error)

    def _warn(self, warning: str) -> None:
        self._sources.on_warning(self.chunk, warning)

    def _wait_for(self, event: threading.Event) -> None:
        while not event.wait(_POLL_S):
            self._sources.readers.check()

"""Renders one chunk: decode, crop, blend and encode overlap; memory holds a few frames.

    decode ─▶ [shots] ─▶ crop / upscale ─▶ [pictures] ─▶ blend ─▶ encode
    a thread per layer     a thread per layer             the caller's thread

Brackets are bounded queues. An exception in any stage reaches the caller with its traceback.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Self

from engine.chunks import Chunk
from engine.compose import blend
from engine.decode import FrameReader
from engine.encode import ChunkWriter, EncodedChunk, Encoder
from engine.errors import Cancelled, ChunkError, DecodeError
from engine.files import whole_file
from engine.geometry import Size
from engine.picture import Picture
from engine.plan import Layer, PlannedClip
from engine.prefetch import Prefetch
from engine.progress import StageClock
from engine.upscale.upscaler import Shot, Upscaler

PREFETCH_SHOTS = 6
PREFETCH_PICTURES = 4


class Sources:
    """The open files of a run of chunks, one reader per clip.

    A reader stays open between chunks, so that a long GOP is decoded once and not again for every
    chunk; those of clips that are over are closed.
    """

    def __init__(self, *, strict: bool, on_warning: Callable[[str], None]) -> None:
        self._strict = strict
        self._on_warning = on_warning
        self._readers: dict[int, FrameReader] = {}
        self._started: dict[Layer, Prefetch[Shot]] = {}
        self._abandoned = threading.Event()
        self.decoded_frames = 0
        """Pictures passed by the readers that are closed, wanted or not."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.abandon()
        for index in list(self._readers):
            self._close(index)

    def shots(self, layer: Layer, clock: StageClock) -> Prefetch[Shot]:
        """The layer's shots, decoded ahead in a thread; already under way after `look_ahead`."""
        return self._started.pop(layer, None) or self._prefetch(layer, clock)

    def look_ahead(self, present: Chunk, following: Chunk, clock: StageClock) -> None:
        """Starts to decode what `following` shows of clips that `present` does not.

        So opening a file and decoding up to its first wanted frame does not hold up the encoder.
        Closes the readers of clips that neither shows.
        """
        at_work = {layer.clip.index for layer in present.layers}
        wanted = at_work | {layer.clip.index for layer in following.layers}
        for index in self._readers.keys() - wanted:
            self._close(index)
        for layer in following.layers:
            if layer.clip.index not in at_work:
                self._started[layer] = self._prefetch(layer, clock).start()

    def abandon_on_error(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,  # noqa: ARG002 - the signature of __exit__
        traceback: TracebackType | None,  # noqa: ARG002
    ) -> None:
        """Called like `__exit__` before threads are waited for that may be far from an end."""
        if kind is not None:
            self.abandon()

    def abandon(self) -> None:
        """Makes every reader stop at its next packet, and waits for those decoding ahead."""
        self._abandoned.set()
        for prefetch in self._started.values():
            with prefetch:
                pass
        self._started.clear()

    def _prefetch(self, layer: Layer, clock: StageClock) -> Prefetch[Shot]:
        shots = _shots(layer, self._reader(layer.clip))
        name = f"decode clip {layer.clip.index}"
        return Prefetch(clock.timed("decode", shots), PREFETCH_SHOTS, name)

    def _reader(self, clip: PlannedClip) -> FrameReader:
        if clip.index not in self._readers:
            self._readers[clip.index] = FrameReader(
                clip.source,
                strict=self._strict,
                on_warning=lambda warning: self._on_warning(f"clips[{clip.index}]: {warning}"),
                on_step=self._check,
            )
        return self._readers[clip.index]

    def _check(self) -> None:
        if self._abandoned.is_set():
            raise Cancelled

    def _close(self, index: int) -> None:
        reader = self._readers.pop(index)
        self.decoded_frames += reader.decoded_frames
        reader.close()


def render_chunk(
    chunk: Chunk,
    sources: Sources,
    upscaler: Upscaler,
    encoder: Encoder,
    destination: Path,
    *,
    following: Chunk | None,
    clock: StageClock,
    on_frame: Callable[[], None],
    while_waiting: Callable[[], None],
) -> EncodedChunk:
    """Renders `chunk` into one MP4 file with a single closed GOP, whole or not at all.

    `following` is the chunk that will be rendered next with the same `sources`, if any: its clips
    are opened meanwhile. `on_frame` is called before each frame is encoded, `while_waiting` every
    0.1 s in which none comes; both may raise to stop. Raises `DecodeError`, `UpscalerError`,
    `EncoderError`, or `ChunkError` when a frame is missing; `sources` is of no use after that.
    """
    with whole_file(destination) as path, ExitStack() as stack:
        layers = [
            _layer_pictures(stack, layer, sources, upscaler, encoder.size, clock)
            for layer in chunk.layers
        ]
        stack.push(sources.abandon_on_error)
        sources.look_ahead(chunk, following or chunk, clock)
        pictures = [layer.items(while_waiting) for layer in layers]
        with ChunkWriter(encoder, path) as writer:
            for picture in _blended(chunk, pictures, encoder.size, clock):
                on_frame()
                with clock.working("encode"):
                    writer.write(picture)
        if writer.result.frame_count != len(chunk.frames):
            raise ChunkError(
                f"frames {chunk.frames} gave {writer.result.frame_count} pictures, "
                f"not {len(chunk.frames)}"
            )
    return writer.result


def _layer_pictures(
    stack: ExitStack,
    layer: Layer,
    sources: Sources,
    upscaler: Upscaler,
    size: Size,
    clock: StageClock,
) -> Prefetch[Picture]:
    """The layer's pictures, made ahead of the consumer by two threads that end with `stack`."""
    shots = stack.enter_context(sources.shots(layer, clock))
    clip = layer.clip
    pictures = upscaler.for_scale(clip.scale).pictures(
        clock.waited_for("crop", shots.items()), clip.source, size, clip.fit
    )
    return stack.enter_context(
        Prefetch(clock.timed("crop", pictures), PREFETCH_PICTURES, f"crop clip {clip.index}")
    )


def _shots(layer: Layer, reader: FrameReader) -> Iterator[Shot]:
    """The layer's frames with their rectangles; a source frame shown several times is decoded
    once."""
    shown = [(pts, list(rows)) for pts, rows in groupby(range(len(layer.pts)), layer.pts.item)]
    frames = reader.frames([pts for pts, _ in shown])
    try:
        for frame, (_, rows) in zip(frames, shown, strict=True):
            for row in rows:
                yield Shot(frame, layer.rects[row])
    except DecodeError as error:
        raise error.of_clip(layer.clip.index) from error


def _blended(
    chunk: Chunk, layers: Sequence[Iterator[Picture]], size: Size, clock: StageClock
) -> Iterator[Picture]:
    """One picture per frame. A single layer of full weight is passed on as it is."""
    out = Picture(size)
    for row in range(len(chunk.frames)):
        pictures = [next(layer, None) for layer in layers]
        present = [picture for picture in pictures if picture is not None]
        if len(present) < len(layers):
            raise ChunkError(f"frame {chunk.frames.start + row} lacks a layer")
        weights = [float(layer.weights[row]) for layer in chunk.layers]
        if weights == [1.0]:
            yield present[0]
            continue
        with clock.working("blend"):
            blend(list(zip(present, weights, strict=True)), out)
        yield out

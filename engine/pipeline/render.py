"""Renders one chunk. Decoding, cropping, blending and encoding overlap. Memory holds a few frames.

    decode ─▶ [crops] ─▶ crop / upscale ─▶ [pictures] ─▶ blend ─▶ encode
    a thread per layer     a thread per layer             the caller's thread

The brackets are bounded queues. An exception in any stage reaches the caller with its traceback.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Self

from engine.errors import Cancelled, ChunkError, DecodeError
from engine.files import whole_file
from engine.geometry import Framing, Size
from engine.media.chunk_writer import ChunkWriter, EncodedChunk
from engine.media.encoders import Encoder
from engine.media.frame_sink import FrameSink, HostFrameSink
from engine.media.video_decoder import DeviceDecoder
from engine.media.video_reader import FrameReader
from engine.pipeline.progress import StageClock
from engine.pixels.blend import Compositor, HostCompositor
from engine.pixels.picture import FinishedPicture
from engine.prefetch import Prefetch
from engine.storage.cached_store import cached
from engine.storage.objects import ObjectReader
from engine.timeline.chunks import Chunk
from engine.timeline.plan import Layer, PlannedClip
from engine.upscale.stage import FrameCrop, Stage

PREFETCH_CROPS = 6
PREFETCH_PICTURES = 4


class OpenSources:
    """The open files behind a sequence of chunks, one reader per clip.

    A reader stays open between chunks, so that a long GOP is decoded once and not again for every
    chunk. It is closed after the last chunk that shows its clip.
    """

    def __init__(
        self,
        stage_of: Callable[[PlannedClip], Stage],
        *,
        strict: bool,
        on_warning: Callable[[str], None],
        store: ObjectReader | None = None,
        clock: StageClock | None = None,
    ) -> None:
        """`stage_of` gives the loaded stage of a clip; `store` holds sources that are objects."""
        self.stage_of = stage_of
        self.clock = clock or StageClock()
        self._strict = strict
        self._on_warning = on_warning
        self._store = cached(store)
        self._readers: dict[int, FrameReader] = {}
        self._refusals: dict[int, str] = {}
        """Why clips are not decoded on the device of their stage."""
        self._started: dict[Layer, Prefetch[FrameCrop]] = {}
        self._abandoned = threading.Event()
        self._decoded_frames = 0

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

    @property
    def decoded_frames(self) -> int:
        """Pictures that the readers have decoded so far, wanted or not."""
        return self._decoded_frames + sum(each.decoded_frames for each in self._readers.values())

    def crops(self, layer: Layer) -> Prefetch[FrameCrop]:
        """The layer's frames and rectangles, decoded ahead in a thread.

        The thread runs already where `look_ahead` has started it.
        """
        return self._started.pop(layer, None) or self._prefetch(layer)

    def route(self, clip: PlannedClip) -> str:
        """Where the frames of a clip of the present chunk are decoded; if on the CPU, why."""
        index = clip.index
        device = self._readers[index].device
        if device is None:
            why = self._readers[index].device_failure or self._refusals[index]
            return f"clips[{index}]: decoded on the CPU ({why}), one upload per frame"
        decoder = "NVDEC" if device.startswith("cuda") else "the CPU"
        return f"clips[{index}]: decoded by {decoder}, frames stay on {device}"

    def look_ahead(self, present: Chunk, following: Chunk) -> None:
        """Starts to decode what `following` shows of clips that `present` does not.

        So the encoder does not wait while a file is opened and decoded up to its first wanted
        frame. Closes the readers of clips that neither shows.
        """
        at_work = {layer.clip.index for layer in present.layers}
        wanted = at_work | {layer.clip.index for layer in following.layers}
        for index in self._readers.keys() - wanted:
            self._close(index)
        for layer in following.layers:
            if layer.clip.index not in at_work:
                self._started[layer] = self._prefetch(layer).start()

    def abandon_on_error(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,  # noqa: ARG002 - the signature of __exit__
        traceback: TracebackType | None,  # noqa: ARG002
    ) -> None:
        """An `__exit__` that abandons the readers where there is an error.

        Otherwise an `ExitStack` would wait for threads that may be far from their end.
        """
        if kind is not None:
            self.abandon()

    def abandon(self) -> None:
        """Makes every reader stop at its next packet, and waits for those decoding ahead."""
        self._abandoned.set()
        for prefetch in self._started.values():
            with prefetch:
                pass
        self._started.clear()

    def _prefetch(self, layer: Layer) -> Prefetch[FrameCrop]:
        crops = _crops(layer, self._reader(layer.clip))
        name = f"decode clip {layer.clip.index}"
        return Prefetch(self.clock.timed("decode", crops), PREFETCH_CROPS, name)

    def _reader(self, clip: PlannedClip) -> FrameReader:
        if clip.index not in self._readers:
            device = self.stage_of(clip).frames_on
            self._readers[clip.index] = FrameReader(
                clip.source,
                strict=self._strict,
                on_warning=lambda warning: self._on_warning(f"clips[{clip.index}]: {warning}"),
                on_step=self._check,
                device=None if device is None else self._surface_decoder(clip, device),
                store=self._store,
            )
        return self._readers[clip.index]

    def _surface_decoder(self, clip: PlannedClip, device: str) -> DeviceDecoder | None:
        """What decodes the clip on the device. None where the CPU must."""
        from engine.gpu.checks import decoding_refusal
        from engine.gpu.nvdec import SurfaceDecoder

        refusal = decoding_refusal(
            clip.source, device, strict=self._strict, store=self._store, on_step=self._check
        )
        if refusal is not None:
            self._refusals[clip.index] = refusal
            return None
        return SurfaceDecoder(device)

    def _check(self) -> None:
        if self._abandoned.is_set():
            raise Cancelled

    def _close(self, index: int) -> None:
        reader = self._readers.pop(index)
        self._decoded_frames += reader.decoded_frames
        reader.close()


def render_chunk(
    chunk: Chunk,
    sources: OpenSources,
    encoder: Encoder,
    destination: Path,
    *,
    following: Chunk | None,
    on_frame: Callable[[], None],
    while_waiting: Callable[[], None],
) -> EncodedChunk:
    """Renders `chunk` into one MP4 file of closed GOPs, whole or not at all.

    `following` is the chunk that will be rendered next with the same `sources`, if any. Its clips
    are opened during this one. `on_frame` is called before each frame is encoded, `while_waiting`
    every 0.1 s in which none comes. Both may raise to stop. Raises `DecodeError`, `UpscalerError`,
    `EncoderError`, or `ChunkError` when a frame is missing. `sources` must not be used after that.
    """
    compositor, sink, encoded = _encoder_input(chunk, sources, encoder)
    with (
        whole_file(destination) as path,
        finished_pictures(
            chunk,
            sources,
            encoder.size,
            compositor,
            following=following,
            while_waiting=while_waiting,
        ) as pictures,
    ):
        with ChunkWriter(encoder, path, sink) as writer:
            for picture in pictures:
                on_frame()
                with sources.clock.working("encode"):
                    writer.write(picture)
        if writer.result.frame_count != len(chunk.frames):
            raise ChunkError(
                f"frames {chunk.frames} gave {writer.result.frame_count} pictures, "
                f"not {len(chunk.frames)}"
            )
    decoded = [
        sources.route(layer.clip)
        for layer in chunk.layers
        if sources.stage_of(layer.clip).frames_on is not None
    ]
    return replace(writer.result, route=(*decoded, *encoded))


@contextmanager
def finished_pictures(
    chunk: Chunk,
    sources: OpenSources,
    size: Size,
    compositor: Compositor,
    *,
    following: Chunk | None,
    while_waiting: Callable[[], None],
) -> Iterator[Iterator[FinishedPicture]]:
    """The pictures of `chunk` as they are given to its encoder, one per frame, in order.

    Threads make them ahead of the caller until the block ends. Each is valid until the next one is
    taken. Parameters and errors as `render_chunk`.
    """
    with ExitStack() as stack:
        layers = [
            _layer_pictures(stack, layer, sources, size, compositor) for layer in chunk.layers
        ]
        stack.push(sources.abandon_on_error)
        sources.look_ahead(chunk, following or chunk)
        yield _blended(
            chunk, [layer.items(while_waiting) for layer in layers], compositor, sources.clock
        )


def _encoder_input(
    chunk: Chunk, sources: OpenSources, encoder: Encoder
) -> tuple[Compositor, FrameSink, list[str]]:
    """How the chunk's pictures get to the encoder, and what the report says of it."""
    stages = [sources.stage_of(layer.clip) for layer in chunk.layers]
    device = next((stage.frames_on for stage in stages if stage.frames_on is not None), None)
    if device is None:
        return HostCompositor(), HostFrameSink(), []
    from engine.gpu.checks import encoder_input

    compositor, sink, how = encoder_input(encoder, device)
    return compositor, sink, [how]


def _layer_pictures(
    stack: ExitStack,
    layer: Layer,
    sources: OpenSources,
    size: Size,
    compositor: Compositor,
) -> Prefetch[FinishedPicture]:
    """The layer's pictures, made ahead of the consumer by two threads that end with `stack`."""
    crops = stack.enter_context(sources.crops(layer))
    clip, clock = layer.clip, sources.clock
    pictures = sources.stage_of(clip).pictures(
        clock.waited_for("crop", crops.items()),
        clip.source,
        Framing(size, clip.fit, clip.rotation_deg),
    )
    placed = clock.timed("crop", map(compositor.to_device, pictures))
    return stack.enter_context(Prefetch(placed, PREFETCH_PICTURES, f"crop clip {clip.index}"))


def _crops(layer: Layer, reader: FrameReader) -> Iterator[FrameCrop]:
    """The layer's frames with their rectangles. A frame shown several times is decoded once."""
    shown = [(pts, list(rows)) for pts, rows in groupby(range(len(layer.pts)), layer.pts.item)]
    frames = reader.surfaces([pts for pts, _ in shown])
    try:
        for frame, (_, rows) in zip(frames, shown, strict=True):
            for row in rows:
                yield FrameCrop(frame, layer.rects[row])
    except DecodeError as error:
        raise error.of_clip(layer.clip.index) from error


def _blended(
    chunk: Chunk,
    layers: Sequence[Iterator[FinishedPicture]],
    compositor: Compositor,
    clock: StageClock,
) -> Iterator[FinishedPicture]:
    """One picture per frame. A single layer of full weight is passed on as it is."""
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
            picture = compositor.blend(list(zip(present, weights, strict=True)))
        yield picture

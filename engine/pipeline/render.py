"""Renders one chunk. Decoding, cropping, blending and encoding overlap. Memory holds a few frames.

Other threads make the pictures of its layers (`chunk_pictures.py`). The caller's thread blends and
encodes them, and never opens or tries anything. An exception in any stage reaches the caller with
its traceback.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from engine.errors import ChunkError
from engine.files import whole_file
from engine.geometry import Size
from engine.media.chunk_writer import ChunkWriter, EncodedChunk
from engine.media.encoders import Encoder
from engine.media.frame_sink import HostFrameSink
from engine.pipeline.chunk_pictures import ChunkPictures, EncoderInput, OpenSources
from engine.pixels.blend import Compositor, HostCompositor
from engine.pixels.picture import FinishedPicture
from engine.timeline.chunks import Chunk


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

    `following` is the chunk that will be rendered next with the same `sources`, if any. Its
    pictures are begun during this one. `on_frame` is called before each frame is encoded,
    `while_waiting` every 0.1 s in which none comes. Both may raise to stop. Raises `DecodeError`,
    `UpscalerError`, `EncoderError`, or `ChunkError` when a frame is missing. `sources` must not be
    used after that.
    """

    def input_for(each: Chunk) -> EncoderInput:
        return _encoder_input(each, sources, encoder)

    with whole_file(destination) as path:
        with _started(chunk, sources, encoder.size, input_for, following) as made:
            given = made.encoder_input(while_waiting)
            with ChunkWriter(encoder, path, given.sink) as writer:
                for picture in _blended(made, given.compositor, while_waiting):
                    on_frame()
                    with made.clock.working("encode"):
                        writer.write(picture)
        if writer.result.frame_count != len(chunk.frames):
            raise ChunkError(
                f"frames {chunk.frames} gave {writer.result.frame_count} pictures, "
                f"not {len(chunk.frames)}"
            )
    return replace(
        writer.result,
        route=(*made.routes, *given.route),
        decoded_frames=made.decoded_frames,
        stage_s=made.clock.taken(),
    )


@contextmanager
def finished_pictures(
    chunk: Chunk, sources: OpenSources, size: Size
) -> Iterator[Iterator[FinishedPicture]]:
    """The pictures of `chunk` as they are given to an encoder in host memory, in order.

    Threads make them ahead of the caller until the block ends. Each is valid until the next one is
    taken. Errors as `render_chunk`.
    """

    def on_host(_: Chunk) -> EncoderInput:
        return EncoderInput(HostCompositor(), HostFrameSink(), ())

    def go_on() -> None: ...

    with _started(chunk, sources, size, on_host, None) as made:
        yield _blended(made, made.encoder_input(go_on).compositor, go_on)


@contextmanager
def _started(
    chunk: Chunk,
    sources: OpenSources,
    size: Size,
    input_for: Callable[[Chunk], EncoderInput],
    following: Chunk | None,
) -> Iterator[ChunkPictures]:
    """The chunk's pictures in the making. Their threads end with the block."""
    made = sources.start(chunk, size, input_for, following=following)
    try:
        yield made
    except BaseException:
        sources.abandon()  # else the threads, which may be far from their end, would be waited for
        raise
    finally:
        made.close()


def _encoder_input(chunk: Chunk, sources: OpenSources, encoder: Encoder) -> EncoderInput:
    """How the chunk's pictures get to the encoder. A device is tried first."""
    stages = [sources.stage_of(layer.clip) for layer in chunk.layers]
    device = next((stage.frames_on for stage in stages if stage.frames_on is not None), None)
    if device is None:
        return EncoderInput(HostCompositor(), HostFrameSink(), ())
    from engine.gpu.checks import encoder_input

    compositor, sink, how = encoder_input(encoder, device)
    return EncoderInput(compositor, sink, (how,))


def _blended(
    made: ChunkPictures,
    compositor: Compositor,
    while_waiting: Callable[[], None],
) -> Iterator[FinishedPicture]:
    """One picture per frame. A single layer of full weight is passed on as it is."""
    chunk, layers = made.chunk, made.layers(while_waiting)
    for row in range(len(chunk.frames)):
        pictures = [next(layer, None) for layer in layers]
        present = [picture for picture in pictures if picture is not None]
        if len(present) < len(layers):
            raise ChunkError(f"frame {chunk.frames.start + row} lacks a layer")
        weights = [float(layer.weights[row]) for layer in chunk.layers]
        if weights == [1.0]:
            yield present[0]
            continue
        with made.clock.working("blend"):
            picture = compositor.blend(list(zip(present, weights, strict=True)))
        yield picture

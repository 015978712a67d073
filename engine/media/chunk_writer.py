"""Writes the pictures of one chunk as an MP4 that is a run of closed GOPs. Knows no plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import av
from av.error import FFmpegError
from av.video.frame import PictureType
from av.video.stream import VideoStream

from engine.errors import ChunkError, EncoderError
from engine.files import file_url
from engine.media.encoders import Encoder, configure
from engine.media.frame_sink import FrameSink, HostFrameSink
from engine.pixels.picture import FinishedPicture


@dataclass(frozen=True, slots=True)
class EncodedChunk:
    """What a chunk was written from."""

    frame_count: int
    frame_hash: str | None
    """Hash of the frames given to the encoder, in order; None where packets were copied."""
    route: tuple[str, ...] = ()
    """Where the frames of each layer, and those for the encoder, were copied and why. Empty where
    no device took part."""
    decoded_frames: int = 0
    """Pictures that decoders put out for it, those on the way to a wanted one included."""
    stage_s: Mapping[str, float] = field(default_factory=dict)
    """Seconds each stage was at work for it, by name. Stages overlap."""


class ChunkWriter:
    """Encodes pictures into one MP4: closed GOPs, one for every `key_interval` frames.

    A context manager. Leaving it without an error finishes the file; then `result` is set. Raises
    `EncoderError` when the encoder refuses a frame.
    """

    def __init__(self, encoder: Encoder, path: Path, sink: FrameSink | None = None) -> None:
        """`sink` makes the encoder's frames of this one chunk, by default in host memory."""
        self._encoder = encoder
        self._path = path
        self._sink = sink or HostFrameSink()
        self._count = 0

    def __enter__(self) -> Self:
        self._container = av.open(file_url(self._path), "w", format="mp4")
        stream = self._container.add_stream(self._encoder.name, rate=self._encoder.fps)
        assert isinstance(stream, VideoStream)
        configure(stream.codec_context, self._encoder)
        stream.codec_context.pix_fmt = self._sink.pixel_format
        stream.time_base = 1 / self._encoder.fps
        self._stream = stream
        return self

    def write(self, picture: FinishedPicture) -> None:
        """Encodes the next frame. The picture may be reused afterwards.

        Raises `ValueError` for a picture of another size than the encoder's.
        """
        if picture.size != self._encoder.size:
            raise ValueError(f"the encoder takes {self._encoder.size}, not {picture.size}")
        try:
            frame = self._sink.frame(picture)
        except (FFmpegError, RuntimeError) as error:  # RuntimeError: torch's, of CUDA too
            raise EncoderError(f"frame {self._count} cannot be handed over: {error}") from error
        frame.pts, frame.time_base = self._count, 1 / self._encoder.fps
        is_key = self._count % self._encoder.key_interval == 0  # `forced-idr` makes it an IDR
        frame.pict_type = PictureType.I if is_key else PictureType.NONE
        self._mux(frame)
        self._count += 1

    def _mux(self, frame: av.VideoFrame | None) -> None:
        try:
            packets = self._stream.encode(frame)
        except FFmpegError as error:
            at = "the end" if frame is None else f"frame {self._count}"
            raise EncoderError(f"{self._encoder.name} failed at {at}: {error.strerror}") from error
        for packet in packets:
            assert packet.pts is not None
            self._sink.released(packet.pts)
        self._container.mux(packets)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._mux(None)
                self._frame_hash = self._sink.frame_hash()
        finally:
            self._container.close()

    @property
    def result(self) -> EncodedChunk:
        """What was written, once the file is finished. Raises `ChunkError` for no frames."""
        if self._count == 0:
            raise ChunkError("a chunk without frames was written")
        return EncodedChunk(self._count, self._frame_hash)

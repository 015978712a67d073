"""Guards of what reads and writes films: decoding, encoding, joining."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest

from bench.footage import Footage
from bench.guard import Guard
from bench.program import ffmpeg
from engine.geometry import Size
from engine.media.chapters import ChapterMark
from engine.media.chunk_writer import ChunkWriter
from engine.media.encoders import THREADS, Encoder, choose_encoder
from engine.media.inspect import read_chunk
from engine.media.join import join
from engine.media.probe import probe
from engine.media.video_reader import FrameReader
from engine.pixels.picture import Picture

FRAMES, SIZE, FPS = 60, Size(1920, 1080), Fraction(30)
JOINED_CHUNKS = 30


def test_decode(guard: Guard, footage: Footage) -> None:
    path = footage.path("first")
    source = probe(path)
    wanted = source.frame_pts[:FRAMES].tolist()

    def ours() -> None:
        with FrameReader(source, strict=True, on_warning=print) as reader:
            assert sum(1 for _ in reader.frames(wanted)) == FRAMES

    guard("decode", ours, lambda: list(decoded(path)), peer="bare PyAV", rounds=7)


def test_encode(guard: Guard, footage: Footage, tmp_path: Path) -> None:
    """The engine copies and hashes every picture on its way."""
    frames = list(decoded(footage.path("first")))
    pictures = [picture_of(frame) for frame in frames]
    encoder = choose_encoder(SIZE, FPS, name="libx264")

    def ours() -> None:
        written(pictures, encoder, tmp_path / "ours.mp4")

    guard("encode", ours, lambda: bare_libx264(frames, encoder, tmp_path / "bare.mp4"),
          peer="bare libx264", rounds=3)  # fmt: skip
    sizes = [(tmp_path / name).stat().st_size for name in ("ours.mp4", "bare.mp4")]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.01)


def test_join(guard: Guard, footage: Footage, tmp_path: Path) -> None:
    """The engine checks chunks before, and reads the film back afterwards."""
    pictures = [picture_of(frame) for frame in decoded(footage.path("first"))]
    chunk = tmp_path / "chunk.mp4"
    written(pictures, choose_encoder(SIZE, FPS, name="libx264"), chunk)
    listed = tmp_path / "list.txt"
    listed.write_text(f"file '{chunk}'\n" * JOINED_CHUNKS)
    count = JOINED_CHUNKS * FRAMES

    def ours() -> None:
        join(
            [read_chunk(chunk) for _ in range(JOINED_CHUNKS)],
            None,
            [ChapterMark("all", Fraction(0), count / FPS)],
            tmp_path / "ours.mp4",
            frame_count=count,
            sample_count=0,
            fps=FPS,
            size=SIZE,
            on_step=lambda: None,
        )

    def concatenated() -> None:
        ffmpeg("-f", "concat", "-safe", "0", "-i", listed, "-c", "copy",
               "-movflags", "+faststart", tmp_path / "theirs.mp4")  # fmt: skip

    guard("join", ours, concatenated, peer="ffmpeg's concat", rounds=5)


def decoded(path: Path) -> Iterator[av.VideoFrame]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_type = "AUTO"
        yield from islice(container.decode(stream), FRAMES)


def picture_of(frame: av.VideoFrame) -> Picture:
    return Picture(SIZE, np.asarray(frame.to_ndarray(format="yuv420p"), np.uint8))


def written(pictures: list[Picture], encoder: Encoder, path: Path) -> None:
    with ChunkWriter(encoder, path) as writer:
        for picture in pictures:
            writer.write(picture)


def bare_libx264(frames: list[av.VideoFrame], encoder: Encoder, path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options=dict(encoder.options))
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = SIZE.width, SIZE.height, "yuv420p"
        stream.codec_context.thread_count, stream.codec_context.thread_type = THREADS, "AUTO"
        for number, frame in enumerate(frames):
            frame.pts, frame.time_base, frame.pict_type = number, 1 / FPS, 0
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))

"""Frames for the encoder: NV12 in one piece, its pitch, its lifetime; and the device checks.

The device is the CPU; libx264 takes NV12 as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction as F
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from engine.errors import Cancelled, EncoderError
from engine.geometry import Size
from engine.gpu import encoder_frames
from engine.gpu.checks import _difference, decoding_refusal, encoder_input, encoding_refusal
from engine.gpu.encoder_frames import PITCH_BYTES, DeviceFrameSink
from engine.media.chunk_writer import ChunkWriter
from engine.media.encoders import choose_encoder
from engine.media.frame_sink import FrameSink, HostFrameSink
from engine.media.probe import probe
from engine.pixels.picture import FinishedPicture, Picture
from engine.source import Colour, Matrix, SourceInfo, Transfer
from tests.clips import numbered_clip
from tests.engine.gpu.test_frames import noise

SIZE = Size(102, 66)
CPU = torch.device("cpu")


def samples(frame: av.VideoFrame) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Y and CbCr as FFmpeg sees them, without the padding of their rows."""
    y, uv = (
        np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[:, : SIZE.width]
        for plane in frame.planes
    )
    return y, uv


def assert_holds(frame: av.VideoFrame, picture: Picture) -> None:
    y, uv = samples(frame)
    np.testing.assert_array_equal(y, picture.y)
    np.testing.assert_array_equal(uv[:, 0::2], picture.u)
    np.testing.assert_array_equal(uv[:, 1::2], picture.v)


def address(plane: Any) -> int:
    return int(np.frombuffer(memoryview(plane), np.uint8).__array_interface__["data"][0])


def test_a_frame_is_nv12_in_one_piece_with_a_pitch() -> None:
    picture = noise(1, SIZE)
    frame = DeviceFrameSink(SIZE, CPU).frame(picture)
    assert (frame.format.name, frame.width, frame.height) == ("nv12", SIZE.width, SIZE.height)
    assert [plane.line_size for plane in frame.planes] == [PITCH_BYTES] * 2
    y, uv = (address(plane) for plane in frame.planes)
    assert uv - y == PITCH_BYTES * SIZE.height
    assert_holds(frame, picture)


def test_no_frame_changes_before_its_packet_is_out() -> None:
    """Packets in the order of B-frames: a slot is reused only when all before it are out."""
    sink = DeviceFrameSink(SIZE, CPU)
    pictures = [noise(index, SIZE) for index in range(12)]
    frames = [sink.frame(picture) for picture in pictures[:6]]
    where = [address(frame.planes[0]) for frame in frames]
    assert len(set(where)) == 6
    for index in (0, 3, 2):
        sink.released(index)
    assert address(sink.frame(pictures[6]).planes[0]) == where[0]
    seventh = sink.frame(pictures[7])
    assert address(seventh.planes[0]) not in where  # frame 1 is still with the encoder
    sink.released(1)
    again = [address(sink.frame(picture).planes[0]) for picture in pictures[8:11]]
    assert set(again) == set(where[1:4])
    for frame, picture in zip(frames[4:], pictures[4:6], strict=True):
        assert_holds(frame, picture)


def test_a_frame_outlives_its_sink() -> None:
    picture = noise(3, SIZE)
    sink = DeviceFrameSink(SIZE, CPU)
    frame = sink.frame(picture)
    del sink
    others = [DeviceFrameSink(SIZE, CPU).frame(noise(9, SIZE)) for _ in range(8)]
    assert len(others) == 8
    assert_holds(frame, picture)


def test_both_sinks_give_the_encoder_the_same_pictures(tmp_path: Path) -> None:
    """Without B-frames libx264 writes the same bytes for the same pictures."""
    encoder = choose_encoder(SIZE, F(30), name="libx264", options={"bf": "0"})
    results = []
    sinks: list[FrameSink] = [HostFrameSink(), DeviceFrameSink(SIZE, CPU)]
    for name, sink in zip(("a.mp4", "b.mp4"), sinks, strict=True):
        with ChunkWriter(encoder, tmp_path / name, sink) as writer:
            for index in range(20):
                writer.write(noise(index, SIZE))
        results.append(writer.result)
    assert results[0] == results[1]
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_slots_are_as_many_as_the_encoder_holds(tmp_path: Path) -> None:
    encoder = choose_encoder(SIZE, F(30), name="libx264", preset="ultrafast")
    sink = DeviceFrameSink(SIZE, CPU)
    with ChunkWriter(encoder, tmp_path / "a.mp4", sink) as writer:
        for index in range(60):
            writer.write(noise(index, SIZE))
    assert len(sink._free) < 20 and not sink._held


def test_what_cannot_be_handed_over_names_the_frame(tmp_path: Path) -> None:
    class Shut(HostFrameSink):
        def frame(self, picture: FinishedPicture) -> av.VideoFrame:  # noqa: ARG002
            raise RuntimeError("CUDA error: out of memory")

    encoder = choose_encoder(SIZE, F(30), name="libx264")
    with (
        pytest.raises(EncoderError, match="frame 0 cannot be handed over: CUDA error"),
        ChunkWriter(encoder, tmp_path / "a.mp4", Shut()) as writer,
    ):
        writer.write(noise(0, SIZE))


def test_the_trial_of_an_encoder() -> None:
    encoder = choose_encoder(SIZE, F(30), name="libx264")
    assert encoding_refusal(encoder, "cpu") is None
    _, sink, how = encoder_input(encoder, "cpu")
    assert isinstance(sink, DeviceFrameSink) and how == "encoded on cpu, no copy"
    _, sink, how = encoder_input(encoder, "cuda:0")
    assert isinstance(sink, HostFrameSink)
    assert how == "encoded from host memory (libx264: asked for), one download per frame"


@pytest.mark.parametrize(
    "spoiled",
    [
        lambda slot: slot.copy_(slot.flip(0)),
        lambda slot: slot.copy_(slot.roll(8, 1)),
        lambda slot: slot[SIZE.height :].copy_(slot[SIZE.height :].roll(1, 1)),
    ],
    ids=["rows", "pitch", "chroma"],
)
def test_the_trial_sees_pictures_that_come_out_wrong(
    spoiled: Callable[[torch.Tensor], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill = encoder_frames._fill

    def fill_and_spoil(slot: torch.Tensor, picture: Any) -> None:
        fill(slot, picture)
        spoiled(slot)

    monkeypatch.setattr(encoder_frames, "_fill", fill_and_spoil)
    _difference.cache_clear()
    encoder = choose_encoder(SIZE, F(30), name="libx264")
    assert encoding_refusal(encoder, "cpu") == "pictures come out wrong"
    _difference.cache_clear()


def test_the_trial_tells_why_an_encoder_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DeviceFrameSink, "_frame_of", lambda *_: av.VideoFrame(2, 2, "gray"))
    _difference.cache_clear()
    refusal = encoding_refusal(choose_encoder(SIZE, F(30), name="libx264"), "cpu")
    _difference.cache_clear()
    assert refusal is not None


def test_a_trial_that_could_not_be_made_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_memory(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    encoder = choose_encoder(Size(64, 48), F(30), name="libx264")
    with monkeypatch.context() as at_first:
        at_first.setattr(DeviceFrameSink, "_frame_of", without_memory)
        refusal = encoding_refusal(encoder, "cpu")
        assert refusal is not None and "CUDA out of memory" in refusal
    assert encoding_refusal(encoder, "cpu") is None


def a_clip(folder: Path) -> SourceInfo:
    return probe(numbered_clip(folder / "a.mp4", 6))


def test_a_source_that_suits_is_decoded_on_the_device(tmp_path: Path) -> None:
    assert decoding_refusal(a_clip(tmp_path), "cpu", strict=False) is None


BT709 = Colour(Matrix.BT709, full_range=False, transfer=Transfer.SDR, assumed=False)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"colour": replace(BT709, transfer=Transfer.HLG)}, "hlg source"),
        ({"colour": replace(BT709, matrix=Matrix.BT2020)}, "bt2020 source"),
        ({"pixel_format": "yuv420p10le"}, "yuv420p10le source"),
        ({"codec": "mpeg4"}, "mpeg4 source"),
        ({"rotation_deg": 90, "display_size": Size(96, 160)}, "turned by 90 degrees"),
        ({"interlaced": True}, "interlaced"),
        ({"display_size": Size(200, 96)}, "pixels are not square"),
        ({"coded_size": Size(161, 96), "display_size": Size(161, 96)}, "odd sides"),
        ({"known_by_order": True}, "frames are known by their order only"),
    ],
)
def test_a_source_that_does_not_suit_says_why(
    change: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    source = replace(a_clip(tmp_path), **change)
    assert decoding_refusal(source, "cpu", strict=False) == reason


def test_strict_is_for_the_cpu_which_tells_of_damage(tmp_path: Path) -> None:
    refusal = decoding_refusal(a_clip(tmp_path), "cpu", strict=True)
    assert refusal == "strict, and NVDEC does not tell of damage"


def test_a_first_frame_that_is_not_the_cpu_s_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = a_clip(tmp_path)
    monkeypatch.setattr("engine.gpu.checks._same", lambda *_: False)
    assert decoding_refusal(info, "cpu", strict=False) == "its first frame is not that of the CPU"


def test_a_decoder_that_does_not_open_is_refused_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise av.ExternalError(1, "Cannot load libnvcuvid.so.1")

    monkeypatch.setattr("engine.gpu.nvdec.nvdec_context", refuse)
    refusal = decoding_refusal(a_clip(tmp_path), "cuda", strict=False)
    assert refusal == "NVDEC does not open: Cannot load libnvcuvid.so.1"


def test_a_trial_of_a_decoder_can_be_stopped(tmp_path: Path) -> None:
    def stop() -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        decoding_refusal(a_clip(tmp_path), "cpu", strict=False, on_step=stop)

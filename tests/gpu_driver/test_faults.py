"""Faults of a driver and its host: what the engine does then, and what it says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.errors import ChunkError, EncoderError
from engine.files import whole_file
from engine.gpu.checks import encoder_input, encoding_refusal
from engine.gpu.encoder_frames import DeviceFrameSink
from engine.media.encoders import choose_encoder
from engine.media.frame_sink import HostFrameSink
from engine.media.inspect import ChunkFile, read_chunk
from engine.media.join import join
from engine.pixels.picture import SourceFrame
from tests.engine.gpu.test_frames import host_planes, on_device, planes_of
from tests.gpu_driver.conftest import Driver
from tests.gpu_driver.test_decoding import a_clip
from tests.gpu_driver.test_encoding import FPS, SINKS, SIZE, an_encoder, written

NO_NVENC = "no GPU here opens it"


def test_without_nvenc_it_is_libx264_and_the_reason_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GPU_DRIVER_NVENC", "none")
    encoder = choose_encoder(SIZE, FPS)
    assert encoder.name == "libx264"
    assert encoder.why == f"h264_nvenc does not open: {NO_NVENC}; libx264 opens"
    with pytest.raises(EncoderError, match=f"h264_nvenc does not open here: {NO_NVENC}"):
        an_encoder()


@pytest.mark.parametrize("visible", [None, "0", "2"])
def test_a_host_on_which_only_the_last_gpu_opens_it(
    visible: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GPU_DRIVER_DEVICES", "3")
    monkeypatch.setenv("GPU_DRIVER_NVENC", "last")
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    encoder = choose_encoder(SIZE, FPS)
    assert encoder.name == ("libx264" if visible == "0" else "h264_nvenc")
    _, sink, how = encoder_input(encoder, "cuda:0")
    assert isinstance(sink, DeviceFrameSink if visible == "2" else HostFrameSink)
    if visible is None:  # torch's GPU is the first, FFmpeg finds the last one by itself
        assert "frames on the device are refused" in how
    written(tmp_path / "a.mp4", range(4), encoder, sink)


@pytest.mark.parametrize("way", SINKS)
def test_out_of_memory_at_any_allocation_is_one_error_and_no_file(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, driver: Driver
) -> None:
    encoder, messages = an_encoder(), []
    for failing in range(1, 100):
        path = tmp_path / f"{failing}.mp4"
        driver.library.driver_begin()
        monkeypatch.setenv("GPU_DRIVER_OUT_OF_MEMORY_AT", str(failing))
        try:
            with whole_file(path) as part:
                written(part, range(20), encoder, SINKS[way](SIZE))
        except EncoderError as error:
            messages.append(str(error))
        if path.exists():
            break
        assert list(tmp_path.iterdir()) == []
    assert len(messages) >= 24  # 12 buffers for packets, and 12 for pictures
    for message in messages:
        # of a resource that cannot be registered FFmpeg does not pass on why
        assert "memory" in message or message.endswith("Unknown error occurred"), message


def test_chunks_of_two_drivers_do_not_join(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chunks: list[ChunkFile] = []
    for driver_number in ("0", "3"):
        monkeypatch.setenv("GPU_DRIVER_PARAMETER_SETS", driver_number)
        path = tmp_path / f"{driver_number}.mp4"
        written(path, range(5), an_encoder(), HostFrameSink())
        chunks.append(read_chunk(path))
    with pytest.raises(
        ChunkError, match=r"3\.mp4: its stream parameters are not those of .*0\.mp4"
    ):
        join(chunks, None, [], tmp_path / "film.mp4", frame_count=10, sample_count=0, fps=FPS,
             size=SIZE, on_step=lambda: None)  # fmt: skip


@pytest.mark.parametrize("picture", [1, 28], ids=["first", "in the middle"])
def test_a_picture_that_does_not_decode_leaves_the_clip_to_the_cpu(
    picture: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same frames, and no way back to the start of the file."""
    info = a_clip(tmp_path, 90)
    wanted = list(range(45, 90))
    monkeypatch.setenv("GPU_DRIVER_DECODE_ERROR_AT", str(picture))
    of_cpu, warnings = host_planes(info, []), list[str]()
    with on_device(info, "cuda:0", warnings.append) as reader:
        frames = list(reader.surfaces(info.frame_pts[wanted]))
        assert reader.device is None
    (warning,) = warnings
    assert warning.startswith(f"{info.location}: decoding by NVDEC stopped: ")
    assert warning.endswith("; decoded on the CPU from here on")
    on_host = [isinstance(frame, SourceFrame) for frame in frames]
    assert on_host == sorted(on_host) and on_host[-1] and on_host[0] == (picture == 1)
    for number, frame in zip(wanted, frames, strict=True):
        for made, plane in zip(planes_of(frame), of_cpu[number], strict=True):
            np.testing.assert_array_equal(made, plane)
    assert reader.decoded_frames < 45 + 15 + 16  # and at most a GOP and what is held back twice


def test_frames_on_the_device_are_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = an_encoder()
    monkeypatch.setenv("GPU_DRIVER_NVENC", "none")
    refusal = encoding_refusal(encoder, "cuda:0")
    assert refusal is not None and refusal.startswith("frames on the device are refused: ")

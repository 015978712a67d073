"""Frames and pictures on a device. Here the device is the CPU: only its name differs."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction as F
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from av.video.reformatter import ColorRange, Colorspace
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine.geometry import Box, Fit, Size
from engine.gpu.frames import DeviceFrame, cut, device_frame
from engine.gpu.nvdec import SurfaceDecoder
from engine.gpu.pictures import DevicePicture, blended, uploaded
from engine.media.probe import probe
from engine.media.video_reader import FrameReader
from engine.pixels.blend import blend
from engine.pixels.crop import CropSampler
from engine.pixels.picture import DeviceSurface, Picture, SourceFrame
from engine.source import Colour, Matrix, SourceInfo, Transfer
from tests.clips import numbered_clip
from tests.engine.media.test_video_reader import damaged_h264

FRAME = Size(62, 46)
CPU = torch.device("cpu")


def noise(seed: int, size: Size) -> Picture:
    random = np.random.default_rng(seed)
    return Picture(size, random.integers(0, 256, (size.height * 3 // 2, size.width), np.uint8))


def woven(picture: Picture) -> DeviceFrame:
    chroma = np.stack([picture.u, picture.v], -1)
    return DeviceFrame(0, torch.from_numpy(picture.y), torch.from_numpy(chroma))


boxes = st.tuples(
    st.integers(0, 20), st.integers(0, 15), st.integers(1, 11), st.integers(1, 8)
).map(lambda sides: Box(*(2 * side for side in sides)))


@given(boxes, st.sampled_from([Matrix.BT709, Matrix.BT601]), st.booleans(), st.integers(0, 3))
def test_a_region_cut_on_the_device_is_the_sampler_s(
    box: Box, matrix: Matrix, full_range: bool, seed: int
) -> None:
    colour = Colour(matrix, full_range, Transfer.SDR, assumed=False)
    size = Size(box.width, box.height)
    picture, wanted = noise(seed, FRAME), Picture(size)
    sampler = CropSampler(
        display_size=FRAME, rotation_deg=0, colour=colour, target=size, fit=Fit.STRETCH
    )
    frame = SourceFrame(0, picture.planes, 8, (2, 2), (0.0, 0.5), picture)
    sampler.sample(frame, np.array([box.x, box.y, box.width, box.height], np.float64), wanted)
    np.testing.assert_array_equal(cut(woven(picture), box, colour).numpy(), wanted.buffer)


def test_a_frame_is_the_decoder_s_own_memory_and_outlives_it() -> None:
    picture = av.VideoFrame(100, 64, "nv12")
    planes = [np.frombuffer(memoryview(plane), np.uint8) for plane in picture.planes]
    for plane in planes:
        plane[:] = 7
    frame = device_frame(picture, 5)
    assert [frame.luma.shape, frame.chroma.shape] == [(64, 100), (32, 50, 2)]
    assert frame.luma.data_ptr() == planes[0].__array_interface__["data"][0]
    assert frame.luma.stride(0) == picture.planes[0].line_size > 100
    del planes, picture
    others = [av.VideoFrame(100, 64, "nv12") for _ in range(8)]
    for other in others:
        np.frombuffer(memoryview(other.planes[0]), np.uint8)[:] = 9
    assert bool((frame.luma == 7).all()) and bool((frame.chroma == 7).all())


def host_planes(info: SourceInfo, warnings: list[str]) -> list[list[NDArray[np.uint8]]]:
    with FrameReader(info, strict=False, on_warning=warnings.append) as reader:
        return [[plane.copy() for plane in f.planes] for f in reader.frames(info.frame_pts)]  # type: ignore[misc]


def on_device(info: SourceInfo, device: str, on_warning: Callable[[str], None]) -> FrameReader:
    return FrameReader(info, strict=False, on_warning=on_warning, device=SurfaceDecoder(device))


def planes_of(frame: SourceFrame | DeviceSurface) -> list[NDArray[np.uint8]]:
    if isinstance(frame, SourceFrame):
        return [plane.astype(np.uint8) for plane in frame.planes]
    assert isinstance(frame, DeviceFrame)
    chroma = frame.chroma.numpy()
    return [frame.luma.numpy(), chroma[..., 0], chroma[..., 1]]


@pytest.mark.parametrize(("pix_fmt", "span"), [("yuv420p", ColorRange.MPEG), ("yuvj420p", None)])
def test_decoded_onto_the_device_are_the_same_samples(
    tmp_path: Path, pix_fmt: str, span: ColorRange | None
) -> None:
    tags = {"colorspace": Colorspace.ITU709} | ({"color_range": span} if span else {})
    info = probe(numbered_clip(tmp_path / "a.mp4", 9, pix_fmt=pix_fmt, tags=tags))
    wanted = host_planes(info, [])
    with on_device(info, "cpu", pytest.fail) as reader:
        frames = list(reader.surfaces(info.frame_pts))
    for frame, planes in zip(frames, wanted, strict=True):
        assert isinstance(frame, DeviceFrame)
        for made, plane in zip(planes_of(frame), planes, strict=True):
            np.testing.assert_array_equal(made, plane)


def test_a_damaged_file_is_left_to_the_cpu_and_looks_as_there(tmp_path: Path) -> None:
    info = damaged_h264(tmp_path / "a.mp4")
    of_cpu: list[str] = []
    wanted = host_planes(info, of_cpu)
    warnings: list[str] = []
    with on_device(info, "cpu", warnings.append) as reader:
        frames = list(reader.surfaces(info.frame_pts))
        assert reader.device is None
    assert warnings == [
        f"{info.location}: the stream is damaged; decoded on the CPU from here on",
        *of_cpu,
    ]
    kinds = [isinstance(frame, DeviceFrame) for frame in frames]
    assert kinds[0] and not kinds[-1] and kinds == sorted(kinds, reverse=True)
    for frame, planes in zip(frames, wanted, strict=True):
        for made, plane in zip(planes_of(frame), planes, strict=True):
            np.testing.assert_array_equal(made, plane)


class Failing:
    """A decoder of the CPU in NVDEC's place. It fails at a packet."""

    def __init__(self, stream: av.VideoStream, at_packet: int) -> None:
        self._decoder, self._left = stream.codec_context, at_packet

    def flush_buffers(self) -> None:
        self._decoder.flush_buffers()

    def decode(self, packet: av.Packet[av.VideoStream]) -> list[av.VideoFrame]:
        self._left -= 1
        if self._left < 0:
            raise av.ExternalError(1, "CUDA_ERROR_ILLEGAL_ADDRESS")
        return self._decoder.decode(packet)


def test_a_decoder_that_fails_on_the_way_is_replaced_and_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = probe(numbered_clip(tmp_path / "a.mp4", 40))
    wanted, warnings = host_planes(info, []), list[str]()
    monkeypatch.setattr("engine.gpu.nvdec.nvdec_context", lambda stream, _: Failing(stream, 25))
    with on_device(info, "cuda", warnings.append) as reader:
        frames = list(reader.surfaces(info.frame_pts))
    (warning,) = warnings
    assert "decoding on cuda failed" in warning and "CUDA_ERROR_ILLEGAL_ADDRESS" in warning
    assert 0 < sum(isinstance(frame, DeviceFrame) for frame in frames) < 40
    for frame, planes in zip(frames, wanted, strict=True):
        for made, plane in zip(planes_of(frame), planes, strict=True):
            np.testing.assert_array_equal(made, plane)


def test_a_decoder_that_does_not_open_is_replaced_and_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise av.PermissionError(1, "Operation not permitted")

    info, warnings = probe(numbered_clip(tmp_path / "a.mp4", 3)), list[str]()
    monkeypatch.setattr("engine.gpu.nvdec.nvdec_context", refuse)
    with on_device(info, "cuda", warnings.append) as reader:
        assert len(host_only(reader, info)) == 3
    (warning,) = warnings
    assert "NVDEC does not open" in warning and "decoded on the CPU from here on" in warning


def test_frames_that_change_size_are_left_to_the_cpu(tmp_path: Path) -> None:
    first = numbered_clip(tmp_path / "a.h264", 6, size=(160, 96), options={"bf": "0"})
    then = numbered_clip(tmp_path / "b.h264", 6, size=(96, 64), options={"bf": "0"})
    both = tmp_path / "both.h264"
    both.write_bytes(first.read_bytes() + then.read_bytes())
    info, warnings = probe(both), list[str]()
    with on_device(info, "cpu", warnings.append) as reader:
        sizes = {frame.planes[0].shape for frame in host_only(reader, info)}
    assert sizes == {(96, 160)}
    assert warnings[0] == f"{both}: frames are 96x64 yuv420p now; decoded on the CPU from here on"


def host_only(reader: FrameReader, info: SourceInfo) -> list[SourceFrame]:
    return [f for f in reader.surfaces(info.frame_pts) if isinstance(f, SourceFrame)]


@given(st.lists(st.fractions(0, F(1, 2)), min_size=1, max_size=2), st.integers(0, 9))
def test_layers_blended_on_the_device_are_the_same_picture(shares: list[F], seed: int) -> None:
    size = Size(16, 8)
    layers = [(noise(seed + k, size), float(share)) for k, share in enumerate(shares)]
    wanted = Picture(size)
    blend(layers, wanted)
    made = blended([(uploaded(picture, CPU), share) for picture, share in layers])
    np.testing.assert_array_equal(made.on_host().buffer, wanted.buffer)


def test_a_picture_comes_down_as_it_went_up() -> None:
    picture = noise(1, Size(34, 18))
    there = uploaded(picture, CPU)
    assert isinstance(there, DevicePicture)
    np.testing.assert_array_equal(there.download()().buffer, picture.buffer)

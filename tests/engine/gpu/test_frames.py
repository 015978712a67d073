"""Frames and pictures on a device. Here the device is the CPU: only its name differs."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatch
from fractions import Fraction as F
from pathlib import Path
from typing import Any

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
    assert fnmatch(
        warnings[0], "*: decoding by the CPU stopped: *; decoded on the CPU from here on"
    )
    assert warnings[1:] == of_cpu
    kinds = [isinstance(frame, DeviceFrame) for frame in frames]
    assert kinds[0] and not kinds[-1] and kinds == sorted(kinds, reverse=True)
    for frame, planes in zip(frames, wanted, strict=True):
        for made, plane in zip(planes_of(frame), planes, strict=True):
            np.testing.assert_array_equal(made, plane)


class Failing:
    """A decoder of the CPU in NVDEC's place. It fails at a packet, or at a seek."""

    def __init__(
        self, stream: av.VideoStream, at_packet: int = 10**6, at_seek: int = 10**6
    ) -> None:
        self._decoder, self._packets, self._seeks = stream.codec_context, at_packet, at_seek

    def flush_buffers(self) -> None:
        self._seeks -= 1
        if self._seeks < 0:
            raise av.ExternalError(1, "CUDA_ERROR_ILLEGAL_ADDRESS")
        self._decoder.flush_buffers()

    def decode(self, packet: av.Packet[av.VideoStream]) -> list[av.VideoFrame]:
        self._packets -= 1
        if self._packets < 0:
            raise av.ExternalError(1, "CUDA_ERROR_ILLEGAL_ADDRESS")
        return self._decoder.decode(packet)


class Losing(Failing):
    """It loses the picture of a packet, and does not say so."""

    def decode(self, packet: av.Packet[av.VideoStream]) -> list[av.VideoFrame]:
        self._packets -= 1
        frames = self._decoder.decode(packet)
        return frames[1:] if self._packets < 0 else frames


def refuse(*_: object) -> None:
    raise av.ExternalError(1, "Cannot load libnvcuvid.so.1")


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> SourceInfo:
    path = tmp_path_factory.mktemp("long") / "a.mp4"
    return probe(numbered_clip(path, 400, size=(64, 48), gop=25))


WANTED = [*range(30), *range(340, 350), *range(60, 64)]


@pytest.mark.parametrize(
    ("opens", "reason", "at_most"),
    [
        (refuse, "NVDEC does not open: *libnvcuvid", 0),
        (lambda stream, _: Failing(stream, 0), "decoding by NVDEC stopped: *CUDA_ERROR", 0),
        (lambda stream, _: Failing(stream, 27), "decoding by NVDEC stopped: *CUDA_ERROR", 27),
        (lambda stream, _: Failing(stream, 40), "decoding by NVDEC stopped: *CUDA_ERROR", 34),
        (lambda stream, _: Failing(stream, at_seek=0), "decoding by NVDEC stopped: *CUDA_ERR", 30),
        (lambda stream, _: Losing(stream, 20), "decoding by NVDEC stopped: a picture is *miss", 20),
    ],
    ids=["does not open", "at once", "early", "after a jump", "at a seek", "loses one"],
)
def test_what_fails_on_the_device_goes_on_as_if_there_were_none(
    opens: Callable[..., Any],
    reason: str,
    at_most: int,
    long_clip: SourceInfo,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same frames, with a jump and no way back to the start of the file."""
    pts = long_clip.frame_pts[WANTED]
    with FrameReader(long_clip, strict=True, on_warning=pytest.fail) as alone:
        wanted = list(alone.frames(pts))
    monkeypatch.setattr("engine.gpu.nvdec.nvdec_context", opens)
    warnings: list[str] = []
    with on_device(long_clip, "cuda", warnings.append) as reader:
        frames = list(reader.surfaces(pts))
        assert reader.device is None and fnmatch(reader.device_failure or "", f"{reason}*")
    assert warnings == [
        f"{long_clip.location}: {reader.device_failure}; decoded on the CPU from here on"
    ]
    on_host = [isinstance(frame, SourceFrame) for frame in frames]
    assert on_host == sorted(on_host) and on_host.count(False) <= at_most
    for frame, same in zip(frames, wanted, strict=True):
        for made, plane in zip(planes_of(frame), same.planes, strict=True):
            np.testing.assert_array_equal(made, plane)
    # what was decoded on the device is at most one GOP and what it holds back
    assert reader.decoded_frames <= alone.decoded_frames + 25 + 16


def test_a_picture_that_cannot_be_used_comes_from_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse_the_fifth(picture: av.VideoFrame, pts: int) -> DeviceFrame:
        if pts == info.frame_pts[5]:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return device_frame(picture, pts)

    info = probe(numbered_clip(tmp_path / "a.mp4", 20))
    monkeypatch.setattr("engine.gpu.nvdec.device_frame", refuse_the_fifth)
    wanted, warnings = host_planes(info, []), list[str]()
    with on_device(info, "cpu", warnings.append) as reader:
        frames = list(reader.surfaces(info.frame_pts))
    assert [isinstance(frame, DeviceFrame) for frame in frames] == [True] * 5 + [False] * 15
    (warning,) = warnings
    assert "the pictures of the CPU cannot be used: CUDA error: an illegal" in warning
    for frame, planes in zip(frames, wanted, strict=True):
        for made, plane in zip(planes_of(frame), planes, strict=True):
            np.testing.assert_array_equal(made, plane)


@pytest.mark.parametrize("at_packet", [3, 32, 60])
def test_a_damaged_file_looks_the_same_when_the_device_fails_too(
    at_packet: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before, at and after the first damage."""
    info = damaged_h264(tmp_path / "a.mp4")
    of_cpu, warnings = list[str](), list[str]()
    wanted = host_planes(info, of_cpu)
    monkeypatch.setattr(
        "engine.gpu.nvdec.nvdec_context", lambda stream, _: Failing(stream, at_packet)
    )
    with on_device(info, "cuda", warnings.append) as reader:
        frames = list(reader.surfaces(info.frame_pts))
    assert "decoding by NVDEC stopped" in warnings[0] and warnings[1:] == of_cpu
    for frame, planes in zip(frames, wanted, strict=True):
        for made, plane in zip(planes_of(frame), planes, strict=True):
            np.testing.assert_array_equal(made, plane)


def test_frames_that_change_size_are_left_to_the_cpu(tmp_path: Path) -> None:
    first = numbered_clip(tmp_path / "a.h264", 6, size=(160, 96), options={"bf": "0"})
    then = numbered_clip(tmp_path / "b.h264", 6, size=(96, 64), options={"bf": "0"})
    both = tmp_path / "both.h264"
    both.write_bytes(first.read_bytes() + then.read_bytes())
    info, warnings = probe(both), list[str]()
    with on_device(info, "cpu", warnings.append) as reader:
        sizes = {frame.planes[0].shape for frame in host_only(reader, info)}
    assert sizes == {(96, 160)}
    assert warnings[0].startswith(f"{both}: decoding by the CPU stopped: frames are 96x64 yuv420p")


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

"""What only a CUDA device can show. One command proves all of it on such a machine:

    FAIL_WITHOUT_CUDA=1 pytest tests/engine/upscale tests/engine/gpu

NVDEC has to be there, too (in a container: NVIDIA_DRIVER_CAPABILITIES with `video`). NVENC is tried
where the hardware has one; elsewhere frames are followed up to the encoder.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from fractions import Fraction as F
from pathlib import Path
from typing import Any
from warnings import catch_warnings, simplefilter

import numpy as np
import pytest
import torch
from av.video.reformatter import ColorRange, Colorspace
from numpy.typing import NDArray

from engine.errors import EncoderError
from engine.geometry import Box, Fit, Framing, Size
from engine.gpu.checks import decoding_refusal, encoding_refusal
from engine.gpu.encoder_frames import DeviceFrameSink
from engine.gpu.frames import DeviceFrame, cut
from engine.gpu.pictures import DevicePicture, blended, uploaded
from engine.media.encoders import Encoder, choose_encoder, refusal_of
from engine.media.frame_sink import HostFrameSink
from engine.media.probe import probe
from engine.pipeline.exporter import export
from engine.pixels.blend import blend
from engine.pixels.picture import Picture, SourceFrame
from engine.source import Colour, Matrix, SourceInfo, Transfer
from engine.upscale.choice import choose_upscaler
from engine.upscale.fused import FusedCompact
from engine.upscale.inference import Precision, Runner, torch_compiled
from engine.upscale.network import Network
from engine.upscale.network_stage import NetworkStage
from engine.upscale.stage import PlainResampler
from tests.clips import numbered_clip
from tests.engine.gpu.test_frames import host_planes, noise, on_device, woven
from tests.engine.gpu.test_resident import a_reel
from tests.engine.media.test_video_reader import erase
from tests.engine.upscale.material import SHAPES, psnr_db
from tests.engine.upscale.seeded import seeded_module
from tests.engine.upscale.stages import PerClip
from tests.engine.upscale.test_stage import TINY, apart, crops, pictures, seeded, stage
from tests.sources import a_source

pytestmark = [
    pytest.mark.skipif(
        not torch.cuda.is_available() and os.environ.get("FAIL_WITHOUT_CUDA") != "1",
        reason="no CUDA device (FAIL_WITHOUT_CUDA=1 makes this a failure)",
    ),
    # torch warns of what it does itself, and gives advice by device: TF32 from Ampere on
    pytest.mark.filterwarnings("default:::torch"),
]
CUDA = torch.device("cuda")
CLIP = (256, 192)
"""No smaller than the smallest frame that NVDEC takes of any codec."""


def on_cuda(
    batch: int | None = None,
    precision: Precision = Precision.FP32,
    *,
    network: Network | None = None,
    keep_on_device: bool | None = None,
) -> NetworkStage:
    runner = Runner(network or seeded(TINY), CUDA, precision)
    return NetworkStage(runner, batch=batch, keep_on_device=keep_on_device)


# The stage


@pytest.mark.parametrize("batch", [None, 1, 3])
def test_the_pictures_are_those_of_the_cpu(batch: int | None) -> None:
    """In many batches, so that one that overtakes another on its stream shows."""
    given_crops = crops(40, of_each=2)
    made = pictures(on_cuda(batch), given_crops)
    assert apart(pictures(stage(seeded(TINY)), given_crops), made) <= 1


def test_half_precision_is_near() -> None:
    given_crops = crops(4)
    made = pictures(on_cuda(precision=Precision.FP16), given_crops)
    assert apart(pictures(stage(seeded(TINY)), given_crops), made) <= 4


def test_pictures_stay_there_until_somebody_wants_them() -> None:
    source, target = a_source(size=Size(192, 128)), Size(180, 320)
    made = next(iter(on_cuda().pictures(crops(1), source, Framing(target, Fit.CONTAIN))))
    assert isinstance(made, DevicePicture) and made.buffer.is_cuda


def test_two_clips_at_once_share_a_network() -> None:
    """As in a dissolve: two threads, one runner."""
    upscaler = on_cuda(2)
    left, right = crops(12), crops(12, pace=-0.2)
    made: tuple[list[Picture], list[Picture]] = ([], [])
    size, source = Size(180, 320), a_source(size=Size(192, 128))
    pairs = zip(
        upscaler.pictures(left, source, Framing(size, Fit.CONTAIN)),
        upscaler.pictures(right, source, Framing(size, Fit.CONTAIN)),
        strict=True,
    )
    for pair in pairs:
        for pictures_of, picture in zip(made, pair, strict=True):
            pictures_of.append(picture.on_host())
    for ours, given_crops in zip(made, (left, right), strict=True):
        assert apart(pictures(stage(seeded(TINY)), given_crops), ours) <= 1


def test_bias_and_activation_are_one_kernel_here() -> None:
    runner = Runner(seeded(TINY), CUDA, Precision.FP16)
    assert isinstance(runner._fast, Network) and isinstance(runner._fast.module, FusedCompact)
    assert runner.events == []


def test_no_batch_waits_for_the_device_in_secret() -> None:
    """torch raises an error at a copy or a question that would wait. Events do not count."""
    upscaler, source = on_cuda(2, Precision.FP16), a_source(size=Size(192, 128))
    framing, given_crops = Framing(Size(180, 320), Fit.CONTAIN), crops(12)
    warm = list(upscaler.pictures(given_crops, source, framing))
    with catch_warnings():
        simplefilter("ignore")  # it is a prototype, torch says
        torch.cuda.set_sync_debug_mode("error")
        try:
            made = list(upscaler.pictures(given_crops, source, framing))
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert len(made) == len(warm) == 12


@pytest.fixture
def little_memory() -> Iterator[None]:
    """A third of a GiB for torch."""
    torch.cuda.empty_cache()
    _, total_bytes = torch.cuda.mem_get_info()
    torch.cuda.set_per_process_memory_fraction((2**30 / 3) / total_bytes)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


@pytest.mark.usefixtures("little_memory")
def test_real_want_of_memory_halves_the_batch() -> None:
    shape = SHAPES["realesrgan-x4plus-anime-6b"]
    runner = Runner(Network(shape, seeded_module(shape, 1).eval()), CUDA, Precision.FP16)
    images = torch.rand(8, 3, 96, 96, device=CUDA)
    made = runner(images)
    assert any("out of memory: batches of" in event for event in runner.events)
    for k in range(8):
        assert psnr_db(made[k : k + 1].cpu(), runner(images[k : k + 1]).cpu()) > 50


@pytest.mark.parametrize("name", ["realesr-animevideov3", "realesrgan-x4plus-anime-6b"])
def test_compiled_it_is_the_same_network(name: str) -> None:
    pytest.importorskip("triton")
    network = Network(SHAPES[name], seeded_module(SHAPES[name], 1).eval())
    images = torch.rand(2, 3, 64, 48, device=CUDA)
    eager = Runner(network, CUDA, Precision.FP16)(images)
    by_torch = torch_compiled(network, CUDA, Precision.FP16)
    compiled = Runner(network, CUDA, Precision.FP16, compiled=by_torch)(images)
    assert psnr_db(compiled.cpu(), eager.cpu()) > 45


def test_auto_is_a_network_here() -> None:
    upscaler = choose_upscaler("auto")
    assert upscaler.device.startswith("cuda") and upscaler.stage_for(1.0).load().frames_on is None


# Pictures and frames on the device


def test_up_and_down_and_blended_are_the_same_bits() -> None:
    size = Size(270, 480)
    layers = [(noise(k, size), weight) for k, weight in enumerate((0.3, 0.45))]
    wanted = Picture(size)
    blend(layers, wanted)
    there = [(uploaded(picture, CUDA), weight) for picture, weight in layers]
    np.testing.assert_array_equal(blended(there).on_host().buffer, wanted.buffer)
    np.testing.assert_array_equal(there[0][0].on_host().buffer, layers[0][0].buffer)


@pytest.mark.parametrize("matrix", [Matrix.BT709, Matrix.BT601])
@pytest.mark.parametrize("full_range", [False, True])
def test_a_region_is_cut_in_the_same_integers(matrix: Matrix, full_range: bool) -> None:
    colour = Colour(matrix, full_range, Transfer.SDR, assumed=False)
    frame, box = woven(noise(1, Size(130, 98))), Box(14, 6, 96, 64)
    there = DeviceFrame(0, frame.luma.to(CUDA), frame.chroma.to(CUDA))
    assert torch.equal(cut(there, box, colour).cpu(), cut(frame, box, colour))


# NVDEC


def clip(folder: Path, kind: str) -> SourceInfo:
    full = {"colorspace": Colorspace.ITU601, "color_range": ColorRange.JPEG}
    kinds: dict[str, dict[str, Any]] = {
        "h264": {},
        "h264 full range": {"pix_fmt": "yuvj420p", "tags": full},
        "hevc": {"codec": "libx265", "options": {"x265-params": "log-level=none"}},
        "vp9": {"codec": "libvpx-vp9"},
    }
    suffix = ".webm" if kind == "vp9" else ".mp4"
    return probe(numbered_clip(folder / f"a{suffix}", 60, size=CLIP, gop=20, **kinds[kind]))


def assert_same(frame: object, planes: list[NDArray[np.uint8]]) -> None:
    assert isinstance(frame, DeviceFrame) and frame.luma.is_cuda
    luma, chroma = frame.luma.cpu().numpy(), frame.chroma.cpu().numpy()
    for made, plane in zip((luma, chroma[..., 0], chroma[..., 1]), planes, strict=True):
        np.testing.assert_array_equal(made, plane)


@pytest.mark.parametrize("kind", ["h264", "h264 full range", "hevc", "vp9"])
def test_nvdec_gives_the_samples_of_the_cpu(tmp_path: Path, kind: str) -> None:
    """All frames are kept to the end, so that a surface that is reused under one shows."""
    info = clip(tmp_path, kind)
    assert decoding_refusal(info, "cuda", strict=False) is None
    wanted = host_planes(info, [])
    with on_device(info, "cuda", pytest.fail) as reader:
        frames = list(reader.surfaces(info.frame_pts))
    for frame, planes in zip(frames, wanted, strict=True):
        assert_same(frame, planes)


def test_nvdec_jumps(tmp_path: Path) -> None:
    info = clip(tmp_path, "h264")
    wanted = host_planes(info, [])
    with on_device(info, "cuda", pytest.fail) as reader:
        for index in (45, 46, 3, 59, 20, 20):
            assert_same(next(iter(reader.surfaces(info.frame_pts[[index]]))), wanted[index])


def test_a_stream_that_nvdec_stumbles_over_is_left_to_the_cpu(tmp_path: Path) -> None:
    path = numbered_clip(tmp_path / "a.mp4", 40, size=CLIP)
    erase(path, [17])
    info = probe(path)
    wanted, warnings = host_planes(info, []), list[str]()
    with on_device(info, "cuda", warnings.append) as reader:
        frames = list(reader.surfaces(info.frame_pts))
        assert reader.device is None
    assert "decoded on the CPU from here on" in warnings[0]
    for frame, planes in zip(frames, wanted, strict=True):
        if isinstance(frame, DeviceFrame):
            assert_same(frame, planes)
        else:
            assert isinstance(frame, SourceFrame)
            for made, plane in zip(frame.planes, planes, strict=True):
                np.testing.assert_array_equal(made, plane)


# The encoder


@pytest.mark.parametrize("size", [Size(1080, 1920), Size(1078, 606), Size(256, 256)])
def test_frames_up_to_the_encoder(size: Size) -> None:
    """FFmpeg copies them back from the device, so layout, pitch and context are what it reads.

    While one is held, no other takes its place.
    """
    sink = DeviceFrameSink(size, CUDA)
    given = [noise(index, size) for index in range(8)]
    frames = [sink.frame(uploaded(picture, CUDA)) for picture in given[:5]]
    sink.released(1)
    sink.released(0)
    frames += [sink.frame(picture) for picture in given[5:7]]
    for frame, picture in [*zip(frames, given, strict=False)][2:]:
        assert frame.format.name == "cuda"
        assert frame.sw_format is not None and frame.sw_format.name == "nv12"
        down = frame.reformat(format="nv12")
        y, uv = (
            np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[:, : size.width]
            for plane in down.planes
        )
        np.testing.assert_array_equal(y, picture.y)
        np.testing.assert_array_equal(uv[:, 0::2], picture.u)
        np.testing.assert_array_equal(uv[:, 1::2], picture.v)
    assert len(sink._held) + len(sink._free) == 5


def test_the_hash_is_that_of_the_host() -> None:
    size = Size(270, 480)
    sink, host = DeviceFrameSink(size, CUDA), HostFrameSink()
    for index in range(20):
        there = sink.frame(uploaded(noise(index, size), CUDA))
        here = host.frame(noise(index, size))
        assert (there.width, there.height) == (here.width, here.height)
        sink.released(index)
    assert sink.frame_hash() == host.frame_hash()


# Whole exports


def encoder_for(size: Size, fps: F) -> Encoder:
    """NVENC where the hardware has one and takes this size, else libx264."""
    try:
        return choose_encoder(size, fps, name="h264_nvenc")
    except EncoderError:
        return choose_encoder(size, fps, name="libx264")


def test_an_export_that_stays_there_gives_the_same_frames(tmp_path: Path) -> None:
    plan = a_reel(tmp_path, size=CLIP, target=Size(180, 320))
    plain, encoder = PlainResampler("test"), encoder_for(plan.size, plan.fps)
    reports = [
        export(plan, tmp_path / "out.mp4", upscaler=PerClip(stage, plain), encoder=encoder)
        for stage in (on_cuda(3), on_cuda(3, keep_on_device=False))
    ]
    there, copied = ([chunk.frame_hash for chunk in report.chunks] for report in reports)
    assert there == copied
    assert not reports[0].warnings
    route = reports[0].chunks[0].route
    assert route[0].startswith("clips[0]: decoded by NVDEC, frames stay on cuda")
    nvenc = encoder.name == "h264_nvenc"
    assert route[-1].startswith("encoded on cuda" if nvenc else "encoded from host memory (libx264")


@pytest.mark.skipif(
    not torch.cuda.is_available()
    or refusal_of(Encoder("h264_nvenc", (), Size(1080, 1920), F(30), 60)) is not None,
    reason="no NVENC in this hardware",
)
@pytest.mark.parametrize("name", ["h264_nvenc", "hevc_nvenc"])
@pytest.mark.parametrize("options", [{}, {"bf": "0"}, {"rc-lookahead": "32", "bf": "3"}])
def test_nvenc_takes_frames_on_the_device(name: str, options: dict[str, str]) -> None:
    encoder = choose_encoder(Size(1080, 1920), F(30), name=name, options=options)
    assert encoding_refusal(encoder, "cuda") is None

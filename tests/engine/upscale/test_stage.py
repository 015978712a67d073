"""The network's place in the stream: regions, tiles, batches, memory and exact rectangles.

The networks here are small seeded ones; the real weights are used where they are at hand.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from fractions import Fraction as F
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.errors import UpscalerError
from engine.geometry import Fit, Framing, Rect, Size
from engine.media.encoders import choose_encoder
from engine.media.video_reader import FrameReader
from engine.pipeline.exporter import export, probe_sources
from engine.pixels.picture import BLACK, Picture, SourceFrame
from engine.source import SourceInfo
from engine.timeline.edit import Clip, CropKeyframe, Edit, SpeedSegment
from engine.timeline.plan import build_plan
from engine.upscale.choice import QUALITY, UPSCALERS, choose_upscaler, network_for
from engine.upscale.inference import Precision, Runner
from engine.upscale.network import CompactShape, Network, RRDBShape, load_network
from engine.upscale.network_stage import Finish, NetworkStage
from engine.upscale.regions import BUCKET_PX, UpscaleRegion, covering
from engine.upscale.stage import FrameCrop, PlainResampler, Stage, StageSpec
from engine.upscale.tensors import rgb_of_i420, ycc_of_rgb
from engine.upscale.tiling import in_tiles, spans
from engine.upscale.tuning import TUNED, Tuning
from tests.clips import numbered_clip, read_number
from tests.engine.upscale.material import real_weights
from tests.engine.upscale.stages import Loaded, PerClip
from tests.media import needs_ffmpeg, real_media
from tests.sources import a_source
from tests.witness import luma_frames, run

CPU = torch.device("cpu")
FRAME = Size(192, 128)
TARGET = Size(180, 320)
TINY = CompactShape(features=8, inner_convs=3, scale=4)


class Nearest(nn.Module):
    """A network that enlarges by repetition: its pictures are known."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.calls: list[int] = []

    def forward(self, rgb: Tensor) -> Tensor:
        self.calls.append(len(rgb))
        return rgb.repeat_interleave(self.scale, -1).repeat_interleave(self.scale, -2)


class Fussy(Nearest):
    """Runs out of memory above a number of input pixels."""

    def __init__(self, most_pixels: int) -> None:
        super().__init__(4)
        self.most_pixels = most_pixels

    def forward(self, rgb: Tensor) -> Tensor:
        if rgb.shape[0] * rgb.shape[2] * rgb.shape[3] > self.most_pixels:
            raise torch.OutOfMemoryError("too many pixels")
        return super().forward(rgb)


class Tight(nn.Module):
    """Another network, out of memory above a number of input pixels."""

    def __init__(self, other: nn.Module, most_pixels: int) -> None:
        super().__init__()
        self.other, self.most_pixels = other, most_pixels

    def forward(self, rgb: Tensor) -> Tensor:
        if rgb.shape[0] * rgb.shape[2] * rgb.shape[3] > self.most_pixels:
            raise torch.OutOfMemoryError("too many pixels")
        made: Tensor = self.other(rgb)
        return made


class Overflowing(Nearest):
    """Not finite in half precision, as RRDBNet can be."""

    def forward(self, rgb: Tensor) -> Tensor:
        made = super().forward(rgb)
        return made if rgb.dtype == torch.float32 else made * torch.inf


def seeded(shape: CompactShape | RRDBShape, seed: int = 0) -> Network:
    torch.manual_seed(seed)
    return Network(shape, shape.build().eval().requires_grad_(False))


def stage(
    network: Network, batch: int | None = None, *, on_device: bool = False, tuning: Tuning = TUNED
) -> NetworkStage:
    """On the CPU, which can stand for a device of its own."""
    runner = Runner(network, CPU, Precision.FP32, tuning=tuning)
    return NetworkStage(runner, batch=batch, keep_on_device=on_device)


def forwarded(upscaler: NetworkStage) -> list[int]:
    """Batch sizes of every forward pass."""
    return nearest(upscaler._runner).calls


def nearest(runner: Runner) -> Nearest:
    """The copy of the network that the runner computes with."""
    network = runner._fast
    assert isinstance(network, Network) and isinstance(network.module, Nearest)
    return network.module


def a_frame(seed: int, size: Size = FRAME) -> SourceFrame:
    """Smooth, in colours that RGB has, and every frame another."""
    rows, columns = np.mgrid[: size.height, : size.width]
    luma = 125 + 45 * np.sin(rows / 7 + seed) + 25 * np.cos(columns / 9 - seed)
    blue = 128 + 20 * np.sin(columns[::2, ::2] / 15 + seed)
    red = 128 + 20 * np.cos(rows[::2, ::2] / 11)
    planes = tuple(plane.round().astype(np.uint8) for plane in (luma, blue, red))
    return SourceFrame(seed, planes, 8, (2, 2), (0.0, 0.5), None)


def crops(count: int, pace: float = 0.37, of_each: int = 1) -> list[FrameCrop]:
    frames = [a_frame(seed) for seed in range(count)]
    return [
        FrameCrop(frames[k // of_each], np.array([20.3 + pace * k, 10.6, 54.0, 96.0]))
        for k in range(count * of_each)
    ]


def pictures(
    upscaler: Stage,
    given_crops: list[FrameCrop],
    fit: Fit = Fit.CONTAIN,
    tilt_deg: float = 0.0,
) -> list[Picture]:
    made = upscaler.pictures(given_crops, source(), Framing(TARGET, fit, tilt_deg))
    return [picture.on_host() for picture in made]


def source() -> SourceInfo:
    return a_source(size=FRAME)


def apart(ours: list[Picture], theirs: list[Picture]) -> float:
    assert len(ours) == len(theirs)
    return max(
        float(np.abs(a.buffer.astype(int) - b.buffer).max())
        for a, b in zip(ours, theirs, strict=True)
    )


rect_lists = st.lists(
    st.tuples(st.floats(0, 100), st.floats(0, 60), st.floats(4, 92), st.floats(4, 68)),
    min_size=1,
    max_size=4,
)


@given(rect_lists, st.sampled_from([Size(192, 128), Size(161, 121), Size(2000, 1000)]))
def test_a_region_holds_its_rectangles(
    rects: list[tuple[float, float, float, float]], frame: Size
) -> None:
    array = np.array(rects)
    array[:, 2] = np.minimum(array[:, 2], frame.width - array[:, 0])
    array[:, 3] = np.minimum(array[:, 3], frame.height - array[:, 1])
    region = covering(array, frame)
    assert region.x <= array[:, 0].min() and region.y <= array[:, 1].min()
    assert region.x + region.width >= (array[:, 0] + array[:, 2]).max()
    assert region.y + region.height >= (array[:, 1] + array[:, 3]).max()
    assert region.x % 2 == region.y % 2 == region.width % 2 == region.height % 2 == 0
    assert region.x >= 0 and region.x + region.width <= frame.width + frame.width % 2
    assert region.y >= 0 and region.y + region.height <= frame.height + frame.height % 2


@given(rect_lists, st.floats(-20, 20), st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_a_region_holds_what_is_seen_of_the_frame_through_tilted_rectangles(
    rects: list[tuple[float, float, float, float]], tilt_deg: float, place: tuple[float, float]
) -> None:
    region = covering(np.array(rects), FRAME, tilt_deg=tilt_deg)
    assert region.x >= 0 and region.x + region.width <= FRAME.width
    assert region.y >= 0 and region.y + region.height <= FRAME.height
    for x, y, width, height in rects:
        seen = complex(x + place[0] * width, y + place[1] * height)
        # y points down: back from a counter-clockwise turn is a multiplication by exp(i angle)
        at = (seen - complex(96, 64)) * np.exp(1j * np.deg2rad(tilt_deg)) + complex(96, 64)
        if 0 <= at.real <= FRAME.width and 0 <= at.imag <= FRAME.height:
            assert region.x - 1e-6 <= at.real <= region.x + region.width + 1e-6
            assert region.y - 1e-6 <= at.imag <= region.y + region.height + 1e-6


def test_a_pan_gives_regions_of_one_shape() -> None:
    sizes = {
        covering(np.array([[x, 40.0, 600.0, 1000.0]]), Size(1920, 1080)).size
        for x in np.arange(30, 1200, 0.7)
    }
    assert len(sizes) <= 2
    assert all(size.width % BUCKET_PX == 0 for size in sizes)


def test_tiles_cover_every_pixel_once() -> None:
    for side, tile, overlap in ((100, 32, 6), (64, 64, 6), (65, 16, 40)):
        kept = [
            k for span in spans(side, tile, overlap) for k in range(span.kept_start, span.kept_stop)
        ]
        assert kept == list(range(side))


def test_tiles_that_overlap_by_the_receptive_radius_are_exact() -> None:
    network = seeded(TINY)
    image = torch.rand(1, 3, 70, 90)
    whole = network(image)
    tiled = in_tiles(network, image, 4, 32, TINY.receptive_radius)
    assert float((whole - tiled).abs().max()) < 1e-5


def test_feathered_tiles_have_no_seam() -> None:
    """A network whose tiles differ by a constant: the step is spread over the feather."""

    def forward(rgb: Tensor) -> Tensor:
        level = float(forward.calls)  # type: ignore[attr-defined]
        forward.calls += 1  # type: ignore[attr-defined]
        return torch.full((1, 3, rgb.shape[2], rgb.shape[3]), level)

    forward.calls = 0  # type: ignore[attr-defined]
    made = in_tiles(forward, torch.zeros(1, 3, 80, 200), 1, 100, None)
    row = made[0, 0, 40]
    assert (float(row[0]), float(row[-1])) == (0, 1)
    assert float(row.diff().abs().max()) < 1 / 60


def test_a_feathered_tile_that_keeps_less_than_the_feather() -> None:
    """The last one of a side that is a little longer than a whole number of tiles."""
    for height, width in ((160, 70), (70, 160), (129, 75)):
        image = torch.rand(1, 3, height, width)
        assert torch.allclose(in_tiles(lambda rgb: rgb, image, 1, 64, None), image, atol=1e-6)


def test_rgb_and_back() -> None:
    """Primary colours as ITU-R BT.709 has them, and a round trip within a code value."""
    picture = Picture(Size(16, 16))
    for code, rgb in {
        (16, 128, 128): (0, 0, 0),
        (235, 128, 128): (1, 1, 1),
        (63, 102, 240): (1, 0, 0),
        (173, 42, 26): (0, 1, 0),
        (32, 240, 118): (0, 0, 1),
    }.items():
        for plane, value in zip(picture.planes, code, strict=True):
            plane.fill(value)
        made = rgb_of_i420(torch.from_numpy(picture.buffer[None]))
        np.testing.assert_allclose(made[0, :, 8, 8], rgb, atol=0.01)
        back = ycc_of_rgb(made)[0, :, 8, 8]
        np.testing.assert_allclose(back, code, atol=1)


@needs_ffmpeg
def test_rgb_is_what_ffmpeg_makes_of_it(tmp_path: Path) -> None:
    frame = a_frame(3)
    picture = Picture(FRAME)
    for plane, samples in zip(picture.planes, frame.planes, strict=True):
        plane[:] = samples
    (tmp_path / "a.yuv").write_bytes(picture.buffer.tobytes())
    convert = (
        "scale=in_color_matrix=bt709:in_h_chr_pos=0:in_v_chr_pos=128"
        ":flags=bilinear+accurate_rnd+full_chroma_int"
    )
    raw = run(
        "ffmpeg", "-v", "error", "-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", str(FRAME), "-i",
        tmp_path / "a.yuv", "-vf", convert, "-f", "rawvideo", "-pix_fmt", "rgb24", "-",
    )  # fmt: skip
    theirs = np.frombuffer(raw, np.uint8).reshape(FRAME.height, FRAME.width, 3)
    ours = rgb_of_i420(torch.from_numpy(picture.buffer[None]))[0].permute(1, 2, 0).numpy() * 255
    assert np.abs(ours - theirs).mean() < 0.7


def test_a_network_that_only_enlarges_gives_the_plain_picture() -> None:
    """So the crop, its place to the fraction of a pixel, and the colours survive the detour."""
    network = Network(TINY, nn.Upsample(scale_factor=4, mode="bicubic"))
    ours = pictures(stage(network), crops(3))
    plain = pictures(PlainResampler("test"), crops(3))
    for a, b in zip(ours, plain, strict=True):
        for mine, theirs in zip(a.planes, b.planes, strict=True):
            assert np.abs(mine.astype(int) - theirs).mean() < 0.8


ENLARGES = Network(TINY, nn.Upsample(scale_factor=4, mode="bicubic"))


@pytest.mark.parametrize("on_device", [False, True])
@pytest.mark.parametrize("tilt_deg", [20.0, -7.3])
def test_a_tilted_clip_is_tilted_behind_a_network_too(tilt_deg: float, on_device: bool) -> None:
    """The crops reach over the frame's border, where it is black as in the plain picture."""
    given_crops = [FrameCrop(crop.frame, crop.rect - [20, 10, 0, 0]) for crop in crops(2)]
    ours = pictures(stage(ENLARGES, on_device=on_device), given_crops, tilt_deg=tilt_deg)
    plain = pictures(PlainResampler("test"), given_crops, tilt_deg=tilt_deg)
    for a, b in zip(ours, plain, strict=True):
        for mine, theirs, black in zip(a.planes, b.planes, BLACK, strict=True):
            assert np.abs(mine.astype(int) - theirs).mean() < 1.2
            assert (mine[:20, :4] == black).all() and (theirs[:20, :4] == black).all()


@pytest.mark.parametrize("on_device", [False, True])
def test_beyond_the_frame_it_is_black_though_a_network_was_given_more(on_device: bool) -> None:
    """A frame of odd sides, all white, in a region with even ones. How many pixels of a row or a
    column are white tells where the frame ends."""
    size = Size(161, 121)
    half = (61, 81)
    white, grey = np.full((121, 161), 235, np.uint8), np.full(half, 128, np.uint8)
    crop = FrameCrop(
        SourceFrame(0, (white, grey, grey), 8, (2, 2), (0.0, 0.5), None),
        np.array([90.0, 0.0, 68.0, 121.0]),
    )
    framing = Framing(TARGET, Fit.STRETCH, 6.0)
    ours, plain = (
        next(iter(each.pictures([crop], a_source(size=size), framing))).on_host().y.astype(float)
        for each in (stage(ENLARGES, on_device=on_device), PlainResampler("test"))
    )
    for axis in (0, 1):
        white_px = [(each - 16).sum(axis) / 219 for each in (ours, plain)]
        off = np.abs(white_px[0] - white_px[1])
        assert off[30:-30].max() < 0.3  # both borders ring in the corners


@pytest.mark.parametrize("on_device", [False, True])
def test_codes_beyond_black_and_white_are_those_of_the_plain_picture(on_device: bool) -> None:
    """Whites of 250, blacks of 4, and a blue of more luma than blue light has."""
    half = (FRAME.height // 2, FRAME.width // 2)
    luma = np.full((FRAME.height, FRAME.width), 250, np.uint8)
    luma[:, 40:56], luma[40:60, 56:] = 4, 180
    blue, red = np.full(half, 128, np.uint8), np.full(half, 128, np.uint8)
    blue[20:30, 28:] = 230
    crop = FrameCrop(SourceFrame(0, (luma, blue, red), 8, (2, 2), (0.0, 0.5), None),
                     np.array([20.0, 10.0, 54.0, 96.0]))  # fmt: skip
    (ours,) = pictures(stage(ENLARGES, on_device=on_device), [crop])
    (plain,) = pictures(PlainResampler("test"), [crop])
    assert plain.y.max() >= 250 and plain.y.min() <= 4
    for mine, theirs in zip(ours.planes, plain.planes, strict=True):
        off = np.abs(mine.astype(int) - theirs)
        assert np.percentile(off, 80) <= 1  # edges are enlarged in another way
        assert off.mean() < 2


def beyond_the_range() -> FrameCrop:
    """Noise whose codes red, green and blue cannot make."""
    random = np.random.default_rng(3)
    half = (FRAME.height // 2, FRAME.width // 2)
    coarse = random.integers(0, 256, (FRAME.height // 8, FRAME.width // 8), np.uint8)
    luma = coarse.repeat(8, 0).repeat(8, 1)
    blue, red = (random.integers(100, 157, half, np.uint8) for _ in range(2))
    frame = SourceFrame(0, (luma, blue, red), 8, (2, 2), (0.0, 0.5), None)
    return FrameCrop(frame, np.array([20.3, 10.6, 54.0, 96.0]))


@pytest.mark.parametrize("tilt_deg", [0.0, 9.4])
@pytest.mark.parametrize("scale", [2, 4])
def test_every_way_to_resample_agrees_on_what_lies_beyond_black_and_white(
    scale: int, tilt_deg: float
) -> None:
    """By dense matrices, along the band, and by the integer sampler of the CPU."""
    shape = replace(TINY, scale=scale)
    network = Network(shape, nn.Upsample(scale_factor=scale, mode="bicubic"))
    crop = beyond_the_range()
    host, banded, dense = (
        pictures(upscaler, [crop], tilt_deg=tilt_deg)
        for upscaler in (
            stage(network),
            stage(network, on_device=True),
            stage(network, on_device=True, tuning=replace(TUNED, banded_resampling=False)),
        )
    )
    assert host[0].y.max() > 240 and host[0].y.min() < 12
    assert apart(host, dense) <= 1
    assert apart(host, banded) <= 1


@needs_ffmpeg
def test_one_white_is_one_white_in_a_reel_of_both_ways(tmp_path: Path) -> None:
    levels = "nullsrc=s=160x96:r=10:d=0.4,format=yuv420p,geq=lum='if(lt(X,80),250,5)':cb=128:cr=128"
    run("ffmpeg", "-v", "error", "-f", "lavfi", "-i", levels, "-c:v", "ffv1", tmp_path / "a.mkv")
    whole, part = Rect(0, 0, 160, 96), Rect(60, 30, 40, 24)
    edit = Edit(
        [Clip("a.mkv", [CropKeyframe(0, part)]), Clip("a.mkv", [CropKeyframe(0, whole)])],
        target_size=Size(160, 96),
        target_fps=F(10),
        include_audio=False,
    )
    plan = build_plan(edit, probe_sources(edit, tmp_path))
    upscaler = PerClip(stage(ENLARGES), PlainResampler("test"))
    encoder = choose_encoder(plan.size, plan.fps, name="libx264")
    export(plan, tmp_path / "out.mp4", upscaler=upscaler, encoder=encoder)
    by_network, plain = luma_frames(tmp_path / "out.mp4")[[1, 5]].astype(float)
    for columns, code in ((slice(0, 60), 250), (slice(100, 160), 5)):
        assert plain[:, columns].mean() == pytest.approx(code, abs=1)
        assert by_network[:, columns].mean() == pytest.approx(code, abs=1)


@pytest.mark.parametrize("tilt_deg", [0.0, 9.4])
@pytest.mark.parametrize("fit", Fit)
def test_both_ways_to_finish_agree(fit: Fit, tilt_deg: float) -> None:
    """The integer sampler of the CPU, and the torch resampler of a GPU, here on a CPU."""
    network = seeded(TINY)
    given_crops = [FrameCrop(crop.frame, crop.rect * [1, 1, 1.3, 1]) for crop in crops(2)]
    on_host = pictures(stage(network), given_crops, fit, tilt_deg)
    there = pictures(stage(network, on_device=True), given_crops, fit, tilt_deg)
    assert apart(on_host, there) <= 1


@pytest.mark.parametrize("batch", [2, 4])
def test_batches_of_any_size_give_the_same_pictures(batch: int) -> None:
    network = seeded(TINY)
    given_crops = crops(7)
    assert (
        apart(
            pictures(stage(network, 1), given_crops), pictures(stage(network, batch), given_crops)
        )
        <= 1
    )


@pytest.mark.parametrize("cut", [1, 4])
def test_a_chunk_border_changes_no_picture(cut: int) -> None:
    """Cut between source frames, so that batches are others: 4 and 3 frames, not 5 and 2."""
    upscaler, given_crops = stage(seeded(TINY), 4), crops(7)
    parts = pictures(upscaler, given_crops[:cut]) + pictures(upscaler, given_crops[cut:])
    assert apart(parts, pictures(upscaler, given_crops)) <= 1
    upscaler = stage(seeded(TINY), 1)
    parts = pictures(upscaler, given_crops[:cut]) + pictures(upscaler, given_crops[cut:])
    assert apart(parts, pictures(upscaler, given_crops)) == 0


def test_tiles_for_want_of_memory_give_the_same_pictures() -> None:
    """A network whose tiles are exact, on a crop of 336x160 pixels, within a code value."""
    wide = Rect(20.3, 8.6, 300, 140)
    frames = [a_frame(seed, Size(400, 180)) for seed in range(2)]
    sides = np.array([wide.x, wide.y, wide.width, wide.height])
    given_crops = [FrameCrop(frame, sides) for frame in frames]
    network = seeded(TINY)
    tight = Network(TINY, Tight(network.module, 150 * 150))
    upscaler = stage(tight)
    ours, whole = (
        [
            made.on_host()
            for made in each.pictures(
                given_crops, a_source(size=Size(400, 180)), Framing(TARGET, Fit.COVER)
            )
        ]
        for each in (upscaler, stage(network))
    )
    assert apart(ours, whole) <= 1
    assert any("in tiles of" in event for event in upscaler.events)


def test_the_last_batch_is_padded_where_larger_ones_came_before() -> None:
    """One that follows none is not padded, and no picture is counted twice."""
    runner = Runner(Network(TINY, Nearest(4)), CPU, Precision.FP32)
    runner._pads = True
    sizes = [(2, 16, 16), (4, 16, 16), (1, 16, 16), (3, 32, 16), (4, 16, 16)]
    for count, height, width in sizes:
        images = torch.rand(count, 3, height, width)
        assert torch.equal(runner(images), Nearest(4)(images))
    assert (nearest(runner).calls, runner.images) == ([2, 4, 4, 3, 4], 14)


def test_a_batch_is_not_padded_beyond_what_fits() -> None:
    runner = Runner(Network(TINY, Fussy(2 * 256)), CPU, Precision.FP32)
    runner._pads = True
    for count in (4, 1):
        images = torch.rand(count, 3, 16, 16)
        assert torch.equal(runner(images), Nearest(4)(images))
    assert nearest(runner).calls == [2, 2, 2]


class Repeats:
    """A `CompiledNetwork` of another library: it repeats pixels, in its own type."""

    dtype = torch.float64
    fixed_shapes = True

    def __init__(self) -> None:
        self.calls: list[int] = []

    def __call__(self, images: Tensor) -> Tensor:
        assert images.dtype == self.dtype
        self.calls.append(len(images))
        made: Tensor = Nearest(4)(images)
        return made


def test_a_compiled_network_computes_in_place_of_torch() -> None:
    """Batches have its type and are padded to its shapes; the torch network isn't asked."""
    compiled, unasked = Repeats(), Network(TINY, Overflowing(4))
    runner = Runner(unasked, CPU, Precision.BF16, compiled=compiled)
    for count in (3, 1):
        images = torch.rand(count, 3, 16, 16)
        made = runner(images)
        assert made.dtype == torch.float32 and torch.equal(made, Nearest(4)(images))
    assert compiled.calls == [3, 3]


def test_the_network_sees_each_source_frame_once() -> None:
    """Slow motion with a moving crop: five source frames, four rectangles each."""
    upscaler = stage(Network(TINY, Nearest(4)), 2)
    made = pictures(upscaler, crops(5, of_each=4))
    assert (len(made), sum(forwarded(upscaler))) == (20, 5)
    assert forwarded(upscaler) == [2, 2, 1]


def test_out_of_memory_halves_the_batch_and_says_so() -> None:
    region = covering(np.array([crops(1)[0].rect]), FRAME)
    fussy = Network(TINY, Fussy(2 * region.width * region.height))
    upscaler = stage(fussy, 4)
    expected = pictures(stage(Network(TINY, Nearest(4)), 1), crops(8, pace=0))
    assert apart(expected, pictures(upscaler, crops(8, pace=0))) == 0
    assert forwarded(upscaler) == [2, 2, 2, 2]
    assert upscaler._runner.events == ["out of memory: batches of 2 from here on"]


def test_finished_pictures_that_do_not_fit_halve_the_batch_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    upscaler, given_crops = stage(seeded(TINY), 4, on_device=True), crops(5)
    wanted = pictures(upscaler, given_crops)
    finish = NetworkStage._on_device

    def fussy(self: NetworkStage, batch: list[UpscaleRegion], framing: Framing) -> Finish:
        if len(batch) > 1:
            raise torch.OutOfMemoryError("too many pictures")
        return finish(self, batch, framing)

    monkeypatch.setattr(NetworkStage, "_on_device", fussy)
    assert apart(pictures(upscaler, given_crops), wanted) <= 1
    assert upscaler.events == [
        f"network: out of memory: batches of {most} from here on" for most in (2, 1)
    ]


@needs_ffmpeg
def test_the_report_tells_when_memory_ran_out(tmp_path: Path) -> None:
    gradient(tmp_path / "a.mp4")
    edit = Edit([Clip("a.mp4", trim_stop_s=F(1, 5))], target_size=Size(300, 180))
    plan = build_plan(edit, probe_sources(edit, tmp_path))
    fussy = stage(Network(TINY, Fussy(2 * 160 * 96)), 4)
    report = export(plan, tmp_path / "out.mp4", upscaler=Everywhere(fussy))
    assert report.warnings == ("network: out of memory: batches of 2 from here on",)


def test_out_of_memory_for_one_picture_tiles_it() -> None:
    image = torch.rand(1, 3, 256, 300)
    runner = Runner(Network(TINY, Fussy(100 * 100)), CPU, Precision.FP32)
    whole = Network(TINY, Nearest(4))(image)
    assert torch.equal(runner(image), whole)
    assert runner.events == ["out of memory: in tiles of 75 pixels from here on"]


def test_too_little_memory_for_any_tile_is_an_error() -> None:
    runner = Runner(Network(TINY, Fussy(10)), CPU, Precision.FP32)
    with pytest.raises(UpscalerError, match="not enough memory for a tile"):
        runner(torch.rand(1, 3, 256, 256))


def test_what_is_not_finite_is_computed_again_in_float32() -> None:
    upscaler = NetworkStage(Runner(Network(TINY, Overflowing(4)), CPU, Precision.BF16), batch=2)
    expected = pictures(stage(Network(TINY, Nearest(4))), crops(3))
    assert apart(expected, pictures(upscaler, crops(3))) == 0
    assert len(upscaler._runner.events) == 2


def test_two_pictures_are_computed_at_once_and_come_in_order() -> None:
    """Each of two passes waits for the other."""

    class Meeting(Nearest):
        barrier = threading.Barrier(2)

        def forward(self, rgb: Tensor) -> Tensor:
            self.barrier.wait(timeout=10)
            return super().forward(rgb)

        def __deepcopy__(self, _memo: object) -> Meeting:
            return self

    threads = torch.get_num_threads()
    runner = Runner(Network(TINY, Meeting(4)), CPU, Precision.FP32, at_once=2)
    expected = pictures(stage(Network(TINY, Nearest(4))), crops(6))
    assert apart(expected, pictures(NetworkStage(runner), crops(6))) == 0
    assert runner.images == 6
    assert torch.get_num_threads() == threads


def test_never_finite_is_an_error() -> None:
    class Broken(Nearest):
        def forward(self, rgb: Tensor) -> Tensor:
            return super().forward(rgb) * torch.nan

    with pytest.raises(UpscalerError, match="not finite, in float32 either"):
        pictures(stage(Network(TINY, Broken(4))), crops(1))


def test_a_network_of_scale_2_takes_even_sides() -> None:
    shape = RRDBShape(features=8, growth=4, blocks=1, scale=2)
    assert len(pictures(stage(seeded(shape)), crops(2))) == 2


def test_names_and_devices() -> None:
    assert choose_upscaler("none").stage_for(9).key == "bicubic"
    with pytest.raises(UpscalerError, match="there is no upscaler 'magic'; there are auto, none"):
        choose_upscaler("magic")
    with pytest.raises(UpscalerError, match="there is no device 'tpu'"):
        choose_upscaler("realesrgan", "tpu")
    assert {"auto", "none", QUALITY, "realesr-general-x4v3"} <= set(UPSCALERS)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_cuda_auto_is_plain_and_says_how_to_force_a_network() -> None:
    upscaler = choose_upscaler("auto")
    assert upscaler.name == "none"
    assert upscaler.why == (
        "auto: no CUDA device here, so plain resampling; "
        "ask for realesr-general-x4v3 to run it all the same"
    )


@pytest.mark.parametrize(
    ("name", "scale", "model"),
    [
        ("auto", 1.0, None),
        ("auto", 1.8, "realesr-general-x4v3"),
        (QUALITY, 1.8, "realesrgan-x2plus"),
        (QUALITY, 2.1, "realesrgan-x4plus"),
        ("realesr-animevideov3", 0.5, "realesr-animevideov3"),
    ],
)
def test_the_model_follows_from_how_much_a_clip_is_enlarged(
    name: str, scale: float, model: str | None
) -> None:
    chosen = network_for(name, scale)
    assert (chosen.name if chosen else None) == model


def gradient(path: Path) -> Path:
    return numbered_clip(path, 24, size=(160, 96))


@needs_ffmpeg
@pytest.mark.parametrize(
    ("speed", "stop_s", "needed"), [(4, F(4, 5), 6), (F(1, 4), F(1, 5), 6), (1, F(1, 3), 10)]
)
def test_an_export_runs_the_network_once_per_source_frame(
    speed: F, stop_s: F, needed: int, tmp_path: Path
) -> None:
    """A speed-up, a slow motion and a trim; the numbers in the pixels tell the frames."""
    gradient(tmp_path / "a.mp4")
    pan = [CropKeyframe(0, Rect(0, 0, 150, 90)), CropKeyframe(1, Rect(9, 5, 150, 90))]
    clip = Clip("a.mp4", pan, trim_stop_s=stop_s, speed_segments=[SpeedSegment(0, stop_s, speed)])
    edit = Edit([clip], target_size=Size(300, 180), include_audio=False)
    plan = build_plan(edit, probe_sources(edit, tmp_path))
    network = stage(Network(TINY, Nearest(4)), 4)
    report = export(
        plan,
        tmp_path / "out.mp4",
        upscaler=Everywhere(network),
        encoder=choose_encoder(plan.size, plan.fps, name="libx264"),
    )
    assert (sum(forwarded(network)), report.source_frames) == (needed, needed)
    shown = [read_number(luma) for luma in luma_frames(tmp_path / "out.mp4")]
    assert shown == [int(k * speed) for k in range(plan.frame_count)]


class Everywhere:
    """An upscaler that sends every clip through one stage."""

    name, why, device = "test", "test", "cpu"

    def __init__(self, only: NetworkStage) -> None:
        self._only = Loaded(only)

    def stage_for(self, scale: float) -> StageSpec:
        assert scale > 1
        return self._only


def test_real_weights_on_a_real_crop_are_sharper_and_as_faithful() -> None:
    """Against bicubic: far more fine detail, and shrunk again it is still the source."""
    path = real_media("ball_juggle_720p24_noaudio_one_keyframe.mp4")
    network = load_network(real_weights("general"))
    edit = Edit([Clip(path, [CropKeyframe(0, Rect(520.3, 310.7, 72, 128))], trim_stop_s=F(1, 30))])
    (found,) = probe_sources(edit)
    plan = build_plan(edit, [found])
    with FrameReader(found, strict=True, on_warning=pytest.fail) as reader:
        crop = FrameCrop(next(reader.frames([int(plan.clips[0].pts[0])])), plan.clips[0].rects[0])
    size, source_size = Size(288, 512), Size(72, 128)
    by_network, by_bicubic = (
        next(iter(one.pictures([crop], found, Framing(size, Fit.STRETCH)))).on_host()
        for one in (stage(network), PlainResampler("test"))
    )
    assert sharpness(by_network.y) > 1.5 * sharpness(by_bicubic.y)
    plain = next(PlainResampler("test").pictures([crop], found, Framing(source_size, Fit.STRETCH)))
    shrunk = by_network.y.reshape(128, 4, 72, 4).mean((1, 3))
    error = np.square(shrunk - plain.y).mean()
    assert 10 * np.log10(255**2 / error) > 28


def sharpness(luma: NDArray[np.uint8]) -> float:
    """Mean absolute Laplacian: how much fine detail a picture holds."""
    p = luma.astype(int)
    return float(
        np.abs(4 * p[1:-1, 1:-1] - p[:-2, 1:-1] - p[2:, 1:-1] - p[1:-1, :-2] - p[1:-1, 2:]).mean()
    )

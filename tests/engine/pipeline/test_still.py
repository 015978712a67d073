"""One output frame by itself, against whole exports, the formulas of BT.709 and ffmpeg."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from fractions import Fraction as F
from pathlib import Path

import numpy as np
import pytest
import torch
import xxhash
from typer.testing import CliRunner

from engine.cli.main import app
from engine.geometry import Rect, Size
from engine.media.encoders import choose_encoder
from engine.media.image import jpeg, png
from engine.pipeline.exporter import export, probe_sources
from engine.pipeline.still import frame_at, render_still
from engine.pixels.picture import Picture
from engine.timeline.edit import Clip, CropKeyframe, Edit, SpeedSegment, Transition
from engine.timeline.plan import Plan, build_plan
from engine.upscale.inference import Precision, Runner
from engine.upscale.network import CompactShape, Network
from engine.upscale.network_stage import NetworkStage
from engine.upscale.stage import PlainResampler, StageSpec, Upscaler
from tests.clips import numbered_clip
from tests.engine.upscale.stages import Loaded
from tests.media import needs_ffmpeg
from tests.witness import run

PLAIN = PlainResampler("asked for")


@dataclass(frozen=True)
class OneStage:
    """An upscaler that sends every clip through a network of random weights."""

    stage: NetworkStage
    name: str = "seeded"
    why: str = "test"
    device: str = "cpu"

    def stage_for(self, scale: float) -> StageSpec:
        assert scale > 0
        return Loaded(self.stage)


def a_network() -> Upscaler:
    torch.manual_seed(7)
    shape = CompactShape(features=8, inner_convs=2, scale=4)
    network = Network(shape, shape.build().eval().requires_grad_(False))
    runner = Runner(network, torch.device("cpu"), Precision.FP32)
    return OneStage(NetworkStage(runner))


def reel(folder: Path) -> Plan:
    """A pan in slow motion, a dissolve, and a second clip in a fade."""
    for name, fps in (("a.mp4", 30), ("b.mp4", 24)):
        numbered_clip(folder / name, 24, fps, size=(128, 96))
    pan = [
        CropKeyframe(0, Rect(0, 0, 54, 96)),
        CropKeyframe(F(1, 2), Rect(70.5, 3.25, 48, 85.5), "smooth"),
    ]
    edit = Edit(
        [
            Clip("a.mp4", pan, trim_stop_s=0.3, speed_segments=[SpeedSegment(0.1, 0.2, 0.3)]),
            Clip("b.mp4", trim_start_s=0.1, trim_stop_s=0.4),
            Clip("a.mp4", trim_start_s=0.6),
        ],
        [Transition("dissolve", 0.1), Transition("fade", 0.1)],
        target_size=Size(72, 128),
    )
    return build_plan(edit, probe_sources(edit, folder))


@needs_ffmpeg
@pytest.mark.parametrize("upscaler", [PLAIN, a_network()], ids=["plain", "network"])
def test_every_still_is_the_frame_the_encoder_was_given(
    upscaler: Upscaler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # borders inside slow motion too
    monkeypatch.setattr("engine.timeline.chunks.MAX_CHUNK_FRAMES", 7)
    plan = reel(tmp_path)
    encoder = choose_encoder(plan.size, plan.fps, name="libx264", preset="ultrafast")
    report = export(plan, tmp_path / "out.mp4", upscaler=upscaler, encoder=encoder)
    assert len(report.chunks) > 6
    for chunk in report.chunks:
        frames = xxhash.xxh3_128()
        for frame in range(chunk.start_frame, chunk.stop_frame):
            frames.update(render_still(plan, frame, upscaler).buffer.data)
        assert frames.hexdigest() == chunk.frame_hash, chunk


def test_a_time_is_a_frame(tmp_path: Path) -> None:
    plan = reel(tmp_path)
    assert [frame_at(plan, F(each)) for each in ("0", "0.033", "0.0333", "0.05", "0.1")] == [
        0, 1, 1, 1, 3,
    ]  # fmt: skip
    assert frame_at(plan, F(99)) == plan.frame_count - 1
    with pytest.raises(ValueError, match=f"frames 0 to {plan.frame_count - 1}, not"):
        render_still(plan, plan.frame_count, PLAIN)


def test_png_undoes_bt709() -> None:
    """Flat colours, against the formulas of BT.709 in floats."""
    rng = np.random.default_rng(3)
    codes = np.stack([rng.integers(40, 216, 12), *rng.integers(90, 166, (2, 12))], -1)
    for y, cb, cr in codes.tolist():
        picture = Picture(Size(8, 8))
        for plane, value in zip(picture.planes, (y, cb, cr), strict=True):
            plane.fill(value)
        luma, blue, red = (y - 16) / 219, (cb - 128) / 224, (cr - 128) / 224
        r, b = luma + 1.5748 * red, luma + 1.8556 * blue
        g = (luma - 0.2126 * r - 0.0722 * b) / 0.7152
        wanted = np.clip(np.array([r, g, b]) * 255, 0, 255)
        assert np.abs(pixels(png(picture)) - wanted).max() <= 1, (y, cb, cr)


def pixels(data: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """An image file as ffmpeg reads it, shape (pixels, 3)."""
    command = ["ffmpeg", "-v", "error", "-i", "-", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    done = subprocess.run(command, input=data, capture_output=True, check=True)
    return np.frombuffer(done.stdout, np.uint8).reshape(-1, 3).astype(int)


@needs_ffmpeg
def test_the_command_writes_what_ffmpeg_sees_in_an_export(tmp_path: Path) -> None:
    numbered_clip(tmp_path / "a.mp4", 30, size=(128, 96))
    (tmp_path / "edit.json").write_text(
        '{"clips": [{"fileName": "a.mp4"}], "targetWidth": 128, "targetHeight": 96}'
    )
    still, out = tmp_path / "frame.png", tmp_path / "out.mp4"
    for words in (
        ["frame", tmp_path / "edit.json", "--at", "0.5", "-o", still],
        ["render", tmp_path / "edit.json", "-o", out, "--quality", "1", "-q"],
    ):
        done = CliRunner().invoke(app, [str(word) for word in words])
        assert done.exit_code == 0, done.output
    exact = ["-sws_flags", "accurate_rnd+full_chroma_int+bicubic"]
    decoded = run("ffmpeg", "-v", "error", "-i", out, *exact, "-vf", "select=eq(n\\,15)",
                  "-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "rgb24", "-")  # fmt: skip
    theirs = np.frombuffer(decoded, np.uint8).astype(int)
    ours = pixels(still.read_bytes()).reshape(-1)
    assert np.abs(ours - theirs).mean() < 0.5
    assert np.abs(ours - theirs).max() <= 6


def test_a_jpeg_is_what_the_png_is() -> None:
    picture = Picture(Size(64, 48))
    picture.y[:] = np.linspace(30, 220, 64)
    picture.u[:], picture.v[:] = 100, 160
    assert np.abs(pixels(jpeg(picture)) - pixels(png(picture))).mean() < 3

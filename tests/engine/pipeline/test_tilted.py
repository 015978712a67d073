"""Clips with a rotation, from the edit to the film, against the affine resampler of the tests."""

from __future__ import annotations

import subprocess
from fractions import Fraction as F
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from engine.geometry import Rect, Size
from engine.media.encoders import choose_encoder
from engine.pipeline.exporter import export, probe_sources
from engine.pipeline.still import render_still
from engine.timeline.edit import Clip, CropKeyframe, Edit, Transition
from engine.timeline.plan import Plan, build_plan
from engine.upscale.stage import PlainResampler
from tests.engine.pixels.affine import View
from tests.engine.pixels.test_crop import scene
from tests.media import needs_ffmpeg
from tests.witness import luma_frames

pytestmark = needs_ffmpeg
PLAIN = PlainResampler("test")


def standing(path: Path, luma: NDArray[np.uint8], frames: int) -> NDArray[np.uint8]:
    """A lossless grey film of ten frames per second that stands still; gives the luma."""
    height, width = luma.shape
    grey = np.full((height // 2, width // 2), 128, np.uint8)
    command = ["ffmpeg", "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "yuv420p"]
    command += ["-s", f"{width}x{height}", "-r", "10", "-i", "-", "-c:v", "ffv1"]
    command += ["-colorspace", "bt709", "-color_range", "tv", str(path)]
    picture = b"".join(plane.tobytes() for plane in (luma, grey, grey))
    subprocess.run(command, input=picture * frames, check=True)
    return luma


def planned(folder: Path, clips: list[Clip], transition: Transition | None = None) -> Plan:
    edit = Edit(
        clips,
        transition or Transition("cut"),
        target_size=Size(96, 64),
        target_fps=F(10),
        include_audio=False,
    )
    return build_plan(edit, probe_sources(edit, folder))


def test_a_dissolve_of_two_rotations(tmp_path: Path) -> None:
    """Every frame as a still, which the film is made of, against both layers in float64."""
    rects = {"a": (11.3, 8.7, 75.0, 50.0), "b": (40.0, 30.5, 48.0, 32.0)}
    angles = {"a": 12.5, "b": -7.0}
    lumas = {
        name: standing(
            tmp_path / f"{name}.mkv", (16 + 219 * scene(160, 120, seed)).astype(np.uint8), 8
        )
        for seed, name in enumerate(rects)
    }
    clips = [
        Clip(f"{name}.mkv", [CropKeyframe(0, Rect(*rects[name]))], rotation_deg=angles[name])
        for name in rects
    ]
    plan = planned(tmp_path, clips, Transition("dissolve", F(3, 10)))
    a, b = (
        View(rects[name], (96, 64), angles[name], (160, 120), (160, 120)).plane(lumas[name], 16)
        for name in rects
    )
    stills = [render_still(plan, frame, PLAIN) for frame in range(plan.frame_count)]
    shares = [0.0] * 5 + [0.25, 0.5, 0.75] + [1.0] * 5
    for still, share in zip(stills, shares, strict=True):
        wanted = (1 - share) * a + share * b
        assert np.abs(still.y - wanted.clip(0, 255)).max() <= 1.3
        assert (still.u == 128).all() and (still.v == 128).all()
    encoder = choose_encoder(plan.size, plan.fps, name="libx264", preset="ultrafast")
    report = export(plan, tmp_path / "out.mp4", upscaler=PLAIN, encoder=encoder)
    for chunk in report.chunks:
        frames = xxhash.xxh3_128()
        for still in stills[chunk.start_frame : chunk.stop_frame]:
            frames.update(still.buffer.data)
        assert frames.hexdigest() == chunk.frame_hash


def test_a_slow_pan_in_a_rotated_film_shakes_no_more_than_in_an_upright_one(tmp_path: Path) -> None:
    """A tenth of a pixel per frame; the edge's place in each frame of the decoded film."""
    luma = np.full((160, 160), 40, np.uint8)
    luma[:, 80:] = 200
    standing(tmp_path / "edge.mkv", luma, 40)

    def off(rotation_deg: float) -> NDArray[np.float64]:
        pan = [CropKeyframe(at, Rect(44 + at, 50, 66, 44)) for at in (0, 4)]
        plan = planned(tmp_path, [Clip("edge.mkv", pan, rotation_deg=rotation_deg)])
        encoder = choose_encoder(plan.size, plan.fps, name="libx264", quality=1)
        export(plan, tmp_path / "out.mp4", upscaler=PLAIN, encoder=encoder)
        pictures = luma_frames(tmp_path / "out.mp4").astype(float)
        place = ((200 - pictures) / 160).sum(2)
        y, left = 50 + (np.arange(64) + 0.5) * 66 / 96, 44 + 0.1 * np.arange(40)[:, None]
        edge = 80 + (y - 80) * np.tan(np.deg2rad(rotation_deg))
        distance: NDArray[np.float64] = place - (edge - left) * 96 / 66
        return distance

    upright, rotated = off(0), off(11.3)
    assert rotated.mean(1).std() <= upright.mean(1).std()
    assert np.abs(rotated.mean(1)).max() < 0.02
    assert np.abs(rotated).max() < 0.1

"""What an export will take: counts that the report confirms, times that were measured or are not
told, and Modal's arithmetic by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from typer.testing import CliRunner

from engine.cli.main import app
from engine.geometry import Rect, Size
from engine.media.encoders import choose_encoder
from engine.pipeline.estimate import (
    ASSUMPTIONS,
    T4_COSTS,
    estimate,
    measured,
    t4_frame_parts_s,
    t4_work_s,
)
from engine.pipeline.exporter import export, probe_sources
from engine.pipeline.history import History, Run
from engine.timeline.chunks import chunk_ranges
from engine.timeline.edit import Clip, CropKeyframe, Edit, SpeedSegment, Transition
from engine.timeline.plan import Plan, build_plan
from engine.upscale.choice import choose_upscaler
from engine.upscale.models import GENERAL, X2PLUS, X4PLUS
from tests.clips import numbered_clip
from tests.sources import a_source

RUN = Run("none", "libx264 veryfast", 1080, 1920, 1, frames=300, source_frames=200, wall_s=30)


def a_plan(*, frames: int = 300, width: float = 607.5, speed: float = 1) -> Plan:
    crop = [CropKeyframe(0, Rect(0, 0, width, width * 16 / 9))]
    clip = Clip("a.mp4", crop, speed_segments=[SpeedSegment(0, 100, speed)])
    return build_plan(Edit([clip]), [a_source(frames=frames)])


def test_counts_are_those_of_the_report(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        numbered_clip(tmp_path / name, 24, size=(64, 48))
    slow, fast = SpeedSegment(0, 0.3, 0.5), SpeedSegment(0, 0.8, 4)
    edit = Edit(
        [Clip("a.mp4", speed_segments=[slow]), Clip("b.mp4", speed_segments=[fast])],
        Transition("dissolve", 0.1),
        target_size=Size(64, 96),
    )
    plan = build_plan(edit, probe_sources(edit, tmp_path))
    upscaler = choose_upscaler("none")
    encoder = choose_encoder(plan.size, plan.fps, name="libx264", preset="ultrafast")
    history = History(tmp_path / "folder" / "speeds")

    before = estimate(plan, history, upscaler=upscaler, encoder=encoder)
    report = export(plan, tmp_path / "out.mp4", upscaler=upscaler, encoder=encoder)
    assert (before.frames, before.source_frames) == (report.frames, report.source_frames)
    assert sum(before.chunk_frames) == report.frames
    assert len(before.chunk_frames) == len(report.chunks)
    assert before.upscaled_frames == 0  # no network here
    assert before.here_s is None and "unknown until a first export" in before.here_from

    run = measured(plan, report)
    assert run is not None
    history.add(run)
    after = estimate(plan, history, upscaler=upscaler, encoder=encoder)
    assert after.here_s == pytest.approx(report.wall_s)
    other = choose_encoder(plan.size, plan.fps, name="libx264", preset="medium")
    assert estimate(plan, history, upscaler=upscaler, encoder=other).here_s is None
    assert measured(plan, replace(report, frames_resumed=1)) is None


def test_speed_is_that_of_all_remembered_runs(tmp_path: Path) -> None:
    history = History(tmp_path / "speeds")
    plan = a_plan()
    encoder = choose_encoder(plan.size, plan.fps, name="libx264")
    history.add(RUN)
    history.add(replace(RUN, frames=100, wall_s=30))
    history.add(replace(RUN, width=64, wall_s=1e6))
    history.add(replace(RUN, workers=2, wall_s=1e6))
    told = estimate(plan, history, upscaler=choose_upscaler("none"), encoder=encoder)
    assert told.here_s == pytest.approx(300 * 60 / 400)
    assert told.here_from.startswith("as fast as 2 exports here before")


def test_a_network_is_estimated_by_source_frames(tmp_path: Path) -> None:
    history = History(tmp_path / "speeds")
    network = choose_upscaler("realesr-general-x4v3", "cpu")
    history.add(replace(RUN, upscaler=network.name))
    plan = a_plan(speed=0.5)
    encoder = choose_encoder(plan.size, plan.fps, name="libx264")
    told = estimate(plan, history, upscaler=network, encoder=encoder)
    assert (told.frames, told.source_frames, told.upscaled_frames) == (600, 300, 300)
    assert told.here_s == pytest.approx(300 * 30 / 200)


def test_modal_by_hand() -> None:
    plan = a_plan()
    first, second = (plan.layers(frames) for frames in chunk_ranges(plan))
    pixels = 1080 * 1920
    region_px, enlarged_px = 608 * 1088, 608 * 1088 * 16  # sides in multiples of 16
    frame_s = 2_418_048 * region_px / 22.5e12 + 33 * 64 * 4 * region_px / 250e9
    frame_s += 0.28e-9 * enlarged_px + 1.5e-9 * pixels + 0.001
    network_s = 240 * frame_s + 0.3
    assert t4_work_s(first, pixels, "auto") == pytest.approx(network_s)
    assert t4_work_s(first, pixels, "none") == pytest.approx(240 / 60)
    told = estimate(
        plan,
        History(Path("nowhere/speeds")),
        upscaler=choose_upscaler("none"),
        encoder=choose_encoder(plan.size, Fraction(30), name="libx264"),
    )
    work_s = network_s + 60 * frame_s + 0.3
    assert told.modal.containers == 1
    assert told.modal.wall_s == pytest.approx(T4_COSTS.startup_s + T4_COSTS.serial_s + work_s)
    assert told.modal.cost_usd > 0 and len(second[0].pts) == 60
    assert "not measured on Modal" in ASSUMPTIONS


def test_a_frame_on_a_t4_is_what_the_assumptions_say() -> None:
    """About 100 ms: its parts are those of the sentence that is said beside every estimate."""
    parts_s = t4_frame_parts_s(GENERAL, 624 * 1080, 1080 * 1920)
    assert {name: round(seconds * 1000) for name, seconds in parts_s.items()} == {
        "convolutions": 72,
        "activations": 23,
        "conversion": 3,
        "resampling": 3,
        "waits": 1,
    }
    said = ", ".join(f"{name} {seconds * 1000:.0f}" for name, seconds in parts_s.items())
    assert any(said in each for each in ASSUMPTIONS)


def test_larger_networks_take_longer() -> None:
    """Twice the side, 16 times the pixels behind: x2plus works at half the size of x4plus."""
    general_s, x2_s, x4_s = (
        sum(t4_frame_parts_s(model, 600 * 1066, 1080 * 1920).values())
        for model in (GENERAL, X2PLUS, X4PLUS)
    )
    assert 4 < x2_s / general_s < 7 and 15 < x4_s / general_s < 25


def test_plan_tells_what_it_takes(tmp_path: Path) -> None:
    numbered_clip(tmp_path / "a.mp4", 30, size=(64, 48))
    edit = tmp_path / "edit.json"
    edit.write_text('{"clips": [{"fileName": "a.mp4"}], "targetWidth": 64, "targetHeight": 96}')
    runner = CliRunner(env={"COLUMNS": "200", "FRAMESTREAM_HISTORY": str(tmp_path / "speeds")})

    def run(*words: object) -> str:
        done = runner.invoke(app, [str(word) for word in words])
        assert done.exit_code == 0, done.output
        return done.stdout

    assert "unknown until a first export here" in run("plan", edit)
    run("render", edit, "-o", tmp_path / "out.mp4", "-q", "--report", tmp_path / "report.json")
    told = json.loads(run("plan", edit, "--json"))["estimate"]
    report = json.loads((tmp_path / "report.json").read_text())
    assert (told["frames"], told["sourceFrames"]) == (report["frames"], report["source_frames"])
    assert told["here"]["seconds"] == pytest.approx(report["wall_s"], abs=0.06)
    assert told["modal"]["usd"] > 0 and told["modal"]["assumptions"]
    text = run("plan", edit)
    assert "30 frames in 1 chunk" in text and "1 chunks" not in text
    assert "not measured on Modal" in text

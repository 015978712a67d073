"""Chunks: where they are cut, and what their digests tell apart."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given

from engine.geometry import Fit, Rect, Size
from engine.timeline.chunks import MAX_CHUNK_FRAMES, Chunk, chunk_ranges, cut_into_chunks
from engine.timeline.edit import Clip, CropKeyframe, Edit, Transition
from engine.timeline.plan import Plan, build_plan
from tests.engine.timeline.test_plan import edits, planned
from tests.sources import a_source


def cut(plan: Plan, *, upscaler_key: str = "u", encoder_key: str = "e") -> tuple[Chunk, ...]:
    return cut_into_chunks(plan, stage_key=lambda _: upscaler_key, encoder_key=encoder_key)


def digests(plan: Plan) -> list[str]:
    return [chunk.digest for chunk in cut(plan)]


@given(edits())
def test_chunks_tile_the_export(edit: Edit) -> None:
    plan = build_plan(edit, [a_source()] * len(edit.clips))
    chunks = cut(plan)
    at = 0
    for index, chunk in enumerate(chunks):
        assert (chunk.index, chunk.frames.start) == (index, at)
        assert 1 <= len(chunk.frames) <= MAX_CHUNK_FRAMES
        assert 1 <= len(chunk.layers) <= 2
        assert all(len(layer.pts) == len(chunk.frames) for layer in chunk.layers)
        at = chunk.frames.stop
    assert at == plan.frame_count
    assert chunk_ranges(plan) == tuple(chunk.frames for chunk in chunks)


def test_a_longer_clip_keeps_the_chunks_it_had() -> None:
    shorter, longer = (planned(Clip("a.mp4", trim_stop_s=stop_s)) for stop_s in (8.1, 9))
    assert [len(chunk.frames) for chunk in cut(shorter)] == [240, 3]
    assert digests(shorter)[0] == digests(longer)[0]


def test_changing_one_clip_leaves_the_chunks_of_the_others() -> None:
    moved = [CropKeyframe(0, Rect(1, 0, 540, 960))]
    dissolve = Transition("dissolve", 0.5)
    names = ["a.mp4", "b.mp4", "c.mp4", "d.mp4"]
    before = cut(planned(*[Clip(name) for name in names], transitions=dissolve))
    clips = [Clip("a.mp4", moved, trim_stop_s=4), *[Clip(name) for name in names[1:]]]
    after = cut(planned(*clips, transitions=dissolve))
    kept = {chunk.digest for chunk in before} & {chunk.digest for chunk in after}
    without_a = [
        chunk.digest
        for chunk in before
        if "a.mp4" not in {str(each.clip.source.location) for each in chunk.layers}
    ]
    assert kept == set(without_a) and len(kept) >= 7


@pytest.mark.parametrize("change", ["source", "fit", "size", "fps", "upscaler", "encoder", "type"])
def test_everything_that_decides_pixels_is_in_the_digest(change: str) -> None:
    clips = [Clip("a.mp4"), Clip("b.mp4")]
    edit = Edit(clips, Transition("dissolve", 1))
    sources = [a_source("a.mp4"), a_source("b.mp4")]
    before = cut(build_plan(edit, sources))
    keys = {"upscaler_key": "u", "encoder_key": "e"}
    if change == "source":
        sources = [replace(source, fingerprint=f"new {source.location}") for source in sources]
    elif change == "fit":
        edit = replace(edit, fit=Fit.COVER)
    elif change == "size":
        edit = replace(edit, target_size=Size(720, 1280))
    elif change == "fps":
        edit = replace(edit, target_fps=Fraction(25))
    elif change == "type":
        edit = Edit(clips, Transition("fade", 1))
    else:
        keys[f"{change}_key"] = "other"
    after = cut(build_plan(edit, sources), **keys)
    same = {chunk.digest for chunk in before} & {chunk.digest for chunk in after}
    if change == "type":  # what lies outside the transition is as it was
        assert len(same) >= 1
        assert before[2].digest not in {chunk.digest for chunk in after}
    else:
        assert not same


def test_the_place_in_the_export_and_the_path_are_not_in_the_digest() -> None:
    a, b = a_source("a.mp4"), a_source("b.mp4")
    moved = replace(a, location=Path("elsewhere.mp4"))
    before = digests(build_plan(Edit([Clip("a.mp4"), Clip("b.mp4")]), [a, b]))
    after = digests(build_plan(Edit([Clip("b.mp4"), Clip("elsewhere.mp4")]), [b, moved]))
    assert sorted(before) == sorted(after) and before != after

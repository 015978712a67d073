"""Two that write one file at once: the last one wins, and the film is one of the two, whole."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from engine.geometry import Size
from engine.media.encoders import choose_encoder
from engine.media.probe import probe
from engine.pipeline.exporter import Listener, export, probe_sources
from engine.pipeline.extract import extract
from engine.pipeline.progress import Phase, Progress
from engine.timeline.edit import Clip, Edit
from engine.timeline.plan import build_plan
from tests.clips import numbered_clip, read_number
from tests.media import needs_ffmpeg
from tests.witness import complaints, luma_frames, samples

pytestmark = needs_ffmpeg

Write = Callable[[Path, Path, Callable[[], object]], None]
"""Writes a film of the clip; calls back when it is about to write the output."""


def export_all(clip: Path, destination: Path, about_to_write: Callable[[], object]) -> None:
    edit = Edit([Clip(clip.name)], target_size=Size(128, 96))
    plan = build_plan(edit, probe_sources(edit, clip.parent))
    encoder = choose_encoder(plan.size, plan.fps, name="libx264", preset="ultrafast")

    def show(at: Progress) -> None:
        if at.phase is Phase.JOIN and at.phase not in seen:
            seen.add(at.phase)
            about_to_write()

    seen: set[Phase] = set()
    work_dir = destination.parent / f"parts of {clip.stem}"
    listener = Listener(on_progress=show)
    export(plan, destination, encoder=encoder, work_dir=work_dir, listener=listener)


def cut_all(clip: Path, destination: Path, about_to_write: Callable[[], object]) -> None:
    def show(done: int, _total: int) -> None:
        if done == 1:
            about_to_write()

    extract(probe(clip), "0", "9", destination, on_progress=show)


@pytest.mark.parametrize("write", [export_all, cut_all])
def test_the_film_is_one_of_the_two(write: Write, tmp_path: Path) -> None:
    clips = {
        frames: numbered_clip(tmp_path / f"{frames}.mp4", frames, sound="bursts")
        for frames in (30, 45)
    }
    destination, both = tmp_path / "out" / "film.mp4", Barrier(2, timeout=60)
    destination.parent.mkdir()
    with ThreadPoolExecutor(2) as pool:
        writing = [pool.submit(write, clip, destination, both.wait) for clip in clips.values()]
        for each in writing:
            each.result()
    assert complaints(destination) == ""
    shown = [read_number(luma) for luma in luma_frames(destination)]
    assert shown in [list(range(frames)) for frames in clips]
    assert len(samples(destination)) == pytest.approx(len(shown) * 1600, abs=1024)
    assert [path.name for path in destination.parent.iterdir()] == ["film.mp4"]

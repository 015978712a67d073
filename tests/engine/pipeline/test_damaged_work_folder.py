"""What an earlier run left and was damaged since is made again, and the film is the same."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.geometry import Size
from engine.media.encoders import choose_encoder
from engine.pipeline.exporter import export, probe_sources
from engine.pipeline.report import Report
from engine.timeline.edit import Clip, Edit
from engine.timeline.plan import Plan, build_plan
from tests.clips import numbered_clip


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    numbered_clip(tmp_path / "a.mp4", 20, sound="bursts")
    edit = Edit([Clip("a.mp4")], target_size=Size(64, 48))
    return build_plan(edit, probe_sources(edit, tmp_path))


def exported(plan: Plan, film: Path) -> Report:
    encoder = choose_encoder(plan.size, plan.fps, name="libx264", preset="ultrafast")
    return export(plan, film, encoder=encoder, keep_parts=True)


def flip(path: Path) -> None:
    """One bit in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def lie(path: Path) -> None:
    record = json.loads(path.read_text())
    record["warnings"] = ["the goalkeeper is missing"]
    path.write_text(json.dumps(record))


HARMS: dict[str, Callable[[Path], object]] = {
    "one bit": flip,
    "torn": lambda path: os.truncate(path, path.stat().st_size // 2),
    "nested": lambda path: path.write_bytes(b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
    "a lie": lie,
    "huge": lambda path: os.truncate(path, 1 << 40),
    "gone": Path.unlink,
}


@pytest.mark.parametrize(
    ("pattern", "harm"),
    [
        *[("[0-9a-f]*.json", harm) for harm in HARMS],
        *[("sound-*.json", harm) for harm in HARMS],
        *[
            (name, harm)
            for name in ("[0-9a-f]*.mp4", "sound-*.m4a")
            for harm in ("one bit", "gone")
        ],
    ],
)
def test_it_is_made_again_and_replaced(pattern: str, harm: str, plan: Plan, tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    first = exported(plan, film)
    content = film.read_bytes()
    [path] = (tmp_path / "film.mp4.parts").glob(pattern)
    HARMS[harm](path)
    again = exported(plan, film)
    of_sound = path.name.startswith("sound")
    assert (again.frames_resumed, again.warnings) == (20 if of_sound else 0, ())
    assert ("sound" in again.stage_s) == of_sound
    assert again.chunks[0].frame_hash == first.chunks[0].frame_hash
    if of_sound:
        assert film.read_bytes() == content
    third = exported(plan, film)
    assert third.frames_resumed == 20 and "sound" not in third.stage_s

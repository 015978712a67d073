"""A cache in an odd place: no film fails over it, and one line says that it is left out."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine.errors import StoreError
from engine.geometry import Size
from engine.media.encoders import choose_encoder
from engine.pipeline.cache import StoreCache
from engine.pipeline.exporter import export, probe_sources
from engine.pipeline.report import Report
from engine.storage import LocalStore
from engine.timeline.edit import Clip, Edit
from engine.timeline.plan import Plan, build_plan
from tests.clips import numbered_clip
from tests.disks import fill, small_disk


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    for name in ("a.mp4", "b.mp4"):
        numbered_clip(tmp_path / name, 12 if name == "a.mp4" else 18)
    edit = Edit([Clip("a.mp4"), Clip("b.mp4")], target_size=Size(64, 48), include_audio=False)
    return build_plan(edit, probe_sources(edit, tmp_path))


def exported(plan: Plan, film: Path, cache: StoreCache) -> Report:
    encoder = choose_encoder(plan.size, plan.fps, name="libx264", preset="ultrafast")
    return export(plan, film, encoder=encoder, cache=cache)


@contextmanager
def odd_folder(kind: str, folder: Path) -> Iterator[Path]:
    if kind in ("full", "almost full", "read-only"):
        with small_disk(folder / "disk", 1 << 20) as disk:
            if kind == "read-only":
                subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
            else:
                fill(disk, 8_192 if kind == "almost full" else 0)
            yield disk / "cache"
        return
    (folder / "file").touch()
    yield {
        "a file": folder / "file",
        "below a file": folder / "file" / "cache",
        "with too long a name": folder / ("x" * 300),
    }[kind]


@pytest.mark.parametrize(
    "kind",
    ["a file", "below a file", "with too long a name", "full", "almost full", "read-only"],
)
def test_no_film_fails_over_its_cache(kind: str, plan: Plan, tmp_path: Path) -> None:
    with odd_folder(kind, tmp_path) as folder:
        cache = StoreCache(LocalStore(folder))
        report = exported(plan, tmp_path / "film.mp4", cache)
        try:
            cache.sweep()
        except StoreError as error:  # and nothing else
            assert "too long" in str(error) or "read-only" in str(error)
    assert (report.frames_rendered, (tmp_path / "film.mp4").exists()) == (30, True)
    (warning,) = report.warnings
    assert warning.startswith("the cache is left out from here on: ")


def test_a_cache_that_is_only_for_reading_is_left_out_too(plan: Plan, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1 << 20) as disk:
        cache = StoreCache(LocalStore(disk / "cache"))
        first = exported(plan, tmp_path / "first.mp4", cache)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        second = exported(plan, tmp_path / "second.mp4", cache)
    hashes = [[chunk.frame_hash for chunk in each.chunks] for each in (first, second)]
    assert hashes[0] == hashes[1]
    assert [warning.split(":")[0] for warning in second.warnings] == [
        "the cache is left out from here on"
    ]

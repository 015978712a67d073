"""Chunks that one export leaves for another: found, checked, and dropped in time."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from engine.geometry import Size
from engine.media.encoders import Encoder, choose_encoder
from engine.pipeline.cache import StoreCache, Swept
from engine.pipeline.exporter import Listener, export, probe_sources
from engine.pipeline.progress import Progress
from engine.records import record_bytes
from engine.storage import LocalStore
from engine.timeline.edit import Clip, Edit
from engine.timeline.plan import Plan, build_plan
from tests.clips import numbered_clip

WAIT_S = 30
NOW = datetime(2026, 5, 1, tzinfo=UTC)
DIGESTS = [f"{number:032x}" for number in range(4)]


@pytest.fixture
def cache(tmp_path: Path) -> StoreCache:
    return StoreCache(LocalStore(tmp_path / "store"))


def planned(folder: Path, *names: str) -> Plan:
    edit = Edit([Clip(name) for name in names], target_size=Size(64, 48), include_audio=False)
    return build_plan(edit, probe_sources(edit, folder))


def encoder_for(plan: Plan) -> Encoder:
    return choose_encoder(plan.size, plan.fps, name="libx264", preset="ultrafast")


@dataclass(frozen=True)
class Clips:
    """Three clips of different content."""

    folder: Path

    @property
    def files(self) -> list[Path]:
        return sorted((self.folder / "store" / "cache").iterdir())


@pytest.fixture
def clips(tmp_path: Path) -> Clips:
    for frames, name in enumerate(("a.mp4", "b.mp4", "c.mp4"), start=10):
        numbered_clip(tmp_path / name, frames)
    return Clips(tmp_path)


def test_only_what_changed_is_rendered_wherever_it_goes(clips: Clips, cache: StoreCache) -> None:
    first, changed = (
        planned(clips.folder, "a.mp4", "b.mp4"),
        planned(clips.folder, "c.mp4", "b.mp4"),
    )
    whole = export(first, clips.folder / "x.mp4", encoder=encoder_for(first), cache=cache)
    assert whole.frames_resumed == 0
    again = export(changed, clips.folder / "y.mp4", encoder=encoder_for(changed), cache=cache)
    assert [each.resumed for each in again.chunks] == [False, True]
    assert again.chunks[1].frame_hash == whole.chunks[1].frame_hash
    assert again.chunks[1].render_s == whole.chunks[1].render_s > 0
    assert len(clips.files) == 2 * 3
    third = export(first, clips.folder / "z.mp4", encoder=encoder_for(first), cache=cache)
    assert (third.frames_rendered, third.warnings) == (0, ())


NESTED = b'{"a":' * 100_000 + b"1" + b"}" * 100_000


@pytest.mark.parametrize(
    "harm", ["torn", "file gone", "record torn", "record nested", "record false", "record huge"]
)
def test_what_is_not_whole_is_rendered_and_kept_anew(
    harm: str, clips: Clips, cache: StoreCache
) -> None:
    plan = planned(clips.folder, "a.mp4")
    first = export(plan, clips.folder / "x.mp4", encoder=encoder_for(plan), cache=cache)
    record, file = clips.files
    match harm:
        case "torn":
            file.write_bytes(file.read_bytes()[:-10])
        case "file gone":
            file.unlink()
        case "record torn":
            record.write_text(record.read_text()[:-10])
        case "record nested":
            record.write_bytes(NESTED)
        case "record false":
            wrong = json.loads(record.read_text()) | {"frame_hash": "0" * 32}
            record.write_text(json.dumps(wrong))
        case "record huge":
            os.truncate(record, 1 << 40)
    again = export(plan, clips.folder / "y.mp4", encoder=encoder_for(plan), cache=cache)
    assert again.frames_rendered == 10
    assert [("not whole" in warning) for warning in again.warnings] == (
        [] if harm == "file gone" else [True]
    )
    assert again.chunks[0].frame_hash == first.chunks[0].frame_hash
    third = export(plan, clips.folder / "z.mp4", encoder=encoder_for(plan), cache=cache)
    assert (third.frames_rendered, third.warnings) == (0, ())


def test_an_export_does_not_fail_for_want_of_a_cache(clips: Clips) -> None:
    (clips.folder / "taken").write_text("a file where the cache's folder would be")
    cache = StoreCache(LocalStore(clips.folder / "taken"))
    plan = planned(clips.folder, "a.mp4", "b.mp4")
    report = export(plan, clips.folder / "x.mp4", encoder=encoder_for(plan), cache=cache)
    assert report.frames_rendered == 21
    (warning,) = report.warnings
    assert warning.startswith("the cache is left out from here on: ")


def kept(cache: StoreCache, folder: Path, digest: str, size_bytes: int, days_ago: float) -> None:
    """A chunk and its record of together `size_bytes`, last used so many days before `NOW`."""
    assert isinstance(cache.store, LocalStore)
    record = record_bytes({})
    (folder / f"{digest}.mp4").write_bytes(bytes(size_bytes - len(record)))
    (folder / f"{digest}.json").write_bytes(record)
    cache.offer(digest, folder)
    used = (NOW - timedelta(days=days_ago)).timestamp()
    os.utime(cache.store.path(f"cache/{digest}.json"), (used, used))
    os.utime(cache.store.path(f"cache/{digest}.mp4"), (0, 0))


def there(cache: StoreCache, folder: Path) -> list[bool]:
    return [cache.fetch(digest, folder) for digest in DIGESTS]


def test_the_least_recently_used_goes_first(cache: StoreCache, tmp_path: Path) -> None:
    for digest, days_ago in zip(DIGESTS, (3, 1, 4, 2), strict=True):
        kept(cache, tmp_path, digest, 1000, days_ago)
    assert cache.sweep(max_bytes=4000, now=NOW) == Swept(4, 4000, 0, 0)
    assert cache.sweep(max_bytes=3999, now=NOW) == Swept(3, 3000, 1, 1000)
    assert cache.sweep(max_bytes=2000, now=NOW) == Swept(2, 2000, 1, 1000)
    assert there(cache, tmp_path) == [False, True, False, True]


def test_what_nothing_uses_goes_however_small(cache: StoreCache, tmp_path: Path) -> None:
    for digest, days_ago in zip(DIGESTS, (31, 29, 400, 0), strict=True):
        kept(cache, tmp_path, digest, 100, days_ago)
    assert cache.sweep(max_age=timedelta(days=30), now=NOW) == Swept(2, 200, 2, 200)
    assert there(cache, tmp_path) == [False, True, False, True]


def test_fetching_is_using(cache: StoreCache, tmp_path: Path) -> None:
    for digest in DIGESTS[:2]:
        kept(cache, tmp_path, digest, 1000, 20)
    assert cache.fetch(DIGESTS[0], tmp_path)
    assert cache.sweep(max_bytes=1000).removed == 1
    assert there(cache, tmp_path)[:2] == [True, False]


def test_a_sweep_touches_nothing_else(cache: StoreCache) -> None:
    for key in ("cache/notes.txt", "other/" + DIGESTS[0] + ".mp4"):
        cache.store.put_bytes(key, b"mine")
    assert cache.sweep(max_bytes=0, max_age=timedelta(0)) == Swept(0, 0, 0, 0)
    assert len(list(cache.store.list())) == 2


class LateCache(StoreCache):
    """It keeps the first chunk only once the second is rendered."""

    rendered = threading.Event()

    def offer(self, digest: str, folder: Path) -> None:
        assert self.rendered.wait(WAIT_S), "the second chunk waits until the first is kept"
        super().offer(digest, folder)


def test_a_chunk_is_kept_while_the_next_one_is_rendered(clips: Clips, cache: StoreCache) -> None:
    late = LateCache(cache.store)
    plan = planned(clips.folder, "a.mp4", "b.mp4")

    def note(progress: Progress) -> None:
        if progress.frames_done > 10:
            late.rendered.set()

    report = export(
        plan,
        clips.folder / "x.mp4",
        encoder=encoder_for(plan),
        cache=late,
        listener=Listener(on_progress=note),
    )
    assert report.warnings == () and len(clips.files) == 2 * 2

"""The border of two chunks: what comes next is begun early, and nobody waits for it."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from engine.errors import Cancelled, EngineError
from engine.geometry import Framing, Rect, Size
from engine.location import ObjectLocation
from engine.media.encoders import choose_encoder
from engine.media.probe import probe
from engine.pipeline.chunk_store import ChunkStore
from engine.pipeline.executors import InProcess, RenderContext
from engine.pipeline.job import RenderJob, plan_job
from engine.pixels.picture import Picture
from engine.source import SourceInfo
from engine.storage import LocalStore
from engine.timeline.edit import Clip, CropKeyframe, Edit
from engine.timeline.plan import build_plan
from engine.upscale.stage import FrameCrop, PlainResampler, Stage, StageSpec, Upscaler
from tests.clips import numbered_clip, read_number
from tests.engine.media.test_video_reader import erase
from tests.engine.upscale.stages import PerClip
from tests.engine.upscale.test_stage import TINY, seeded, stage
from tests.witness import luma_frames

WAIT_S = 30
SIZE = Size(64, 48)
FRAMES = 12
"""In a chunk."""


@pytest.fixture(autouse=True)
def _short_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.timeline.chunks.MAX_CHUNK_FRAMES", FRAMES)


@dataclass
class Watch:
    """A `RenderObserver` that notes what it is told, and waits for an event at a frame."""

    at_frame: int = -1
    event: threading.Event = field(default_factory=threading.Event)
    count: int = 0
    warnings: list[str] = field(default_factory=list)

    def frames(self, count: int) -> None:
        self.count += count
        if self.count == self.at_frame:
            assert self.event.wait(WAIT_S), "the next chunk is not begun"

    def warn(self, warning: str) -> None:
        self.warnings.append(warning)

    def step(self) -> None: ...


def job_of(upscaler: Upscaler, sources: list[SourceInfo], *clips: Clip) -> RenderJob:
    plan = build_plan(Edit(clips, target_size=SIZE, include_audio=False), sources)
    encoder = choose_encoder(plan.size, plan.fps, name="libx264", preset="ultrafast")
    return plan_job(plan, upscaler, encoder)


def context_of(job: RenderJob, folder: Path, store: LocalStore | None = None) -> RenderContext:
    parts = folder / "parts"
    parts.mkdir()
    return RenderContext(job, ChunkStore(parts), store)


def threads() -> list[str]:
    return [each.name for each in threading.enumerate() if " clip " in each.name]


@dataclass(frozen=True)
class Slow(LocalStore):
    """A store that gives nothing of one object until it may."""

    name: str = ""
    armed: threading.Event = field(default_factory=threading.Event)
    open: threading.Event = field(default_factory=threading.Event)

    def read(self, key: str, start: int, length: int, *, etag: str) -> bytes:
        if key.endswith(self.name) and self.armed.is_set():
            assert self.open.wait(WAIT_S), "the present chunk waits for the next one's file"
        return super().read(key, start, length, etag=etag)


def test_no_chunk_waits_for_the_trial_of_the_next_file(tmp_path: Path) -> None:
    """The frames stay on a device, so each file is tried first."""
    store, sources = Slow(tmp_path / "store", name="b.mp4"), []
    for name in ("a.mp4", "b.mp4"):
        file = store.path(f"7/{name}")
        file.parent.mkdir(parents=True, exist_ok=True)
        numbered_clip(file, FRAMES + (name == "b.mp4"))
        info = store.stat(f"7/{name}")
        assert info
        sources.append(probe(ObjectLocation(info.key, info.etag, info.size_bytes), store))
    there = stage(seeded(TINY), 3, on_device=True)
    crop = [CropKeyframe(0, Rect(10, 5, 32, 24))]
    job = job_of(PerClip(there, there), sources, Clip("a.mp4", crop), Clip("b.mp4", crop))
    store.armed.set()
    results = InProcess().render(context_of(job, tmp_path, store), Watch())
    first = next(results)
    assert first.chunk is job.chunks[0] and not store.open.is_set()
    store.open.set()
    assert [each.chunk for each in results] == list(job.chunks[1:])
    assert first.record.route[0] == "clips[0]: decoded by the CPU, frames stay on cpu"


class LoadedLate:
    """The spec of a stage that takes long to load."""

    key = "late"

    def __init__(self) -> None:
        self.may = threading.Event()

    def load(self) -> Stage:
        assert self.may.wait(WAIT_S), "the present chunk waits for the next one's network"
        return PlainResampler()


def test_no_chunk_waits_for_the_network_of_the_next_clip(tmp_path: Path) -> None:
    class Mixed(PlainResampler):
        def stage_for(self, scale: float) -> StageSpec:
            return late if scale > 1 else PlainResampler()

    late = LoadedLate()
    source = probe(numbered_clip(tmp_path / "a.mp4", FRAMES))
    whole, part = Clip("a.mp4"), Clip("a.mp4", [CropKeyframe(0, Rect(10, 5, 32, 24))])
    job = job_of(Mixed(), [source, source], whole, part)
    results = InProcess().render(context_of(job, tmp_path), Watch())
    next(results)
    late.may.set()
    assert len(list(results)) == 1


class Noted(PlainResampler):
    """It sets an event when it has made a picture of its second chunk."""

    begun: threading.Event
    runs: list[SourceInfo]

    def __init__(self) -> None:
        super().__init__()
        object.__setattr__(self, "begun", threading.Event())
        object.__setattr__(self, "runs", [])

    def pictures(
        self, crops: Iterable[FrameCrop], source: SourceInfo, framing: Framing
    ) -> Iterator[Picture]:
        self.runs.append(source)
        for picture in super().pictures(crops, source, framing):
            yield picture
            if len(self.runs) == 2:
                self.begun.set()


def test_the_next_chunk_of_a_clip_is_made_while_the_last_frame_is_encoded(tmp_path: Path) -> None:
    noted = Noted()
    source = probe(numbered_clip(tmp_path / "a.mp4", 3 * FRAMES))
    job = job_of(noted, [source], Clip("a.mp4"))
    watch = Watch(FRAMES, noted.begun)
    rendered = list(InProcess().render(context_of(job, tmp_path), watch))
    assert [each.record.decoded_frames for each in rendered] == [FRAMES] * 3
    assert watch.count == 3 * FRAMES and not threads()
    files = [each.record.file.path for each in rendered]
    shown = [read_number(luma) for file in files for luma in luma_frames(file)]
    assert shown == list(range(3 * FRAMES))


def test_damage_is_noted_with_the_chunk_that_shows_it(tmp_path: Path) -> None:
    """Though it is met while the chunk before is encoded."""
    clip = numbered_clip(
        tmp_path / "a.mov", 3 * FRAMES, 30, codec="mjpeg", pix_fmt="yuvj420p", size=(64, 48)
    )
    erase(clip, [FRAMES + 1])
    job = job_of(PlainResampler(), [probe(clip)], Clip("a.mov"))
    watch = Watch()
    first, second, third = InProcess().render(context_of(job, tmp_path), watch)
    assert (first.record.warnings, third.record.warnings) == ((), ())
    (warning,) = second.record.warnings
    assert "0.433 to 0.467 s: missing" in warning and watch.warnings == [warning]


@pytest.mark.parametrize(
    "error", [Cancelled(), EngineError("the disk is full"), KeyboardInterrupt()]
)
def test_an_end_before_time_leaves_no_thread(error: BaseException, tmp_path: Path) -> None:
    class Breaking(Watch):
        def frames(self, count: int) -> None:
            super().frames(count)
            if self.count == FRAMES + 5:
                raise error

    source = probe(numbered_clip(tmp_path / "a.mp4", 3 * FRAMES))
    job = job_of(PlainResampler(), [source] * 2, Clip("a.mp4"), Clip("a.mp4"))
    results = InProcess().render(context_of(job, tmp_path), Breaking())
    assert next(results).chunk is job.chunks[0]
    with pytest.raises(type(error)):
        next(results)
    assert not threads() and not list(tmp_path.rglob("*.partial"))


class Failing(PlainResampler):
    """Its second chunk fails at once."""

    def pictures(
        self, crops: Iterable[FrameCrop], source: SourceInfo, framing: Framing
    ) -> Iterator[Picture]:
        for place, picture in enumerate(super().pictures(crops, source, framing)):
            if str(source.location).endswith("b.mp4"):
                raise EngineError(f"picture {place} cannot be made")
            yield picture


def test_what_fails_ahead_is_told_when_its_chunk_is_due(tmp_path: Path) -> None:
    sources = [probe(numbered_clip(tmp_path / name, FRAMES)) for name in ("a.mp4", "b.mp4")]
    job = job_of(Failing(), sources, Clip("a.mp4"), Clip("b.mp4"))
    watch = Watch()
    results = InProcess().render(context_of(job, tmp_path), watch)
    assert next(results).record.frame_count == watch.count == FRAMES
    with pytest.raises(EngineError, match="picture 0 cannot be made"):
        next(results)
    assert not threads()

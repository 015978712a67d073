"""Chunks of another encoder under the right digest: no film fails to join because of them."""

from __future__ import annotations

import shutil
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from engine.errors import ChunkError
from engine.geometry import Size
from engine.media.chunk_writer import EncodedChunk
from engine.media.encoders import Encoder, choose_encoder
from engine.pipeline.cache import StoreCache
from engine.pipeline.chunk_store import ChunkStore
from engine.pipeline.executors import InProcess, RenderContext, RenderedChunk, RenderObserver
from engine.pipeline.exporter import Listener, export, probe_sources
from engine.pipeline.progress import Phase, Progress
from engine.pipeline.report import Report
from engine.storage import LocalStore
from engine.timeline.chunks import Chunk, cut_into_chunks
from engine.timeline.edit import Clip, Edit
from engine.timeline.plan import Plan, build_plan
from engine.upscale.choice import choose_upscaler
from tests.clips import numbered_clip, read_number
from tests.media import needs_ffmpeg
from tests.witness import complaints, luma_frames

pytestmark = needs_ffmpeg

FRAMES = (10, 11, 12)


def encoder_of(plan: Plan, refs: str = "1") -> Encoder:
    """Another count of reference frames stands for another driver: other parameter sets."""
    return choose_encoder(
        plan.size, plan.fps, name="libx264", preset="ultrafast", options={"refs": refs}
    )


@dataclass
class Odd:
    """A plan of three chunks, and a chunk store with the chunks of another encoder for it."""

    folder: Path
    plan: Plan
    chunks: Sequence[Chunk]
    others: ChunkStore

    def other(self, chunk: Chunk, context: RenderContext) -> RenderedChunk:
        """The other encoder's chunk, put into the chunk store of an export."""
        for suffix in ("mp4", "json"):
            file = self.others.folder / f"{chunk.digest}.{suffix}"
            shutil.copy(file, context.chunk_store.folder)
        record = context.chunk_store.find(chunk, context.job.encoder)
        assert record
        return RenderedChunk(chunk, record)

    def exported(self, **options: object) -> Report:
        self.seen: list[Progress] = []
        report = export(
            self.plan,
            self.folder / "out.mp4",
            encoder=encoder_of(self.plan),
            upscaler=choose_upscaler("none"),
            listener=Listener(on_progress=self.seen.append),
            **options,  # type: ignore[arg-type]
        )
        done = [each.frames_done for each in self.seen]
        assert max(done) <= sum(FRAMES) and self.seen[-1].phase is Phase.DONE
        assert done[-1] == self.seen[-1].frames_total == sum(FRAMES)
        assert self.seen[-1].chunks_done == (0, 1, 2)
        film = self.folder / "out.mp4"
        assert complaints(film) == ""
        shown = [read_number(luma) for luma in luma_frames(film)]
        assert shown == [number for count in FRAMES for number in range(count)]
        return report


@pytest.fixture
def odd(tmp_path: Path) -> Odd:
    names = [f"{count}.mp4" for count in FRAMES]
    for name, count in zip(names, FRAMES, strict=True):
        numbered_clip(tmp_path / name, count)
    edit = Edit([Clip(name) for name in names], target_size=Size(64, 48), include_audio=False)
    plan = build_plan(edit, probe_sources(edit, tmp_path))
    encoder, other = encoder_of(plan), encoder_of(plan, "3")
    parts = tmp_path / "other parts"
    report = export(plan, tmp_path / "other.mp4", encoder=other, work_dir=parts, keep_parts=True,
                    upscaler=choose_upscaler("none"))  # fmt: skip
    chunks = cut_into_chunks(plan, stage_key=lambda _: "bicubic", encoder_key=encoder.key)
    others = ChunkStore(parts)
    for chunk, made in zip(chunks, report.chunks, strict=True):
        shutil.move(parts / f"{made.digest}.mp4", others.path(chunk))
        others.accept(chunk, EncodedChunk(len(chunk.frames), made.frame_hash), encoder)
    return Odd(tmp_path, plan, chunks, others)


def test_one_odd_chunk_of_a_cache_is_rendered_again_and_kept_so(odd: Odd) -> None:
    cache = StoreCache(LocalStore(odd.folder / "cache"))
    cache.offer(odd.chunks[1].digest, odd.others.folder)
    report = odd.exported(cache=cache)
    (warning,) = report.warnings
    assert warning.startswith(f"frames {odd.chunks[1].frames} are rendered again: their stream")
    assert [each.resumed for each in report.chunks] == [False] * 3
    again = odd.exported(cache=cache)
    assert (again.frames_rendered, again.warnings) == (0, ())


def test_a_cache_of_another_encoder_gives_way_to_what_is_made_now(odd: Odd) -> None:
    """Though it has most of the frames."""
    cache = StoreCache(LocalStore(odd.folder / "cache"))
    for chunk in odd.chunks[1:]:
        cache.offer(chunk.digest, odd.others.folder)
    report = odd.exported(cache=cache)
    (warning,) = report.warnings
    assert all(str(chunk.frames) in warning for chunk in odd.chunks[1:])
    assert report.frames_rendered == sum(FRAMES)


@pytest.mark.parametrize("of_others", [(1,), (0, 2)], ids=["the fewer", "the more"])
def test_found_chunks_of_two_kinds(odd: Odd, of_others: tuple[int, ...]) -> None:
    """Nothing is rendered at first, so the kind of most frames is taken for the right one."""
    parts = odd.folder / "parts"
    odd.exported(work_dir=parts, keep_parts=True)
    for place in of_others:
        digest = odd.chunks[place].digest
        for suffix in ("mp4", "json"):
            shutil.copy(odd.others.folder / f"{digest}.{suffix}", parts)
    report = odd.exported(work_dir=parts)
    rendered = sum(not each.resumed for each in report.chunks)
    # where most are the others', all are odd in the end
    assert (rendered, len(report.warnings)) == ((1, 1) if of_others == (1,) else (3, 2))


@dataclass
class OtherMachine:
    """An executor with a machine whose encoder is another: `times` times, it gives its chunk."""

    odd: Odd
    times: int
    name: str = "two machines"
    why: str = "test"
    workers: int = 2

    def render(
        self, context: RenderContext, observer: RenderObserver
    ) -> Generator[RenderedChunk, None, None]:
        for each in InProcess().render(context, observer):
            chunk = each.chunk
            if chunk.digest != self.odd.chunks[1].digest or self.times == 0:
                yield each
                continue
            self.times -= 1
            yield self.odd.other(chunk, context)


@pytest.mark.parametrize("times", [1, 2, 100])
def test_chunks_of_machines_that_differ(odd: Odd, times: int) -> None:
    """Where the executor always mixes them, this process makes them at last."""
    executor = OtherMachine(odd, times)
    report = odd.exported(executor=executor)
    assert report.warnings and report.executor == "two machines"
    assert [len(chunk.failures) for chunk in report.chunks] == [0, min(times, 3), 0]
    assert "another encoder, driver or GPU" in report.chunks[1].failures[0]


def test_what_this_process_makes_is_right_where_it_makes_what_is_odd(
    odd: Odd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The executor mixes two kinds, and this process makes the rarer one: all become of it."""

    class Here:
        def render(
            self, context: RenderContext, observer: RenderObserver
        ) -> Generator[RenderedChunk, None, None]:
            for chunk in context.job.chunks:
                yield odd.other(chunk, context)
                observer.frames(len(chunk.frames))

    monkeypatch.setattr("engine.pipeline.collection.InProcess", Here)
    report = odd.exported(executor=OtherMachine(odd, 100))
    assert [len(chunk.failures) for chunk in report.chunks] == [1, 3, 1]


def test_chunks_that_never_fit_are_one_clear_error(
    odd: Odd, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = OtherMachine(odd, 100)
    monkeypatch.setattr("engine.pipeline.collection.InProcess", lambda: executor)
    with pytest.raises(ChunkError, match="libx264 makes chunks here that do not join"):
        odd.exported(executor=executor)
    assert not (odd.folder / "out.mp4").exists()

"""Chunks rendered by several threads: the same film, and nothing runs on after an end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from engine.errors import Cancelled, EngineError
from engine.geometry import Size
from engine.machine import Machine
from engine.pipeline import local
from engine.pipeline.executors import Executor, InProcess
from engine.pipeline.exporter import Listener, export, probe_sources
from engine.pipeline.local import LocalWorkers
from engine.pipeline.progress import Phase, Progress
from engine.pipeline.report import Report
from engine.pipeline.threads import LocalThreads
from engine.timeline.edit import Clip, Edit, Transition
from engine.timeline.plan import Plan, build_plan
from engine.upscale.stage import PlainResampler, Upscaler
from tests.clips import numbered_clip
from tests.engine.pipeline.trapped import Trapped, encoder_for
from tests.media import needs_ffmpeg
from tests.witness import samples

PLAIN = PlainResampler("for a test")


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """Two clips of 90 frames that dissolve into each other: chunks of 84, 6 and 84 frames."""
    folder = tmp_path_factory.mktemp("clips")
    for name in "ab":
        numbered_clip(folder / f"{name}.mp4", 90)
    edit = Edit(
        [Clip("a.mp4"), Clip("b.mp4")], Transition("dissolve", 0.2), target_size=Size(96, 64)
    )
    return build_plan(edit, probe_sources(edit, folder))


def exported(
    plan: Plan,
    film: Path,
    executor: Executor | None,
    upscaler: Upscaler = PLAIN,
    listener: Listener | None = None,
) -> Report:
    return export(
        plan,
        film,
        upscaler=upscaler,
        encoder=encoder_for(plan),
        executor=executor,
        listener=listener,
    )


@pytest.fixture(scope="module")
def alone(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Path]:
    film = tmp_path_factory.mktemp("alone") / "film.mp4"
    return exported(plan, film, InProcess()), film


def facts(report: Report) -> list[tuple[str, str | None]]:
    return [(chunk.digest, chunk.frame_hash) for chunk in report.chunks]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


@needs_ffmpeg
@pytest.mark.parametrize("workers", [2, 5])
def test_the_same_film(
    plan: Plan, alone: tuple[Report, Path], tmp_path: Path, workers: int
) -> None:
    """The listener is called by the caller's thread only."""
    told: list[Progress] = []
    callers = set()

    def follow(progress: Progress) -> None:
        told.append(progress)
        callers.add(threading.current_thread())

    film = tmp_path / "film.mp4"
    report = exported(plan, film, LocalThreads(workers), listener=Listener(on_progress=follow))
    assert facts(report) == facts(alone[0])
    assert np.array_equal(samples(film), samples(alone[1]))
    assert (report.executor, report.workers) == ("threads of this process", workers)
    assert callers == {threading.current_thread()}
    done = [each.frames_done for each in told]
    assert done == sorted(done)
    assert (told[-1].phase, done[-1]) == (Phase.DONE, plan.frame_count)
    assert {"decode", "crop", "blend", "encode", "join"} <= report.stage_s.keys()
    assert not report.warnings


def test_an_error_ends_all_and_what_was_finished_is_kept(
    plan: Plan, alone: tuple[Report, Path], tmp_path: Path
) -> None:
    """It is the error that one chunk after the other would have raised."""
    (tmp_path / "trap b").write_text("on fire")
    film = tmp_path / "film.mp4"
    with pytest.raises(ValueError, match="on fire"):
        exported(plan, film, LocalThreads(2), Trapped(tmp_path))
    assert not film.exists()
    assert facts(exported(plan, film, LocalThreads(2))) == facts(alone[0])
    with pytest.raises(EngineError, match="there must be one"):
        LocalThreads(0)


def test_stopped_between_frames_and_gone_on_with(
    plan: Plan, alone: tuple[Report, Path], tmp_path: Path
) -> None:
    film, finished = tmp_path / "film.mp4", threading.Event()

    def follow(progress: Progress) -> None:
        if progress.chunks_done:
            finished.set()

    listener = Listener(on_progress=follow, should_stop=finished.is_set)
    with pytest.raises(Cancelled):
        exported(plan, film, LocalThreads(2), listener=listener)
    resumed = exported(plan, film, LocalThreads(2))
    assert 0 < resumed.frames_resumed <= resumed.frames
    assert facts(resumed) == facts(alone[0])


def test_this_machine_decides(
    plan: Plan, alone: tuple[Report, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By itself as many as are worth it, here on eight processors: 174 frames are worth two."""
    monkeypatch.setattr(local, "this_machine", lambda: Machine(8, 1 << 40))

    def told(executor: Executor | None) -> tuple[str, int, str]:
        report = exported(plan, tmp_path / "film.mp4", executor)
        assert facts(report) == facts(alone[0])
        return report.executor, report.workers, report.executor_why

    two = ("threads of this process", 2, "auto: 174 frames are not worth more")
    assert told(None) == told(LocalWorkers()) == two
    assert told(LocalWorkers(3)) == ("threads of this process", 3, "asked for")
    assert told(LocalWorkers(1)) == ("this process", 1, "asked for")
    assert told(LocalWorkers(1, processes=True)) == ("local processes", 1, "asked for")
    shared = LocalWorkers(exports=8)
    assert told(shared) == ("this process", 1, "auto: the processors carry no more, 1 of them")
    with pytest.raises(EngineError, match="there must be one"):
        LocalWorkers(0)

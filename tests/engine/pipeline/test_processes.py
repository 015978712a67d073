"""Chunks rendered by several processes: the same film, whatever happens to the workers."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.errors import Cancelled, ChunkError, EngineError, UpscalerError
from engine.geometry import Size
from engine.pipeline.chunk_store import ChunkStore
from engine.pipeline.executors import Executor, InProcess
from engine.pipeline.exporter import Listener, export, probe_sources
from engine.pipeline.processes import LocalProcesses, _environments
from engine.pipeline.progress import Phase, Progress
from engine.pipeline.report import Report
from engine.timeline.edit import Clip, Edit
from engine.timeline.plan import Plan, build_plan
from engine.upscale.choice import choose_upscaler
from engine.upscale.network import CompactShape
from engine.upscale.options import NetworkOptions
from engine.upscale.spec import NetworkSpec
from engine.upscale.stage import LoadedStages, PlainResampler
from tests.clips import numbered_clip, read_number
from tests.engine.pipeline.trapped import Trapped, encoder_for, planned
from tests.media import needs_ffmpeg
from tests.proc import children_of, is_alive
from tests.waiting import wait_until
from tests.witness import luma_frames, samples

FRAMES = 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    numbered_clip(folder / "a.mp4", FRAMES, sound="bursts")
    numbered_clip(folder / "b.mp4", FRAMES, fps=25)
    return folder


@pytest.fixture(scope="module")
def plan(folder: Path) -> Plan:
    return planned(folder)


@pytest.fixture(scope="module")
def alone(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Path]:
    """The same export by this process alone."""
    film = tmp_path_factory.mktemp("alone") / "film.mp4"
    return export(plan, film, encoder=encoder_for(plan)), film


@dataclass
class Followed:
    """What a listener was told."""

    progress: list[Progress] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def listener(self) -> Listener:
        return Listener(self.progress.append, self.warnings.append)

    def check_counts(self, total: int) -> None:
        done = [each.frames_done for each in self.progress]
        assert done == sorted(done)
        assert (self.progress[-1].phase, done[-1]) == (Phase.DONE, total)


@pytest.fixture(autouse=True)
def no_worker_is_left() -> Iterator[None]:
    """Other tests may have children that live as long as this process."""
    before = children_of(os.getpid())
    yield
    assert children_of(os.getpid()) <= before


@needs_ffmpeg
def test_the_same_film(plan: Plan, alone: tuple[Report, Path], tmp_path: Path) -> None:
    """More workers than chunks: as many start as there is work for."""
    followed, film = Followed(), tmp_path / "film.mp4"
    report = export(
        plan,
        film,
        encoder=encoder_for(plan),
        executor=LocalProcesses(5),
        listener=followed.listener,
    )
    assert [each.frame_hash for each in report.chunks] == [c.frame_hash for c in alone[0].chunks]
    assert np.array_equal(samples(film), samples(alone[1]))
    assert [read_number(luma) for luma in luma_frames(film)[:10]] == list(range(10))
    followed.check_counts(plan.frame_count)
    assert (report.executor, report.workers, report.retries) == ("local processes", 5, 0)
    assert (alone[0].executor, alone[0].workers) == ("this process", 1)
    assert all(each.render_s > 0 for each in (*report.chunks, *alone[0].chunks))
    assert {"decode", "crop", "blend", "encode", "join"} <= report.stage_s.keys()
    assert report.source_frames_decoded >= report.source_frames
    assert not followed.warnings
    assert not list(tmp_path.glob("*.parts"))


def test_a_worker_loads_the_network_that_was_chosen(folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    checkpoint = tmp_path / "tiny.pth"
    module = CompactShape(features=8, inner_convs=1, scale=2).build()
    torch.save({"params": module.state_dict()}, checkpoint)
    upscaler = choose_upscaler(
        "realesr-animevideov3", "cpu", NetworkOptions(model_path=checkpoint, precision="fp32")
    )
    edit = Edit([Clip("b.mp4", trim_stop_s=0.2)], target_size=Size(320, 192), include_audio=False)
    plan = build_plan(edit, probe_sources(edit, folder))
    reports = [
        export(plan, tmp_path / "film.mp4", upscaler=upscaler, executor=executor)
        for executor in (InProcess(), LocalProcesses(1))
    ]
    assert reports[0].chunks[0].frame_hash == reports[1].chunks[0].frame_hash
    assert reports[1].upscaler == "realesr-animevideov3"


def test_what_fails_once_is_rendered_again(
    plan: Plan, alone: tuple[Report, Path], tmp_path: Path
) -> None:
    """An error in one chunk, a crash in another."""
    (tmp_path / "trap a").write_text("on fire")
    (tmp_path / "trap b").write_text("SIGSEGV")
    followed = Followed()
    report = export(
        plan,
        tmp_path / "film.mp4",
        upscaler=Trapped(tmp_path),
        encoder=encoder_for(plan),
        executor=LocalProcesses(2),
        listener=followed.listener,
    )
    assert [each.frame_hash for each in report.chunks] == [c.frame_hash for c in alone[0].chunks]
    assert np.array_equal(samples(tmp_path / "film.mp4"), samples(alone[1]))
    reasons = ["ValueError: on fire", "its process was ended by SIGSEGV"]
    assert report.retries == 2
    assert [each.failures for each in report.chunks] == [(reasons[0],), (), (reasons[1],)]
    a, b = (plan.clips[n].source.location for n in (0, 1))
    assert sorted(followed.warnings) == [
        f"frames [0, 34) of clips[0] ({a}) failed and is rendered once more: {reasons[0]}",
        f"frames [40, 82) of clips[1] ({b}) failed and is rendered once more: {reasons[1]}",
    ]
    followed.check_counts(plan.frame_count)


def test_what_fails_twice_is_told_with_both_reasons(plan: Plan, tmp_path: Path) -> None:
    """What was finished by then is kept, and the same export goes on from there."""
    (tmp_path / "trap b 1").write_text("on fire")
    (tmp_path / "trap b 2").write_text("SIGKILL")
    film = tmp_path / "film.mp4"

    def exported(executor: Executor) -> Report:
        return export(
            plan,
            film,
            upscaler=Trapped(tmp_path),
            encoder=encoder_for(plan),
            executor=executor,
        )

    with pytest.raises(
        ChunkError,
        match=r"^frames \[40, 82\) of clips\[1\] \(.*b\.mp4\) failed twice; "
        "first: ValueError: on fire; then: its process was ended by SIGKILL$",
    ):
        exported(LocalProcesses(1))
    assert not film.exists()
    assert [each.resumed for each in exported(InProcess()).chunks] == [True, True, False]


def test_what_only_this_process_knows_does_not_travel(plan: Plan, tmp_path: Path) -> None:
    class Local(PlainResampler):
        pass

    with pytest.raises(EngineError, match="cannot go to another process") as caught:
        export(plan, tmp_path / "o.mp4", upscaler=Local("test"), executor=LocalProcesses(2))
    assert "\n" not in str(caught.value)
    with pytest.raises(EngineError, match="there must be one"):
        LocalProcesses(0)


def test_stopped_soon_also_where_a_worker_hangs(plan: Plan, tmp_path: Path) -> None:
    """Finished chunks are kept; nothing runs on."""
    (tmp_path / "trap a").write_text("hang")
    film, hanging = tmp_path / "film.mp4", tmp_path / "hanging"
    with pytest.raises(Cancelled):
        export(
            plan,
            film,
            upscaler=Trapped(tmp_path),
            encoder=encoder_for(plan),
            executor=LocalProcesses(2),
            listener=Listener(should_stop=hanging.exists),
        )
    resumed = export(plan, film, encoder=encoder_for(plan))
    assert resumed.frames_resumed < resumed.frames


ORPHANED = """
import sys
from pathlib import Path
from engine.pipeline.exporter import export
from engine.pipeline.processes import LocalProcesses
from tests.engine.pipeline.trapped import Trapped, encoder_for, planned
clips, work = map(Path, sys.argv[1:])
plan = planned(clips)
export(plan, work / "film.mp4", upscaler=Trapped(work), encoder=encoder_for(plan),
       executor=LocalProcesses(2))
"""


def test_workers_end_when_their_caller_is_killed(folder: Path, tmp_path: Path) -> None:
    """The folder is locked until they are gone."""
    (tmp_path / "trap a").write_text("hang")
    with subprocess.Popen([sys.executable, "-c", ORPHANED, folder, tmp_path]) as caller:
        try:
            wait_until((tmp_path / "hanging").exists)
            workers = children_of(caller.pid)
        finally:
            caller.kill()
    assert len(workers) == 2
    chunk_store = ChunkStore(tmp_path / "film.mp4.parts")
    with pytest.raises(EngineError, match="another export is working here"), chunk_store.locked():
        pass
    wait_until(lambda: not any(map(is_alive, workers)))
    wait_until(lambda: can_be_locked(chunk_store))


def can_be_locked(chunk_store: ChunkStore) -> bool:
    try:
        with chunk_store.locked():
            return True
    except EngineError:
        return False


def test_each_worker_has_its_gpu_and_its_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    four = _environments(4, ["2", "GPU-5"])
    assert [each["CUDA_VISIBLE_DEVICES"] for each in four] == ["2", "GPU-5", "2", "GPU-5"]
    cores = len(os.sched_getaffinity(0))
    assert _environments(cores, [])[0]["OMP_NUM_THREADS"] == "1"
    assert _environments(1, [])[0]["OMP_NUM_THREADS"] == str(cores)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert _environments(2, [])[1]["OMP_NUM_THREADS"] == "7"


def test_a_stage_travels_as_a_value_and_not_what_it_has_loaded(tmp_path: Path) -> None:
    shape = CompactShape(features=8, inner_convs=1, scale=4)
    torch.manual_seed(3)
    torch.save({"params": shape.build().state_dict()}, tmp_path / "seeded.pth")
    told: list[tuple[int, int]] = []
    options = NetworkOptions(tmp_path / "seeded.pth", on_download=lambda *at: told.append(at))
    spec = choose_upscaler("realesr-general-x4v3", "cpu", options).stage_for(3)
    stages = LoadedStages()
    stage = stages.of(spec)
    there: NetworkSpec = pickle.loads(pickle.dumps(spec))
    assert (there, there.key) == (spec, spec.key) and hash(there) == hash(spec)
    assert there.options == replace(options, on_download=None)
    assert stages.of(there) is stage
    assert len(pickle.dumps(spec)) < 1000
    torch.save({"params": shape.build().state_dict()}, tmp_path / "seeded.pth")
    with pytest.raises(UpscalerError, match="not those"):
        there.load()

"""A whole edit through the orchestrator: the real functions, the real client, a real S3 server.

What goes wrong ends in a finished export or in one clear error, with no temporary key left and
nothing lost that was finished.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from backend.modal_client import (
    ExportJob,
    ModalProgress,
    cancel_export,
    follow_export,
    start_export,
)
from engine import (
    Edit,
    Report,
    build_plan,
    choose_encoder,
    choose_upscaler,
    export,
    probe_sources,
)
from engine.cli import main as cli
from engine.errors import EncoderError
from engine.media.encoders import Encoder, check_opens
from engine.pipeline.estimate import T4_COSTS
from engine.pipeline.executors import InProcess
from engine.storage import S3Store
from modal_functions import export_job, renderer
from modal_functions import video_processing as functions
from modal_functions.executor import ModalExecutor
from modal_functions.ledger import CallLedger
from tests.media import needs_ffmpeg
from tests.modal_functions.control_plane import ControlPlane, Program, restart_client
from tests.modal_functions.world import USER, World, job_of
from tests.s3 import SECRET, Asked, FaultyProxy, Refuse
from tests.waiting import wait_until
from tests.witness import complaints, ffprobe, key_frames, samples


@pytest.fixture
def world(s3_address: str, control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> World:
    return World.made(s3_address, control_plane, monkeypatch)


def exported(
    job: ExportJob, store: S3Store, told: Callable[[ModalProgress], None] | None = None
) -> dict[str, Any]:
    """The result of a job, from start to end."""

    async def run() -> dict[str, Any]:
        call_id = await start_export(job, store)
        return await follow_export(call_id, job, store, told)

    return asyncio.run(run())


def chunks_in(world: World) -> list[str]:
    return [key for key in world.keys("cache") if key.endswith(".mp4")]


def records_in(world: World) -> list[dict[str, Any]]:
    """The records of the chunks in the cache."""
    keys = [key.removesuffix("mp4") + "json" for key in chunks_in(world)]
    return [json.loads(world.store.get_bytes(key)) for key in keys]


def check_whole(world: World, job: ExportJob, result: dict[str, Any]) -> None:
    assert result["status"] == "success", result
    assert world.store.stat(job.output_key) and world.store.stat(job.manifest_key)
    assert world.keys(f"{USER}/temp") == []
    assert len(chunks_in(world)) == 3


@needs_ffmpeg
def test_an_export_from_start_to_result(world: World, tmp_path: Path) -> None:
    job = job_of(world.footage())
    told: list[ModalProgress] = []
    result = exported(job, world.store, told.append)
    check_whole(world, job, result)
    out = tmp_path / "out.mp4"
    world.store.get_file(job.output_key, out)
    assert not complaints(out)
    assert float(ffprobe(out)["format"]["duration"]) == pytest.approx(result["duration"], abs=0.03)
    percents = [each.percent for each in told]
    assert percents == sorted(percents) and percents[-1] == 100
    manifest = json.loads(world.store.get_bytes(job.manifest_key))
    assert manifest["result"] == result
    assert result["containers"]["containers"] == 1 and "s of work" in result["containers"]["why"]


@needs_ffmpeg
def test_the_key_interval_is_the_edit_s_else_the_job_s(world: World, tmp_path: Path) -> None:
    """Three chunks of 18, 6 and 18 frames."""
    key, out = world.footage(), tmp_path / "out.mp4"
    job = job_of(key, key_interval_s=0.2)
    assert exported(job, world.store)["report"]["key_interval"] == 6
    world.store.get_file(job.output_key, out)
    assert key_frames(out) == [0, 6, 12, 18, 24, 30, 36]
    job = replace(job, job_id="job-2", edit={**job.edit, "keyInterval": 0.3})
    assert exported(job, world.store)["report"]["key_interval"] == 9
    world.store.get_file(job.output_key, out)
    assert key_frames(out) == [0, 9, 18, 24, 33]


def test_one_engine_here_and_on_modal(world: World, tmp_path: Path) -> None:
    """The encoder is given the same frames as by `framestream render`, and the sound is the same.

    Not the same bytes: libx264 gives others once in some hundred runs.
    """
    job = job_of(world.footage())
    assert exported(job, world.store)["status"] == "success"
    (tmp_path / "edit.json").write_text(json.dumps(job.edit))
    world.store.get_file(job.source_keys["match.mp4"], tmp_path / "match.mp4")
    parts = tmp_path / "parts"
    done = CliRunner().invoke(
        cli.app,
        ["render", str(tmp_path / "edit.json"), "-o", str(tmp_path / "reel.mp4"), "--quiet"]
        + ["--encoder", "libx264", "--preset", "ultrafast", "--keep-parts"]  # it has no B-frames
        + ["--work-dir", str(parts), "--upscaler", "auto"],
    )
    assert done.exit_code == 0, done.output
    records = [json.loads(path.read_text()) for path in parts.glob("[0-9a-f]*.json")]
    here = {record["digest"]: record["frame_hash"] for record in records}
    there = {each["digest"]: each["frame_hash"] for each in records_in(world)}
    assert len(here) == 3 and here == there
    reel = tmp_path / "there.mp4"
    world.store.get_file(job.output_key, reel)
    assert np.array_equal(samples(reel), samples(tmp_path / "reel.mp4"))


@pytest.mark.parametrize("lost", [False, True], ids=["it responds", "it dies before it responds"])
def test_what_renderers_measure_is_in_the_report(world: World, tmp_path: Path, lost: bool) -> None:
    def render_and_die(**arguments: Any) -> Any:
        functions.Renderer().render_chunks.local(**arguments)
        raise RuntimeError("the container dies before it tells anything")

    if lost:
        world.monkeypatch.setattr(renderer._CallProgress, "stored", lambda *_: None)
        world.deploy(renderer_instead={"render_chunks": render_and_die})
    job = job_of(world.footage())
    result = exported(job, world.store)
    check_whole(world, job, result)
    here = rendered_here(world, job, tmp_path)
    report = result["report"]
    decoded = sum(record["decoded_frames"] for record in records_in(world))
    assert report["source_frames_decoded"] == decoded >= here.source_frames
    downloaded = sum(record["source_bytes_read"] for record in records_in(world))
    assert report["source_bytes_read"] == downloaded > 0  # the sound is where the probe has read
    assert report["stage_s"].keys() == here.stage_s.keys()
    assert report["retries"] == 0 and report["frames_resumed"] == 0
    records = records_in(world)
    for stage in ("decode", "crop", "blend", "encode"):
        measured_s = sum(record["stage_s"].get(stage, 0) for record in records)
        assert report["stage_s"][stage] == pytest.approx(measured_s, abs=0.001) and measured_s > 0


def rendered_here(world: World, job: ExportJob, folder: Path) -> Report:
    """The report of the same export in this process."""
    edit = Edit.parse(dict(job.edit))
    for name, key in job.source_keys.items():
        world.store.get_file(key, folder / name)
    plan = build_plan(edit, probe_sources(edit, folder))
    encoder = choose_encoder(plan.size, plan.fps, name=job.encoder, preset=job.preset)
    return export(
        plan,
        folder / "here.mp4",
        upscaler=choose_upscaler(job.upscaler),
        encoder=encoder,
        executor=InProcess(),  # as a container does
    )


def test_a_second_export_renders_what_changed(world: World) -> None:
    key = world.footage()
    exported(job_of(key), world.store)
    job = job_of(key, job_id="job-2", output_key=f"{USER}/working_videos/second.mp4")
    clips = [dict(clip) for clip in job.edit["clips"]]
    clips[0]["segmentsData"] = {"trimRange": {"start": 0.2, "end": 0.8}}
    second = exported(
        job_of(key, job_id="job-2", edit={**job.edit, "clips": clips}, output_key=job.output_key),
        world.store,
    )
    assert second["report"]["frames_rendered"] == 12  # the start of clip 1, and no transition
    assert second["report"]["frames_resumed"] == 24


def test_many_containers_and_the_reason(world: World) -> None:
    costs = replace(T4_COSTS, startup_s=0)
    world.monkeypatch.setattr("modal_functions.executor.T4_COSTS", costs)
    job = job_of(world.footage(), max_containers=2)
    result = exported(job, world.store)
    check_whole(world, job, result)
    assert result["containers"]["containers"] == 2
    assert len(world.plane.calls_of("/render_chunks")) == 2


STEPS = {
    "before the plan": (export_job, "build_plan"),
    "before the choice": (export_job, "_render_job"),
    "before the renderers start": (ModalExecutor, "_spawn"),
    "while they render": (ModalExecutor, "_poll"),
    "before the upload": (export_job, "upload_film"),
    "before the manifest": (export_job, "video_response"),
    "before clearing away": (export_job, "_clear_away"),
}


@pytest.mark.parametrize("step", STEPS)
def test_an_orchestrator_that_is_preempted_and_started_again(world: World, step: str) -> None:
    owner, name = STEPS[step]
    original = getattr(owner, name)
    preempted: list[str] = []

    def preempt_once(*args: Any, **kwargs: Any) -> Any:
        if not preempted:
            preempted.append(step)
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    def restarted(**arguments: Any) -> Any:
        try:
            return functions.export_multi_clip.local(**arguments)
        except KeyboardInterrupt:
            return functions.export_multi_clip.local(**arguments)

    world.monkeypatch.setattr(owner, name, preempt_once)
    world.deploy({"export_multi_clip": restarted})
    job = job_of(world.footage(frames=30), edit=_short())
    result = exported(job, world.store)
    assert result["status"] == "success" and preempted == [step]
    assert world.keys(f"{USER}/temp") == []
    assert len(world.plane.calls_of("/render_chunks")) == 1


def _short() -> dict[str, Any]:
    return {"clips": [{"fileName": "match.mp4"}], "targetWidth": 96, "targetHeight": 128}


def test_a_backend_that_is_started_again(world: World) -> None:
    job = job_of(world.footage(frames=30), edit=_short())
    abandoned = world.deploy_gated()

    async def start_and_go() -> str:
        call_id = await start_export(job, world.store)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await follow_export(call_id, job, world.store)
        return call_id

    call_id = asyncio.run(start_and_go())
    abandoned.set()
    wait_until(lambda: not world.plane.calls[call_id].unfinished)
    restart_client()
    result = asyncio.run(follow_export(call_id, job, world.store))
    assert result["status"] == "success"
    world.plane.calls.clear()  # Modal has forgotten it: the stored result is what counts
    assert asyncio.run(follow_export(call_id, job, world.store)) == result


def test_what_nobody_knows_any_more_is_an_error(world: World) -> None:
    job = job_of(f"{USER}/raw/match.mp4")
    result = asyncio.run(follow_export("fc-unknown", job, world.store))
    assert result["status"] == "error" and "knows no call" in result["error"]


def test_cancelled_it_stops_its_renderers_and_clears_away(world: World) -> None:
    rendering_began: list[str] = []

    def render_without_end(**arguments: Any) -> None:
        rendering_began.extend(arguments["digests"])
        while True:
            time.sleep(0.01)

    world.deploy(renderer_instead={"render_chunks": render_without_end})
    job = job_of(world.footage(frames=30), edit=_short())

    known: list[str] = []
    started = CallLedger.call_started

    def started_and_known(ledger: CallLedger, call_id: str, digests: Sequence[str]) -> None:
        started(ledger, call_id, digests)
        known.extend(digests)  # nobody can end a call before its id has come back

    world.monkeypatch.setattr(CallLedger, "call_started", started_and_known)

    async def run() -> None:
        call_id = await start_export(job, world.store)
        while not (known and rendering_began):
            await asyncio.sleep(0.02)
        await cancel_export(call_id, job, world.store)

    asyncio.run(run())
    assert all(not call.unfinished for call in world.plane.calls_of("/export_multi_clip"))
    assert all(c.cancelled for call in world.plane.calls_of("/render_chunks")
               for c in call.containers)  # fmt: skip
    assert world.keys(f"{USER}/temp") == []


def test_a_container_that_is_killed_in_the_middle_of_a_chunk(world: World, tmp_path: Path) -> None:
    marker = tmp_path / "hangs"
    world.monkeypatch.setenv("FRAMESTREAM_TEST_MARKER", str(marker))
    body = Program("tests.modal_functions.hanging_renderer:render_and_hang")
    world.deploy(renderer_instead={"render_chunks": body})
    job = job_of(world.footage(frames=30), edit=_short())

    async def run() -> dict[str, Any]:
        call_id = await start_export(job, world.store)
        while not marker.exists():
            await asyncio.sleep(0.05)
        world.deploy()
        world.plane.calls_of("/render_chunks")[0].containers[0].kill()
        return await follow_export(call_id, job, world.store)

    result = asyncio.run(run())
    assert result["status"] == "success"
    assert "container was lost" in " ".join(result["report"]["warnings"])
    assert result["report"]["retries"] == 1
    assert world.keys(f"{USER}/temp") == []


def test_a_renderer_that_gets_nothing_done_is_replaced(world: World) -> None:
    world.deploy_stalled()
    job = job_of(world.footage(frames=30), edit=_short())
    result = exported(job, world.store)
    assert result["status"] == "success"
    assert "no frame done" in " ".join(result["report"]["warnings"])


def test_a_chunk_that_always_fails(world: World) -> None:
    done: list[str] = []
    began = renderer._CallProgress._begin

    def fail_at_second(turn: renderer._CallProgress, digest: str) -> None:
        began(turn, digest)
        if done and digest not in done:
            raise RuntimeError("this one never works")
        done.append(digest)

    world.monkeypatch.setattr(renderer._CallProgress, "_begin", fail_at_second)
    job = job_of(world.footage())
    result = exported(job, world.store)
    assert result["status"] == "error"
    assert "failed 3 times" in result["error"] and "never works" in result["error"]
    assert "\n" not in result["error"]
    assert len(chunks_in(world)) == 1 and world.keys(f"{USER}/temp") == []
    world.monkeypatch.setattr(renderer._CallProgress, "_begin", began)
    again = exported(job, world.store)
    check_whole(world, job, again)
    assert again["report"]["frames_resumed"] > 0


def test_a_chunk_that_takes_its_container_along(world: World) -> None:
    """Modal would start the call anew without end; it ends itself after three starts."""
    deaths: list[int] = []

    class ContainerDiesError(BaseException):
        pass

    def die(*_: object) -> None:
        raise ContainerDiesError

    def rescheduled(**arguments: Any) -> Any:
        while True:
            try:
                return functions.Renderer().render_chunks.local(**arguments)
            except ContainerDiesError:
                deaths.append(1)

    world.monkeypatch.setattr(renderer._CallProgress, "frames", die)
    world.monkeypatch.setattr("modal.current_function_call_id", lambda: "fc-1")
    world.deploy(renderer_instead={"render_chunks": rescheduled})
    job = job_of(world.footage(frames=30), edit=_short())
    result = exported(job, world.store)
    assert result["status"] == "error" and "died 3 times" in result["error"]
    assert len(deaths) == 3


def test_a_source_that_is_not_there(world: World) -> None:
    job = job_of(f"{USER}/raw/gone.mp4")
    result = exported(job, world.store)
    assert result["status"] == "error"
    assert "clips[0].fileName" in result["error"] and "gone.mp4" in result["error"]
    assert world.keys(f"{USER}/temp") == []


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"output_key": "8/other.mp4"}, "not under 7/"),
        ({"source_keys": {"match.mp4": "8/raw/match.mp4"}}, "not under 7/"),
        ({"edit": {"clips": []}}, "clips"),
        ({"upscaler": "nonsense"}, "nonsense"),
        ({"encoder": "nonsense"}, "nonsense"),
        ({"preset": "nonsense"}, "nonsense"),
        ({"encoder_options": {"nonsense": "1"}}, "nonsense"),
    ],
)
def test_what_cannot_be_done(world: World, changes: dict[str, Any], complaint: str) -> None:
    job = job_of(world.footage(frames=30), **{"edit": _short(), **changes})
    result = exported(job, world.store)
    assert result["status"] == "error" and complaint in result["error"]
    assert world.keys(f"{USER}/temp") == []


def test_the_encoder_is_libx264_also_where_nvenc_opens(world: World) -> None:
    world.monkeypatch.setattr("engine.media.encoders.refusal_of", lambda _: None)
    options = {"bf": "0"}
    job = job_of(world.footage(frames=30), edit=_short(), encoder="auto", encoder_options=options)
    report = exported(job, world.store)["report"]
    assert (report["encoder"], report["encoder_options"]["bf"]) == ("libx264", "0")


def test_an_encoder_that_opens_in_some_containers_only(world: World) -> None:
    """Those in which it does not open take no second call, and the export needs another one."""
    refused: list[Encoder] = []

    def open_second(encoder: Encoder) -> None:
        if not refused:
            refused.append(encoder)
            raise EncoderError(f"{encoder.name} does not open here: no device")
        check_opens(encoder)

    world.monkeypatch.setattr(renderer, "check_opens", open_second)
    result = exported(job_of(world.footage(frames=30), edit=_short()), world.store)
    assert result["status"] == "success" and result["report"]["retries"] == 1
    assert "tried again: libx264 does not open here" in " ".join(result["report"]["warnings"])
    assert len(world.plane.calls_of("/choose")) == 1


def test_an_encoder_that_opens_in_no_container(world: World) -> None:
    job = job_of(world.footage(frames=30), edit=_short(), encoder="h264_nvenc", preset="p4")
    result = exported(job, world.store)
    said = "failed 3 times: h264_nvenc does not open here: no NVIDIA driver"
    assert result["status"] == "error" and said in result["error"]
    assert len(world.plane.calls_of("/render_chunks")) == 3


def test_another_engine_or_another_job_than_was_meant(world: World) -> None:
    job = job_of(world.footage(frames=30))
    key = job.job_key
    world.store.put_bytes(key, job.document())
    call = {"job_id": "job-1", "user_id": USER, "output_key": job.output_key, "job_key": key}
    other = functions.export_multi_clip.local(**call, job_sha256="0", engine_version="0.0.9")
    assert other["status"] == "error"
    assert "framestream 0.0.9" in other["error"] and "deploy again" in other["error"]
    changed = functions.export_multi_clip.local(**call, job_sha256="0", engine_version="0.1.0")
    assert changed["status"] == "error" and "SHA-256" in changed["error"]
    document = replace(job, job_id="job-2").document()
    world.store.put_bytes(key, document)
    sha256 = hashlib.sha256(document).hexdigest()
    another = functions.export_multi_clip.local(**call, job_sha256=sha256, engine_version="0.1.0")
    assert another["status"] == "error" and "another job" in another["error"]
    assert world.keys(f"{USER}/temp") == []


def test_a_bucket_that_is_down_for_a_while(world: World) -> None:
    job = job_of(world.footage())
    down_until: list[float] = []

    def fault(request: Asked) -> Refuse | None:
        if "/cache/" in request.path and request.method == "PUT" and not down_until:
            down_until.append(time.monotonic() + 1)
        down = down_until and time.monotonic() < down_until[0]
        return Refuse(503, "ServiceUnavailable") if down else None

    proxy = FaultyProxy(world.store.settings.endpoint_url, fault)
    with proxy.listening() as address:
        world.monkeypatch.setenv("R2_ENDPOINT_URL", address)
        result = exported(job, world.store)
    assert down_until
    check_whole(world, job, result)


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (403, "InvalidAccessKeyId", "access is denied"),
        (400, "AuthorizationHeaderMalformed", "R2_REGION"),
        (404, "NoSuchBucket", "no such bucket"),
    ],
)
def test_a_bucket_that_refuses(world: World, status: int, code: str, said: str) -> None:
    job = job_of(world.footage(frames=30))
    proxy = FaultyProxy(world.store.settings.endpoint_url, lambda _: Refuse(status, code))
    with proxy.listening() as address:
        world.monkeypatch.setenv("R2_ENDPOINT_URL", address)
        result = exported(job, world.store)
    assert result["status"] == "error" and said in result["error"]
    assert SECRET not in str(result)
    assert world.keys(f"{USER}/temp") == []


def test_a_secret_that_was_not_made(world: World) -> None:
    world.monkeypatch.delenv("R2_SECRET_ACCESS_KEY")
    result = exported(job_of(world.footage(frames=30)), world.store)
    assert "R2_SECRET_ACCESS_KEY" in result["error"]

"""Requests to Modal that fail or get lost, and calls that nobody waits for any more.

The real functions, the real client and a real S3 server, with faults in the control plane.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import modal
import pytest
from grpclib import Status

from backend.modal_client import ModalError, cancel_export, follow_export, start_export
from engine.pipeline.cache import StoreCache
from modal_functions import executor
from modal_functions import video_processing as functions
from modal_functions.executor import ModalExecutor
from modal_functions.ledger import CallLedger
from modal_functions.progress_dict import ProgressDict
from modal_functions.protocol import PROGRESS_DICT, ChunkEntry, Ledger
from tests.media import needs_ffmpeg
from tests.modal_functions.control_plane import ControlPlane, Down, Fault, no_fault
from tests.modal_functions.world import USER, World, job_of
from tests.waiting import wait_until

pytestmark = needs_ffmpeg


@pytest.fixture
def world(s3_address: str, control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> World:
    return World.made(s3_address, control_plane, monkeypatch)


def short_job(world: World, **changes: Any) -> Any:
    """One clip of 30 frames: one chunk."""
    edit = {"clips": [{"fileName": "match.mp4"}], "targetWidth": 96, "targetHeight": 128}
    return job_of(world.footage(frames=30), edit=edit, **changes)


def exported(world: World, job: Any) -> dict[str, Any]:
    async def run() -> dict[str, Any]:
        return await follow_export(await start_export(job, world.store), job, world.store)

    return asyncio.run(run())


def down(
    *names: str, times: int = 10**9, status: Status = Status.UNAVAILABLE
) -> Callable[..., Any]:
    """A fault of these requests, the first few times. Modal's client tries each four times."""
    left = [times]

    def fault(name: str, _: object) -> Fault | None:
        if name not in names or left[0] == 0:
            return None
        left[0] -= 1
        return Down(status)

    return fault


def renderers(world: World) -> list[Any]:
    return world.plane.calls_of("/render_chunks")


def check_one_container(world: World, result: dict[str, Any]) -> None:
    assert result["status"] == "success", result
    assert result["report"]["warnings"] == [] and result["report"]["retries"] == 0
    assert len(renderers(world)) == 1 and world.keys(f"{USER}/temp") == []


# progress


def test_progress_that_could_not_be_written_is_written_with_the_next(
    control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modal_functions.progress_dict.INTERVAL_S", 0.05)
    monkeypatch.setattr("modal_functions.progress_dict.WRITE_S", 0.05)
    with ProgressDict() as progress:
        control_plane.fault = down("DictUpdate")
        progress.set_now("lost", ChunkEntry(1, stored=True))
        progress.set_now("old", ChunkEntry(1))
        wait_until(lambda: control_plane.requests.count("DictUpdate") >= 5)
        progress.set_now("old", ChunkEntry(2))
        control_plane.fault = no_fault
    written = modal.Dict.from_name(PROGRESS_DICT)
    assert written["lost"]["stored"] and written["old"]["frames"] == 2


def fetched_while_rendering(world: World) -> threading.Event:
    """Holds the renderer before its last chunk until the two before it have been fetched."""
    fetched: list[str] = []
    enough = threading.Event()
    fetch, offer = ModalExecutor._fetch, StoreCache.offer

    def fetch_and_count(self: ModalExecutor, *args: Any) -> Any:
        rendered = fetch(self, *args)
        if rendered is not None:
            fetched.append(rendered.chunk.digest)
            if len(fetched) == 2:
                enough.set()
        return rendered

    offered: list[str] = []

    def offer_and_wait(self: Any, digest: str, folder: Any) -> None:
        offered.append(digest)
        if len(set(offered)) == 3:
            assert enough.wait(60), "what is in the cache was not fetched"
        offer(self, digest, folder)

    world.monkeypatch.setattr(ModalExecutor, "_fetch", fetch_and_count)
    world.monkeypatch.setattr(StoreCache, "offer", offer_and_wait)
    return enough


@pytest.mark.parametrize("request_name", ["DictUpdate", "DictGet"])
def test_chunks_are_found_in_the_store_where_progress_tells_of_none(
    world: World, request_name: str
) -> None:
    world.monkeypatch.setattr("modal_functions.executor.LOOK_S", 0.2)
    world.monkeypatch.setattr("modal_functions.progress_dict.WRITE_S", 0.1)
    world.plane.fault = down(request_name)
    enough = fetched_while_rendering(world)
    check_one_container(world, exported(world, job_of(world.footage())))
    assert enough.is_set()


def test_no_renderer_is_given_up_while_its_progress_cannot_be_read(world: World) -> None:
    world.monkeypatch.setattr("modal_functions.executor.QUEUED_S", 0.1)
    world.plane.fault = down("DictGet")
    gate = world.deploy_gated()
    asked = world.plane.requests

    def open_later() -> None:
        wait_until(lambda: asked.count("DictGet") > 8)
        gate.set()

    waiting = threading.Thread(target=open_later)
    waiting.start()
    check_one_container(world, exported(world, short_job(world)))
    waiting.join(10)


def test_progress_that_stays_unreadable_is_an_excuse_for_half_an_hour(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_s = 0.0
    monkeypatch.setattr(executor, "time", SimpleNamespace(monotonic=lambda: now_s))
    call = executor._RunningCall(modal.FunctionCall.from_id("fc-1"), [], since_s=0.0, looked_s=0.0)
    while now_s < executor.UNREADABLE_S:
        call.progress_is_unreadable()
        assert call.why_overdue() is None
        now_s += 60
    now_s += executor.QUEUED_S
    call.progress_is_unreadable()
    assert "no frame done" in str(call.why_overdue())


# calls


def test_a_call_that_cannot_be_asked_for_its_result_is_not_lost(world: World) -> None:
    world.plane.fault = down("FunctionGetOutputs", times=12, status=Status.INTERNAL)
    check_one_container(world, exported(world, short_job(world)))


def test_a_call_that_cannot_be_started_at_once(world: World) -> None:
    started: list[str] = []

    def fault(name: str, _: object) -> Fault | None:
        if name != "FunctionMap":
            return None
        started.append(name)
        return Down() if 2 <= len(started) <= 7 else None  # the first is the orchestrator's own

    world.plane.fault = fault
    check_one_container(world, exported(world, short_job(world)))
    assert len(started) >= 8


@pytest.mark.parametrize("look_s", [0.1, 1000], ids=["meanwhile", "at the end"])
def test_a_renderer_that_cannot_be_cancelled_at_once_is_cancelled_later(
    world: World, look_s: float
) -> None:
    world.deploy_stalled()
    world.monkeypatch.setattr("modal_functions.executor.LOOK_S", look_s)
    world.plane.fault = down("FunctionCallCancel", times=4)
    result = exported(world, short_job(world))
    assert result["status"] == "success", result
    assert renderers(world)[0].containers[0].cancelled
    assert world.keys(f"{USER}/temp") == []


def test_a_renderer_that_cannot_be_cancelled_at_all_is_left_to_the_backend(world: World) -> None:
    world.deploy_stalled()
    world.monkeypatch.setattr("modal_functions.ledger.CANCEL_TRIES", 1)
    world.plane.fault = down("FunctionCallCancel")
    job = short_job(world)
    assert exported(world, job)["status"] == "success"
    first = renderers(world)[0]
    ledger = Ledger.from_document(world.store.get_bytes(job.ledger_key))
    assert ledger.given_up == [first.id] and not first.containers[0].cancelled
    with pytest.raises(ModalError):
        asyncio.run(cancel_export(None, job, world.store))
    world.plane.fault = no_fault
    asyncio.run(cancel_export(None, job, world.store))
    assert first.containers[0].cancelled and world.keys(f"{USER}/temp") == []


def test_a_ledger_is_what_was_written() -> None:
    ledger = Ledger({"fc-1": ["a"]}, {"a": 1}, {"a": ["lost"]}, ["fc-2"])
    assert Ledger.from_document(ledger.document()) == ledger


# calls that nobody waits for


def test_a_call_whose_id_is_lost_ends_and_publishes_nothing(world: World) -> None:
    world.check_fences_often()
    gate = world.deploy_gated()
    job = short_job(world)
    call_id = asyncio.run(start_export(job, world.store))
    wait_until(lambda: world.noted_renderers())
    asyncio.run(cancel_export(None, job, world.store))
    orchestrator = world.plane.calls[call_id]
    wait_until(lambda: not orchestrator.unfinished)
    gate.set()
    assert not orchestrator.containers[0].cancelled, "nobody knew its id"
    assert all(each.cancelled for call in renderers(world) for each in call.containers)
    result = asyncio.run(follow_export(call_id, job, world.store))
    assert result["status"] == "error" and result["lost"] and "was cancelled" in result["error"]
    assert world.keys(USER) == [f"{USER}/raw/match.mp4"]


def test_a_newer_call_takes_over_the_renderers_of_the_older(world: World) -> None:
    world.check_fences_often()
    gate = world.deploy_gated()
    job = short_job(world)
    older = asyncio.run(start_export(job, world.store))
    wait_until(lambda: world.noted_renderers())
    newer = asyncio.run(start_export(job, world.store))
    wait_until(lambda: not world.plane.calls[older].unfinished)
    gate.set()
    result = asyncio.run(follow_export(newer, job, world.store))
    check_one_container(world, result)
    assert world.store.stat(job.output_key)
    world.store.delete(job.manifest_key)
    replaced = asyncio.run(follow_export(older, job, world.store))
    assert replaced["lost"] and "another SHA-256" in replaced["error"]


def test_a_call_that_comes_too_late_does_nothing(world: World) -> None:
    job = short_job(world)
    document = job.document()
    call = {
        "job_id": job.job_id,
        "user_id": USER,
        "output_key": job.output_key,
        "job_key": job.job_key,
        "job_sha256": hashlib.sha256(document).hexdigest(),
        "engine_version": "0.1.0",
    }
    withdrawn = functions.export_multi_clip.local(**call)
    assert withdrawn["status"] == "error" and withdrawn["lost"]
    ledger = CallLedger(world.store, job.ledger_key, Ledger())
    world.store.put_bytes(job.job_key, document + b" ")
    ledger.call_started("fc-of-the-newer", [])
    replaced = functions.export_multi_clip.local(**call)
    assert replaced["status"] == "error" and replaced["lost"]
    assert sorted(world.keys(f"{USER}/temp")) == sorted([job.job_key, job.ledger_key])
    assert "FunctionCallCancel" not in world.plane.requests

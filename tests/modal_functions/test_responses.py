"""What deployed functions return: `status` says whether they did what they were asked for."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import modal
import modal.experimental
import pytest

from engine.errors import EngineError, StoreError
from engine.media.encoders import choose_encoder, named_encoder
from engine.media.probe import probe
from engine.pipeline.cache import StoreCache
from engine.pipeline.job import RenderJob, plan_job
from engine.pipeline.render import render_chunk
from engine.timeline.edit import Edit
from engine.timeline.plan import build_plan
from engine.upscale.choice import choose_upscaler
from modal_functions import video_processing as functions
from modal_functions.app import APP_NAME
from modal_functions.chunk_bundle import put_bundle
from modal_functions.ledger import poll_call
from modal_functions.responses import errors_to_responses
from tests.modal_functions.control_plane import ControlPlane
from tests.modal_functions.world import USER, World, job_of
from tests.waiting import wait_until

WAIT_S = 30


@pytest.fixture
def world(s3_address: str, control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> World:
    return World.made(s3_address, control_plane, monkeypatch)


def render_job(world: World) -> RenderJob:
    """Three chunks: a clip, a dissolve, and another clip."""
    source = probe(world.store.source(world.footage()), world.store)
    plan = build_plan(Edit.parse(dict(job_of("").edit)), [source, source])
    encoder = choose_encoder(plan.size, plan.fps, name="libx264", preset="ultrafast")
    return plan_job(plan, choose_upscaler("none"), encoder)


def render(world: World, job: RenderJob, **changes: Any) -> Any:
    """The response of a renderer that is given all chunks of a job."""
    key, sha256 = put_bundle(world.store, f"{USER}/temp/modal_job-1", job)
    arguments: dict[str, Any] = {
        "job_id": "job-1",
        "bundle_key": key,
        "bundle_sha256": sha256,
        "digests": [chunk.digest for chunk in job.chunks],
    }
    return functions.Renderer().render_chunks.local(**arguments | changes)


def check_error(response: Any, complaint: str) -> None:
    """Nothing but an error, in one line."""
    assert response["status"] == "error" and complaint in response["error"], response
    assert set(response) == {"status", "error"} and "\n" not in response["error"]


def test_what_is_returned_passes() -> None:
    assert errors_to_responses(lambda: {"status": "success", "frames": 3})() == {
        "status": "success",
        "frames": 3,
    }


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (EngineError("match.mp4: is empty"), "match.mp4: is empty"),
        (ZeroDivisionError("by\nzero"), "unexpected ZeroDivisionError: by zero"),
        (
            EngineError("https://r2.test/a.mp4?X-Amz-Signature=abc123"),
            "https://r2.test/a.mp4?X-Amz-Signature=REDACTED",
        ),
    ],
)
def test_an_error_is_one_line_without_secrets(error: Exception, said: str) -> None:
    def fail() -> dict[str, Any]:
        raise error

    assert errors_to_responses(fail)() == {"status": "error", "error": said}


@pytest.mark.parametrize("kind", [KeyboardInterrupt, modal.exception.InputCancellation])
def test_a_cancellation_is_no_response(kind: type[BaseException]) -> None:
    def stop() -> dict[str, Any]:
        raise kind

    with pytest.raises(kind):
        errors_to_responses(stop)()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"clip_keys": [f"{USER}/gone.mp4"]}, "does not exist"),
        ({"clip_keys": []}, "clip"),
        ({"output_key": f"{USER}/../8/reel.mp4"}, "begins with a dot"),
        ({"transition_type": "nonsense"}, "nonsense"),
        ({"transition_type": "dissolve", "transition_duration": -1.0}, "negative"),
        ({"clip_info": [{"title": "one"}, {"title": "too many"}]}, "clip_info"),
        ({"clip_info": [None]}, "unexpected"),
        ({"engine_version": "0.0.1"}, "deploy again"),
    ],
)
def test_joining_that_fails(world: World, changes: dict[str, Any], complaint: str) -> None:
    arguments = {
        "job_id": "job-1",
        "user_id": USER,
        "clip_keys": [world.footage(frames=30)],
        "output_key": f"{USER}/reel.mp4",
    }
    check_error(functions.concatenate_clips_modal.local(**arguments | changes), complaint)
    assert world.store.stat(f"{USER}/reel.mp4") is None


def test_a_choice() -> None:
    chosen = functions.Renderer().choose.local("none", [0.5, 2.0])
    assert chosen["status"] == "success" and chosen["upscaler"]["name"] == "none"
    assert len(chosen["stages"]) == 2
    assert set(chosen) == {"status", "upscaler", "stages"}


def test_a_choice_that_cannot_be_made() -> None:
    check_error(functions.Renderer().choose.local("nonsense", [1.0]), "nonsense")


def test_where_the_encoder_does_not_open_the_container_takes_no_more_calls(world: World) -> None:
    ended: list[str] = []
    world.monkeypatch.setattr(modal, "is_local", lambda: False)
    world.monkeypatch.setattr(
        modal.experimental, "stop_fetching_inputs", lambda: ended.append("this container")
    )
    job = render_job(world)
    assert render(world, job)["status"] == "success" and not ended
    nvenc = named_encoder(job.encoder.size, job.encoder.fps, "h264_nvenc")
    check_error(render(world, replace(job, encoder=nvenc)), "h264_nvenc does not open here")
    assert ended == ["this container"]


def test_chunks_that_are_rendered(world: World) -> None:
    job = render_job(world)
    response = render(world, job)
    assert response["status"] == "success" and set(response) == {"status", "chunks"}
    for chunk, record in zip(job.chunks, response["chunks"], strict=True):
        assert record["digest"] == chunk.digest
        assert record["frame_count"] == len(chunk.frames) <= record["decoded_frames"]
        assert {"decode", "crop", "encode"} <= record["stage_s"].keys()
        assert world.store.stat(f"cache/{chunk.digest}.mp4")
    downloaded = sum(record["source_bytes_read"] for record in response["chunks"])
    stored = world.store.stat(f"{USER}/raw/match.mp4")
    assert stored and downloaded == stored.size_bytes  # it is small
    assert render(world, job) == {"status": "success", "chunks": []}


def test_a_chunk_that_fails(world: World) -> None:
    job = render_job(world)
    failing = job.chunks[1]

    def fail_at_second(chunk: Any, *args: Any, **kwargs: Any) -> Any:
        if chunk.digest == failing.digest:
            raise EngineError("this one never works")
        return render_chunk(chunk, *args, **kwargs)

    world.monkeypatch.setattr("engine.pipeline.executors.render_chunk", fail_at_second)
    response = render(world, job)
    assert response["status"] == "error" and response["error"] == "this one never works"
    assert response["digest"] == failing.digest and response["attempts"] == 1
    assert [record["digest"] for record in response["chunks"]] == [job.chunks[0].digest]
    assert set(response) == {"status", "error", "digest", "attempts", "chunks"}


def test_a_chunk_is_stored_while_the_next_one_is_rendered(world: World) -> None:
    job = render_job(world)
    second_rendered = threading.Event()
    offer = StoreCache.offer

    def watch_second(chunk: Any, *args: Any, **kwargs: Any) -> Any:
        encoded = render_chunk(chunk, *args, **kwargs)
        if chunk.digest == job.chunks[1].digest:
            second_rendered.set()
        return encoded

    def offer_late(self: StoreCache, digest: str, folder: Path) -> None:
        assert second_rendered.wait(WAIT_S), "the second chunk waits for the first to be stored"
        offer(self, digest, folder)

    world.monkeypatch.setattr("engine.pipeline.executors.render_chunk", watch_second)
    world.monkeypatch.setattr(StoreCache, "offer", offer_late)
    response = render(world, job)
    assert response["status"] == "success", response
    assert [record["digest"] for record in response["chunks"]] == [c.digest for c in job.chunks]
    assert all(world.store.stat(f"cache/{chunk.digest}.mp4") for chunk in job.chunks)


def test_a_chunk_that_cannot_be_stored_is_the_one_that_failed(world: World) -> None:
    job = render_job(world)
    offer = StoreCache.offer

    def refuse_second(self: StoreCache, digest: str, folder: Path) -> None:
        if digest == job.chunks[1].digest:
            raise StoreError("the bucket", "is full")
        offer(self, digest, folder)

    world.monkeypatch.setattr(StoreCache, "offer", refuse_second)
    response = render(world, job)
    assert response["status"] == "error" and response["error"] == "the bucket: is full"
    assert (response["digest"], response["attempts"]) == (job.chunks[1].digest, 1)
    assert [record["digest"] for record in response["chunks"]] == [job.chunks[0].digest]
    stored = [world.store.stat(f"cache/{chunk.digest}.json") for chunk in job.chunks]
    assert [each is not None for each in stored] == [True, False, False]


def test_a_bundle_that_is_not_the_one_that_was_meant(world: World) -> None:
    job = render_job(world)
    check_error(render(world, job, bundle_sha256="0" * 64), "SHA-256")
    check_error(render(world, job, bundle_key=f"{USER}/temp/gone"), "does not exist")


@pytest.mark.parametrize(
    ("returned", "said"),
    [(None, "it returned NoneType"), ({"chunks": []}, "it returned dict"), (3, "it returned int")],
)
def test_a_call_that_returns_something_else(
    control_plane: ControlPlane, returned: object, said: str
) -> None:
    control_plane.deploy(APP_NAME, {"work": lambda: returned})
    assert finished(modal.Function.from_name(APP_NAME, "work").spawn()) == {
        "status": "error",
        "error": said,
    }


def test_a_call_that_raises(control_plane: ControlPlane) -> None:
    control_plane.deploy(APP_NAME, {"work": lambda: 1 / 0})
    response = finished(modal.Function.from_name(APP_NAME, "work").spawn())
    assert response["status"] == "error" and "ZeroDivisionError" in response["error"]


def finished(call: modal.FunctionCall[Any]) -> Any:
    """The response of a call, once there is one."""
    wait_until(lambda: poll_call(call) is not None)
    return poll_call(call)

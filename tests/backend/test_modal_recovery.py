"""Jobs on Modal when Modal, the bucket or the server goes away: nothing is lost or paid for twice.

The real client with a control plane on loopback, a real S3 server, and kills at exact moments.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from backend import modal_client, outside_tasks
from backend.database import Database
from backend.jobs import Jobs
from backend.settings import ModalFallback, Settings
from tests.backend.conftest import post, serving, wait_for
from tests.backend.test_kill import server
from tests.clips import read_number
from tests.media import needs_ffmpeg
from tests.modal_functions.control_plane import (
    Call,
    ControlPlane,
    Down,
    Lose,
    Slow,
    no_fault,
    restart_client,
)
from tests.modal_functions.world import World
from tests.s3 import BUCKET
from tests.waiting import wait_until
from tests.witness import luma_frames

pytestmark = needs_ffmpeg

ASYNC = {"Prefer": "respond-async"}


@pytest.fixture
def world(s3_address: str, control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(outside_tasks, "POLL_S", 0.1)
    monkeypatch.setattr(outside_tasks, "FIRST_PAUSE_S", 0.1)
    monkeypatch.setattr(outside_tasks, "LONGEST_PAUSE_S", 0.1)
    return World.made(s3_address, control_plane, monkeypatch)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", modal_enabled=True)


def sent(client: httpx.Client, clips: list[Path]) -> None:
    post(client, clips[1:], headers=ASYNC, export_id="far", project_id="7")


def exports(world: World) -> list[Call]:
    """The calls of the orchestrator, oldest first."""
    return world.plane.calls_of("/export_multi_clip")


def is_live(call: Call) -> bool:
    return call.unfinished > 0


def outside(settings: Settings) -> list[tuple[Any, ...]]:
    """What has still to happen outside: attempts and last errors."""
    with contextlib.closing(sqlite3.connect(settings.data_dir / "framestream.db")) as database:
        return database.execute("SELECT attempts, last_error FROM outside_tasks").fetchall()


def films(world: World) -> list[str]:
    return world.keys("local/working_videos")


def client_of(world: World) -> Any:
    return world.store._client


def begin_an_upload(world: World, settings: Settings) -> None:
    """Leaves an unfinished upload of the film, as a killed worker does."""
    with contextlib.closing(sqlite3.connect(settings.data_dir / "framestream.db")) as database:
        ((key,),) = database.execute("SELECT output_key FROM export_jobs")
    client_of(world).create_multipart_upload(Bucket=BUCKET, Key=key)


def check_film(world: World, told: dict[str, Any], tmp_path: Path) -> None:
    """The whole film, and nothing else of the user in the bucket."""
    video = tmp_path / "video.mp4"
    video.write_bytes(httpx.get(told["result"]["presigned_url"]).content)
    assert [read_number(luma) for luma in luma_frames(video)] == [*range(18)]
    wait_until(lambda: len(world.keys("local")) == 1, within_s=30)


def fail_once(world: World) -> None:
    """Deploys renderers of which the first fails for good."""
    world.monkeypatch.setattr("modal_functions.executor.MAX_ATTEMPTS", 1)
    world.deploy(renderer_instead={"render_chunks": lambda **_: 1 / 0})


# retrying


def test_a_retry_after_a_failure_starts_a_new_call(
    world: World, settings: Settings, clips: list[Path], tmp_path: Path
) -> None:
    fail_once(world)
    with serving(settings) as client:
        sent(client, clips)
        assert "failed 1 times" in wait_for(client, "far", "failed")["error"]
        world.deploy()
        assert client.post("/api/exports/far/retry").status_code == 202
        check_film(world, wait_for(client, "far", "done", "failed"), tmp_path)
        wait_until(lambda: not outside(settings))
    assert len(exports(world)) == 2


def test_a_retry_after_a_cancellation_waits_for_the_end_of_the_old_call(
    world: World, settings: Settings, clips: list[Path], tmp_path: Path
) -> None:
    gate = world.deploy_gated()
    live: list[int] = []

    def is_started_again() -> bool:
        live.append(sum(map(is_live, exports(world))))
        return len(exports(world)) > 1

    with serving(settings) as client:
        sent(client, clips)
        wait_until(world.noted_renderers)
        world.plane.fault = lambda name, _: Slow(0.5) if name == "FunctionCallCancel" else None
        assert client.delete("/api/exports/far").json()["status"] == "cancelled"
        assert client.post("/api/exports/far/retry").status_code == 202
        wait_until(is_started_again)
        gate.set()
        check_film(world, wait_for(client, "far", "done", "failed"), tmp_path)
        wait_until(lambda: not outside(settings))
    assert max(live) == 1 and not is_live(exports(world)[0])


@pytest.mark.parametrize("is_stored", [False, True], ids=["nothing stored", "its result stored"])
def test_a_call_that_modal_has_forgotten(
    world: World, settings: Settings, clips: list[Path], tmp_path: Path, is_stored: bool
) -> None:
    gate = world.deploy_gated()
    with serving(settings) as client:
        sent(client, clips)
        wait_until(world.noted_renderers)
        wait_for(client, "far", "running")
    call = exports(world)[0]
    if is_stored:
        gate.set()
        wait_until(lambda: not is_live(call))
    else:
        world.plane.cancel(call.id)
        # a renderer that has begun could be interrupted while it starts a thread
        wait_until(lambda: not is_live(call))
    gate.set()
    del world.plane.calls[call.id]
    restart_client()
    with serving(settings) as client:
        told = wait_for(client, "far", "done", "failed")
        check_film(world, told, tmp_path)
        assert len(exports(world)) == (0 if is_stored else 1)
        assert told["attempts"] == (1 if is_stored else 2)


# cancelling


def test_cancelled_while_modal_is_out_of_reach(
    world: World, settings: Settings, clips: list[Path]
) -> None:
    gate = world.deploy_gated()
    with capture_logs() as logged, serving(settings) as client:
        sent(client, clips)
        wait_until(world.noted_renderers)
        world.plane.fault = lambda name, _: Down() if name == "FunctionCallCancel" else None
        assert client.delete("/api/exports/far").json()["status"] == "cancelled"
        wait_until(lambda: outside(settings) and outside(settings)[0][0] >= 2)
        (_, error), *others = outside(settings)
        assert "Modal cannot be reached" in error and not others
        assert is_live(exports(world)[0])
    restart_client()
    with capture_logs() as logged_later, serving(settings) as client:
        world.plane.fault = no_fault
        wait_until(lambda: not outside(settings))
        assert client.get("/api/exports/far").json()["status"] == "cancelled"
    gate.set()
    assert exports(world)[0].containers[0].cancelled
    assert films(world) == [] and world.keys("local/temp/modal_") == []
    told = [each for each in (*logged, *logged_later) if "outside" in each["event"]]
    assert [each["event"] for each in told] == ["not done outside yet", "done outside after all"]
    assert not any("exc_info" in each for each in told)


def test_a_film_that_is_published_after_the_cancellation_is_deleted(
    world: World, settings: Settings, clips: list[Path]
) -> None:
    gate = world.deploy_gated()
    with serving(settings) as client:
        sent(client, clips)
        wait_until(lambda: exports(world))
        wait_for(client, "far", "running")
    database = Database(settings.database)
    Jobs(database, limit=9, limit_per_user=9).cancel("local", "far")
    database.close()
    gate.set()
    wait_until(lambda: not is_live(exports(world)[0]))
    assert len(films(world)) == 2, "the film and its manifest"
    restart_client()
    with serving(settings):
        wait_until(lambda: not outside(settings))
    assert films(world) == []


def test_cancelled_while_its_call_is_started(
    world: World, settings: Settings, clips: list[Path]
) -> None:
    gate = world.deploy_gated()
    world.plane.fault = lambda name, _: Slow(0.5) if name == "FunctionMap" else None
    with serving(settings) as client:
        sent(client, clips)
        wait_until(lambda: "FunctionMap" in world.plane.requests)
        assert client.delete("/api/exports/far").json()["status"] == "cancelled"
        wait_until(lambda: not outside(settings))
    gate.set()
    assert len(exports(world)) == 1 and not is_live(exports(world)[0])
    assert films(world) == [] and not [key for key in world.keys("local") if "modal_" in key]


# failing


def test_a_call_whose_id_never_came_ends(
    world: World, settings: Settings, clips: list[Path], tmp_path: Path
) -> None:
    """Modal starts it, and each response is lost."""
    world.check_fences_often()
    gate = world.deploy_gated()

    def lose(name: str, request: Any) -> Lose | None:
        is_export = name == "FunctionMap" and request.function_id.endswith("/export_multi_clip")
        return Lose() if is_export else None

    world.plane.fault = lose
    with serving(settings) as client:
        sent(client, clips)
        assert "cannot be reached" in wait_for(client, "far", "failed")["error"]
        wait_until(lambda: not outside(settings))
        wait_until(lambda: not is_live(exports(world)[0]))
        assert films(world) == []
        world.plane.fault = no_fault
        gate.set()
        assert client.post("/api/exports/far/retry").status_code == 202
        check_film(world, wait_for(client, "far", "done", "failed"), tmp_path)
    assert len(exports(world)) == 2


def test_modal_takes_no_calls(
    world: World, settings: Settings, clips: list[Path], tmp_path: Path
) -> None:
    """What was stored for it goes with the job, whether it fails or is rendered here."""
    world.plane.fault = lambda name, _: Down() if name == "FunctionMap" else None
    with serving(settings) as client:
        sent(client, clips)
        wait_for(client, "far", "failed")
        wait_until(lambda: not outside(settings))
        assert all("/sources/" in key for key in world.keys("local")) and world.keys("local")
    begin_an_upload(world, settings)
    world.monkeypatch.setattr("backend.cleanup.KEEP_FAILED_S", 0)
    with serving(settings):
        wait_until(lambda: world.keys("local") == [])
        wait_until(lambda: "Uploads" not in client_of(world).list_multipart_uploads(Bucket=BUCKET))
    here = settings.model_copy(
        update={"modal_fallback": ModalFallback.LOCAL, "data_dir": tmp_path / "here"}
    )
    with serving(here) as client:
        sent(client, clips)
        told = wait_for(client, "far", "done", "failed")
        assert told["result"]["modal_used"] is False
        check_film(world, told, tmp_path)
        wait_until(lambda: not outside(here))


def test_modal_is_lost_in_the_middle_and_the_job_is_rendered_here(
    world: World, settings: Settings, clips: list[Path], tmp_path: Path
) -> None:
    """The call ends once Modal is back, and does not touch the film that was made here."""
    gate = world.deploy_gated()
    here = settings.model_copy(update={"modal_fallback": ModalFallback.LOCAL})
    with serving(here) as client:
        sent(client, clips)
        wait_until(world.noted_renderers)
        world.monkeypatch.setattr(modal_client, "UNREACHABLE_S", 0.1)
        world.monkeypatch.setattr(modal_client, "REQUEST_S", 0.3)
        world.plane.reachable = False
        told = wait_for(client, "far", "done", "failed")
        assert told["result"]["modal_used"] is False
        film = world.store.get_bytes(films(world)[0])
        gate.set()
        world.plane.reachable = True
        wait_until(lambda: not outside(settings))
        assert not is_live(exports(world)[0])
        check_film(world, told, tmp_path)
        assert world.store.get_bytes(films(world)[0]) == film


# killed


@contextlib.contextmanager
def killed_at(moment: str, settings: Settings) -> Iterator[httpx.Client]:
    """A client of a server that dies at that moment. Leaving the block waits for its death."""
    program = ("-m", "tests.backend.killed_server", moment, "serve")
    with server(settings.data_dir, program=program) as (client, process):
        yield client
        assert process.wait(60) == -9


@pytest.mark.parametrize(
    "moment", ["the sources are stored", "the call has started", "the job is cancelled"]
)
def test_a_server_that_is_killed(
    world: World, settings: Settings, clips: list[Path], tmp_path: Path, moment: str
) -> None:
    world.monkeypatch.setenv("MODAL_ENABLED", "true")
    cancelled = moment == "the job is cancelled"
    if moment == "the call has started":
        world.check_fences_often()
    gate = world.deploy_gated()
    with killed_at(moment, settings) as client:
        with contextlib.suppress(httpx.TransportError):
            sent(client, clips)
        if cancelled:
            wait_until(world.noted_renderers)
            with contextlib.suppress(httpx.TransportError):
                client.delete("/api/exports/far")
    before = exports(world)
    with serving(settings) as client:
        if cancelled:
            wait_until(lambda: not outside(settings))
            assert client.get("/api/exports/far").json()["status"] == "cancelled"
            assert films(world) == [] and not is_live(before[0])
        else:
            if moment == "the call has started":
                wait_until(lambda: not is_live(before[0]))
            gate.set()
            check_film(world, wait_for(client, "far", "done", "failed"), tmp_path)
            wait_until(lambda: not outside(settings))
            assert len(exports(world)) == (2 if moment == "the call has started" else 1)
    gate.set()
    assert len(world.plane.calls_of("/render_chunks")) == 1, "nothing is paid for twice"

"""Jobs on Modal: the real client with a control plane on loopback, and a real S3 server."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from backend.modal_jobs import export_job
from backend.models import Job
from backend.settings import Settings
from modal_functions.protocol import ExportJob
from tests.backend.conftest import post, serving, wait_for
from tests.clips import read_number
from tests.media import needs_ffmpeg
from tests.modal_functions.control_plane import ControlPlane, restart_client
from tests.modal_functions.world import World
from tests.waiting import wait_until
from tests.witness import luma_frames

ASYNC = {"Prefer": "respond-async"}


@pytest.fixture
def world(s3_address: str, control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> World:
    return World.made(s3_address, control_plane, monkeypatch)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", modal_enabled=True)


@needs_ffmpeg
def test_a_restarted_server_follows_the_same_call(
    world: World, settings: Settings, clips: list[Path], tmp_path: Path
) -> None:
    restarted = world.deploy_gated()
    with serving(settings) as client:
        post(client, clips, headers=ASYNC, export_id="far", project_id="7")
        wait_until(lambda: calls(world))
        wait_for(client, "far", "running")
    restart_client()
    restarted.set()
    with serving(settings) as client:
        told = wait_for(client, "far", "done")["result"]
        report = client.get("/api/exports/far/report").json()
        assert report["frames"] == 42 and report["encoder"] == "libx264", report
    assert len(calls(world)) == 1
    assert told["modal_used"] is True and told["working_video_id"] == 1
    video = tmp_path / "video.mp4"
    video.write_bytes(httpx.get(told["presigned_url"]).content)
    assert [read_number(luma) for luma in luma_frames(video)] == [*range(24), *range(18)]
    assert world.keys("local/temp") == []
    assert [key.rpartition("/")[2] for key in world.keys("local")] == [told["filename"]]


def test_a_cancelled_job_stops_its_call(
    world: World, settings: Settings, clips: list[Path]
) -> None:
    began: list[str] = []

    def render_without_end(**arguments: Any) -> None:
        began.extend(arguments["digests"])
        while True:
            time.sleep(0.01)

    world.deploy(renderer_instead={"render_chunks": render_without_end})
    with serving(settings) as client:
        post(client, clips[1:], headers=ASYNC, export_id="far")
        wait_until(lambda: began and world.noted_renderers())
        assert client.delete("/api/exports/far").json()["status"] == "cancelled"
        wait_until(lambda: not any(call.unfinished for call in calls(world)))
        assert client.get("/api/exports/far").json()["status"] == "cancelled"


@pytest.mark.parametrize(
    ("asked", "mode", "encoder", "preset"),
    [
        ("auto", "fast", "libx264", None),
        ("auto", "quality", "libx264", "medium"),
        ("h264_nvenc", "fast", "h264_nvenc", None),
        ("h264_nvenc", "quality", "h264_nvenc", "p7"),
        ("h264_videotoolbox", "quality", "h264_videotoolbox", None),
    ],
)
def test_no_job_leaves_the_encoder_to_the_container(
    asked: str, mode: str, encoder: str, preset: str | None
) -> None:
    request = {"kind": "render", "edit": {"clips": []}, "mode": mode}
    job = Job(folder="a", user_id="7", output_key="7/a.mp4", request=request)
    given = export_job(job, Settings(encoder=asked))
    assert (given.encoder, given.preset) == (encoder, preset)


def test_a_job_takes_the_servers_options_of_the_encoder_along() -> None:
    job = Job(folder="a", user_id="7", output_key="7/a.mp4")
    job.request = {"kind": "render", "edit": {"clips": []}, "mode": "fast"}
    given = export_job(job, Settings(encoder_options={"bf": "0"}))
    assert ExportJob.from_document(given.document()).encoder_options == {"bf": "0"}


def calls(world: World) -> list[Any]:
    return list(world.plane.calls_of("/export_multi_clip"))

"""Jobs outlive crashes, clean stops, full disks and lost uploads, or say what became of them."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from pydantic import SecretStr

from backend.database import Database
from backend.export_form import ExportRequest
from backend.installation import opened
from backend.jobs import Jobs
from backend.models import Job, JobStatus, JobType
from backend.settings import Settings
from backend.tasks import RenderTask
from tests.backend.conftest import SIZE, Serve, post, serving, wait_for
from tests.backend.test_kill import server, workers
from tests.clips import read_number
from tests.disks import fill, small_disk
from tests.media import needs_ffmpeg
from tests.waiting import wait_until
from tests.witness import luma_frames

ASYNC = {"Prefer": "respond-async"}
SLOW = {"clips": [{"segmentsData": {"segments": [{"start": 0, "end": 0.8, "speed": 0.05}]}}]}
"""0.8 s of a clip, shown for 16 s."""


def accepted(
    database: Database, work_dir: Path, clip: Path | None, keys: dict[str, str] | None = None
) -> Job:
    """A job `a` of one clip, as it is when its upload was accepted. None: the upload is lost."""
    task = RenderTask(edit={"clips": [{"fileName": "video_0/goal.mp4"}], **SIZE}, keys=keys or {})
    request = ExportRequest(JobType.MULTI_CLIP, "a", None, "", task, "0")
    folder = uuid4().hex
    jobs = Jobs(database, limit=9, limit_per_user=9)
    job, _ = jobs.add(request, "local", folder, f"local/working_videos/{folder}.mp4")
    if clip is not None:
        (work_dir / folder / "video_0").mkdir(parents=True)
        shutil.copy(clip, work_dir / folder / "video_0" / "goal.mp4")
    return job


DIES_AT_ITS_COMMIT = """
import os, signal, sys
from sqlalchemy import event
from backend.database import Database
from backend.jobs import JobResult, Jobs

database = Database(sys.argv[1])
jobs = Jobs(database, limit=9, limit_per_user=9)
event.listen(database.engine, "commit", lambda _: os.kill(os.getpid(), signal.SIGKILL))
if sys.argv[2] == "recover":
    jobs.recover(max_attempts=1)
else:
    jobs.finish("local", "a", JobResult(1.0, {}, {}))
"""


@pytest.mark.parametrize("change", ["recover", "finish"])
def test_a_kill_at_the_commit_changes_nothing(
    database: Database, database_url: str, tmp_path: Path, change: str
) -> None:
    jobs = Jobs(database, limit=9, limit_per_user=9)
    accepted(database, tmp_path / "work", None)
    jobs.start("local", "a")
    jobs.update_running("local", "a", progress=50.0)
    done = subprocess.run(
        [sys.executable, "-c", DIES_AT_ITS_COMMIT, database_url, change], timeout=60, check=False
    )
    assert done.returncode == -signal.SIGKILL
    job = jobs.find("local", "a")
    assert job and (job.status, job.attempts, job.result) == (JobStatus.RUNNING, 1, None)
    (again,) = jobs.recover(max_attempts=1)
    assert (again.status, again.attempts) == (JobStatus.QUEUED, 0)


def test_a_clean_stop_puts_running_jobs_back(tmp_path: Path, clips: list[Path]) -> None:
    data = tmp_path / "data"
    with server(data) as (client, process):
        post(
            client, clips[:1], headers=ASYNC, multi_clip_data_json=json.dumps(SLOW),
            export_id="long", target_width="720", target_height="1280",
        )  # fmt: skip
        wait_until(lambda: workers(data))
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    with closing(sqlite3.connect(data / "framestream.db")) as database:
        ends = database.execute("SELECT status, attempts FROM export_jobs").fetchall()
    assert ends == [("queued", 0)]


def test_a_job_that_brings_the_server_down_is_not_started_for_ever(
    serve: Serve, clips: list[Path], tmp_path: Path
) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    with opened(settings) as (database, _):
        job = accepted(database, settings.work_dir, clips[0])
        jobs = Jobs(database, limit=9, limit_per_user=9)
        for _ in range(3):  # the crashes, as the next server finds them
            jobs.recover(max_attempts=3)
            assert jobs.start(job.user_id, job.id)
            jobs.update_running(job.user_id, job.id, progress_at_start=99.0)
    client = serve(data_dir=settings.data_dir)
    told = wait_for(client, "a", "failed", "done")
    assert "the server went down while this export was at work" in told["error"]
    assert told["can_retry"] and told["attempts"] == 3
    assert client.post("/api/exports/a/retry").status_code == 202
    assert wait_for(client, "a", "failed", "done")["error"] is None


@pytest.mark.parametrize("lost", ["a file", "the folder", "all folders"])
def test_a_job_whose_clips_are_gone_says_so(
    serve: Serve, clips: list[Path], tmp_path: Path, lost: str
) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    with opened(settings) as (database, _):
        job = accepted(database, settings.work_dir, clips[0])
    folder = settings.work_dir / job.folder
    if lost == "a file":
        (folder / "video_0" / "goal.mp4").unlink()
    else:
        shutil.rmtree(folder if lost == "the folder" else settings.work_dir)
    client = serve(data_dir=settings.data_dir)
    told = wait_for(client, "a", "failed", "done")
    assert (told["error"], told["attempts"]) == ("its clips are gone; send them again", 1)
    assert not told["can_retry"]
    retried = client.post("/api/exports/a/retry")
    assert retried.status_code == 410 and "send them again" in retried.json()["detail"]
    with closing(sqlite3.connect(settings.data_dir / "framestream.db")) as rows:
        assert rows.execute("SELECT error_status FROM export_jobs").fetchall() == [(410,)]


def test_a_job_of_stored_clips_needs_no_folder(
    serve: Serve, clips: list[Path], tmp_path: Path
) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    stored = settings.data_dir / "store" / "local" / "clips" / "goal.mp4"
    stored.parent.mkdir(parents=True)
    shutil.copy(clips[0], stored)
    with opened(settings) as (database, _):
        keys = {"video_0/goal.mp4": "local/clips/goal.mp4"}
        accepted(database, settings.work_dir, None, keys)
    client = serve(data_dir=settings.data_dir)
    assert wait_for(client, "a", "failed", "done")["error"] is None


@needs_ffmpeg
def test_a_job_waits_for_room_on_the_disk_and_goes_on(
    clips: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backend.disk_space.POLL_S", 0.1)
    with small_disk(tmp_path / "disk", 8 << 20) as disk:
        settings = Settings(
            data_dir=disk / "data",
            database_url=SecretStr(f"sqlite:///{tmp_path}/rows.db"),
            min_free_bytes=1 << 20,
        )
        with opened(settings) as (database, _):
            accepted(database, settings.work_dir, clips[0])
        settings.upload_dir.mkdir()
        (settings.data_dir / "store" / ".incoming").mkdir(parents=True)
        (settings.data_dir / "signing.key").write_bytes(bytes(32))
        ballast = fill(disk, 8 << 10)
        with serving(settings) as client:
            wait_until(lambda: message(client, "a") == "Waiting for disk space")
            waiting = client.get("/api/exports/a").json()
            assert (waiting["status"], waiting["attempts"]) == ("queued", 0)
            assert client.get("/api/ready").json()["disk"] == "there is not enough free space"
            ballast.unlink()
            told = wait_for(client, "a", "done", "failed")
            assert told["error"] is None and told["attempts"] == 1
            assert client.get("/api/ready").status_code == 200
            video = tmp_path / "video.mp4"
            video.write_bytes(client.get(told["result"]["presigned_url"]).content)
            assert [read_number(luma) for luma in luma_frames(video)] == [*range(24)]


def message(client: httpx.Client, export_id: str) -> str:
    told: str = client.get(f"/api/export/progress/{export_id}").json()["message"]
    return told

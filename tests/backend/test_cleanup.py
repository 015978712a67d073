"""What the sweep removes, and what it leaves alone while others work."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from backend import cleanup as cleanups
from backend.cleanup import KEEP_UPLOAD_S, Cleanup
from backend.database import Database
from backend.jobs import Jobs, SourcesGoneError
from backend.models import Job, JobStatus
from backend.resumable_upload import sweep_uploads, upload_path
from engine.storage import LocalStore
from tests.backend.test_jobs import add, order

OLD_S = KEEP_UPLOAD_S + 60


@pytest.fixture
def jobs(database: Database) -> Jobs:
    return Jobs(database, limit=9, limit_per_user=9)


@pytest.fixture
def cleanup(jobs: Jobs, tmp_path: Path) -> Cleanup:
    for name in ("work", "uploads"):
        (tmp_path / name).mkdir()
    store = LocalStore(tmp_path / "store")
    return Cleanup(tmp_path / "work", tmp_path / "uploads", jobs, store, ())


def folder_with_clip(parent: Path, name: str, age_s: float = OLD_S) -> Path:
    clip = parent / name / "video_0" / "a.mp4"
    clip.parent.mkdir(parents=True)
    clip.write_bytes(b"clip")
    for path in (clip, clip.parent, clip.parents[1]):
        set_age(path, age_s)
    return clip


def set_age(path: Path, age_s: float) -> None:
    then_s = time.time() - age_s
    os.utime(path, (then_s, then_s))


def failed_job(jobs: Jobs, tmp_path: Path, export_id: str = "a") -> tuple[Job, Path]:
    job = add(jobs, export_id=export_id)
    clip = folder_with_clip(tmp_path / "work", job.folder)
    jobs.start(job.user_id, job.id)
    failed = jobs.fail(job.user_id, job.id, "no", 500)
    assert failed
    return failed, clip


def test_nobody_s_folders_go_when_they_are_old(
    cleanup: Cleanup, jobs: Jobs, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    nobodys = folder_with_clip(work, "nobodys")
    fresh = folder_with_clip(work, "fresh")
    set_age(fresh, 60)  # its newest file counts
    a_job_s = folder_with_clip(work, add(jobs).folder)
    crashed = folder_with_clip(tmp_path / "uploads", "crashed")
    asyncio.run(cleanup.sweep())
    assert not nobodys.parents[1].exists() and not crashed.parents[1].exists()
    assert fresh.exists() and a_job_s.exists()


def test_an_upload_that_is_accepted_during_a_sweep_keeps_its_clips(
    cleanup: Cleanup, jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It becomes a job's just after the sweep has asked for the folders of jobs."""
    with ExitStack() as upload:
        folder = upload.enter_context(cleanup.receiving())
        clip = folder_with_clip(tmp_path / "work", folder.name)
        ask = jobs.folders

        def accepted_meanwhile() -> set[str]:
            known = ask()
            jobs.add(order("b"), "anna", folder.name, "anna/b.mp4")
            upload.close()
            return known

        monkeypatch.setattr(jobs, "folders", accepted_meanwhile)
        asyncio.run(cleanup.sweep())
    assert clip.exists()
    monkeypatch.undo()
    asyncio.run(cleanup.sweep())
    assert clip.exists()


def test_a_job_that_was_retried_during_a_sweep_keeps_its_files(
    cleanup: Cleanup, jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleanups, "KEEP_FAILED_S", -1)
    (first, _), (second, clip) = (failed_job(jobs, tmp_path, name) for name in "ab")
    remove = shutil.rmtree

    def slowly(folder: Path) -> None:
        """While the first one's files go, the second is retried, which fails again."""
        if folder.name == first.folder:
            assert jobs.retry(second.user_id, second.id, cleanup.keeps_files)
        remove(folder)

    monkeypatch.setattr(shutil, "rmtree", slowly)
    asyncio.run(cleanup.sweep())
    assert clip.exists()
    found = jobs.find(second.user_id, second.id)
    assert found and found.status == JobStatus.QUEUED and found.leftovers


def test_a_retry_during_the_removal_of_its_files_is_refused_at_once(
    cleanup: Cleanup, jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, clip = failed_job(jobs, tmp_path)
    removing, go_on = threading.Event(), threading.Event()
    remove = shutil.rmtree

    def slowly(folder: Path) -> None:
        removing.set()
        assert go_on.wait(60)
        remove(folder)

    monkeypatch.setattr(shutil, "rmtree", slowly)

    async def retry_meanwhile() -> None:
        clearing = asyncio.create_task(cleanup.clear(job))
        assert await asyncio.to_thread(removing.wait, 60)
        async with asyncio.timeout(60), cleanup.lock:
            with pytest.raises(SourcesGoneError):
                jobs.retry(job.user_id, job.id, cleanup.keeps_files)
        go_on.set()
        await clearing

    asyncio.run(retry_meanwhile())
    assert not clip.exists()
    found = jobs.find(job.user_id, job.id)
    assert found and found.status == JobStatus.FAILED and not found.leftovers


def test_a_removal_that_fails_is_repeated_by_the_next_sweep(
    cleanup: Cleanup, jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, clip = failed_job(jobs, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *_, **__: (_ for _ in ()).throw(OSError("busy")))
        asyncio.run(cleanup.clear(job))
    assert clip.exists() and cleanup.keeps_files(job)
    asyncio.run(cleanup.clear(job))
    assert not clip.exists() and not cleanup.keeps_files(job)


def test_uploads_that_are_not_continued_go(tmp_path: Path) -> None:
    paths = {name: upload_path(tmp_path, "anna", name) for name in ("old", "new", "announced")}
    for path in paths.values():
        path.write_bytes(b"bytes")
        path.with_suffix(".length").write_text("9")
        set_age(path, OLD_S)
        set_age(path.with_suffix(".length"), OLD_S)
    set_age(paths["new"], 60)
    paths["announced"].unlink()
    set_age(paths["announced"].with_suffix(".length"), 60)
    left_over = tmp_path / ".x.length.0123abcd.partial"
    left_over.touch()
    set_age(left_over, OLD_S)
    sweep_uploads(tmp_path, KEEP_UPLOAD_S)
    new, announced = paths["new"], paths["announced"]
    kept = {new, new.with_suffix(".length"), announced.with_suffix(".length")}
    assert set(tmp_path.iterdir()) == kept
    set_age(announced.with_suffix(".length"), OLD_S)
    sweep_uploads(tmp_path, KEEP_UPLOAD_S)
    assert set(tmp_path.iterdir()) == {new, new.with_suffix(".length")}


def test_an_old_upload_that_is_being_continued_stays(tmp_path: Path) -> None:
    path = upload_path(tmp_path, "anna", "a")
    path.write_bytes(b"bytes")
    set_age(path, OLD_S)
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        sweep_uploads(tmp_path, KEEP_UPLOAD_S)
        file.write(b" and more")
    sweep_uploads(tmp_path, KEEP_UPLOAD_S)
    assert path.read_bytes() == b"bytes and more"

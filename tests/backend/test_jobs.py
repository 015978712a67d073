"""The job table, on SQLite and, where TEST_DATABASE_URL is set, on PostgreSQL."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import select

from backend.database import Database
from backend.export_form import ExportRequest
from backend.jobs import ExportIdReusedError, JobResult, Jobs, QueueFullError, SourcesGoneError
from backend.models import Base, Job, JobStatus, JobType, Project, WorkingVideo
from backend.tasks import RenderTask

RESULT = JobResult(2.5, {"frames": 75}, {"encoder": "libx264"})


@pytest.fixture
def jobs(database: Database) -> Jobs:
    return Jobs(database, limit=4, limit_per_user=3)


def order(export_id: str = "a", **changes: object) -> ExportRequest:
    made = ExportRequest(
        type=JobType.MULTI_CLIP,
        export_id=export_id,
        project_id="7",
        project_name="Cup final",
        task=RenderTask(edit={"clips": [{"fileName": "video_0/a.mp4", "title": "\u0000"}]}),
        hash="0",
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def add(jobs: Jobs, user: str = "anna", export_id: str = "a", **changes: object) -> Job:
    unique = uuid.uuid4().hex
    job, is_new = jobs.add(order(export_id, **changes), user, unique, f"{user}/{unique}.mp4")
    assert is_new
    return job


def run(jobs: Jobs, job: Job) -> Job:
    assert jobs.start(job.user_id, job.id)
    finished = jobs.finish(job.user_id, job.id, RESULT)
    assert finished
    return finished


def test_migrations_create_the_tables_of_the_models(database: Database) -> None:
    database.migrate()  # a second time changes nothing
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, Base.metadata) == []


def test_a_repeated_request_is_one_job(jobs: Jobs) -> None:
    first = add(jobs)
    again, is_new = jobs.add(order(), "anna", "other", "anna/other.mp4")
    assert not is_new and again.folder == first.folder
    with pytest.raises(ExportIdReusedError):
        jobs.add(order(hash="1"), "anna", "other", "anna/other.mp4")
    assert add(jobs, user="ben").folder != first.folder
    assert jobs.find("ben", "b") is None


def test_the_same_request_twice_at_once(jobs: Jobs) -> None:
    def ask(number: int) -> bool:
        return jobs.add(order(), "anna", f"folder{number}", f"anna/{number}.mp4")[1]

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(ask, range(8))) == [False] * 7 + [True]


def test_the_queue_is_bounded(jobs: Jobs) -> None:
    for export_id in "abc":
        add(jobs, export_id=export_id)
    with pytest.raises(QueueFullError, match="you have 3 unfinished exports"):
        add(jobs, export_id="d")
    add(jobs, user="ben")
    with pytest.raises(QueueFullError, match="the server has 4 unfinished exports"):
        jobs.check_queue("carl")
    jobs.cancel("anna", "a")
    jobs.check_queue("carl")


def test_a_finished_job_is_the_project_s_newest_video(jobs: Jobs, database: Database) -> None:
    first = run(jobs, add(jobs))
    assert first.result == {"frames": 75, "duration_s": 2.5, "working_video_id": 1}
    with database.begin() as session:
        session.get_one(Project, ("anna", "7")).final_video_id = 99
    second = run(jobs, add(jobs, export_id="b"))
    with database.read() as session:
        videos = session.scalars(select(WorkingVideo).order_by(WorkingVideo.id)).all()
        project = session.get_one(Project, ("anna", "7"))
    assert [(video.version, video.key) for video in videos] == [
        (1, first.output_key),
        (2, second.output_key),
    ]
    assert (project.working_video_id, project.final_video_id) == (videos[1].id, None)
    assert project.name == "Cup final"


def test_two_exports_of_a_project_end_at_the_same_time(jobs: Jobs, database: Database) -> None:
    made = [add(jobs, export_id=export_id) for export_id in "abc"]
    for job in made:
        jobs.start(job.user_id, job.id)
    with ThreadPoolExecutor(3) as pool:
        ended = list(pool.map(lambda job: jobs.finish(job.user_id, job.id, RESULT), made))
    assert all(ended)
    with database.read() as session:
        assert sorted(session.scalars(select(WorkingVideo.version))) == [1, 2, 3]


def test_a_cancelled_job_is_not_published(jobs: Jobs, database: Database) -> None:
    job = add(jobs)
    jobs.start("anna", "a")
    cancelled = jobs.cancel("anna", "a")
    assert cancelled and cancelled.status == JobStatus.CANCELLED
    assert jobs.finish("anna", "a", RESULT) is None
    assert jobs.fail("anna", "a", "too late", 500) is None
    with database.read() as session:
        assert session.scalars(select(WorkingVideo)).all() == []
    again = jobs.retry("anna", "a")
    assert again and again.status == JobStatus.QUEUED and again.error is None
    assert run(jobs, job).status == JobStatus.DONE
    done = jobs.cancel("anna", "a")
    assert done and done.status == JobStatus.DONE, "too late to cancel"


def test_a_restart_queues_running_jobs(jobs: Jobs) -> None:
    add(jobs, export_id="a")
    add(jobs, export_id="b")
    run(jobs, add(jobs, export_id="c"))
    jobs.start("anna", "a")
    jobs.update_running("anna", "a", progress=42.0, modal_call_id="fc-1")
    assert [job.id for job in jobs.recover(max_attempts=3)] == ["a"]
    job = jobs.find("anna", "a")
    assert job and (job.status, job.attempts, job.progress) == (JobStatus.QUEUED, 0, 42.0)
    assert job.modal_call_id == "fc-1"
    assert [each.id for each in jobs.queued()] == ["a", "b"]


def crash(jobs: Jobs, export_id: str, progress: float) -> Job:
    """The job as the next server finds it, after a run that got so far (percent)."""
    assert jobs.start("anna", export_id)
    jobs.update_running("anna", export_id, progress=progress)
    (job,) = jobs.recover(max_attempts=3)
    return job


def test_a_job_that_brings_the_server_down_ends(jobs: Jobs) -> None:
    add(jobs)
    attempts = [crash(jobs, "a", percent).attempts for percent in (40.0, 42.0, 41.0, 42.0)]
    assert attempts == [0, 0, 1, 2], "a run that gets further is no attempt"
    ended = crash(jobs, "a", 42.0)
    assert (ended.status, ended.error_status, ended.attempts) == (JobStatus.FAILED, 500, 3)
    assert ended.error is not None
    assert "the server went down while this export was at work" in ended.error
    assert "attempt 3 of 3" in ended.error
    again = jobs.retry("anna", "a")
    assert again and (again.status, again.attempts) == (JobStatus.QUEUED, 0)
    assert crash(jobs, "a", 20.0).attempts == 0


def test_a_call_on_modal_does_not_bring_the_server_down(jobs: Jobs) -> None:
    add(jobs)
    for _ in range(5):
        jobs.start("anna", "a")
        jobs.update_running("anna", "a", modal_call_id="fc-1")
        (job,) = jobs.recover(max_attempts=3)
        assert (job.status, job.attempts) == (JobStatus.QUEUED, 0)


def test_a_clean_stop_is_no_attempt(jobs: Jobs) -> None:
    add(jobs, export_id="a")
    run(jobs, add(jobs, export_id="b"))
    for _ in range(5):
        jobs.start("anna", "a")
        jobs.requeue_running()
        job = jobs.find("anna", "a")
        assert job and (job.status, job.attempts) == (JobStatus.QUEUED, 0)
    assert jobs.recover(max_attempts=3) == []


def test_leftovers_of_done_jobs_are_removed_at_once_and_of_failed_jobs_later(jobs: Jobs) -> None:
    done, failed, waiting = (add(jobs, export_id=export_id) for export_id in "abc")
    run(jobs, done)
    jobs.start("anna", "b")
    jobs.fail("anna", "b", "no", 500)
    assert [job.id for job in jobs.leftovers(3600)] == ["a"]
    assert {job.id for job in jobs.leftovers(-1)} == {"a", "b"}
    assert jobs.folders() == {done.folder, failed.folder, waiting.folder}
    for job in jobs.leftovers(-1):
        jobs.mark_cleared(job.user_id, job.id, JobStatus(job.status))
    assert jobs.folders() == {waiting.folder}
    with pytest.raises(SourcesGoneError):
        jobs.retry("anna", "b")


def test_jobs_are_listed_newest_first(jobs: Jobs) -> None:
    for export_id in "abc":
        add(jobs, export_id=export_id)
    add(jobs, user="ben")
    newest = jobs.list("anna", limit=2, before=None, status=None)
    assert [job.id for job in newest] == ["c", "b"]
    older = jobs.list("anna", limit=9, before=newest[-1].created_at, status=JobStatus.QUEUED)
    assert [job.id for job in older] == ["a"]
    assert jobs.list("anna", limit=9, before=None, status=JobStatus.DONE) == []

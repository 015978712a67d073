"""What has to happen outside, in SQLite and, where TEST_DATABASE_URL is set, in PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import select

from backend import modal_jobs, outside_tasks
from backend.database import Database
from backend.jobs import Jobs
from backend.modal_jobs import ModalError
from backend.models import Job, OutsideTask
from backend.outside_tasks import OutsideTasks
from engine.storage import LocalStore
from tests.backend.test_jobs import RESULT, add

KEY = "anna", "a"


@pytest.fixture
def jobs(database: Database) -> Jobs:
    return Jobs(database, limit=9, limit_per_user=9)


def calls_to_end(database: Database) -> list[str | None]:
    with database.read() as session:
        query = select(OutsideTask).order_by(OutsideTask.id)
        return [task.details["call_id"] for task in session.scalars(query)]


def on_modal(jobs: Jobs, call_id: str | None = "fc-1") -> None:
    """A running job with a call."""
    add(jobs)
    assert jobs.start(*KEY) and jobs.update_running(*KEY, remote=True)
    jobs.call_started(*KEY, call_id)


ENDS: dict[str, Callable[[Jobs], Any]] = {
    "cancelled": lambda jobs: jobs.cancel(*KEY),
    "failed": lambda jobs: jobs.fail(*KEY, "no", 500),
    "rendered here": lambda jobs: jobs.end_call(*KEY),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_job_that_leaves_its_call_leaves_a_row(jobs: Jobs, database: Database, end: str) -> None:
    on_modal(jobs)
    ENDS[end](jobs)
    job = jobs.find(*KEY)
    assert job and job.modal_call_id is None and job.remote
    assert calls_to_end(database) == ["fc-1"]


def test_a_call_that_starts_after_the_cancellation_is_ended_too(
    jobs: Jobs, database: Database
) -> None:
    on_modal(jobs, None)
    jobs.cancel(*KEY)
    assert not jobs.update_running(*KEY, remote=True)
    jobs.call_started(*KEY, "fc-late")
    assert calls_to_end(database) == [None, "fc-late"]
    assert jobs.retry(*KEY)


def test_a_job_that_never_went_to_modal_leaves_no_row(jobs: Jobs, database: Database) -> None:
    for number, end in enumerate((*ENDS.values(), finish)):
        if number:
            jobs.retry(*KEY)
        else:
            add(jobs)
        jobs.start(*KEY)
        end(jobs)
    assert calls_to_end(database) == []


def finish(jobs: Jobs) -> None:
    assert jobs.finish(*KEY, RESULT)


def test_a_finished_job_has_its_leftovers_removed_and_its_call_left_alone(
    jobs: Jobs, database: Database
) -> None:
    on_modal(jobs)
    finish(jobs)
    assert calls_to_end(database) == [None]


def test_a_call_of_an_earlier_version_is_not_followed_by_a_retry(
    jobs: Jobs, database: Database
) -> None:
    on_modal(jobs)
    jobs.fail(*KEY, "no", 500)
    with database.begin() as session:
        session.get_one(Job, KEY).modal_call_id = "fc-old"
    assert jobs.retry(*KEY)
    assert calls_to_end(database) == ["fc-1", "fc-old"]


class LostLater:
    """A server's lock that counts how often it was asked for."""

    is_lost = False
    asked = 0

    @property
    def held(self) -> bool:
        self.asked += 1
        return not self.is_lost


def test_tasks_are_tried_until_they_are_done(
    jobs: Jobs, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a new call waits for them."""
    for name in ("POLL_S", "FIRST_PAUSE_S", "LONGEST_PAUSE_S"):
        monkeypatch.setattr(outside_tasks, name, 0.01)
    on_modal(jobs)
    jobs.cancel(*KEY)
    tried: list[str] = []

    async def end_call(details: dict[str, Any], _: object) -> None:
        tried.append(details["call_id"])
        if len(tried) < 4:
            raise ModalError("out of reach")

    async def work() -> None:
        cleanup: Any = SimpleNamespace(lock=asyncio.Lock())
        lock: Any = LostLater()
        outside = OutsideTasks(database, LocalStore(tmp_path), cleanup, lock)
        job = jobs.find(*KEY)
        assert job
        with pytest.raises(ModalError):
            async with outside.settled(job):
                raise AssertionError("an earlier call has not ended")
        running = asyncio.create_task(outside.run())
        async with asyncio.timeout(60):
            while calls_to_end(database):
                await asyncio.sleep(0.01)
            async with outside.settled(job):
                pass
            lock.is_lost, lock.asked = True, 0
            while lock.asked < 2:  # then it reads no database any more
                await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.wait([running], timeout=10)

    monkeypatch.setattr(modal_jobs, "end_call", end_call)
    asyncio.run(work())
    assert tried == ["fc-1"] * 4

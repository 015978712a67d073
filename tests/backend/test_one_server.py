"""Two servers on one database: the second is refused, and the first one's jobs go on."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text

from backend import server_lock
from backend.database import Database
from backend.jobs import Jobs
from backend.models import Job, JobStatus
from tests.backend.conftest import POSTGRESQL
from tests.backend.test_jobs import order
from tests.backend.test_kill import server
from tests.waiting import wait_until

UVICORN = (sys.executable, "-m", "uvicorn", "backend.app:create_app", "--factory")
HOLDER = (
    "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2 AND classid = "
    f"{server_lock._SERVING} AND objid = ((hashtext(current_schema())::bigint & 4294967295)::oid)"
)
CHECKS_OFTEN = (
    "import sys; from backend import server_lock; server_lock.CHECK_S = 0.05; "
    "sys.argv[0] = 'framestream'; sys.argv.insert(1, 'serve'); "
    "from engine.cli.main import main; main()"
)


@pytest.fixture
def jobs(database: Database) -> Jobs:
    return Jobs(database, limit=9, limit_per_user=9)


def running_job(jobs: Jobs, log: list[str]) -> Callable[[], str]:
    """Adds a job as if the first server, which writes `log`, ran it. The result tells its status.

    It is never queued: the server would take it, and find no clips. So it is added after the server
    has looked for jobs that an earlier one has left.
    """
    wait_until(lambda: any('"jobs_resumed"' in line for line in list(log)))
    requested = order("a")
    with jobs._database.begin() as session:
        session.add(
            Job(
                user_id="anna",
                id="a",
                type=requested.type,
                status=JobStatus.RUNNING,
                folder="0" * 32,
                output_key="anna/a.mp4",
                request=requested.task.model_dump(mode="json"),
                request_hash=requested.hash,
            )
        )

    def status() -> str:
        found = jobs.find("anna", "a")
        assert found
        return found.status

    return status


def test_the_second_server_is_refused(jobs: Jobs, database_url: str, tmp_path: Path) -> None:
    second = [sys.executable, "-m", "engine", "serve", "--data-dir", str(tmp_path / "two")]
    log: list[str] = []
    with server(tmp_path / "one", log=log, DATABASE_URL=database_url):
        status = running_job(jobs, log)
        refused = subprocess.run(
            second,
            env={**os.environ, "DATABASE_URL": database_url},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert refused.returncode == 1
        assert "another server is working with this database" in refused.stderr
        assert len(refused.stderr.splitlines()) == 1
        assert status() == JobStatus.RUNNING


def test_of_two_workers_one_serves(tmp_path: Path) -> None:
    log = (tmp_path / "log").open("w+")
    process = subprocess.Popen(
        [*UVICORN, "--workers", "2", "--port", "0"],
        env={**os.environ, "DATA_DIR": str(tmp_path / "data")},
        stderr=log,
        stdout=log,
    )
    try:
        wait_until(lambda: "another server is working" in (tmp_path / "log").read_text())
        wait_until(lambda: "Application startup complete" in (tmp_path / "log").read_text())
    finally:
        process.terminate()
        assert process.wait(60) == 0
        log.close()


@pytest.mark.skipif(not POSTGRESQL, reason="TEST_DATABASE_URL is not set")
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_lost_lock_is_taken_again(jobs: Jobs, database_url: str, tmp_path: Path) -> None:
    admin = create_engine(database_url)
    log: list[str] = []
    program = ("-c", CHECKS_OFTEN)
    settings = {"DATABASE_URL": database_url}
    with server(tmp_path / "one", program=program, log=log, **settings) as (client, process):
        with admin.begin() as connection:
            first = connection.execute(text(HOLDER)).scalar_one()
            connection.execute(text(f"SELECT pg_terminate_backend({first})"))
        wait_until(lambda: holder(admin) not in (None, first))
        assert client.get("/api/ready").json()["ready"] is True
        # the next time another server is quicker: this one ends, and leaves its jobs to it
        status = running_job(jobs, log)
        with admin.connect().execution_options(isolation_level="AUTOCOMMIT") as other:
            take = f"SELECT pg_advisory_lock({server_lock._SERVING}, hashtext(current_schema()))"
            other.execute(text(f"SELECT pg_terminate_backend({holder(admin)})"))
            other.execute(text(take))
            assert process.wait(60) == -signal.SIGTERM
            assert status() == JobStatus.RUNNING
    admin.dispose()
    assert any("this server ends" in line and "another server" in line for line in log)
    assert not any(re.search("Traceback|exc_type", line) for line in log)


def holder(admin: Engine) -> int | None:
    with admin.connect() as connection:
        found: int | None = connection.execute(text(HOLDER)).scalar_one_or_none()
        return found

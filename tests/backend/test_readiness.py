"""Whether the server says that it can take work: on a full disk, without its file, ..."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from structlog.testing import capture_logs

from backend import readiness as module
from backend.database import Database
from backend.disk_space import DiskSpace
from backend.readiness import Readiness
from backend.server_lock import server_lock
from backend.settings import Settings
from engine.errors import StoreError
from engine.storage import LocalStore, ObjectInfo
from tests.backend.conftest import Serve, post, serving
from tests.disks import fill, small_disk
from tests.waiting import wait_until

READY = {"database": "ok", "store": "ok", "disk": "ok"}
FAILS = "fails; see the server's log"


class SilentStore(LocalStore):
    """Answers nothing until it is told to."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        object.__setattr__(self, "answers", threading.Event())
        object.__setattr__(self, "asked", [])

    def stat(self, key: str) -> ObjectInfo | None:
        self.asked.append(key)  # type: ignore[attr-defined]
        self.answers.wait(60)  # type: ignore[attr-defined]
        return super().stat(key)


@contextmanager
def checking(
    database: Database, folder: Path, store: LocalStore | None = None, min_free_bytes: int = 1
) -> Iterator[Readiness]:
    lock = server_lock(database)
    lock.renew()
    space = DiskSpace(folder, min_free_bytes)
    try:
        yield Readiness(database, lock, store or LocalStore(folder / "store"), folder, space)
    finally:
        lock.release()


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Database]:
    with closing(Database(f"sqlite:///{tmp_path}/test.db")) as database:
        database.migrate()
        yield database


def test_the_database_takes_writes(database: Database, tmp_path: Path) -> None:
    with checking(database, tmp_path) as checks:
        assert asyncio.run(checks.parts()) == READY
    assert asyncio.run(checks.parts())["database"] == "the lock on the database is lost"


def test_a_database_whose_file_is_gone_or_another_one(sqlite: Database, tmp_path: Path) -> None:
    path = tmp_path / "test.db"
    with checking(sqlite, tmp_path) as checks:
        path.rename(tmp_path / "aside")
        with capture_logs() as lines:
            for _ in range(3):
                assert asyncio.run(checks.parts()) == READY | {"database": FAILS}
            path.write_bytes((tmp_path / "aside").read_bytes())  # restored: it is another file
            assert asyncio.run(checks.parts()) == READY | {"database": FAILS}
            (tmp_path / "aside").rename(path)
            assert asyncio.run(checks.parts()) == READY
    began, ended = lines
    assert began["event"] == "not ready: database" and "was deleted or replaced" in began["why"]
    assert ended["event"] == "not ready: database: over"


def test_a_database_that_may_only_be_read(sqlite: Database, tmp_path: Path) -> None:
    @event.listens_for(sqlite.engine, "checkout")
    def only_read(connection: Any, *_: object) -> None:
        connection.execute("PRAGMA query_only = 1")

    with checking(sqlite, tmp_path) as checks:
        assert asyncio.run(checks.parts())["database"] == FAILS


def test_a_disk_without_room(sqlite: Database, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1 << 20) as disk:
        ballast = fill(disk, 50_000)
        with checking(sqlite, disk, min_free_bytes=100_000) as checks:
            told = asyncio.run(checks.parts())
            assert told == READY | {"disk": "there is not enough free space"}
        with checking(sqlite, disk, min_free_bytes=0) as checks:
            fill(disk)
            assert asyncio.run(checks.parts()) == READY | {"disk": FAILS}
            ballast.unlink()
            assert asyncio.run(checks.parts()) == READY


def test_a_store_that_does_not_answer(
    sqlite: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One thread waits for it, however often somebody asks, and the others answer meanwhile."""
    monkeypatch.setattr(module, "TIMEOUT_S", 0.05)
    store = SilentStore(tmp_path / "store")

    async def ask(checks: Readiness) -> None:
        for _ in range(5):
            told = await asyncio.gather(*(checks.parts() for _ in range(4)))
            assert {each["store"] for each in told} == {"no answer within 0.05 s"}
        assert len(store.asked) == 1  # type: ignore[attr-defined]
        store.answers.set()  # type: ignore[attr-defined]
        monkeypatch.setattr(module, "TIMEOUT_S", 60)
        assert await checks.parts() == READY

    with checking(sqlite, tmp_path, store) as checks:
        asyncio.run(ask(checks))


def test_a_store_that_refuses(
    sqlite: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_store: LocalStore, key: str) -> None:
        raise StoreError(key, "access denied")

    monkeypatch.setattr(LocalStore, "stat", refuse)
    with capture_logs() as lines, checking(sqlite, tmp_path) as checks:
        assert asyncio.run(checks.parts()) == READY | {"store": FAILS}
    assert [line["why"] for line in lines] == ["readiness: access denied"]


def test_a_server_on_a_full_disk_says_so_and_goes_on_when_there_is_room(
    clips: list[Path], tmp_path: Path
) -> None:
    with (
        small_disk(tmp_path / "disk", 8 << 20) as disk,
        serving(Settings(data_dir=disk / "data", min_free_bytes=0)) as client,
    ):
        assert client.get("/api/ready").status_code == 200
        ballast = fill(disk)
        wait_until(lambda: client.get("/api/ready").status_code == 503)
        refused = [post(client, clips[1:], export_id="full").status_code for _ in range(5)]
        assert set(refused) <= {503, 507}
        assert client.get("/api/exports").status_code == 200
        assert client.get("/api/ready").json()["ready"] is False
        ballast.unlink()
        wait_until(lambda: client.get("/api/ready").status_code == 200)
        posted = post(client, clips[1:], export_id="full", headers={"Prefer": "respond-async"})
        assert posted.status_code == 202


def test_a_server_whose_database_becomes_garbage(
    serve: Serve, clips: list[Path], tmp_path: Path
) -> None:
    client = serve(data_dir=tmp_path / "data")
    path = tmp_path / "data" / "framestream.db"
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with path.open("r+b") as file:
        file.write(b"garbage " * 4096)
    with capture_logs() as lines:
        wait_until(lambda: client.get("/api/ready").status_code == 503)
        for _ in range(5):
            assert client.get("/api/exports").status_code == 503
            assert post(client, clips[1:]).status_code == 503
    assert len([line for line in lines if line["event"] == "the database refuses"]) == 1
    assert not any("exc_info" in line for line in lines)

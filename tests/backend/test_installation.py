"""Which database and which data folder a server takes, and which it refuses untouched."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import select

from backend.database import Database
from backend.installation import data_dir_lock, opened
from backend.jobs import Jobs
from backend.models import Installation
from backend.settings import Settings
from engine.errors import EngineError
from tests.backend.test_jobs import add

DIES_WHILE_IT_WRITES = (
    "import os, signal, sys\n"
    "from pathlib import Path\n"
    "from backend import installation\n"
    "from backend.settings import Settings\n"
    "installation.whole_file = lambda path: os.kill(os.getpid(), signal.SIGKILL)\n"
    "with installation.opened(Settings(data_dir=Path(sys.argv[1]))): pass\n"
)


def start(settings: Settings) -> None:
    """Starts as a server does, and stops again."""
    with opened(settings):
        pass


def identity(database: Database) -> str:
    with database.read() as session:
        return session.scalars(select(Installation.id)).one()


def with_clips(settings: Settings, database: Database) -> Path:
    """The folder of an accepted job of the database."""
    job = add(Jobs(database, limit=9, limit_per_user=9))
    clip = settings.work_dir / job.folder / "video_0" / "a.mp4"
    clip.parent.mkdir(parents=True)
    clip.write_bytes(b"clip")
    return clip


def test_all_who_migrate_at_once_find_one_identity(database_url: str) -> None:
    def migrate(_: int) -> str:
        with closing(Database(database_url)) as database:
            database.migrate()
            return identity(database)

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(migrate, range(4)))) == 1


def test_a_folder_refuses_another_database(database_url: str, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data", database_url=SecretStr(database_url))
    with opened(settings) as (database, _):
        clip = with_clips(settings, database)
    empty = Settings(
        data_dir=settings.data_dir, database_url=SecretStr(f"sqlite:///{tmp_path}/other.db")
    )
    with pytest.raises(EngineError, match=r"belong to another database than .*other\.db") as told:
        start(empty)
    assert "delete" in str(told.value) and "database.id" in str(told.value)
    assert clip.read_bytes() == b"clip"
    start(settings)
    (settings.data_dir / "database.id").unlink()
    with pytest.raises(EngineError, match=r"clips of 1 exports, of which .*other\.db knows none"):
        start(empty)
    assert clip.read_bytes() == b"clip"
    clip.unlink()
    clip.parent.rmdir()
    clip.parents[1].rmdir()
    start(empty)  # what the messages say to do
    with pytest.raises(EngineError, match="belong to another database"):
        start(settings)


def test_a_folder_whose_database_was_deleted_is_not_taken_by_a_new_one(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    with opened(settings) as (database, _):
        clip = with_clips(settings, database)
    for path in tmp_path.glob("framestream.db*"):
        path.unlink()
    for _ in range(2):
        with pytest.raises(EngineError, match="bring that one back"):
            start(settings)
    assert clip.read_bytes() == b"clip"


def test_an_older_version_s_folder_belongs_to_the_database_that_knows_it(
    database_url: str, tmp_path: Path
) -> None:
    settings = Settings(data_dir=tmp_path / "data", database_url=SecretStr(database_url))
    with closing(Database(database_url)) as database:
        database.migrate()
        clip = with_clips(settings, database)
        (settings.work_dir / "broken_off").mkdir()
        start(settings)
        assert (settings.data_dir / "database.id").read_text().strip() == identity(database)
    assert clip.read_bytes() == b"clip"


def test_an_old_database_takes_a_new_folder(database_url: str, tmp_path: Path) -> None:
    first = Settings(data_dir=tmp_path / "lost", database_url=SecretStr(database_url))
    with opened(first) as (database, _):
        with_clips(first, database)
    second = Settings(data_dir=tmp_path / "new", database_url=SecretStr(database_url))
    start(second)
    start(second)


def test_a_kill_before_the_folder_remembers(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DIES_WHILE_IT_WRITES, str(tmp_path)], timeout=60, check=False
    )
    assert done.returncode == -9
    with closing(Database(Settings(data_dir=tmp_path).database)) as database:
        made = identity(database)
    assert not (tmp_path / "database.id").exists()
    start(Settings(data_dir=tmp_path))
    assert (tmp_path / "database.id").read_text().strip() == made


def test_one_server_per_database(database_url: str, tmp_path: Path) -> None:
    first = Settings(data_dir=tmp_path / "one", database_url=SecretStr(database_url))
    second = Settings(data_dir=tmp_path / "two", database_url=SecretStr(database_url))
    with opened(first) as (database, lock):
        lock.renew()
        for _ in range(2):
            with pytest.raises(EngineError, match="another server is working with this database"):
                start(second)
        assert not (second.data_dir / "database.id").exists()
        with closing(Database(database_url)) as by_hand:
            by_hand.migrate()
            assert identity(by_hand) == identity(database)
    start(second)


def test_one_server_per_data_folder(tmp_path: Path) -> None:
    refused = pytest.raises(EngineError, match="another server is working here")
    with data_dir_lock(tmp_path), refused, data_dir_lock(tmp_path):
        pass


def test_a_database_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    with opened(settings) as (database, _), database.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(EngineError, match=r"framestream\.db: was made by a newer version"):
        start(settings)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("postgresql+psycopg://me:hunter2@127.0.0.1:1/db?application_name=x", "onnection refused"),
        ("postgresql+psycopg://me:hunter2@x@127.0.0.1:1/db", "127.0.0.1"),
        ("postgresql+psycopg://me:hunter2/9@host:hunter2/db", "percent-encoded"),
        ("hunter2", "is not the URL of a database"),
    ],
)
def test_a_database_out_of_reach_is_one_line_without_its_password(
    tmp_path: Path, url: str, reason: str
) -> None:
    with pytest.raises(EngineError, match=reason) as told:
        start(Settings(data_dir=tmp_path, database_url=SecretStr(url)))
    assert "hunter2" not in str(told.value) and len(str(told.value).splitlines()) == 1


def test_a_damaged_database_is_one_line_with_its_name(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    with opened(settings) as (database, _):
        with_clips(settings, database)
    path = tmp_path / "framestream.db"
    with path.open("r+b") as file:
        file.seek(4096 * 5)
        file.write(b"\xff" * 4096)
    with pytest.raises(EngineError, match=rf"^{path}: is damaged .*restore it from a backup"):
        start(settings)
    garbage = b"garbage " * 1000
    path.write_bytes(garbage)
    done = subprocess.run(
        [sys.executable, "-m", "engine", "serve", "--port", "0", "--data-dir", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, f"error {path}: file is not a database\n")
    assert path.read_bytes() == garbage

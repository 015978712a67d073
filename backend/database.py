"""Opens the database and brings its tables up to date. SQLite in WAL mode, or PostgreSQL."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from engine.errors import EngineError

MIGRATIONS = Path(__file__).with_name("migrations")
_READS = "framestream_reads"
_MAIN_FILE = "SELECT file FROM pragma_database_list WHERE name = 'main'"
_MIGRATING = 0x6D696772
"""Advisory lock of PostgreSQL: two processes must not create the same tables."""

_LIMITS = {"connect_timeout": 10, "tcp_user_timeout": 30_000}
"""Of PostgreSQL's client: seconds to connect, and milliseconds to wait for an acknowledgement. By
default a host that does not answer holds a request up for minutes."""


class DatabaseUnusableError(EngineError):
    """The database cannot be opened or brought up to date: which, and why. Holds no password."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")


class DatabaseReplacedError(SQLAlchemyError):
    """The file of the database was deleted or replaced while it was open."""


class Database:
    """An engine and its sessions. Each session is one transaction.

    `with database.begin() as session` may write. `database.read()` may not write, and never waits
    for a lock.
    """

    def __init__(self, url: str) -> None:
        """Connects to nothing yet. Raises `DatabaseUnusableError` for a URL of no database."""
        self._file = _OpenFile()
        self.engine = _engine(url, self._file)
        self.begin = sessionmaker[Session](self.engine, expire_on_commit=False).begin
        reader = self.engine.execution_options(**{_READS: True})
        self.read = sessionmaker[Session](reader, expire_on_commit=False).begin

    @property
    def name(self) -> str:
        """What to call it in a message: its URL without password and options, or its file."""
        url = self.engine.url
        if url.get_backend_name() == "sqlite":
            return url.database or "the database in memory"
        return url.set(query={}).render_as_string()  # with *** for the password

    def file(self) -> Path | None:
        """The file of an SQLite database. None in memory. Raises `DatabaseUnusableError`."""
        with self._readable_errors(), self.read() as session:
            path = session.execute(text(_MAIN_FILE)).scalar_one()
        return Path(path) if path else None

    def migrate(self) -> None:
        """Runs the missing migrations in one transaction. Raises `DatabaseUnusableError`."""
        with self._readable_errors(), self.engine.begin() as connection:
            if self.engine.dialect.name == "sqlite":
                _check_pages(connection)
            else:
                connection.execute(text(f"SELECT pg_advisory_xact_lock({_MIGRATING})"))
            config = Config()
            config.set_main_option("script_location", str(MIGRATIONS))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def close(self) -> None:
        """Closes all connections."""
        self.engine.dispose()

    @contextmanager
    def _readable_errors(self) -> Iterator[None]:
        try:
            yield
        except CommandError as error:
            reason = f"was made by a newer version of this program ({error})"
            raise DatabaseUnusableError(self.name, reason) from error
        except SQLAlchemyError as error:
            raise DatabaseUnusableError(self.name, reason_of(error)) from error


def reason_of(error: SQLAlchemyError) -> str:
    """What the database said, in one line without the statement and its parameters."""
    said = str(getattr(error, "orig", None) or error).strip()
    return said.splitlines()[0] if said else type(error).__name__


class _OpenFile:
    """The file of an SQLite database, as it was when it was first opened.

    SQLite goes on writing into a file that was deleted or replaced. All of that is lost.
    """

    def __init__(self) -> None:
        self._path = ""
        self._opened: os.stat_result | None = None

    def opened(self, connection: Any) -> None:
        """Notes which file it is. Later connections change nothing."""
        if self._opened is None:
            self._path = connection.execute(_MAIN_FILE).fetchone()[0]
            self._opened = Path(self._path).stat() if self._path else None

    def check(self) -> None:
        """Raises `DatabaseReplacedError` if the path names another file now, or none."""
        if self._opened is not None:
            try:
                there = os.path.samestat(Path(self._path).stat(), self._opened)
            except OSError:
                there = False
            if not there:
                raise DatabaseReplacedError(f"{self._path}: was deleted or replaced")


def _check_pages(connection: Connection) -> None:
    """Raises `SQLAlchemyError` for a damaged file. Else it shows in the middle of some job."""
    found = connection.execute(text("PRAGMA quick_check(1)")).scalar_one()
    if found != "ok":
        raise SQLAlchemyError(f"is damaged ({' '.join(found.split())}); restore it from a backup")


def _engine(url: str, file: _OpenFile) -> Engine:
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite":
            return _sqlite_engine(url, file)
        options = {name: _LIMITS[name] for name in _LIMITS if name not in parsed.query}
        return create_engine(url, pool_pre_ping=True, hide_parameters=True, connect_args=options)
    except ModuleNotFoundError as error:
        reason = f"needs {error.name}: pip install 'framestream[postgres]'"
        raise DatabaseUnusableError("DATABASE_URL", reason) from None
    except (SQLAlchemyError, ValueError):  # their text may hold a part of the password
        reason = (
            "is not the URL of a database, like postgresql+psycopg://USER:PASSWORD@HOST/NAME; "
            "characters like @ and / in the password must be percent-encoded"
        )
        raise DatabaseUnusableError("DATABASE_URL", reason) from None


def _sqlite_engine(url: str, file: _OpenFile) -> Engine:
    engine = create_engine(url, connect_args={"timeout": 30}, hide_parameters=True)

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: object) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")  # an accepted job survives a crash
        connection.execute("PRAGMA foreign_keys=ON")
        connection.isolation_level = None  # else the driver begins transactions too late
        file.opened(connection)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # a writer must wait for the lock at once: a read transaction cannot be upgraded later
        reads = connection.get_execution_options().get(_READS)
        if not reads:
            file.check()
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine

"""One server for each database: a second one would take the first one's running jobs for lost.

Migrations and `framestream key` do not need the lock, and work while a server runs.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import IO, Protocol

import structlog
from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from backend.database import Database
from backend.outage import Outage
from engine.errors import EngineError

_SERVING = 0x73657276
"""First half of PostgreSQL's advisory lock. The second half is the schema's name, hashed."""

CHECK_S = 5.0
"""How often to make sure that the lock is held."""

log = structlog.get_logger()


class DatabaseInUseError(EngineError):
    """Another server works with the database."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name}: another server is working with this database; stop it first")


class ServerLock(Protocol):
    """The right to start jobs and to remove files. It is held from the start to the end."""

    held: bool
    """False before the first `renew`, and while the lock is lost."""

    def renew(self) -> None:
        """Takes the lock if it is not held, or was lost.

        Raises `DatabaseInUseError` if another server has it, and `SQLAlchemyError` or `OSError` if
        that cannot be found out.
        """

    def release(self) -> None:
        """Lets another server have it."""


async def keep(lock: ServerLock, regained: Callable[[], None]) -> None:
    """Takes the lock again when it was lost, until it is cancelled.

    If another server has it by then, that one has taken over this one's jobs: this process is told
    to end. `regained` is called when the lock had been lost for a while.
    """
    outage = Outage("the lock on the database is lost, so no job is started")
    while True:
        await asyncio.sleep(CHECK_S)
        was_held = lock.held
        try:
            await run_in_threadpool(lock.renew)
        except DatabaseInUseError as error:
            log.critical("this server ends", why=str(error))
            os.kill(os.getpid(), signal.SIGTERM)
            return
        except (SQLAlchemyError, OSError) as error:
            outage.met(error)
        else:
            outage.ended()
            if not was_held:
                regained()


def server_lock(database: Database) -> ServerLock:
    """The lock of the database, not held yet."""
    if database.engine.dialect.name == "sqlite":
        return _FileLock(database)
    return _AdvisoryLock(database)


class _FileLock:
    """Locks a file beside an SQLite database. It cannot be lost."""

    def __init__(self, database: Database) -> None:
        self.held = False
        self._database = database
        self._file: IO[str] | None = None

    def renew(self) -> None:
        """See `ServerLock`."""
        if self.held:
            return
        path = self._database.file()
        if path is not None:  # else it is in memory, and nobody else's
            self._file = Path(f"{path}.lock").open("w")  # noqa: SIM115 - open while it is held
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.release()
                raise DatabaseInUseError(self._database.name) from None
        self.held = True

    def release(self) -> None:
        """See `ServerLock`."""
        self.held = False
        if self._file is not None:
            self._file.close()
            self._file = None


class _AdvisoryLock:
    """An advisory lock of PostgreSQL. It ends with the connection that has taken it."""

    def __init__(self, database: Database) -> None:
        self.held = False
        self._name = database.name
        self._engine = database.engine
        self._connection: Connection | None = None
        self._session = 0
        """Process id of the server's side of the connection, also after it was lost."""

    def renew(self) -> None:
        """See `ServerLock`."""
        if self._connection is not None:
            try:
                self._connection.execute(text("SELECT 1"))
                return
            except SQLAlchemyError:
                self.release()
        connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        self._connection = connection
        try:
            connection.detach()  # from the pool, which may close it
            for limit in (
                "idle = 30",
                "interval = 10",
                "count = 3",
            ):  # a broken one ends in a minute
                connection.execute(text(f"SET tcp_keepalives_{limit}"))
            self._take(connection)
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """See `ServerLock`."""
        self.held = False
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _take(self, connection: Connection) -> None:
        take = text("SELECT pg_try_advisory_lock(:serving, hashtext(current_schema()))")
        if not connection.execute(take, {"serving": _SERVING}).scalar_one():
            # a connection that broke on our side only holds the lock until PostgreSQL notices
            holder = text(
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted "
                "AND classid = :serving AND objsubid = 2 AND pid = :session"
            )
            values = {"serving": _SERVING, "session": self._session}
            if connection.execute(holder, values).scalar_one():
                reason = "PostgreSQL has not noticed yet that the connection of the lock broke"
                raise OperationalError("", {}, Exception(reason))
            raise DatabaseInUseError(self._name)
        self._session = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        self.held = True

"""Opens the database and brings its tables up to date. SQLite in WAL mode, or PostgreSQL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.orm import Session, sessionmaker

MIGRATIONS = Path(__file__).with_name("migrations")
_READS = "framestream_reads"


class Database:
    """An engine and its sessions. Each session is one transaction.

    `with database.begin() as session` may write. `database.read()` may not write, and never waits
    for a lock.
    """

    def __init__(self, url: str) -> None:
        self.engine = _engine(url)
        self.begin = sessionmaker[Session](self.engine, expire_on_commit=False).begin
        reader = self.engine.execution_options(**{_READS: True})
        self.read = sessionmaker[Session](reader, expire_on_commit=False).begin

    def migrate(self) -> None:
        """Runs the missing migrations in one transaction."""
        with self.engine.begin() as connection:
            config = Config()
            config.set_main_option("script_location", str(MIGRATIONS))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def close(self) -> None:
        """Closes all connections."""
        self.engine.dispose()


def _engine(url: str) -> Engine:
    if not url.startswith("sqlite"):
        return create_engine(url, pool_pre_ping=True)
    engine = create_engine(url, connect_args={"timeout": 30})

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: object) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")  # an accepted job survives a crash
        connection.execute("PRAGMA foreign_keys=ON")
        connection.isolation_level = None  # else the driver begins transactions too late

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # a writer must wait for the lock at once: a read transaction cannot be upgraded later
        reads = connection.get_execution_options().get(_READS)
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine

"""Opens a server's database and data folder: they belong together, and to one server at a time.

The database has an identity, and the folder remembers it. A server that is started once with
another or an empty database would take every file in the folder for nobody's.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from backend.database import Database, DatabaseUnusableError, reason_of
from backend.models import Installation, Job
from backend.server_lock import ServerLock, server_lock
from backend.settings import Settings
from engine.errors import EngineError
from engine.files import whole_file

IDENTITY_FILE = "database.id"
"""In the data folder: the identity of the database whose files it holds."""


@contextmanager
def opened(settings: Settings) -> Iterator[tuple[Database, ServerLock]]:
    """The database with its newest tables, locked against other servers as the folder is.

    Nothing was removed and no job was touched when it raises. Raises `EngineError`: another server
    is at work, the database cannot be used, or the folder belongs to another one; and `OSError`.
    """
    with data_dir_lock(settings.data_dir):
        database = Database(settings.database)
        lock = server_lock(database)
        try:
            try:
                lock.renew()
                database.migrate()
                _check_folder(database, settings)
            except SQLAlchemyError as error:
                raise DatabaseUnusableError(database.name, reason_of(error)) from error
            yield database, lock
        finally:
            lock.release()
            database.close()


@contextmanager
def data_dir_lock(data_dir: Path) -> Iterator[None]:
    """Locks the folder against other servers. Raises `EngineError` if one is using it."""
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EngineError(f"{data_dir}: another server is working here") from None
        yield


def _check_folder(database: Database, settings: Settings) -> None:
    """Makes sure that the files in the data folder are this database's. Raises `EngineError`.

    A folder that remembers no database is new, or of a version that wrote no identity. Then the
    database must know a folder of the clips that lie there.
    """
    path = settings.data_dir / IDENTITY_FILE
    with database.read() as session:
        identity = session.scalars(select(Installation.id)).one()
        known = set(session.scalars(select(Job.folder)))
    if path.exists():
        if path.read_bytes().strip() != identity.encode():
            raise EngineError(
                f"{path}: the clips in this folder belong to another database than "
                f"{database.name}; bring that one back, or delete {path} and {settings.work_dir} "
                "to go on without the clips of its exports"
            )
        return
    found = {each.name for each in settings.work_dir.glob("*")}
    if found and not found & known:
        raise EngineError(
            f"{settings.work_dir}: holds clips of {len(found)} exports, of which {database.name} "
            "knows none; start with the database that knows them, or delete the folder to go on "
            "without these clips"
        )
    with whole_file(path) as unfinished:
        unfinished.write_text(f"{identity}\n")

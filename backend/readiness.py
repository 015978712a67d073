"""Whether the server can take work now: do database and store answer, and is there room.

A database or a disk that is full can still be read. So the checks write.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryFile

from anyio import CapacityLimiter, to_thread
from sqlalchemy import update

from backend.database import Database
from backend.disk_space import DiskSpace
from backend.models import Installation
from backend.outage import Outage
from backend.server_lock import ServerLock
from engine.errors import EngineError
from engine.storage import Store

TIMEOUT_S = 5.0
"""How long a check may take. A database or store that hangs is not ready."""


class NotReadyError(EngineError):
    """A check failed. The text may be shown to anybody."""


class Readiness:
    """Runs the checks, each at most once at a time, however often it is asked."""

    def __init__(
        self, database: Database, lock: ServerLock, store: Store, data_dir: Path, space: DiskSpace
    ) -> None:
        self._database = database
        self._lock = lock
        self._store = store
        self._data_dir = data_dir
        self._space = space
        self._checks: dict[str, Callable[[], object]] = {
            "database": self._check_database,
            "store": self._check_store,
            "disk": self._check_disk,
        }
        self._outages = {part: Outage(f"not ready: {part}") for part in self._checks}
        self._running: dict[str, asyncio.Task[str]] = {}
        self._threads = CapacityLimiter(len(self._checks))  # never those of other requests

    async def parts(self) -> dict[str, str]:
        """By part: `ok`, or why it is not ready. Takes `TIMEOUT_S` at most."""
        states = await asyncio.gather(*(self._state(part) for part in self._checks))
        return dict(zip(self._checks, states, strict=True))

    async def _state(self, part: str) -> str:
        running = self._running.get(part)
        if running is None or running.done():
            running = self._running[part] = asyncio.create_task(self._check(part))
        await asyncio.wait([running], timeout=TIMEOUT_S)
        return running.result() if running.done() else f"no answer within {TIMEOUT_S:g} s"

    async def _check(self, part: str) -> str:
        check, outage = self._checks[part], self._outages[part]
        try:
            await to_thread.run_sync(check, limiter=self._threads, abandon_on_cancel=True)
        except Exception as error:
            outage.met(error)
            return str(error) if isinstance(error, NotReadyError) else "fails; see the server's log"
        outage.ended()
        return "ok"

    def _check_database(self) -> None:
        """Writes the one row of the installation. Raises `SQLAlchemyError`, `NotReadyError`."""
        if not self._lock.held:
            raise NotReadyError("the lock on the database is lost")
        with self._database.begin() as session:
            session.execute(update(Installation).values(id=Installation.id))

    def _check_store(self) -> None:
        """Asks for an object. Raises `StoreError`."""
        self._store.stat("readiness")

    def _check_disk(self) -> None:
        """Writes a file into the data folder. Raises `OSError`, `NotReadyError`."""
        if not self._space.has_room():
            raise NotReadyError("there is not enough free space")
        with TemporaryFile(dir=self._data_dir) as file:
            file.write(b"ready")

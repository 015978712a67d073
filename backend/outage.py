"""A fault that lasts: a full disk, a database that is away. It is met again and again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

import structlog
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from backend.database import reason_of
from engine.errors import EngineError

FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 60.0
QUIET_S = 2 * LONGEST_WAIT_S
"""A fault that was not met for so long is over, also where nobody says so."""

log = structlog.get_logger()

T = TypeVar("T")


class Outage:
    """Logs one line when a fault begins and one when it ends, however often it is met.

    A fault of another type meanwhile is another line. Not for several threads at once.
    """

    def __init__(self, event: str) -> None:
        self._event = event
        self._logged: set[type[BaseException]] = set()
        self._met_s = 0.0
        self._wait_s = FIRST_WAIT_S

    def met(self, error: BaseException) -> float:
        """Logs what is new. Returns how many seconds to wait before the next try: 1, 2, 4 ... 60.

        An error of the system is a line with its reason. Another is a fault of this program, and
        has its traceback.
        """
        now_s = time.monotonic()
        if now_s - self._met_s > QUIET_S:
            self._forget()
        self._met_s = now_s
        if type(error) not in self._logged:
            self._logged.add(type(error))
            match error:
                case SQLAlchemyError():
                    log.error(self._event, why=f"{type(error).__name__}: {reason_of(error)}")
                case OSError() | EngineError():
                    log.error(self._event, why=str(error))
                case _:
                    log.error(self._event, exc_info=error)
        wait_s, self._wait_s = self._wait_s, min(2 * self._wait_s, LONGEST_WAIT_S)
        return wait_s

    def ended(self) -> None:
        """Logs that it is over, if it had begun."""
        if self._logged:
            log.info(f"{self._event}: over")
            self._forget()

    def _forget(self) -> None:
        self._logged.clear()
        self._wait_s = FIRST_WAIT_S


async def persist(change: Callable[[], T], outage: Outage) -> T:
    """The result of a transaction. It is tried until the database answers.

    Raises `IntegrityError` and `DataError`: no waiting makes wrong values right.
    """
    while True:
        try:
            result = await run_in_threadpool(change)
        except (IntegrityError, DataError):
            raise
        except SQLAlchemyError as error:
            await asyncio.sleep(outage.met(error))
        else:
            outage.ended()
            return result

"""Runs workers: one process for each assignment, ended when its caller is cancelled.

They are forked from a process that has loaded the engine and opened nothing. So a worker starts in
milliseconds, where a new interpreter would take a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import structlog
from starlette.concurrency import run_in_threadpool

from backend.assignment import LOCK_FILE, Assignment
from backend.worker import run_assignment
from engine.child_process import ChildProcess, kill_group, start_fork

_MAX_LINE_BYTES = 64 << 20
"""The report of a long export is one line."""

_EXIT_S = 5.0
"""How long a worker that has closed its channel may take to exit, before it is killed."""

PRELOADED = "backend.preloaded"
"""The module that the fork server imports. It ignores a name that cannot be imported."""

forkserver.set_forkserver_preload([PRELOADED])

OnEvent = Callable[[dict[str, Any]], None]


log = structlog.get_logger()


class WorkError(Exception):
    """The work cannot be done. `detail` is one readable line, `status` the HTTP status for it."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class WorkerDiedError(Exception):
    """The worker ended without a result: it crashed, or the system was out of memory."""


def warm_up() -> None:
    """Starts the process that loads the engine for later workers. Does not wait for it."""
    forkserver.ensure_running()


async def run_worker(assignment: Assignment, on_event: OnEvent | None = None) -> dict[str, Any]:
    """Runs `assignment` in a worker and returns its result.

    `on_event` is called with the worker's events. Cancelling ends the worker at once. Raises
    `WorkError` and `WorkerDiedError`.
    """
    starting = asyncio.ensure_future(run_in_threadpool(start_fork, run_assignment, assignment))
    try:
        return await _read_events(await asyncio.shield(starting), on_event)
    finally:
        await asyncio.shield(_end(starting))


async def _read_events(worker: ChildProcess, on_event: OnEvent | None) -> dict[str, Any]:
    reader, writer = await asyncio.open_connection(sock=worker.channel, limit=_MAX_LINE_BYTES)
    with contextlib.closing(writer):
        async for line in reader:
            event = json.loads(line)
            match event.pop("event"):
                case "result":
                    result: dict[str, Any] = event
                    return result
                case "error":
                    if event["cause"] is not None:
                        log.error("the work failed", why=event["cause"], status=event["status"])
                    raise WorkError(event["status"], event["detail"])
                case kind:
                    if on_event is not None:
                        on_event({"event": kind, **event})
    ended = await run_in_threadpool(worker.end, _EXIT_S)
    raise WorkerDiedError(f"the worker died ({ended})")


async def _end(starting: asyncio.Future[ChildProcess]) -> None:
    """Ends the worker and all processes that it started."""
    worker = await starting
    await run_in_threadpool(worker.end)


def end_orphans(work_dir: Path) -> int:
    """Ends workers of an earlier server that are still running. Returns how many there were."""
    ended = 0
    for path in work_dir.glob(f"*/{LOCK_FILE}"):
        with path.open("r+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                # the holder has written its group, or is about to notice that its server is gone
                if (group := lock.read()).isdecimal():
                    kill_group(int(group))
                fcntl.flock(lock, fcntl.LOCK_EX)
                ended += 1
    return ended

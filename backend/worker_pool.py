"""Runs workers: one process for each piece of work, ended when nobody waits for it any more.

They are forked from a process that has loaded the engine already and opened nothing, so that one
costs milliseconds where a new interpreter would take a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import multiprocessing
import os
import signal
import socket
from collections.abc import Callable
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool

from backend.assignment import LOCK_FILE, Assignment
from backend.worker import run_assignment

_MAX_LINE_BYTES = 64 << 20
"""A report of a long export is one line."""

PRELOADED = (
    "backend.worker",
    "backend.export_tasks",
    "backend.inspection_tasks",
    "backend.preview_tasks",
)
"""Modules that the fork server imports. It ignores names that cannot be imported."""

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(list(PRELOADED))

OnEvent = Callable[[dict[str, Any]], None]


class WorkError(Exception):
    """The work cannot be done: one readable line, and the HTTP status that fits it."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class WorkerDiedError(Exception):
    """The worker ended without a word: a crash, or the system was out of memory."""


def warm_up() -> None:
    """Starts to load the engine for the workers to come; does not wait for it."""
    forkserver.ensure_running()


async def run_worker(assignment: Assignment, on_event: OnEvent | None = None) -> dict[str, Any]:
    """Has `assignment` done, and gives its result.

    `on_event` is told what the worker says meanwhile. Cancelling ends the worker at once. Raises
    `WorkError` and `WorkerDiedError`.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = _context.Process(target=run_assignment, args=(assignment, theirs), daemon=True)
        starting = asyncio.ensure_future(run_in_threadpool(process.start))
        try:
            await asyncio.shield(starting)
            theirs.close()
            return await _read_events(ours, process, on_event)
        finally:
            await asyncio.shield(_end(starting, process))


async def _read_events(
    channel: socket.socket, process: ForkServerProcess, on_event: OnEvent | None
) -> dict[str, Any]:
    reader, writer = await asyncio.open_connection(sock=channel, limit=_MAX_LINE_BYTES)
    with contextlib.closing(writer):
        async for line in reader:
            event = json.loads(line)
            match event.pop("event"):
                case "result":
                    result: dict[str, Any] = event
                    return result
                case "error":
                    raise WorkError(event["status"], event["detail"])
                case kind:
                    if on_event is not None:
                        on_event({"event": kind, **event})
    await run_in_threadpool(process.join)
    code = process.exitcode or 0
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    raise WorkerDiedError(f"the worker died ({how})")


async def _end(starting: asyncio.Future[None], process: ForkServerProcess) -> None:
    """Ends the worker and whatever it started."""
    await starting
    assert process.pid
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()  # where it was too young to have a group
    await run_in_threadpool(process.join)


def end_orphans(work_dir: Path) -> int:
    """Ends workers of an earlier server that are still there, and waits for them; says how many."""
    ended = 0
    for path in work_dir.glob(f"*/{LOCK_FILE}"):
        with path.open("r+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                # who holds the lock has written its group, or is about to find its server gone
                if (group := lock.read()).isdecimal():
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(int(group), signal.SIGKILL)
                fcntl.flock(lock, fcntl.LOCK_EX)
                ended += 1
    return ended

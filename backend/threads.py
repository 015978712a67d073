"""Runs in a thread what must not be left half done when a request is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from starlette.concurrency import run_in_threadpool

P = ParamSpec("P")
T = TypeVar("T")


async def run_to_end(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Runs `call` in a thread and returns its result.

    A cancellation that comes meanwhile waits for the thread, and is raised where the caller waits
    next. So no file is closed while it is written, and no result is lost.
    """
    running = asyncio.ensure_future(run_in_threadpool(call, *args, **kwargs))
    cancelled = False
    while not running.done():
        try:
            await asyncio.wait([running])
        except asyncio.CancelledError:
            cancelled = True
    task = asyncio.current_task()
    if cancelled and task is not None:
        task.cancel()
    return running.result()

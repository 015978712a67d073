"""Runs in a thread what must not be left half done when a request is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def run_to_end(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Runs `call` in a thread and returns its result.

    A cancellation that comes meanwhile waits for the thread, and is raised where the caller waits
    next. So no file is closed while it is written, and no result is lost. It is a thread from the
    start and never a task: a server that stops cancels every task, also one that has not begun.
    """
    bound = partial(copy_context().run, call, *args, **kwargs)
    running = asyncio.get_running_loop().run_in_executor(None, bound)
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

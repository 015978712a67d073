"""Waiting for what happens elsewhere: in another thread or process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


def wait_until(condition: Callable[[], object], within_s: float = 120) -> None:
    """Returns once the condition holds; fails the test where it does not in time."""
    until_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < until_s, "waited in vain"
        time.sleep(0.02)


def join(thread: threading.Thread, within_s: float = 60) -> None:
    """Waits for the end of a thread; fails the test where it does not end in time."""
    thread.join(within_s)
    assert not thread.is_alive(), f"the thread {thread.name} goes on"

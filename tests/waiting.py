"""Waiting for what happens elsewhere: in another thread or process."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_until(condition: Callable[[], object], within_s: float = 120) -> None:
    """Returns once the condition holds; fails the test where it does not in time."""
    until_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < until_s, "waited in vain"
        time.sleep(0.02)

"""Room on the disk of the data folder, and the jobs that wait for it."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from backend.progress_hub import JobKey

POLL_S = 2.0
"""How often to look for room while a job waits."""
LONGEST_PAUSE_S = 60.0
"""Pauses between the starts of a job that runs out of room: `POLL_S`, then twice that, and so on.
Room on this disk may not be what it needs: there are quotas, and folders on other disks."""


class DiskSpace:
    """Says whether there is room, and when a job that ran out of it may start again."""

    def __init__(self, folder: Path, min_free_bytes: int) -> None:
        self._folder = folder
        self._min_free_bytes = min_free_bytes
        self._waits: dict[JobKey, tuple[float, float]] = {}
        """By job: when it may start again (monotonic seconds), and its next pause."""

    def has_room(self) -> bool:
        """Whether at least `Settings.min_free_bytes` are free. Raises `OSError`."""
        return shutil.disk_usage(self._folder).free >= self._min_free_bytes

    def hold(self, key: JobKey) -> bool:
        """Notes that a job ran out of space. True if it is the first time."""
        _, pause_s = self._waits.get(key, (0.0, POLL_S))
        is_first = key not in self._waits
        self._waits[key] = time.monotonic() + pause_s, min(2 * pause_s, LONGEST_PAUSE_S)
        return is_first

    def release(self, key: JobKey) -> None:
        """Forgets a job that ended otherwise."""
        self._waits.pop(key, None)

    def may_start(self, key: JobKey) -> bool:
        """Whether the job may start now. Raises `OSError`."""
        if key not in self._waits:
            return True
        return time.monotonic() >= self._waits[key][0] and self.has_room()

    def poll_s(self) -> float | None:
        """When to look again, in seconds. None if no job waits."""
        return POLL_S if self._waits else None

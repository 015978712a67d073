"""Progress told through a `modal.Dict`: one entry per function, and one per chunk.

A thread of its own writes at most once a second. The last writer wins. Nothing depends on what is
read, and the work goes on where progress cannot be told.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

import modal
import modal.exception

from modal_functions.protocol import PROGRESS_DICT, ChunkEntry, PhaseEntry

INTERVAL_S = 1.0

log = logging.getLogger(__name__)


class ProgressDict:
    """Writes the newest entry under each key. Leaving the block writes what is pending."""

    def __init__(self) -> None:
        self._dict = modal.Dict.from_name(PROGRESS_DICT, create_if_missing=True)
        self._pending: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._write_until_over, name="progress")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    def set(self, key: str, entry: PhaseEntry | ChunkEntry) -> None:
        """Takes an entry and writes it within a second, unless a newer one comes first."""
        with self._lock:
            self._pending[key] = entry.to_dict()

    def set_now(self, key: str, entry: PhaseEntry | ChunkEntry) -> None:
        """Writes an entry before it returns."""
        self.set(key, entry)
        self._write_pending()

    def get(self, key: str) -> Any:
        """What was written last; None where nothing was, or where it cannot be read now."""
        try:
            return self._dict.get(key)
        except (modal.exception.Error, OSError) as error:
            log.warning("progress cannot be read: %s", type(error).__name__)
            return None

    def delete(self, keys: Iterable[str]) -> None:
        """Removes entries that nobody reads any more."""
        for key in keys:
            try:
                self._dict.pop(key, None)
            except (modal.exception.Error, OSError) as error:
                log.warning("progress cannot be deleted: %s", type(error).__name__)
                return

    def _write_until_over(self) -> None:
        while not self._over.wait(INTERVAL_S):
            self._write_pending()
        self._write_pending()

    def _write_pending(self) -> None:
        with self._lock:
            pending, self._pending = self._pending, {}
        if not pending:
            return
        try:
            self._dict.update(pending)
        except (modal.exception.Error, OSError) as error:
            log.warning("progress cannot be written: %s", type(error).__name__)


class PhaseProgress:
    """The entry of one function, which goes through `protocol.PHASES`."""

    def __init__(self, progress: ProgressDict, key: str) -> None:
        self._progress = progress
        self._key = key

    def report(
        self,
        phase: str,
        share: float,
        message: str,
        *,
        frames_done: int | None = None,
        frames_total: int | None = None,
    ) -> None:
        """Tells how far the function is; see `PhaseEntry`."""
        entry = PhaseEntry(phase, share, message, frames_done, frames_total)
        self._progress.set(self._key, entry)

"""Progress told through a `modal.Dict`: one entry per function, and one per chunk.

A thread of its own writes at most once a second. The last writer wins. What cannot be written is
written with the next entries. Nothing depends on what is read, and the work goes on where progress
cannot be told.
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
WRITE_S = 5.0
"""How long is waited for an entry that should be written at once."""
CLOSE_S = 30.0
"""How long is waited for the last entries. Modal's client tries each request for some seconds."""

log = logging.getLogger(__name__)


class ProgressUnreadableError(Exception):
    """What was written cannot be read now, which says nothing of what was written."""


class ProgressDict:
    """Writes the newest entry under each key. Leaving the block writes what is pending."""

    def __init__(self) -> None:
        self._dict = modal.Dict.from_name(PROGRESS_DICT, create_if_missing=True)
        self._pending: dict[str, dict[str, Any]] = {}
        """The entries that are not known to be written."""
        self._written = threading.Condition()
        """Guards what is pending, and tells when some of it was written."""
        self._wake = threading.Event()
        self._over = False
        self._thread = threading.Thread(target=self._write_until_over, name="progress", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over = True
        self._wake.set()
        self._thread.join(CLOSE_S)

    def set(self, key: str, entry: PhaseEntry | ChunkEntry) -> None:
        """Takes an entry and writes it within a second, unless a newer one comes first."""
        with self._written:
            self._pending[key] = entry.to_dict()

    def set_now(self, key: str, entry: PhaseEntry | ChunkEntry) -> None:
        """Writes an entry before it returns, or goes on trying after `WRITE_S`."""
        self.set(key, entry)
        self._wake.set()
        with self._written:
            self._written.wait_for(lambda: key not in self._pending, WRITE_S)

    def get(self, key: str) -> Any:
        """What was written last, None where nothing was. Raises `ProgressUnreadableError`."""
        try:
            return self._dict.get(key)
        except (modal.exception.Error, OSError) as error:
            log.warning("progress cannot be read: %s", type(error).__name__)
            raise ProgressUnreadableError(type(error).__name__) from error

    def delete(self, keys: Iterable[str]) -> None:
        """Removes entries that nobody reads any more. Modal removes those that stay."""
        for key in keys:
            try:
                self._dict.pop(key, None)
            except (modal.exception.Error, OSError) as error:
                log.warning("progress cannot be deleted: %s", type(error).__name__)
                return

    def _write_until_over(self) -> None:
        while not self._over:
            self._wake.wait(INTERVAL_S)
            self._wake.clear()
            self._write_pending()
        self._write_pending()

    def _write_pending(self) -> None:
        with self._written:
            sent = dict(self._pending)
        if not sent:
            return
        try:
            self._dict.update(sent)
        except (modal.exception.Error, OSError) as error:
            log.warning("progress is written later: %s", type(error).__name__)
            return
        with self._written:
            for key, entry in sent.items():
                if self._pending[key] is entry:  # else a newer one came meanwhile
                    del self._pending[key]
            self._written.notify_all()


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

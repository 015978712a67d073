"""How far a function is, told through a `modal.Dict`: a slot per function and per chunk.

Written at most once a second, by a thread of its own. The last writer wins, and nothing depends on
what is read: progress that cannot be told does not stop the work.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import modal
import modal.exception

DICT_NAME = "framestream-progress"
"""The name of the Dict; its entries are gone after seven idle days."""
INTERVAL_S = 1.0

log = logging.getLogger(__name__)


class ProgressDict:
    """Tells the newest value of each slot; leaving the block tells what is not told yet."""

    def __init__(self) -> None:
        self._dict = modal.Dict.from_name(DICT_NAME, create_if_missing=True)
        self._pending: dict[str, Any] = {}
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

    def set(self, slot: str, value: Mapping[str, Any]) -> None:
        """Takes a value; it is written within a second, unless a newer one takes its place."""
        with self._lock:
            self._pending[slot] = dict(value)

    def set_now(self, slot: str, value: Mapping[str, Any]) -> None:
        """Writes a value before going on."""
        self.set(slot, value)
        self._write_pending()

    def get(self, slot: str) -> Any:
        """What was written last, None where nothing was or it cannot be read now."""
        try:
            return self._dict.get(slot)
        except (modal.exception.Error, OSError) as error:
            log.warning("progress cannot be read: %s", type(error).__name__)
            return None

    def delete(self, slots: list[str]) -> None:
        """Removes slots that nobody reads any more."""
        for slot in slots:
            try:
                self._dict.pop(slot, None)
            except (modal.exception.Error, OSError) as error:
                log.warning("progress cannot be cleared: %s", type(error).__name__)
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
            log.warning("progress cannot be told: %s", type(error).__name__)


class PhaseProgress:
    """A function's own slot, phase by phase: download, model, frames, encode, upload."""

    def __init__(self, progress: ProgressDict, slot: str) -> None:
        self._progress = progress
        self._slot = slot

    def report(self, phase: str, share: float, message: str, **more: Any) -> None:
        """`share`, 0 to 1, of the phase is done."""
        told = {"phase": phase, "share": round(share, 4), "message": message, **more}
        self._progress.set(self._slot, told)

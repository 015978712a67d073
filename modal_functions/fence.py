"""Keeps a call from going on where nobody waits for it any more.

A call is started with the key and the SHA-256 of its job's document. Who cancels the export deletes
the document, also where Modal cannot be asked or nobody knows the call's id. Who starts another
call of the same job replaces it, and the newer call takes over renderers and ledger. So at most one
call of a job goes on.
"""

from __future__ import annotations

import hashlib
import logging
import time
from dataclasses import dataclass, field

from engine.errors import EngineError, ObjectChangedError, ObjectMissingError, StoreError
from engine.storage import Store

CHECK_S = 15.0
"""How often a call that works for long looks whether it is still wanted."""

log = logging.getLogger(__name__)


class FencedError(EngineError):
    """The call must end and publish nothing."""


class ExportCancelledError(FencedError):
    """The job's document was deleted: the export was cancelled."""


class ReplacedError(FencedError):
    """The job's document is another one: a newer call goes on with the export."""


@dataclass(slots=True)
class Fence:
    """The document of one call, which is there and unchanged as long as the call is wanted."""

    store: Store
    key: str
    sha256: str
    _checked_s: float = field(default_factory=time.monotonic)

    def document(self) -> bytes:
        """The job's document. Raises `FencedError` where it is gone or another one."""
        try:
            data = self.store.get_bytes(self.key)
        except ObjectMissingError:
            raise ExportCancelledError(f"{self.key}: the export was cancelled") from None
        except ObjectChangedError:  # while it was read
            data = b""
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise ReplacedError(f"{self.key}: has another SHA-256 than the call gave")
        return data

    def check(self) -> None:
        """Raises `FencedError` where the call is not wanted any more."""
        self.document()
        self._checked_s = time.monotonic()

    def is_replaced(self) -> bool:
        """Whether a newer call goes on with the export."""
        try:
            self.check()
        except ReplacedError:
            return True
        except ExportCancelledError:
            pass
        return False

    def check_now_and_then(self) -> None:
        """As `check`, at most once in `CHECK_S`. A store out of reach counts as no change."""
        if time.monotonic() - self._checked_s < CHECK_S:
            return
        try:
            self.check()
        except FencedError:
            raise
        except StoreError as error:
            log.warning("whether the export is still wanted cannot be read: %s", error)
            self._checked_s = time.monotonic()

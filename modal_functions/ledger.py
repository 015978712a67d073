"""The calls an orchestrator has made to renderers: their results, and its memory of them.

The memory lies in the store and is written whenever it changes. An orchestrator that takes over
finds its renderers at work, and gives up what keeps failing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import modal
import modal.exception

from engine.errors import ObjectMissingError
from engine.storage import Store
from modal_functions.protocol import ErrorResponse, Ledger, is_response
from modal_functions.responses import error_response

UNREACHABLE_S = 300.0
"""How long a call that must be started is tried while Modal cannot be reached."""
PAUSE_S = 2.0
CANCEL_TRIES = 5
"""How often calls are cancelled at the end. What is left then is the backend's."""

UNREACHABLE = (
    modal.exception.ServiceError,
    modal.exception.InternalError,
    modal.exception.ResourceExhaustedError,
    modal.exception.ConnectionError,
    OSError,
)
"""What says that a request failed, and nothing of the call it is about."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class CallLedger:
    """The ledger of one export, kept in the store under `key`."""

    store: Store
    key: str
    ledger: Ledger

    @classmethod
    def read(cls, store: Store, key: str) -> CallLedger:
        """The ledger that lies under `key`; an empty one where there is none."""
        try:
            return cls(store, key, Ledger.from_document(store.get_bytes(key)))
        except ObjectMissingError:
            return cls(store, key, Ledger())

    @property
    def calls(self) -> Mapping[str, Sequence[str]]:
        """The digests of the chunks of every call that has not ended, by the call's id."""
        return self.ledger.calls

    def failures_of(self, digest: str) -> tuple[str, ...]:
        """Why the chunk failed, one reason per failure."""
        return tuple(self.ledger.failures.get(digest, ()))

    def call_started(self, call_id: str, digests: Sequence[str]) -> None:
        """Notes a call and the chunks it was given."""
        self.ledger.calls[call_id] = list(digests)
        self._write()

    @property
    def unfinished(self) -> Sequence[str]:
        """The ids of all calls that may still run."""
        return [*self.ledger.calls, *self.ledger.given_up]

    @property
    def given_up(self) -> Sequence[str]:
        """The ids of calls that nobody waits for, and that could not be cancelled yet."""
        return tuple(self.ledger.given_up)

    def call_ended(self, call_id: str) -> None:
        """Drops a call."""
        self.ledger.calls.pop(call_id, None)
        if call_id in self.ledger.given_up:
            self.ledger.given_up.remove(call_id)
        self._write()

    def call_given_up(self, call_id: str) -> None:
        """Notes that a call is not waited for, and must still be cancelled."""
        self.ledger.calls.pop(call_id, None)
        self.ledger.given_up.append(call_id)
        self._write()

    def chunk_failed(self, digest: str, reason: str, attempts: int = 1) -> int:
        """Notes that a chunk failed `attempts` times. Returns how often it failed in all."""
        self.ledger.attempts[digest] = self.ledger.attempts.get(digest, 0) + attempts
        self.ledger.failures.setdefault(digest, []).append(reason)
        self._write()
        return self.ledger.attempts[digest]

    def cancel_all(self) -> bool:
        """Cancels every call that may still run. False where Modal cannot be asked."""
        left = self.unfinished
        for attempt in range(CANCEL_TRIES):
            time.sleep(PAUSE_S * attempt if left else 0)
            left = [call_id for call_id in left if not cancel_call(call_id)]
        return not left

    def _write(self) -> None:
        self.store.put_bytes(self.key, self.ledger.document())


def poll_call(call: modal.FunctionCall[Any]) -> Mapping[str, Any] | None:
    """A call's response, None while it runs. For a call that is lost it is an `ErrorResponse`."""
    try:
        response = call.get(timeout=0)
    except TimeoutError:
        return None
    except UNREACHABLE as error:
        log.warning("call %s cannot be polled: %s", call.object_id, type(error).__name__)
        return None
    except modal.exception.Error as error:
        return _error(f"its container was lost ({type(error).__name__})")
    except Exception as error:  # what the function raised comes as whatever it was
        return error_response(error)
    return response if is_response(response) else _error(f"it returned {type(response).__name__}")


def _error(reason: str) -> ErrorResponse:
    return {"status": "error", "error": reason}


def spawn_call(method: Any, **arguments: Any) -> modal.FunctionCall[Any]:
    """Starts a call of a deployed method. Tries on while Modal cannot be reached for a while."""
    until_s = time.monotonic() + UNREACHABLE_S
    while True:
        try:
            call: modal.FunctionCall[Any] = method.spawn(**arguments)
            return call
        except UNREACHABLE as error:
            if time.monotonic() > until_s:
                raise
            log.warning("a call cannot be started yet: %s", type(error).__name__)
            time.sleep(PAUSE_S)


def cancel_call(call_id: str) -> bool:
    """Cancels a call and ends its containers. False where Modal cannot be asked."""
    try:
        modal.FunctionCall.from_id(call_id).cancel(terminate_containers=True)
    except modal.exception.NotFoundError:
        return True  # Modal has forgotten it
    except (modal.exception.Error, OSError) as error:
        log.warning("call %s cannot be cancelled: %s", call_id, type(error).__name__)
        return False
    return True

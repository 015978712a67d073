"""Calls that an orchestrator has made: what became of them, and its memory of them in the store.

The memory is written whenever it changes, so that an orchestrator which takes another's place finds
its renderers at work and does not try for ever what fails for ever.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import modal
import modal.exception

from engine.errors import ObjectMissingError
from engine.storage import Store, redacted

log = logging.getLogger(__name__)


@dataclass(slots=True)
class CallLedger:
    """What an export has started."""

    store: Store
    key: str
    calls: dict[str, list[str]] = field(default_factory=dict)
    """The chunks' digests, by the id of the call that renders them."""
    attempts: dict[str, int] = field(default_factory=dict)
    """By digest: how often it failed."""
    failures: dict[str, list[str]] = field(default_factory=dict)
    """By digest: why."""

    @classmethod
    def read(cls, store: Store, key: str) -> CallLedger:
        """The ledger under `key`; an empty one where there is none."""
        try:
            fields = json.loads(store.get_bytes(key))
        except ObjectMissingError:
            return cls(store, key)
        return cls(store, key, fields["calls"], fields["attempts"], fields["failures"])

    def call_started(self, call_id: str, digests: Sequence[str]) -> None:
        self.calls[call_id] = list(digests)
        self._write()

    def call_ended(self, call_id: str) -> None:
        self.calls.pop(call_id, None)
        self._write()

    def chunk_failed(self, digest: str, why: str, attempts: int = 1) -> int:
        """Notes a failure; gives how many there were."""
        self.attempts[digest] = self.attempts.get(digest, 0) + attempts
        self.failures.setdefault(digest, []).append(why)
        self._write()
        return self.attempts[digest]

    def _write(self) -> None:
        fields = {"calls": self.calls, "attempts": self.attempts, "failures": self.failures}
        self.store.put_bytes(self.key, json.dumps(fields).encode())


def poll_call(call: modal.FunctionCall[Any]) -> Mapping[str, Any] | None:
    """A call's answer, None while it runs; one that is lost has an error for an answer."""
    try:
        answer = call.get(timeout=0)
    except TimeoutError:
        return None
    except (modal.exception.ServiceError, modal.exception.ConnectionError, OSError) as error:
        log.warning("call %s cannot be asked: %s", call.object_id, type(error).__name__)
        return None
    except modal.exception.Error as error:
        return {"status": "error", "error": f"its container was lost ({type(error).__name__})"}
    except Exception as error:  # what the function raised comes as whatever it was
        return {"status": "error", "error": redacted(f"{type(error).__name__}: {error}")}
    return answer if isinstance(answer, dict) else {"status": "error", "error": repr(answer)}


def cancel_call(call_id: str) -> None:
    """Ends a call. One that cannot be ended now is told of, and ends by itself."""
    try:
        modal.FunctionCall.from_id(call_id).cancel()
    except (modal.exception.Error, OSError) as error:
        log.warning("call %s cannot be cancelled: %s", call_id, type(error).__name__)

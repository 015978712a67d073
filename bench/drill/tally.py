"""What a scenario did, and what it found. Everything of a `Finding` must be nothing."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Finding(StrEnum):
    """What must not be found."""

    LOST = "lost"
    """An export that was accepted, and does not end with the right film."""
    LEFT_OVER = "left_over"
    """A file, an object, a row or a process that nobody needs any more."""
    DOUBLE = "double"
    """A second film of one export."""
    SECRET = "secrets"
    """A secret in a log."""
    BROKEN = "broken"
    """Any other promise that was not kept."""


@dataclass(slots=True)
class Tally:
    """The counts of one scenario over all its rounds. Threads may count at once."""

    scenario: str
    rounds: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    """How often each kind of fault was injected."""
    accepted: int = 0
    done: int = 0
    failed: int = 0
    """Ended with a readable reason where the fault makes that right, and were done when retried."""
    reasons: Counter[str] = field(default_factory=Counter)
    """What those that failed said."""
    found: dict[Finding, list[str]] = field(
        default_factory=lambda: {finding: [] for finding in Finding}
    )
    skipped: str = ""
    """Why the scenario could not be played here."""
    wall_s: float = 0
    log_lines: int = 0
    """How many lines of logs were searched for secrets."""
    growth_mib: float | None = None
    """How much the server's peak memory grew."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def injected(self, fault: str) -> None:
        """Counts a fault."""
        with self._lock:
            self.faults[fault] += 1

    def find(self, finding: Finding, what: str) -> None:
        """Notes what must not be."""
        with self._lock:
            self.found[finding].append(what)

    def find_all(self, finding: Finding, what: Iterable[str]) -> None:
        """Notes several of one kind."""
        for each in what:
            self.find(finding, each)

    @property
    def is_clean(self) -> bool:
        """Whether nothing was found."""
        return not any(self.found.values())

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "scenario": self.scenario,
            "rounds": self.rounds,
            "faults": dict(sorted(self.faults.items())),
            "accepted": self.accepted,
            "done": self.done,
            "failed": self.failed,
            "reasons": dict(self.reasons),
            **{finding.value: what for finding, what in self.found.items()},
            "skipped": self.skipped,
            "wall_s": round(self.wall_s, 1),
            "log_lines": self.log_lines,
            "growth_mib": self.growth_mib,
        }

    def line(self) -> str:
        """For people, as the scenario ends."""
        if self.skipped:
            return f"{self.scenario}: skipped: {self.skipped}"
        wrong = ", ".join(f"{len(what)} {each.value}" for each, what in self.found.items() if what)
        return (
            f"{self.scenario}: {self.rounds} rounds, {self.faults.total()} faults, "
            f"{self.accepted} accepted, {self.done} done, {self.failed} failed rightly; "
            f"{wrong or 'clean'} ({self.wall_s:.0f} s)"
        )

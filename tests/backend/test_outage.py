"""A fault that lasts is one line when it begins and one when it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from sqlalchemy.exc import IntegrityError, OperationalError
from structlog.testing import capture_logs

from backend import outage
from backend.outage import Outage, persist

FULL = OperationalError("INSERT hunter2", {}, Exception("database or disk is full"))


def test_one_line_begins_and_one_ends() -> None:
    fault = Outage("the queue")
    with capture_logs() as lines:
        waits = [fault.met(FULL) for _ in range(9)]
        fault.ended()
        fault.ended()
        assert fault.met(FULL) == 1
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert [line["event"] for line in lines] == ["the queue", "the queue: over", "the queue"]
    assert lines[0]["why"] == "OperationalError: database or disk is full"


def test_another_fault_meanwhile_is_another_line() -> None:
    fault = Outage("the sweep")
    with capture_logs() as lines:
        for _ in range(3):
            fault.met(FULL)
            fault.met(PermissionError(13, "Permission denied", "/x"))
            fault.met(ValueError("a bug"))
    assert [bool(line.get("exc_info")) for line in lines] == [False, False, True]
    assert "Permission denied" in lines[1]["why"]


def test_a_fault_that_was_not_met_for_long_begins_again(monkeypatch: pytest.MonkeyPatch) -> None:
    times_s = [1000.0, 1100.0, 1200.0, 1321.0]
    monkeypatch.setattr("backend.outage.time.monotonic", times_s.pop)
    times_s.reverse()
    fault = Outage("the database")
    with capture_logs() as lines:
        while times_s:
            fault.met(FULL)
    assert len(lines) == 2


def test_a_change_waits_for_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outage, "FIRST_WAIT_S", 0.0)
    errors = [FULL, FULL]

    def change() -> str:
        if errors:
            raise errors.pop()
        return "written"

    with capture_logs() as lines:
        assert asyncio.run(persist(change, Outage("the end"))) == "written"
    assert [line["event"] for line in lines] == ["the end", "the end: over"]


def test_a_change_with_wrong_values_is_not_repeated() -> None:
    change: Callable[[], None] = refused
    with pytest.raises(IntegrityError):
        asyncio.run(persist(change, Outage("the end")))


def refused() -> None:
    raise IntegrityError("INSERT", {}, Exception("UNIQUE constraint failed"))

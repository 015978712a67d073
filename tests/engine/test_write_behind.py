"""Items that are worked on behind the caller: in order, bounded, and no error is lost."""

from __future__ import annotations

import threading

import pytest

from engine.errors import Cancelled, EngineError
from engine.write_behind import WriteBehind
from tests.waiting import join, wait_until

WAIT_S = 30


class Gated:
    """Work that waits until its gate is opened."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.done: list[int] = []
        self.gate = threading.Event()

    def work(self, item: int) -> None:
        self.begun.append(item)
        assert self.gate.wait(WAIT_S)
        if item < 0:
            raise EngineError(f"cannot do {item}")
        self.done.append(item)


def test_the_caller_goes_on_until_there_is_no_place() -> None:
    gated = Gated()

    def full() -> None:
        assert gated.begun == [1] and not gated.done
        gated.gate.set()

    with WriteBehind(gated.work, 2, "test") as behind:
        behind.put(1)
        behind.put(2, pytest.fail)
        behind.put(3, full)
        assert gated.gate.is_set()
    assert gated.done == [1, 2, 3]


def test_what_it_raises_reaches_the_next_put_and_the_end() -> None:
    gated = Gated()
    with WriteBehind(gated.work, 2, "test") as behind:
        behind.put(-1)
        behind.put(2)
        gated.gate.set()
        with pytest.raises(EngineError, match="cannot do -1"):
            behind.put(3)
    assert (gated.begun, gated.done) == ([-1], [])
    with (
        pytest.raises(EngineError, match="cannot do -3"),
        WriteBehind(gated.work, 1, "test") as behind,
    ):
        behind.put(-3)


@pytest.mark.parametrize(
    ("error", "done"),
    [(EngineError("no"), [1, 2]), (Cancelled(), [1]), (KeyboardInterrupt(), [1])],
    ids=["an error", "cancelled", "interrupted"],
)
def test_an_end_before_time_loses_nothing_that_was_begun(
    error: BaseException, done: list[int]
) -> None:
    def open_gate() -> None:
        if done == [1]:
            wait_until(behind._unfinished[1].cancelled)
        gated.gate.set()

    gated, opener = Gated(), threading.Thread(target=open_gate)
    with pytest.raises(type(error)), WriteBehind(gated.work, 2, "test") as behind:
        behind.put(1)
        behind.put(2)
        wait_until(lambda: gated.begun == [1])
        opener.start()
        raise error
    join(opener)
    assert gated.done == done
    assert not any(thread.name.startswith("test") for thread in threading.enumerate())


def test_waiting_for_a_place_can_be_stopped() -> None:
    def stop() -> None:
        gated.gate.set()
        raise Cancelled

    gated = Gated()
    with pytest.raises(Cancelled), WriteBehind(gated.work, 1, "test") as behind:
        behind.put(1)
        behind.put(2, stop)
    assert gated.done == [1]

"""A bounded queue between two stages: order, bound, errors, and nothing left behind."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Generator, Iterator

import pytest

from engine.prefetch import Prefetch


def workers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "worker"]


def test_items_come_in_order_from_another_thread() -> None:
    def made() -> Iterator[tuple[int, str]]:
        for number in range(50):
            yield number, threading.current_thread().name

    with Prefetch(made(), 3, "worker") as ahead:
        assert list(ahead.items()) == [(number, "worker") for number in range(50)]
    assert not workers()


@pytest.mark.parametrize("depth", [1, 4])
def test_it_is_never_further_ahead_than_its_depth(depth: int) -> None:
    made = 0
    furthest = 0

    def counted() -> Iterator[int]:
        nonlocal made
        for number in range(40):
            made = number + 1
            yield number

    with Prefetch(counted(), depth, "worker") as ahead:
        for taken, _ in enumerate(ahead.items(), start=1):
            furthest = max(furthest, made - taken)
    assert made == 40
    assert furthest <= depth + 1  # those queued, and the one in the worker's hands


def test_an_error_comes_after_the_items_before_it_with_its_traceback() -> None:
    def breaks() -> Iterator[int]:
        yield from (1, 2, 3)
        raise ValueError("torn")

    taken = []
    with (
        Prefetch(breaks(), 8, "worker") as ahead,
        pytest.raises(ValueError, match="torn") as raised,
    ):
        for item in ahead.items():
            taken.append(item)  # noqa: PERF402 - what came before the error is kept
    assert taken == [1, 2, 3]
    assert any(frame.name == "breaks" for frame in traceback.extract_tb(raised.tb))
    assert not workers()


def test_leaving_early_stops_the_thread_and_closes_the_generator() -> None:
    closed = threading.Event()

    def endless() -> Generator[int]:
        try:
            number = 0
            while True:
                yield (number := number + 1)
        finally:
            closed.set()

    with Prefetch(endless(), 2, "worker") as ahead:
        assert next(ahead.items()) == 1
        assert workers()
    assert closed.is_set()
    assert not workers()


def test_an_error_in_the_block_stops_the_thread() -> None:
    with pytest.raises(KeyError), Prefetch(iter(range(1000)), 2, "worker"):
        raise KeyError
    assert not workers()


def test_it_may_be_started_before_its_block() -> None:
    begun = threading.Event()

    def made() -> Iterator[int]:
        begun.set()
        yield 1

    ahead = Prefetch(made(), 2, "worker").start()
    assert begun.wait(10)
    with ahead:
        assert list(ahead.items()) == [1]


def test_while_waiting_is_called_until_an_item_comes_and_may_raise() -> None:
    patience = threading.Event()
    calls = 0

    def slow() -> Iterator[int]:
        patience.wait(10)
        yield 1

    def relieve() -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            patience.set()

    with Prefetch(slow(), 2, "worker") as ahead:
        assert list(ahead.items(relieve)) == [1]
    assert calls >= 2

    patience.clear()

    def give_up() -> None:
        patience.set()
        raise TimeoutError("enough")

    with Prefetch(slow(), 2, "worker") as ahead, pytest.raises(TimeoutError, match="enough"):
        next(ahead.items(give_up))
    assert not workers()

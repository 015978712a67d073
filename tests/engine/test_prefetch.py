"""Work ahead of a consumer: order, bound, errors, and nothing left behind."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from engine.prefetch import Prefetch, computed_ahead


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


def test_what_a_pool_computes_comes_in_the_order_of_the_items() -> None:
    """The first waits for the second."""
    second_is_done = threading.Event()

    def compute(number: int) -> int:
        if number == 0:
            assert second_is_done.wait(10)
        elif number == 1:
            second_is_done.set()
        return number * 10

    with ThreadPoolExecutor(2) as pool:
        assert list(computed_ahead(compute, range(20), pool, 1)) == [n * 10 for n in range(20)]


def test_a_pool_is_given_no_more_items_than_the_consumer_is_ahead() -> None:
    given = 0

    def items() -> Iterator[int]:
        nonlocal given
        for number in range(10):
            given = number + 1
            yield number

    with ThreadPoolExecutor(4) as pool:
        for taken, _ in enumerate(computed_ahead(int, items(), pool, 2)):
            assert given <= taken + 3


def test_an_error_in_a_pool_comes_after_the_items_before_it() -> None:
    taken = []
    with ThreadPoolExecutor(4) as pool, pytest.raises(ZeroDivisionError):
        for item in computed_ahead(lambda n: 6 // (3 - n), range(9), pool, 3):
            taken.append(item)  # noqa: PERF402 - what came before the error is kept
    assert taken == [2, 3, 6]


def test_leaving_early_waits_for_what_the_pool_computes() -> None:
    running, begun, may_end = 0, threading.Semaphore(0), threading.Event()

    def compute(number: int) -> int:
        nonlocal running
        if number:
            running += 1
            begun.release()
            assert may_end.wait(10)
            running -= 1
        return number

    with ThreadPoolExecutor(1) as pool:
        made = computed_ahead(compute, range(9), pool, 3)
        assert next(made) == 0
        assert begun.acquire(timeout=10)
        threading.Timer(0.05, may_end.set).start()
        assert isinstance(made, Generator)
        made.close()
        assert running == 0
        assert not begun.acquire(blocking=False)

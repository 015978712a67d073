"""What runs in a thread to its end, whatever becomes of who asked for it."""

from __future__ import annotations

import asyncio

import pytest

from backend.threads import run_to_end


def test_a_call_is_made_also_where_the_loop_ends_before_it_has_begun() -> None:
    written: list[str] = []

    async def request() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await run_to_end(written.append, "what had arrived")

    async def server() -> None:
        task = asyncio.create_task(request())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
        # `asyncio.run` cancels all tasks now

    asyncio.run(server())
    assert written == ["what had arrived"]


@pytest.mark.parametrize("cancellations", [0, 1, 3])
def test_a_cancellation_waits_for_the_call_and_is_raised_afterwards(cancellations: int) -> None:
    done: list[int] = []

    async def caller() -> None:
        done.append(await run_to_end(sum, [1, 2]))
        await asyncio.sleep(0)
        done.append(0)

    async def main() -> None:
        task = asyncio.create_task(caller())
        await asyncio.sleep(0)
        for _ in range(cancellations):
            task.cancel()
            await asyncio.sleep(0)
        await asyncio.wait([task])
        assert task.cancelled() == (cancellations > 0)

    asyncio.run(main())
    assert done == ([3] if cancellations else [3, 0])


def test_an_error_of_the_call_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        asyncio.run(run_to_end(divmod, 1, 0))

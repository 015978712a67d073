"""The progress hub: late watchers get the last state, slow ones the newest. Percent never falls."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

from backend.models import JobStatus
from backend.progress_hub import INTERVAL_S, ProgressHub, ProgressState, percent_within, public_id

KEY = ("anna", "reel")
RUNNING = ProgressState(JobStatus.RUNNING, "frames", 20.0, "Rendering")
DONE = replace(RUNNING, status=JobStatus.DONE, percent=100.0)


async def no_row() -> ProgressState | None:
    return None


async def collected(hub: ProgressHub, row: ProgressState | None = None) -> list[ProgressState]:
    async def read_row() -> ProgressState | None:
        return row

    return [state async for state in hub.watch(KEY, read_row)]


def test_a_late_watcher_gets_the_last_state_and_the_end() -> None:
    async def scenario() -> None:
        hub = ProgressHub()
        hub.publish(KEY, RUNNING)
        watching = asyncio.create_task(collected(hub))
        await asyncio.sleep(0)
        hub.publish(KEY, DONE)
        assert await watching == [RUNNING, DONE]
        assert await collected(hub, row=DONE) == [DONE], "from the row when the hub has forgotten"
        assert hub.state(KEY) is None and hub.watchers == 0

    asyncio.run(scenario())


def test_many_states_are_thinned_out_and_never_fall() -> None:
    async def scenario() -> None:
        hub = ProgressHub()
        started_s = time.monotonic()
        watching = [asyncio.create_task(collected(hub)) for _ in range(20)]
        for percent in range(100):
            hub.publish(KEY, replace(RUNNING, percent=float(percent if percent % 3 else 0)))
            await asyncio.sleep(0.001)
        hub.publish(KEY, DONE)
        most = (time.monotonic() - started_s) / INTERVAL_S + 3  # the first, the last, a rounding
        for states in await asyncio.gather(*watching):
            percents = [state.percent for state in states]
            assert percents == sorted(percents) and percents[-1] == 100
            assert len(states) <= most

    asyncio.run(scenario())


def test_a_watcher_may_come_before_the_job_and_go_before_its_end() -> None:
    async def scenario() -> None:
        hub = ProgressHub()
        states = hub.watch(KEY, no_row)
        first = asyncio.create_task(anext(states))
        await asyncio.sleep(0)
        assert hub.watchers == 1
        hub.publish(KEY, RUNNING)
        assert await first == RUNNING
        await states.aclose()
        assert hub.watchers == 0 and hub.state(KEY) == RUNNING

    asyncio.run(scenario())


def test_states_have_the_app_s_field_names() -> None:
    failed = replace(RUNNING, status=JobStatus.FAILED, error="no such luck", project_id="7")
    document = failed.document()
    assert (document["status"], document["error"]) == ("error", "no such luck")
    assert document["projectId"] == 7
    assert [public_id(each) for each in ("7", "07", "x", None)] == [7, "07", "x", None]
    assert percent_within((10, 80), 0.5) == 45

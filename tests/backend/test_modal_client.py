"""What the backend is told where Modal cannot be asked, and how far a call is while it runs."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from typing import Any

import modal
import pytest

from backend import modal_client
from backend.modal_client import (
    ExportJob,
    ModalError,
    ModalProgress,
    call_modal_concatenate,
    modal_enabled,
)
from engine.errors import StoreError
from modal_functions import app, protocol
from tests.modal_functions.control_plane import ControlPlane, Down
from tests.waiting import wait_until


def concatenated(told: list[ModalProgress] | None = None) -> dict[str, Any]:
    return asyncio.run(
        call_modal_concatenate(
            *("job-1", "7", ["7/a.mp4"], "7/b.mp4"),
            progress_callback=None if told is None else told.append,
        )
    )


def test_the_names_both_sides_use() -> None:
    assert protocol.app_name() == protocol.DEFAULT_APP_NAME == app.APP_NAME == app.app.name
    assert protocol.PROGRESS_DICT == "framestream-progress"
    job = ExportJob("1", "7", {}, {}, "7/out.mp4")
    assert job.temp_prefix == protocol.temp_prefix("7", "1") == "7/temp/modal_1"
    assert job.manifest_key == protocol.manifest_key("7/out.mp4") == "7/out.mp4.manifest.json"
    assert ExportJob is protocol.ExportJob


@pytest.mark.parametrize(
    ("value", "on"), [("true", True), ("1", True), ("false", False), ("", False)]
)
def test_enabled_by_the_environment(monkeypatch: pytest.MonkeyPatch, value: str, on: bool) -> None:
    monkeypatch.setenv("MODAL_ENABLED", value)
    assert modal_enabled() is on
    monkeypatch.delenv("MODAL_ENABLED")
    assert not modal_enabled()


def test_a_user_that_is_a_path() -> None:
    with pytest.raises(StoreError):
        _ = ExportJob("1", "../8", {}, {}, "7/out.mp4").temp_prefix


@pytest.mark.usefixtures("control_plane")
def test_nothing_is_deployed() -> None:
    with pytest.raises(ModalError, match="is not deployed"):
        concatenated()


def test_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MODAL_TOKEN_ID", raising=False)
    monkeypatch.delenv("MODAL_TOKEN_SECRET", raising=False)
    with pytest.raises(ModalError, match="no valid token"):
        concatenated()


def test_out_of_reach(control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modal_client, "REQUEST_S", 0.3)
    control_plane.reachable = False
    with pytest.raises(ModalError, match="cannot be reached"):
        concatenated()


def test_out_of_reach_for_a_while(
    control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that runs is followed on."""
    monkeypatch.setattr(modal_client, "POLL_S", 0.05)
    monkeypatch.setattr(modal_client, "REQUEST_S", 0.2)
    asked: list[int] = []

    def work(**_: object) -> dict[str, Any]:
        wait_until(lambda: len(asked) >= 3)
        return {"status": "success", "output_key": "7/b.mp4", "duration": 1.0}

    class Answers(list[ModalProgress]):
        def append(self, _: ModalProgress) -> None:
            asked.append(1)
            control_plane.reachable = len(asked) != 1
            if len(asked) == 1:
                asyncio.get_running_loop().call_later(0.5, come_back)

    def come_back() -> None:
        control_plane.reachable = True

    control_plane.deploy(app.APP_NAME, {"concatenate_clips_modal": work})
    assert concatenated(Answers())["status"] == "success"
    assert len(asked) >= 3


def test_progress_is_what_the_slot_says_and_never_goes_back(
    control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(modal_client, "POLL_S", 0.01)
    told: list[ModalProgress] = []

    def work(**_: object) -> dict[str, Any]:
        progress = modal.Dict.from_name(protocol.PROGRESS_DICT, create_if_missing=True)
        wait_until(lambda: told)
        for phase, share in (("frames", 0.5), ("model", 0.5), ("nonsense", 1), ("encode", 2.0)):
            progress["job-1/concatenate"] = {"phase": phase, "share": share, "message": phase}
            seen = len(told) + 2
            wait_until(lambda seen=seen: len(told) >= seen)  # type: ignore[misc]
        return {"status": "success"}

    control_plane.deploy(app.APP_NAME, {"concatenate_clips_modal": work})
    concatenated(told)
    percents = [each.percent for each in told]
    assert percents == sorted(percents)
    assert {50.0, 95.0, 100.0} <= set(percents)
    assert told[0].estimated


@pytest.mark.parametrize("answer", [None, 3, {"output": "x"}])
def test_an_answer_of_another_kind(control_plane: ControlPlane, answer: object) -> None:
    control_plane.deploy(app.APP_NAME, {"concatenate_clips_modal": lambda **_: answer})
    made = concatenated()
    assert made["status"] == "error" and "does not know" in made["error"]


async def swallowing() -> None:
    """What Modal's client may do with a cancellation that comes at a bad moment."""
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(60)


def test_a_cancellation_that_modal_s_client_swallows_still_cancels() -> None:
    async def cancelled() -> bool:
        task = asyncio.create_task(modal_client._in_time(swallowing()))
        await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return task.cancelled()

    assert asyncio.run(asyncio.wait_for(cancelled(), 10))


def test_cancelled_at_any_moment_following_a_call_ends(
    control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the check in `_in_time`, about every fourth of these goes on for ever."""
    monkeypatch.setattr(modal_client, "POLL_S", 0)
    over = threading.Event()
    control_plane.deploy(app.APP_NAME, {"concatenate_clips_modal": lambda **_: over.wait(60)})
    chance = random.Random(1)

    async def cancelled_in_vain() -> int:
        call = await modal_client._function("concatenate_clips_modal").spawn.aio()
        loop, in_vain = asyncio.get_running_loop(), 0
        meter = modal_client._ProgressMeter(None)
        for _ in range(10):
            following = [
                asyncio.create_task(modal_client._follow(call.object_id, "job-1", meter))
                for _ in range(12)
            ]
            for task in following:
                loop.call_later(chance.uniform(0, 0.04), task.cancel)
            _, going_on = await asyncio.wait(following, timeout=10)
            in_vain += len(going_on)
            while going_on:
                for task in going_on:
                    task.cancel()
                _, going_on = await asyncio.wait(going_on, timeout=0.1)
            if in_vain:
                break
        return in_vain

    try:
        assert asyncio.run(cancelled_in_vain()) == 0
    finally:
        over.set()


def test_modal_out_of_reach_while_a_cancelled_clip_is_ended(
    control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cancellation is what the caller is told, and the call is logged."""
    monkeypatch.setattr(modal_client, "REQUEST_S", 2)
    over = threading.Event()
    control_plane.deploy(app.APP_NAME, {"concatenate_clips_modal": lambda **_: over.wait(60)})
    control_plane.fault = lambda name, _: Down() if name == "FunctionCallCancel" else None

    async def cancelled() -> bool:
        arguments = ("job-1", "7", ["7/a.mp4"], "7/b.mp4")
        task = asyncio.create_task(call_modal_concatenate(*arguments))
        while "FunctionGetOutputs" not in control_plane.requests:
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task], timeout=10)
        return task.cancelled()

    try:
        assert asyncio.run(cancelled())
    finally:
        over.set()


def test_a_call_that_does_not_end_itself_is_ended_with_its_container(
    control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(modal_client, "POLL_S", 0.01)
    monkeypatch.setattr(modal_client, "CANCEL_S", 0.1)
    over = threading.Event()  # who waits for it hears of no cancellation
    control_plane.deploy(app.APP_NAME, {"concatenate_clips_modal": lambda **_: over.wait(60)})

    async def ended() -> None:
        call = await modal_client._function("concatenate_clips_modal").spawn.aio()
        with pytest.raises(ModalError, match="has not ended"):
            await modal_client._end(call.object_id)
        over.set()
        await modal_client._end(call.object_id)

    asyncio.run(ended())
    assert control_plane.requests.count("FunctionCallCancel") >= 3


def test_a_task_that_is_being_cancelled_can_still_ask() -> None:
    """As the end of an export does, when Ctrl-C has cancelled the task that follows it."""

    async def asking() -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return await modal_client._in_time(asyncio.sleep(0, "response"))
        raise AssertionError

    async def cancelled() -> str:
        task = asyncio.create_task(asking())
        await asyncio.sleep(0)
        task.cancel()
        return await task

    assert asyncio.run(cancelled()) == "response"

"""The real modal client against the stand-in: what the other tests rely on."""

from __future__ import annotations

import time

import modal
import pytest
from modal.exception import InputCancellation

from tests.modal_functions.control_plane import ControlPlane, Down, Lose, Program, Slow


def wait_forever() -> None:
    while True:
        time.sleep(0.01)


def test_a_call_is_spawned_and_picked_up_again_by_its_id(control_plane: ControlPlane) -> None:
    control_plane.deploy("app", {"add": lambda a, b: {"sum": a + b}})
    call = modal.Function.from_name("app", "add").spawn(2, b=3)
    assert modal.FunctionCall.from_id(call.object_id).get(timeout=5) == {"sum": 5}


def test_remote_gather_and_map(control_plane: ControlPlane) -> None:
    control_plane.deploy("app", {"double": lambda n: 2 * n})
    double = modal.Function.from_name("app", "double")
    assert double.remote(4) == 8
    assert modal.FunctionCall.gather(double.spawn(1), double.spawn(2)) == [2, 4]
    assert list(double.map([1, 2, 3])) == [2, 4, 6]


def test_a_method_of_a_class(control_plane: ControlPlane) -> None:
    control_plane.deploy("app", {}, {"Renderer": {"render": lambda n: n + 1}})
    renderer = modal.Cls.from_name("app", "Renderer")()
    assert renderer.render.spawn(1).get(timeout=5) == 2
    assert control_plane.calls_of("Renderer.*/render")


def test_what_is_not_there(control_plane: ControlPlane) -> None:
    with pytest.raises(modal.exception.NotFoundError):
        modal.Function.from_name("app", "nothing").hydrate()
    with pytest.raises(modal.exception.NotFoundError):
        modal.FunctionCall.from_id("fc-nothing").get(timeout=0)
    control_plane.deploy("app", {"fail": lambda: 1 / 0})
    with pytest.raises(ZeroDivisionError):
        modal.Function.from_name("app", "fail").remote()


def test_a_cancelled_call(control_plane: ControlPlane) -> None:
    seen = []

    def work() -> None:
        try:
            wait_forever()
        except InputCancellation:
            seen.append("cancelled")
            raise

    control_plane.deploy("app", {"work": work})
    call = modal.Function.from_name("app", "work").spawn()
    with pytest.raises(TimeoutError):
        call.get(timeout=0)
    call.cancel()
    with pytest.raises(modal.exception.RemoteError):
        call.get(timeout=5)
    assert seen == ["cancelled"]


def test_a_response_that_is_lost(control_plane: ControlPlane) -> None:
    """The client asks again, and a repeated request has its effect once."""
    lost: list[str] = []

    def lose_once(name: str, _: object) -> Lose | None:
        if name == "FunctionMap" and not lost:
            lost.append(name)
            return Lose()
        return None

    control_plane.deploy("app", {"double": lambda n: 2 * n})
    control_plane.fault = lose_once
    assert modal.Function.from_name("app", "double").spawn(4).get(timeout=5) == 8
    assert control_plane.requests.count("FunctionMap") == 2
    assert len(control_plane.calls) == 1


def test_requests_that_are_refused_or_slow(control_plane: ControlPlane) -> None:
    control_plane.deploy("app", {"double": lambda n: 2 * n})
    call = modal.Function.from_name("app", "double").spawn(4)
    control_plane.fault = lambda name, _: Down() if name == "FunctionCallCancel" else Slow(0.01)
    with pytest.raises(modal.exception.ServiceError):
        call.cancel()
    assert call.get(timeout=5) == 8


@pytest.mark.usefixtures("control_plane")
def test_dict_and_queue() -> None:
    slots = modal.Dict.from_name("slots", create_if_missing=True)
    slots["a"] = {"frames": 1}
    assert slots.get("a") == {"frames": 1}
    assert not slots.put("a", 2, skip_if_exists=True)
    assert slots.pop("a") == {"frames": 1}
    assert slots.get("a", "gone") == "gone"
    queue = modal.Queue.from_name("queue", create_if_missing=True)
    queue.put_many([1, 2])
    assert [queue.get(), queue.get()] == [1, 2]


def test_a_container_that_is_killed(control_plane: ControlPlane) -> None:
    control_plane.deploy(
        "app", {"wait": Program("tests.modal_functions.test_control_plane:wait_forever")}
    )
    call = modal.Function.from_name("app", "wait").spawn()
    container = control_plane.calls[call.object_id].containers[0]
    while container.process is None:
        time.sleep(0.01)
    container.kill()
    with pytest.raises(modal.exception.InternalFailure):
        call.get(timeout=10)

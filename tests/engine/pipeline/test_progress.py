"""What is reported while an export runs, and where its time went."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from engine.errors import Cancelled
from engine.pipeline.progress import Phase, Progress, ProgressMeter, StageClock
from tests.waiting import join

PAUSE_S = 0.02


def test_frames_rendered_and_kept_add_up() -> None:
    seen: list[Progress] = []
    meter = ProgressMeter(10, seen.append, None)
    meter.enter(Phase.FRAMES)
    meter.keep(6)
    for _ in range(4):
        meter.frames(1)
    meter.enter(Phase.JOIN)
    assert (seen[0].phase, seen[0].frames_done, seen[0].eta_s) == (Phase.FRAMES, 0, None)
    assert (seen[-1].phase, seen[-1].frames_done, seen[-1].frames_total) == (Phase.JOIN, 10, 10)
    assert seen[-1].fps > 0 and seen[-1].eta_s == 0


def test_speed_is_that_of_this_run() -> None:
    """Frames that were there before make nothing faster."""
    seen: list[Progress] = []
    meter = ProgressMeter(1000, seen.append, None)
    meter.keep(900)
    for _ in range(5):
        meter.frames(1)
        time.sleep(PAUSE_S)
    meter.enter(Phase.JOIN)
    last = seen[-1]
    assert last.frames_done == 905
    assert 0 < last.fps <= 1 / PAUSE_S
    assert last.eta_s == pytest.approx(95 / last.fps)


def test_one_frame_tells_no_speed() -> None:
    meter = ProgressMeter(10, None, None)
    assert meter.fps == 0
    meter.frames(1)
    assert meter.fps == 0


def test_a_phase_is_told_at_once_and_steps_seldom() -> None:
    seen: list[Progress] = []
    meter = ProgressMeter(1000, seen.append, None)
    for phase in Phase:
        meter.enter(phase)
    assert [each.phase for each in seen] == list(Phase)
    for _ in range(1000):
        meter.frames(1)
    assert len(seen) < len(Phase) + 100


def test_every_step_may_stop() -> None:
    stop = threading.Event()
    meter = ProgressMeter(10, None, stop.is_set)
    steps: list[Callable[[], None]] = [
        meter.step,
        lambda: meter.frames(1),
        lambda: meter.keep(1),
        lambda: meter.enter(Phase.JOIN),
    ]
    for step in steps:
        step()
    stop.set()
    for step in steps:
        with pytest.raises(Cancelled):
            step()


def test_a_stage_is_charged_for_its_work_and_not_for_its_wait() -> None:
    clock = StageClock()

    def source() -> Iterator[int]:
        for number in range(3):
            time.sleep(PAUSE_S)
            yield number

    def worked(items: Iterator[int]) -> Iterator[int]:
        for item in items:
            yield item * 10

    items = clock.timed("crop", worked(clock.waited_for("crop", clock.timed("decode", source()))))
    assert list(items) == [0, 10, 20]
    assert clock.seconds["decode"] >= 3 * PAUSE_S
    assert 0 <= clock.seconds["crop"] < clock.seconds["decode"]
    with clock.working("join"):
        time.sleep(PAUSE_S)
    assert clock.seconds["join"] >= PAUSE_S


def test_work_that_fails_is_charged_too() -> None:
    clock = StageClock()

    def breaks() -> Iterator[int]:
        time.sleep(PAUSE_S)
        yield from ()
        raise ValueError

    with pytest.raises(ValueError):
        list(clock.timed("decode", breaks()))
    with pytest.raises(ValueError), clock.working("encode"):
        time.sleep(PAUSE_S)
        raise ValueError
    assert min(clock.seconds["decode"], clock.seconds["encode"]) >= PAUSE_S


def test_two_threads_at_one_stage_add_up() -> None:
    clock = StageClock()
    together = threading.Barrier(2)

    def work() -> None:
        together.wait(60)
        with clock.working("decode"):
            time.sleep(PAUSE_S)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        join(thread)
    assert clock.seconds["decode"] >= 2 * PAUSE_S


def test_the_bottleneck_is_told_from_the_first_finished_chunk_on() -> None:
    told: list[Progress] = []
    clock = StageClock()
    meter = ProgressMeter(20, told.append, None, clock)
    clock.add({"sound": 1.0})
    meter.enter(Phase.FRAMES)
    clock.add({"decode": 0.5, "encode": 2.0})
    meter.finished([1])
    meter.finished([0])
    meter.enter(Phase.SOUND)
    assert [(at.bottleneck, at.chunks_done) for at in told] == [(None, ()), ("encode", (0, 1))]

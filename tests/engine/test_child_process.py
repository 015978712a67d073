"""A child process ends when it should, with all that it started, also if its parent is killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

from engine.child_process import ChildProcess, Exit, start_fork, start_interpreter
from tests.engine import child_mains
from tests.proc import children_of, is_alive
from tests.waiting import wait_until

Main: TypeAlias = Callable[[socket.socket], None]
Start: TypeAlias = Callable[[Main], ChildProcess]


def fresh(main: Main) -> ChildProcess:
    return start_interpreter(main, environment=os.environ)


STARTS: list[Start] = [fresh, start_fork]


@pytest.fixture(params=STARTS, ids=["interpreter", "fork"])
def start(request: pytest.FixtureRequest) -> Iterator[Start]:
    """Starts a child in one of the two ways; after the test it is ended."""
    started: list[ChildProcess] = []

    def start_child(main: Main) -> ChildProcess:
        started.append(request.param(main))
        return started[-1]

    yield start_child
    for child in started:
        child.end()


def announced(child: ChildProcess) -> list[int]:
    """The ids that a child sends: itself, then what it started. It leads a group of its own."""
    child.channel.settimeout(30)
    line = b""
    while not line.endswith(b"\n"):
        line += child.channel.recv(1) or pytest.fail("the child is gone")
    group, *there = map(int, line.split())
    assert group == there[0] == child.pid != os.getpgid(0)
    return there


@pytest.mark.parametrize(
    ("main", "said"), [(child_mains.exits_with_3, "exit code 3"), (child_mains.crashes, "SIGSEGV")]
)
def test_how_a_child_ended_by_itself(start: Start, main: Main, said: str) -> None:
    child = start(main)
    announced(child)
    assert child.channel.recv(1) == b"", "its end of the channel is closed when it is gone"
    ended = child.end(within_s=30)
    assert (str(ended), ended.by_signal) == (said, said == "SIGSEGV")
    assert child.end() == ended


def test_a_child_that_ignores_everything_is_killed_with_all_it_started(start: Start) -> None:
    child = start(child_mains.ignores_all)
    there = announced(child)
    os.kill(child.pid, signal.SIGTERM)
    started_s = time.monotonic()
    assert str(child.end(within_s=0.3)) == "SIGKILL"
    assert 0.3 <= time.monotonic() - started_s < 10
    wait_until(lambda: not any(map(is_alive, there)))


def test_a_child_may_tidy_up(start: Start) -> None:
    """What it leaves behind is ended all the same."""
    child = start(child_mains.tidies_up)
    there = announced(child)
    child.channel.sendall(b"data are not the end")
    assert str(child.end(within_s=30)) == "exit code 5"
    wait_until(lambda: not any(map(is_alive, there)))


@pytest.mark.parametrize("main", [child_mains.hangs, child_mains.hangs_beyond_its_grace])
def test_the_lifeline_ends_a_child_that_hangs(start: Start, main: Main) -> None:
    child = start(main)
    there = announced(child)
    child.channel.close()
    wait_until(lambda: not any(map(is_alive, there)))
    assert str(child.end(within_s=30)) == "SIGKILL"


def test_a_child_may_be_ended_at_once(start: Start) -> None:
    """Where it has hardly begun, and may have no group yet."""
    child = start(child_mains.hangs)
    assert str(child.end()) == "SIGKILL"
    assert not is_alive(child.pid)


def test_the_channel_goes_both_ways(start: Start) -> None:
    child = start(child_mains.echoes)
    child.channel.settimeout(30)
    child.channel.sendall(b"hello")
    assert child.channel.recv(100) == b"HELLO"


ORPHANED = """
import os, signal
from engine.child_process import start_fork, start_interpreter
from tests.engine.child_mains import hangs, hangs_beyond_its_grace
children = [start_fork(main) for main in (hangs, hangs_beyond_its_grace)]
children += [
    start_interpreter(main, environment=os.environ) for main in (hangs, hangs_beyond_its_grace)
]
for child in children:
    print(child.channel.makefile().readline(), end="", flush=True)
signal.pause()
"""


def test_nothing_outlives_a_parent_that_is_killed() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", ORPHANED], stdout=subprocess.PIPE, text=True
    ) as parent:
        try:
            assert parent.stdout is not None
            groups = [[int(each) for each in parent.stdout.readline().split()] for _ in range(4)]
        finally:
            parent.kill()
    there = [process for _, *processes in groups for process in processes]
    assert len(there) == 8
    wait_until(lambda: not any(map(is_alive, there)))


def test_a_child_that_cannot_be_started_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before = children_of(os.getpid()), open_files()
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(FileNotFoundError):
        fresh(child_mains.hangs)
    assert (children_of(os.getpid()), open_files()) == before


def open_files() -> int:
    """How many descriptors this process has."""
    return len(list(Path("/proc/self/fd").iterdir()))


def test_exits_are_told_in_words() -> None:
    told = [str(Exit(status)) for status in (0, 3, -signal.SIGTERM, -(signal.SIGRTMIN + 3))]
    assert told == ["exit code 0", "exit code 3", "SIGTERM", f"signal {signal.SIGRTMIN + 3}"]

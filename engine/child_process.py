"""A supervised child process: a process group of its own, and one channel that is its lifeline.

    parent ◀─ channel, a pair of sockets ─▶ child ─▶ whatever the child starts

The child ends when the parent closes its end of the channel or dies, by `watch_lifeline`. The
parent ends the whole group by `ChildProcess.end`. What the two say to each other over the channel
is theirs to choose.
"""

from __future__ import annotations

import multiprocessing
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Concatenate, ParamSpec

P = ParamSpec("P")

_BACKSTOP_S = 1.0


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended. As text: `SIGKILL`, or `exit code 3`."""

    status: int
    """The exit code, or minus the number of the signal that ended the process."""

    @property
    def by_signal(self) -> bool:
        """Whether a signal ended it."""
        return self.status < 0

    def __str__(self) -> str:
        if not self.by_signal:
            return f"exit code {self.status}"
        try:
            return signal.Signals(-self.status).name
        except ValueError:  # most real-time signals have no name
            return f"signal {-self.status}"


class ChildProcess:
    """A child that `start_interpreter` or `start_fork` has started, as its parent sees it."""

    def __init__(
        self, process: subprocess.Popen[bytes] | ForkServerProcess, channel: socket.socket
    ) -> None:
        assert process.pid
        self.pid = process.pid
        """Also the id of its process group."""
        self.channel = channel
        """The parent's end. Code that detaches it must close it before `end`."""
        self._process = process
        self._exit: Exit | None = None

    def end(self, within_s: float = 0) -> Exit:
        """Ends the child and its group, and says how the child ended.

        Closes the channel, gives the child `within_s` seconds to end by itself, then kills what is
        left of the group. Blocks until the child is gone. A second call only says how it ended.
        """
        if self._exit is None:
            self.channel.close()
            status = self._status(within_s)
            kill_group(self.pid)
            if status is None:
                self._process.kill()  # it may be too young to have a group
                status = self._status(None)
                assert status is not None
            self._exit = Exit(status)
        return self._exit

    def _status(self, within_s: float | None) -> int | None:
        """The status once the child has ended; None if it has not within that time."""
        if isinstance(self._process, subprocess.Popen):
            try:
                return self._process.wait(within_s)
            except subprocess.TimeoutExpired:
                return None
        self._process.join(within_s)
        return self._process.exitcode


def start_interpreter(
    main: Callable[[socket.socket], None],
    *,
    environment: Mapping[str, str],
    descriptors: Sequence[int] = (),
) -> ChildProcess:
    """Starts a fresh interpreter that calls `main`, a function of a module, with its channel.

    It imports from where this process does. Of this process it has nothing else, neither threads
    nor a CUDA context nor the caller's script, but the files of `descriptors`, which it holds open.
    """
    import_path = [path or str(Path.cwd()) for path in sys.path]
    ours, theirs = socket.socketpair()
    with theirs:
        code = (
            f"import socket; from {main.__module__} import {main.__name__}; "
            f"{main.__name__}(socket.socket(fileno={theirs.fileno()}))"
        )
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", "-c", code],
                stdin=subprocess.DEVNULL,
                env={**environment, "PYTHONPATH": os.pathsep.join(import_path)},
                pass_fds=[theirs.fileno(), *descriptors],
                start_new_session=True,  # the terminal's signals, such as Ctrl-C, are the parent's
            )
        except BaseException:
            ours.close()
            raise
    return ChildProcess(process, ours)


def start_fork(
    main: Callable[Concatenate[socket.socket, P], None], *args: P.args, **kwargs: P.kwargs
) -> ChildProcess:
    """Forks a child from multiprocessing's fork server; it calls `main` with its channel first.

    `main` and its arguments are pickled. This takes milliseconds if the fork server has loaded what
    `main` imports; see `multiprocessing.set_forkserver_preload`.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        process = multiprocessing.get_context("forkserver").Process(
            target=_call_in_new_session, args=(main, theirs, args, kwargs), daemon=True
        )
        try:
            process.start()
        except BaseException:
            ours.close()
            raise
    return ChildProcess(process, ours)


def watch_lifeline(channel: socket.socket, grace_s: float = 0) -> None:
    """Has this process and its group killed once the other end of `channel` is closed.

    To be called by the child, which goes on at once. `grace_s` is how long after that it may still
    take to end by itself. What it reads from the channel does not matter.
    """
    hang_up = select.poll()
    hang_up.register(channel, 0)  # reports that the other end is closed, and no data
    watcher = threading.Thread(
        target=_kill_after_hang_up, args=(hang_up, grace_s), name="lifeline", daemon=True
    )
    watcher.start()


def kill_group(group: int) -> None:
    """Kills all processes of a group, if there are any."""
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def _kill_after_hang_up(hang_up: select.poll, grace_s: float) -> None:
    hang_up.poll()
    # the kernel's timer ends this process also where a thread never releases the GIL
    signal.setitimer(signal.ITIMER_REAL, grace_s + _BACKSTOP_S)
    time.sleep(grace_s)
    os.killpg(0, signal.SIGKILL)


def _call_in_new_session(
    main: Callable[..., None],
    channel: socket.socket,
    args: tuple[object, ...],
    kwargs: Mapping[str, object],
) -> None:
    os.setsid()
    with channel:
        main(channel, *args, **kwargs)

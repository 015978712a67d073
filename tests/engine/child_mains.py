"""What children do in the tests of `engine.child_process`."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time

from engine.child_process import watch_lifeline

LONG_S = 600
"""Longer than any test waits."""


def exits_with_3(channel: socket.socket) -> None:
    """Ends by itself."""
    announce(channel)
    sys.exit(3)


def crashes(channel: socket.socket) -> None:
    """Ends by a signal."""
    announce(channel)
    os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(LONG_S)


def ignores_all(channel: socket.socket) -> None:
    """Ends neither by SIGTERM nor when its lifeline is cut."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    announce(channel, start_sleeper())
    time.sleep(LONG_S)


def hangs(channel: socket.socket) -> None:
    """Is ended by its lifeline only."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    watch_lifeline(channel)
    announce(channel, start_sleeper())
    time.sleep(LONG_S)


def hangs_beyond_its_grace(channel: socket.socket) -> None:
    """Is given half a second after its lifeline was cut, and does not use it."""
    watch_lifeline(channel, grace_s=0.5)
    announce(channel, start_sleeper())
    time.sleep(LONG_S)


def tidies_up(channel: socket.socket) -> None:
    """Uses its grace to end by itself; data on the channel are not the end of it."""
    watch_lifeline(channel, grace_s=LONG_S)
    announce(channel, start_sleeper())
    while channel.recv(1):
        pass
    sys.exit(5)


def echoes(channel: socket.socket) -> None:
    """Answers what it is told, in its own words."""
    watch_lifeline(channel)
    while said := channel.recv(100):
        channel.sendall(said.upper())


def announce(channel: socket.socket, *others: int) -> None:
    """Sends one line: the ids of this process and others, and that of this one's group."""
    line = " ".join(map(str, (os.getpgid(0), os.getpid(), *others)))
    channel.sendall(f"{line}\n".encode())


def start_sleeper() -> int:
    """Starts a process that sleeps, in this one's group; gives its id."""
    return subprocess.Popen(["sleep", str(LONG_S)]).pid

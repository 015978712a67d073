"""Kills of the server and of its workers, aimed at what a job is doing at that moment."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from bench.drill.exports import Exports
from bench.drill.round import Round
from bench.drill.server import Server
from bench.drill.witness import check, local_witness

AIM_S = 3
"""How long is waited for a moment to come."""

LOCK_FILE = "worker.lock"

MOMENTS: Mapping[str, Callable[[Path], bool]] = {
    "upload": lambda data: any((data / "work").glob("*/video_*")),
    "queue": lambda data: any((data / "work").glob(f"*/{LOCK_FILE}")),
    "render": lambda data: any((data / "work").glob("*/parts/.*.mp4.*.partial")),
    "join": lambda data: any((data / "work").glob("*/.out.mp4.*.partial")),
    "publish": lambda data: any((data / "store" / ".incoming").glob(".object*")),
    "clearing": lambda data: any((data / "work").glob("*/out.mp4")),
}
"""What the files of a job look like at some moments of its life."""


def play(drill: Round) -> None:
    """See the module."""
    data = drill.folder / "data"
    server = Server(drill, data, LOCAL_JOBS="2", MAX_ATTEMPTS="50", MIN_FREE_BYTES="0")
    exports = Exports(drill, server)
    server.start()
    for _ in range(drill.times):
        for _ in range(drill.chance.randint(1, 3)):
            exports.begin()
        moment = drill.chance.choice(list(MOMENTS))
        _wait_for(moment, data, drill.chance.uniform(0, 0.02))
        drill.one_of(
            {
                f"server killed during {moment}": server.kill,
                f"server told to end during {moment}": server.stop,
                f"workers killed during {moment}": lambda: kill_workers(data),
                f"server and workers killed during {moment}": drill.kill_all,
            }
        )
        assert server.process is not None
        with suppress(Exception):
            server.process.wait(0.2)
        if server.process.poll() is not None:
            server.start()
    check(drill, server, exports, local_witness(data))


def kill_workers(data: Path) -> None:
    """Kills the process groups that hold the locks of the job folders."""
    for path in (data / "work").glob(f"*/{LOCK_FILE}"):
        with suppress(OSError), path.open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                if (group := lock.read()).isdecimal():
                    os.killpg(int(group), signal.SIGKILL)


def _wait_for(moment: str, data: Path, more_s: float) -> None:
    """Returns when a job's files look like that, and a little later; or when the time is up."""
    until_s = time.monotonic() + AIM_S
    while not MOMENTS[moment](data) and time.monotonic() < until_s:
        time.sleep(0.0005)
    time.sleep(more_s)

"""Kills of the server and of its workers, aimed at what a job is doing at that moment."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
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

ANY = "at any moment"
MOMENTS: Mapping[str, Callable[[Path], bool]] = {
    "upload": lambda data: any((data / "work").glob("*/video_*")),
    "start": lambda data: any((data / "work").glob(f"*/{LOCK_FILE}")),
    "render": lambda data: any((data / "work").glob("*/parts/.*.mp4.*.partial")),
    "join": lambda data: any((data / "work").glob("*/.out.mp4.*.partial")),
    "publish": lambda data: any((data / "store" / ".incoming").glob("*.partial")),
    "clearing": lambda data: any((data / "work").glob("*/out.mp4")),
}
"""What the files of a job look like at some moments of its life."""


def play(drill: Round) -> None:
    """See the module."""
    data = drill.folder / "data"
    local_jobs = str(drill.chance.randint(1, 2))
    server = Server(drill, data, LOCAL_JOBS=local_jobs, MAX_ATTEMPTS="50", MIN_FREE_BYTES="0")
    exports = Exports(drill, server)
    server.start()
    for _ in range(2 * drill.times):  # the heart of the drill
        for _ in range(drill.chance.randint(1, 2)):
            exports.begin()
        moment = _a_moment(drill, data)
        drill.one_of(
            {
                f"server killed {moment}": server.kill,
                f"server told to end {moment}": server.stop,
                f"workers killed {moment}": lambda: kill_workers(data),
                f"server and workers killed {moment}": drill.kill_all,
            }
        )
        assert server.process is not None
        with suppress(subprocess.TimeoutExpired):
            server.process.wait(0.2)
        if server.process.poll() is not None:
            server.start()
    check(drill, server, exports, local_witness(data))


def kill_workers(data: Path) -> bool:
    """Kills the process groups that hold the locks of the job folders. False if there is none."""
    killed = False
    for path in (data / "work").glob(f"*/{LOCK_FILE}"):
        with suppress(OSError), path.open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                if (group := lock.read()).isdecimal():
                    os.killpg(int(group), signal.SIGKILL)
                    killed = True
    return killed


def _a_moment(drill: Round, data: Path) -> str:
    """Waits for a moment by chance, and a little longer. Returns which it is."""
    name = drill.chance.choice([*MOMENTS, ANY])
    little_s = drill.chance.uniform(0, 1.5 if name == ANY else 0.02)
    until_s = time.monotonic() + AIM_S
    while name != ANY and not MOMENTS[name](data):
        if time.monotonic() > until_s:
            return ANY
        time.sleep(0.0005)
    time.sleep(little_s)
    return name if name == ANY else f"during {name}"

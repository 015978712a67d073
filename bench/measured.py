"""What a command costs: wall time, CPU time, peak memory, and how busy the rest of the machine was.

Knows no engine. Linux only: it reads `/proc/stat`, and takes `ru_maxrss` for KiB.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

_LAUNCHER = ("-I", "-S", __file__)
"""Linux books a parent's memory as the peak of a child it has just started, so what is measured is
started by this very file, run as a small program, and not by the benchmarks' large process."""


@dataclass(frozen=True, slots=True)
class Usage:
    """One run of one command, its children included."""

    wall_s: float
    cpu_s: float
    peak_mib: float
    """The largest resident set of any of its processes."""
    others: float
    """Share of the machine's CPU time that others had meanwhile, the hypervisor among them."""


def usage_of(*command: str | Path, cwd: Path | None = None) -> Usage:
    """Runs a command to its end. Raises `RuntimeError` with its error output where it fails."""
    words = [str(word) for word in command]
    done = subprocess.run(
        [sys.executable, *_LAUNCHER, *words], capture_output=True, text=True, cwd=cwd
    )
    if done.returncode != 0:
        raise RuntimeError(f"{words[0]} failed: {done.stderr.strip() or done.returncode}")
    return Usage(**json.loads(done.stdout))


def _run_and_tell(command: list[str]) -> int:
    """Prints what the command cost as JSON; gives back its exit status."""
    start_s, busy_s = time.monotonic(), _busy_s()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    wall_s, busy_s = time.monotonic() - start_s, _busy_s() - busy_s
    cpu_s = used.ru_utime + used.ru_stime
    others = max(0.0, busy_s - cpu_s) / (wall_s * (os.cpu_count() or 1))
    print(
        json.dumps(
            {
                "wall_s": wall_s,
                "cpu_s": cpu_s,
                "peak_mib": used.ru_maxrss / 1024,
                "others": others,
            }
        )
    )
    return os.waitstatus_to_exitcode(status)


def _busy_s() -> float:
    """CPU seconds the whole machine has worked, or had stolen, since it was started."""
    user, nice, system, _idle, _iowait, irq, softirq, steal, *_ = (
        int(ticks) for ticks in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    )
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    sys.exit(_run_and_tell(sys.argv[1:]))

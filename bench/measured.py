"""What a command costs: wall time, CPU time, peak memory, peak disk, and how busy others were.

Knows no engine. Linux only: it reads `/proc`, and takes `ru_maxrss` for KiB.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic

_LAUNCHER = ("-I", "-S", __file__)
"""Linux books a parent's memory as the peak of a child it has just started, so what is measured is
started by this very file, run as a small program, and not by the benchmarks' large process."""

_LOOK_EVERY_S = 0.05
_SEARCH_EVERY_S = 0.5
"""Finding a process's children takes some milliseconds, their sizes microseconds."""


@dataclass(frozen=True, slots=True)
class Usage:
    """One run of one command, its children included."""

    wall_s: float
    cpu_s: float
    peak_mib: float
    """The resident sets of all its processes together; pages that two share count twice."""
    peak_disk_mb: float
    """What lay in the watched folder at most, as allocated on disk; 0 where none was watched."""
    others: float
    """Share of the machine's CPU time that others had meanwhile, the hypervisor among them."""


def usage_of(
    *command: str | Path,
    cwd: Path | None = None,
    watch: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Usage:
    """Runs a command to its end, and looks at the folder `watch` meanwhile.

    `environment` is added to this process's. Raises `RuntimeError` with the command's error output
    where it fails.
    """
    words = [str(word) for word in command]
    done = subprocess.run(
        [sys.executable, *_LAUNCHER, "" if watch is None else str(watch), *words],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, **(environment or {})},
    )
    if done.returncode != 0:
        raise RuntimeError(f"{words[0]} failed: {done.stderr.strip() or done.returncode}")
    return Usage(**json.loads(done.stdout))


class Others:
    """How busy others are while a block runs: all but this process and its descendants."""

    def __enter__(self) -> Others:
        self._start_s, self._busy_s, self._own_s = monotonic(), _busy_s(), family_cpu_s()
        return self

    def __exit__(self, *_: object) -> None:
        others_s = (_busy_s() - self._busy_s) - (family_cpu_s() - self._own_s)
        wall_s = monotonic() - self._start_s
        self.share = max(0.0, others_s) / (wall_s * (os.cpu_count() or 1))
        """Of the machine's CPU time, the hypervisor's among them; known when the block is left."""


def _run_and_tell(watch: str, *command: str) -> int:
    """Prints what the command cost as JSON; gives back its exit status."""
    start_s, busy_s = monotonic(), _busy_s()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    with _Lookout(process.pid, watch) as lookout:
        _, status, used = os.wait4(process.pid, 0)
        wall_s, busy_s = monotonic() - start_s, _busy_s() - busy_s
    cpu_s = used.ru_utime + used.ru_stime
    usage = Usage(
        wall_s=wall_s,
        cpu_s=cpu_s,
        peak_mib=max(lookout.peak_bytes / 2**20, used.ru_maxrss / 1024),
        peak_disk_mb=lookout.peak_disk_bytes / 1e6,
        others=max(0.0, busy_s - cpu_s) / (wall_s * (os.cpu_count() or 1)),
    )
    print(json.dumps(asdict(usage)))
    return os.waitstatus_to_exitcode(status)


class _Lookout:
    """Looks at a process, its descendants and a folder until the block is left."""

    def __init__(self, process_id: int, folder: str) -> None:
        self.peak_bytes = self.peak_disk_bytes = 0
        self._process_id = process_id
        self._folder = folder
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> _Lookout:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        """Once more at the end: what lies in the folder then counts, however short the run."""
        family: set[int] = set()
        searched_s = -_SEARCH_EVERY_S
        over = False
        while not over:
            over = self._over.wait(_LOOK_EVERY_S)
            if monotonic() - searched_s >= _SEARCH_EVERY_S:
                searched_s = monotonic()
                family = _family(self._process_id)
            self.peak_bytes = max(self.peak_bytes, sum(map(_resident_bytes, family)))
            if self._folder:
                self.peak_disk_bytes = max(self.peak_disk_bytes, _allocated_bytes(self._folder))


def _family(ancestor: int) -> set[int]:
    """A process and its descendants."""
    parents: dict[int, int] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal() and (stat := _read(Path(entry.path, "stat"))):
            parents[int(entry.name)] = int(stat[stat.rindex(")") + 2 :].split()[1])
    family = {ancestor}
    while grown := {each for each, parent in parents.items() if parent in family} - family:
        family |= grown
    return family


def _resident_bytes(process_id: int) -> int:
    pages = _read(Path(f"/proc/{process_id}/statm")).split()
    return int(pages[1]) * os.sysconf("SC_PAGE_SIZE") if pages else 0


def family_cpu_s() -> float:
    """CPU seconds of this process and its descendants, those included that have been waited for."""
    ticks = 0
    for process_id in _family(os.getpid()):
        if stat := _read(Path(f"/proc/{process_id}/stat")):
            ticks += sum(map(int, stat[stat.rindex(")") + 2 :].split()[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def _read(path: Path) -> str:
    """What the kernel tells of a process, nothing where it has just ended."""
    try:
        return path.read_text()
    except OSError:
        return ""


def _allocated_bytes(folder: str) -> int:
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += Path(place, name).lstat().st_blocks * 512
            except FileNotFoundError:  # renamed or removed since it was listed
                continue
    return total


def _busy_s() -> float:
    """CPU seconds the whole machine has worked, or had stolen, since it was started."""
    user, nice, system, _idle, _iowait, irq, softirq, steal, *_ = (
        int(ticks) for ticks in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    )
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    sys.exit(_run_and_tell(*sys.argv[1:]))

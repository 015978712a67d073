"""What of this machine an export may use: processors, memory. Starts nothing.

A container may have less than its host shows: the kernel's control groups limit processor time and
memory. Their files are described in the kernel's `admin-guide/cgroup-v2.rst` and
`cgroup-v1/{cgroups,memory}.rst`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Machine:
    """What may be used at present."""

    cores: float
    """Processors; a fraction where a container has one."""
    memory_bytes: int
    """Free, or held by caches that give way."""

    def shared_by(self, exports: int) -> Machine:
        """What each of so many exports may use."""
        return Machine(self.cores / exports, self.memory_bytes // exports)


def this_machine(root: Path = Path("/")) -> Machine:
    """What this process may use now. `root` is where `proc` and `sys` lie."""
    limits = _Limits(root)
    cores = min([float(_allowed_processors()), *limits.cores()])
    return Machine(cores, max(0, min([_free_bytes(root), *limits.free_bytes()])))


def _allowed_processors() -> int:
    """Those that the kernel runs this process on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        return os.cpu_count() or 1


def _free_bytes(root: Path) -> int:
    """By the whole system; half of all memory where it does not say."""
    for line in _text(root / "proc" / "meminfo").splitlines():
        name, _, amount = line.partition(":")
        if name == "MemAvailable":
            return int(amount.split()[0]) << 10
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


class _Limits:
    """The control groups of this process, and those around them: each of them may have a limit."""

    def __init__(self, root: Path) -> None:
        self._mounts = root / "sys" / "fs" / "cgroup"
        self._groups: list[tuple[set[str], str]] = []
        """The controllers of a hierarchy, none for version 2, and the path in it."""
        for line in _text(root / "proc" / "self" / "cgroup").splitlines():
            _, controllers, path = line.split(":", 2)
            self._groups.append((set(controllers.split(",")) - {""}, path))

    def cores(self) -> Iterator[float]:
        """Processor time over time, of each group that limits it."""
        for folder in self._folders("cpu"):
            quota, _, period = _text(folder / "cpu.max").partition(" ")
            v1 = (_text(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
            for quota_us, period_us in ((quota, period), tuple(v1)):
                with suppress(ValueError, ZeroDivisionError):  # "max", or no such file
                    if int(quota_us) > 0:  # -1: no limit
                        yield int(quota_us) / int(period_us)

    def free_bytes(self) -> Iterator[int]:
        """What each group that limits memory has left; its cache of files gives way."""
        for folder in self._folders("memory"):
            for limit, usage, cache in (
                ("memory.max", "memory.current", "inactive_file"),
                ("memory.high", "memory.current", "inactive_file"),
                ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
            ):
                with suppress(ValueError):  # "max", or no such file
                    limit_bytes, used_bytes = (int(_text(folder / name)) for name in (limit, usage))
                    yield limit_bytes - used_bytes + _cached_bytes(folder, cache)

    def _folders(self, controller: str) -> Iterator[Path]:
        """The groups' folders. A container may see only the part of the path that is its own."""
        for controllers, path in self._groups:
            if controllers and controller not in controllers:
                continue
            mounts = [controller, ",".join(sorted(controllers))] if controllers else ["", "unified"]
            inner = Path(path.lstrip("/"))
            for mount in mounts:
                for group in (inner, *inner.parents):
                    yield self._mounts / mount / group


def _cached_bytes(folder: Path, name: str) -> int:
    for line in _text(folder / "memory.stat").splitlines():
        key, _, amount = line.partition(" ")
        if key == name:
            return int(amount)
    return 0


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""

"""What an export may use of a machine, read from the files that a kernel shows in a container."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.machine import Machine, this_machine

MIB = 1 << 20
ALLOWED = len(os.sched_getaffinity(0))


def a_root(folder: Path, files: dict[str, str]) -> Path:
    for name, text in {"proc/meminfo": "MemAvailable: 4194304 kB\n", **files}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_of_no_container(tmp_path: Path) -> None:
    assert this_machine(a_root(tmp_path, {})) == Machine(ALLOWED, 4096 * MIB)
    here = this_machine()
    assert 0 < here.cores <= ALLOWED
    assert 0 <= here.memory_bytes <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert Machine(4, 1000).shared_by(2) == Machine(2, 500)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param(
            {
                "proc/self/cgroup": "0::/\n",
                "sys/fs/cgroup/cpu.max": "50000 100000\n",
                "sys/fs/cgroup/memory.max": f"{1000 * MIB}\n",
                "sys/fs/cgroup/memory.current": f"{900 * MIB}\n",
                "sys/fs/cgroup/memory.stat": f"anon 1\ninactive_file {300 * MIB}\n",
            },
            Machine(0.5, 400 * MIB),
            id="version 2",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "0::/user/app\n",
                "sys/fs/cgroup/user/app/cpu.max": "max 100000\n",
                "sys/fs/cgroup/user/cpu.max": "25000 100000\n",
                "sys/fs/cgroup/user/app/memory.max": "max\n",
                "sys/fs/cgroup/user/app/memory.high": f"{500 * MIB}\n",
                "sys/fs/cgroup/user/app/memory.current": f"{600 * MIB}\n",
            },
            Machine(0.25, 0),
            id="version 2, a limit of an outer group, a soft limit that is crossed",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "4:memory:/docker/1\n2:cpu,cpuacct:/docker/1\n0::/\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "75000\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes": f"{800 * MIB}\n",
                "sys/fs/cgroup/memory/docker/1/memory.usage_in_bytes": f"{600 * MIB}\n",
                "sys/fs/cgroup/memory/docker/1/memory.stat": f"total_inactive_file {50 * MIB}\n",
            },
            Machine(0.75, 250 * MIB),
            id="version 1, of which the container sees its own part",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "4:memory:/\n2:cpu:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "1000\n",
            },
            Machine(ALLOWED, 4096 * MIB),
            id="version 1 without limits",
        ),
    ],
)
def test_limits_of_containers(tmp_path: Path, files: dict[str, str], expected: Machine) -> None:
    assert this_machine(a_root(tmp_path, files)) == expected

"""Where figures were measured: hardware, versions, commit. Every stored result carries this."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench import program

ROOT = Path(__file__).parents[1]
PACKAGES = ("framestream", "av", "numpy", "numba")


@dataclass(frozen=True, slots=True)
class Machine:
    """What a reader of the numbers needs to know."""

    processor: str
    cores: int
    memory_gib: float
    system: str
    python: str
    ffmpeg: str
    packages: dict[str, str]
    commit: str
    """With `, with changes` where files differed from it."""
    measured_at: str
    command: str

    def document(self) -> dict[str, Any]:
        return asdict(self)

    def lines(self) -> Iterable[str]:
        """As the tables are headed."""
        packages = ", ".join(f"{name} {release}" for name, release in self.packages.items())
        yield f"- {self.cores} cores of {self.processor}, {self.memory_gib:.0f} GiB, {self.system}"
        yield f"- Python {self.python}, {packages}; ffmpeg {self.ffmpeg}"
        yield f"- commit {self.commit}, {self.measured_at}: `{self.command}`"


def this_machine(command: str, packages: Iterable[str] = PACKAGES) -> Machine:
    """This machine, now; packages that are not installed are left out."""
    return Machine(
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30,
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        ffmpeg=program.version(),
        packages={name: release for name in packages if (release := _version(name))},
        commit=_commit(),
        measured_at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        command=command,
    )


def as_typed(module: str) -> str:
    """The command line of this process, as a user of `python -m` typed it."""
    return " ".join(["python", "-m", module, *sys.argv[1:]])


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _commit() -> str:
    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no")
    return git("rev-parse", "--short=10", "HEAD") + (", with changes" if changed else "")

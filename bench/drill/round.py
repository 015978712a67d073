"""One round of a scenario: its chance, its folder, its secrets and its processes."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from bench.drill.tally import Finding, Tally

ROOT = Path(__file__).parents[2]
MARK = "FRAMESTREAM_DRILL"
"""A variable in the environment of all processes of a round: /proc tells who is still there."""

MODAL_TOKEN = {"MODAL_TOKEN_ID": "ak-drill-4f1d0c", "MODAL_TOKEN_SECRET": "as-drill-9be27a"}

_DROPPED = ("R2_", "MODAL_", "AWS_", "FRAMESTREAM_", "DATABASE_URL", "DATA_DIR")
"""Beginnings of variables that would change what the programs do."""


@dataclass(slots=True)
class Round:
    """What a scenario is given."""

    chance: Random
    folder: Path
    clips: Sequence[Path]
    """Clips of numbered frames."""
    tally: Tally
    times: int
    """How often something goes wrong in a round."""
    open_until_end: ExitStack = field(default_factory=ExitStack)
    """Connections, which threads may use until the round is over."""
    secrets: dict[str, bytes] = field(
        default_factory=lambda: {name: value.encode() for name, value in MODAL_TOKEN.items()}
    )
    """By name: what no log may hold."""

    @property
    def logs(self) -> Path:
        """The folder of what all programs of the round say."""
        return self.folder / "logs"

    def environment(self, **more: str) -> dict[str, str]:
        """Variables for a program: its own caches, planted secrets and the round's mark."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_DROPPED)}
        return kept | {
            MARK: str(self.folder),
            "FRAMESTREAM_HISTORY": str(self.folder / "cache" / "speeds"),
            "PYTHONPATH": str(ROOT),
            **MODAL_TOKEN,
            **more,
        }

    def log(self, name: str) -> Path:
        """The log of one program."""
        self.logs.mkdir(parents=True, exist_ok=True)
        return self.logs / f"{name}.log"

    def one_of(self, actions: Mapping[str, Callable[[], object]]) -> None:
        """Injects one of these faults, by chance. False from one means that there was none."""
        name = self.chance.choice(list(actions))
        if actions[name]() is not False:
            self.tally.injected(name)

    def processes(self) -> list[int]:
        """Ids of the round's processes that are there, workers included."""
        mark = f"{MARK}={self.folder}".encode()
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
        return found

    def kill_all(self) -> None:
        """Kills whatever of the round still runs."""
        for process in self.processes():
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def check_logs(self) -> None:
        """Looks for every secret in all that the round's programs said."""
        for path in sorted(self.logs.glob("*")):
            text = path.read_bytes()
            self.tally.log_lines += text.count(b"\n")
            for name, secret in self.secrets.items():
                if any(each in text for each in _spellings(secret)):
                    self.tally.find(Finding.SECRET, f"{path.name}: {name}")


def _spellings(secret: bytes) -> Iterator[bytes]:
    """A secret as a log may show it."""
    yield secret
    if not secret.isascii():
        yield repr(secret)[2:-1].encode()
        yield secret.hex().encode()
        yield base64.b64encode(secret).rstrip(b"=")
        yield base64.urlsafe_b64encode(secret).rstrip(b"=")


def run(*command: str | Path, user: str | None = None) -> str:
    """Runs a program to its end, within a minute; gives what it said. Raises `SubprocessError`."""
    return subprocess.run(
        [str(word) for word in command],
        check=True, capture_output=True, text=True, timeout=60, user=user,
    ).stdout  # fmt: skip

"""What /proc says of processes: an independent witness of who is still there."""

from __future__ import annotations

from pathlib import Path


def children_of(process: int) -> set[int]:
    """Ids of the processes that a process has started and not reaped."""
    found: set[int] = set()
    for each in Path(f"/proc/{process}/task").glob("*/children"):
        found |= {int(child) for child in each.read_text().split()}
    return found


def is_alive(process: int) -> bool:
    """Whether a process runs: it exists, and is not a zombie."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"

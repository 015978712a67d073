"""`framestream doctor`: what this machine can do."""

from __future__ import annotations

from pathlib import Path

from engine.cli.console import say, stdout

_MARKS = {True: ("yes", "green"), False: ("no ", "yellow"), None: ("   ", "")}


def doctor() -> None:
    """Say what this machine can do: encoders, decoders, disk."""
    from engine.cli.doctor_findings import findings

    for finding in findings(Path()):
        what = f"{finding.what:<15}", "bold"
        say(_MARKS[finding.works], " ", what, " ", finding.detail, to=stdout)

"""What is shown while an export runs: a bar on a terminal, lines in a log, nothing when quiet."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from engine.cli.progress_view import clock_text, progress_view
from engine.pipeline.progress import Phase, Progress

STATES = [
    Progress(Phase.SOUND, 0, 200, 0.0, None),
    Progress(Phase.FRAMES, 0, 200, 0.0, None),
    Progress(Phase.FRAMES, 50, 200, 25.0, 6.0),
    Progress(Phase.FRAMES, 200, 200, 25.0, 0.0),
    Progress(Phase.JOIN, 200, 200, 25.0, 0.0),
    Progress(Phase.DONE, 200, 200, 25.0, 0.0),
]


def shown(*, terminal: bool, term: str = "xterm", quiet: bool = False) -> str:
    out = io.StringIO()
    console = Console(
        file=out, force_terminal=terminal, width=100, _environ={"TERM": term}, color_system=None
    )
    with progress_view(console, quiet=quiet) as view:
        for state in STATES:
            view.show(state)
    return out.getvalue()


def test_a_log_gets_one_line_per_phase() -> None:
    assert shown(terminal=False).splitlines() == [
        "mixing sound: 0/200 frames (0 %), 0.0 frames/s, ETA -:--",
        "rendering: 0/200 frames (0 %), 0.0 frames/s, ETA -:--",
        "joining: 200/200 frames (100 %), 25.0 frames/s, ETA 0:00",
        "done: 200/200 frames (100 %), 25.0 frames/s, ETA 0:00",
    ]


def test_a_terminal_gets_a_bar_that_is_tidied_away() -> None:
    drawn = shown(terminal=True)
    assert "done" in drawn and "200/200 frames" in drawn and "25.0 frames/s" in drawn
    assert drawn.endswith("\x1b[2K")  # the line is erased


def test_a_terminal_that_cannot_move_its_cursor_gets_lines() -> None:
    assert shown(terminal=True, term="dumb") == shown(terminal=False)


@pytest.mark.parametrize("terminal", [True, False])
def test_quiet_is_quiet(terminal: bool) -> None:
    assert shown(terminal=terminal, quiet=True) == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-:--"), (0, "0:00"), (59.6, "1:00"), (61, "1:01"), (3723, "1:02:03")],
)
def test_clock_text(seconds: float | None, text: str) -> None:
    assert clock_text(seconds) == text

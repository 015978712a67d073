"""How the progress of an export is shown: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from engine.pipeline.progress import Phase, Progress

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bar

PLAIN_INTERVAL_S = 5.0

_DOING = {
    Phase.SOUND: "mixing sound",
    Phase.FRAMES: "rendering",
    Phase.JOIN: "joining",
    Phase.DONE: "done",
}


class ProgressView(Protocol):
    """Shows the state of an export."""

    def show(self, progress: Progress) -> None:
        """Shows this state. It is called at most ten times a second."""


@contextmanager
def progress_view(console: Console, *, quiet: bool) -> Iterator[ProgressView]:
    """The view that fits the console. What it drew is erased when the block ends."""
    if quiet:
        yield _Nothing()
    elif console.is_terminal and not console.is_dumb_terminal:
        with _bar(console) as bar:
            yield _Drawn(bar)
    else:
        yield _Lines(console)


def clock_text(seconds: float | None) -> str:
    """`1:02:03`, `2:03`, or `-:--` if the time is not known."""
    if seconds is None:
        return "-:--"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class _Nothing:
    def show(self, progress: Progress) -> None:
        pass


class _Lines:
    """One line every few seconds, and one per phase: for logs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._phase: Phase | None = None
        self._next_s = 0.0

    def show(self, progress: Progress) -> None:
        now_s = time.monotonic()
        if progress.phase is self._phase and now_s < self._next_s:
            return
        self._phase, self._next_s = progress.phase, now_s + PLAIN_INTERVAL_S
        share = 100 * progress.frames_done / progress.frames_total
        self._console.print(
            f"{_DOING[progress.phase]}: {progress.frames_done}/{progress.frames_total} frames "
            f"({share:.0f} %), {progress.fps:.1f} frames/s, ETA {clock_text(progress.eta_s)}",
            highlight=False,
            soft_wrap=True,
        )


def _bar(console: Console) -> Bar:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description:>12}"),
        BarColumn(bar_width=None),
        TextColumn("{task.completed:.0f}/{task.total:.0f} frames"),
        TextColumn("{task.fields[fps]:.1f} frames/s"),
        TextColumn("ETA {task.fields[eta]}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )


class _Drawn:
    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self._task = bar.add_task("", visible=False)  # until there is something to show

    def show(self, progress: Progress) -> None:
        self._bar.update(
            self._task,
            visible=True,
            description=_DOING[progress.phase],
            completed=progress.frames_done,
            total=progress.frames_total,
            fps=progress.fps,
            eta=clock_text(progress.eta_s),
        )

"""`framestream extract`: a range of a film, exact to the frame."""

from __future__ import annotations

from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine.cli.console import (
    errors_as_exit_codes,
    say,
    stderr,
    stdout,
    stop_on_signals,
    warn,
)
from engine.cli.options import FilmOption, QuietOption, ReportOption
from engine.cli.output_files import check_output_files
from engine.cli.times import seconds
from engine.destination import from_home

if TYPE_CHECKING:
    from engine.pipeline.extract import Extracted
    from engine.source import SourceInfo


@errors_as_exit_codes("nothing was written")
def extract(
    clip: Annotated[Path, typer.Argument(metavar="CLIP", help="The film.", show_default=False)],
    *,
    start: Annotated[
        str, typer.Option(metavar="TIME", help="The first frame is the one on screen then.")
    ] = "0",
    end: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="The first frame that is left out is the one that appears then.",
            show_default="the end of the film",
        ),
    ] = None,
    output: FilmOption,
    report: ReportOption = None,
    quiet: QuietOption = False,
) -> None:
    """Cut a range out of a film, exact to the frame.

    A TIME is in seconds, like 12.5, or by the clock, like 1:02:03.5.
    Whole stretches between key frames are copied where that is possible.
    Only the frames before and after them, and the sound, are encoded again.

    [bold]framestream extract match.mp4 --start 1:07:12 --end 1:07:20.5 -o goal.mp4[/bold]
    """
    from engine.media.probe import probe
    from engine.pipeline.report import write_report

    start_s = seconds(start, "--start")
    end_s = None if end is None else seconds(end, "--end")
    clip = from_home(clip)
    check_output_files({clip: "the source"}, output, report)
    made = _extract_with_progress(probe(clip), start_s, end_s, output, quiet=quiet)
    for warning in made.warnings:
        warn(warning)
    if not quiet:
        say(
            f"{output}: {made.duration_s:.3f} s from {made.start_s:.3f} s on, "
            f"{made.frames} frames: {made.frames_copied} copied, {made.frames_encoded} encoded "
            f"({made.why})",
            to=stdout,
        )
    if report is not None:
        write_report({"source": str(clip), "output": str(output), **asdict(made)}, report)


def _extract_with_progress(
    source: SourceInfo, start_s: Fraction, end_s: Fraction | None, output: Path, *, quiet: bool
) -> Extracted:
    """Cuts, and shows progress on stderr. Ctrl-C stops it between two frames."""
    from engine.cli.progress_view import progress_view
    from engine.pipeline.cut import planned_cut
    from engine.pipeline.extract import extract
    from engine.pipeline.progress import Phase, ProgressMeter

    frame_count = len(planned_cut(source, start_s, end_s).frames)
    with stop_on_signals() as stopped, progress_view(stderr, quiet=quiet) as view:
        meter = ProgressMeter(frame_count, view.show, stopped)
        meter.enter(Phase.FRAMES if source.sound is None else Phase.SOUND)

        def count(done: int, _total: int) -> None:
            """Passes on what `extract` tells: no frame is done while the sound is encoded."""
            if done == 1:
                meter.enter(Phase.FRAMES)
            meter.frames(1) if done else meter.step()

        return extract(source, start_s, end_s, output, on_progress=count)

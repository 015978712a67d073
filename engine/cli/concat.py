"""`framestream concat`: films end to end, copied where they can be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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
from engine.cli.options import (
    ChunkOptions,
    EncoderOptions,
    FilmOption,
    QuietOption,
    ReportOption,
    with_option_groups,
)
from engine.cli.output_files import check_output_files
from engine.cli.times import seconds
from engine.destination import from_home
from engine.errors import EditError, SourceError
from engine.timeline.transition import Transition, TransitionType

if TYPE_CHECKING:
    from engine.pipeline.report import Report


@dataclass(frozen=True, slots=True)
class JoinOptions:
    """How the films are joined, and what the result has beside their pictures."""

    transition: Annotated[
        TransitionType, typer.Option(help="How each film gives way to the next.")
    ] = TransitionType.CUT
    duration: Annotated[
        str | None,
        typer.Option(metavar="SECONDS", help="How long a dissolve or a fade lasts (0.5)."),
    ] = None
    title: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT", help="A chapter's name, given once per film; else it is the file's."
        ),
    ] = None
    no_audio: Annotated[bool, typer.Option("--no-audio", help="Leave the sound out.")] = False

    def joins(self) -> Transition:
        """What stands at every join. Raises `EditError`."""
        if self.duration is None:
            return Transition(self.transition)
        if self.transition is TransitionType.CUT:
            raise EditError("--duration", "a cut has none; --transition dissolve or fade has one")
        return Transition(self.transition, seconds(self.duration, "--duration"))

    def titles(self, film_count: int) -> list[str] | None:
        """The chapters' names, None for those of the files. Raises `EditError`."""
        if self.title and len(self.title) != film_count:
            reason = f"must be given once per film: {len(self.title)} for {film_count} films"
            raise EditError("--title", reason)
        return self.title or None


@with_option_groups
@errors_as_exit_codes()
def concat(
    clips: Annotated[
        list[Path],
        typer.Argument(metavar="CLIP", help="The films, in order.", show_default=False),
    ],
    *,
    output: FilmOption,
    joining: JoinOptions,
    encoding: EncoderOptions,
    chunks: ChunkOptions,
    report: ReportOption = None,
    quiet: QuietOption = False,
) -> None:
    """Join films end to end into one MP4. Each of them becomes a chapter.

    A film that framestream wrote with the same encoder, size and rate is copied.
    Only what a transition touches is encoded again, and the sound.
    Any other film is encoded as a whole, and a warning says why.
    Size and rate are those of the first film that may be copied, else 1080x1920
    at 30 frames/s.

    Given once more, a command that was cut short goes on where it stopped.

    [bold]framestream concat goal.mp4 save.mp4 -o reel.mp4 --transition dissolve[/bold]
    """
    from engine.cli.progress_view import progress_view
    from engine.pipeline.concatenate import concatenate
    from engine.pipeline.exporter import Listener

    paths = [from_home(clip) for clip in clips]
    transition, titles = joining.joins(), joining.titles(len(paths))
    check_output_files(dict.fromkeys(paths, "one of the sources"), output, report)
    with (
        _files_by_their_names(),
        stop_on_signals() as stopped,
        progress_view(stderr, quiet=quiet) as view,
    ):
        done = concatenate(
            paths,
            output,
            transitions=transition,
            titles=titles,
            include_audio=not joining.no_audio,
            encoder=encoding.choose,
            executor=chunks.executor(),
            work_dir=chunks.work_dir,
            listener=Listener(on_progress=view.show, on_warning=warn, should_stop=stopped),
        )
    if not quiet:
        say(_summary(done), to=stdout)
    if report is not None:
        done.write(report)


@contextmanager
def _files_by_their_names() -> Iterator[None]:
    """Tells of a file that cannot be used by its name alone. Nobody wrote an edit with it."""
    try:
        yield
    except EditError as error:
        if isinstance(error.__cause__, SourceError):
            raise error.__cause__ from None
        raise


def _summary(report: Report) -> str:
    """What was made, in one line."""
    copied = sum(
        chunk.stop_frame - chunk.start_frame for chunk in report.chunks if chunk.frame_hash is None
    )
    return (
        f"{report.output}: {report.duration_s:.3f} s, {report.frames} frames: {copied} copied, "
        f"{report.frames - copied} encoded by {report.encoder} "
        f"({report.frames_resumed} kept from an earlier run) in {report.wall_s:.1f} s"
    )

"""`framestream render`: an edit becomes one MP4."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from engine.cli.cache import open_cache
from engine.cli.console import (
    errors_as_exit_codes,
    say,
    stderr,
    stdout,
    stop_on_signals,
    warn,
)
from engine.cli.edit_file import EditArgument, LenientOption, load_plan
from engine.cli.options import (
    EncoderOptions,
    FilmOption,
    QuietOption,
    ReportOption,
    UpscalerOptions,
    WorkOptions,
    with_option_groups,
)
from engine.cli.output_files import check_output_files
from engine.errors import EngineError, StoreError

if TYPE_CHECKING:
    from engine.media.encoders import Encoder
    from engine.pipeline.report import Report
    from engine.timeline.plan import Plan
    from engine.upscale.stage import Upscaler


@with_option_groups
@errors_as_exit_codes()
def render(
    edit: EditArgument,
    *,
    output: FilmOption,
    upscaling: UpscalerOptions,
    encoding: EncoderOptions,
    work: WorkOptions,
    lenient: LenientOption = False,
    report: ReportOption = None,
    quiet: QuietOption = False,
) -> None:
    """Render an edit into one MP4.

    File names in the edit are relative to its folder.
    Given once more, a command that was cut short goes on where it stopped.
    """
    check_output_files({edit: "the edit"}, output, report)
    plan = load_plan(edit, lenient=lenient)
    upscaler = upscaling.choose()
    encoder = encoding.choose(plan.size, plan.fps, plan.key_interval_s)
    done = export_with_progress(plan, output, work, upscaler, encoder, quiet=quiet)
    if report is not None:
        done.write(report)


def export_with_progress(
    plan: Plan,
    output: Path,
    work: WorkOptions,
    upscaler: Upscaler | None = None,
    encoder: Encoder | None = None,
    *,
    quiet: bool = False,
) -> Report:
    """Exports a plan, shows progress on stderr, and prints the result on stdout.

    Ctrl-C stops the export between two frames. Raises what `engine.export` raises.
    """
    from engine.cli.progress_view import progress_view
    from engine.pipeline.exporter import Listener, export

    cache = open_cache(work.cache) if work.cache else None
    with stop_on_signals() as stopped, progress_view(stderr, quiet=quiet) as view:
        report = export(
            plan,
            output,
            upscaler=upscaler,
            encoder=encoder,
            executor=work.executor(),
            cache=cache,
            work_dir=work.work_dir,
            keep_parts=work.keep_parts,
            strict=work.strict,
            listener=Listener(on_progress=view.show, on_warning=warn, should_stop=stopped),
        )
    if cache is not None:
        try:
            cache.sweep()
        except StoreError as error:  # the film is finished all the same
            warn(f"the cache was not swept: {error}")
    _remember(plan, report)
    if not quiet:
        say(
            f"{report.output}: {plan.size}, {report.duration_s:.3f} s, {report.frames} frames "
            f"({report.frames_resumed} kept from an earlier run) in {report.wall_s:.1f} s, "
            f"{report.frames_per_s:.1f} frames/s, {report.encoder}",
            to=stdout,
        )
    return report


def _remember(plan: Plan, report: Report) -> None:
    """Adds the speed of this export to the history that estimates are made from."""
    from engine.pipeline.estimate import measured
    from engine.pipeline.history import History

    try:
        if (run := measured(plan, report)) is not None:
            History.of_user().add(run)
    except (OSError, EngineError) as error:  # the film is finished all the same
        warn(f"the speed of this export is not remembered: {error}")

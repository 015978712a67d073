"""`framestream plan`: what an edit would become, as tables, JSON, or one row per frame."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from engine.cli.console import errors_as_exit_codes, stdout, warn
from engine.cli.edit_file import EditArgument, LenientOption, load_plan
from engine.cli.options import (
    AUTO,
    EncoderOption,
    UpscalerChoice,
    WorkersOption,
    with_option_groups,
    worker_count,
)


@with_option_groups
@errors_as_exit_codes()
def plan(
    edit: EditArgument,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    frames: Annotated[
        bool,
        typer.Option("--frames", help="Every output frame as CSV: source time, crop, weight."),
    ] = False,
    upscaling: UpscalerChoice,
    encoder: EncoderOption = "auto",
    preset: Annotated[str | None, typer.Option(help="The encoder's preset.")] = None,
    workers: WorkersOption = AUTO,
    lenient: LenientOption = False,
) -> None:
    """Show what an edit would become, and what that would take; renders nothing.

    Options are those of [bold]render[/bold].
    """
    from engine.cli.describe import dump_document, estimate_table, timeline_table, write_frames

    planned = load_plan(edit, lenient=lenient)
    for warning in planned.warnings:
        warn(warning)
    if frames:
        write_frames(planned, sys.stdout)
        return
    from engine.media.encoders import choose_encoder
    from engine.pipeline.documents import estimate_document, timeline_document
    from engine.pipeline.estimate import estimate
    from engine.pipeline.history import History
    from engine.upscale.choice import choose_upscaler

    estimated = estimate(
        planned,
        History.of_user(),
        upscaler=choose_upscaler(upscaling.upscaler, upscaling.device),
        encoder=choose_encoder(planned.size, planned.fps, name=encoder, preset=preset),
        workers=worker_count(workers),
        modal_upscaler=upscaling.upscaler,
    )
    if as_json:
        document = {**timeline_document(planned), "estimate": estimate_document(estimated)}
        typer.echo(dump_document(document))
    else:
        stdout.print(timeline_table(planned))
        stdout.print(estimate_table(estimated))

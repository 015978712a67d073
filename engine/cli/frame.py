"""`framestream frame`: one exact frame of the export as a PNG."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from engine.cli.console import errors_as_exit_codes, say, stdout, warn
from engine.cli.edit_file import EditArgument, LenientOption, load_plan
from engine.cli.options import UpscalerOptions, with_option_groups
from engine.cli.output_files import check_output_files
from engine.cli.times import seconds


@with_option_groups
@errors_as_exit_codes()
def frame(
    edit: EditArgument,
    *,
    at: Annotated[
        str,
        typer.Option(
            metavar="TIME", help="When in the export, like 3.2 or 1:02.5.", show_default=False
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="OUT.png", help="The file to write.")
    ],
    upscaling: UpscalerOptions,
    lenient: LenientOption = False,
) -> None:
    """Write one frame of the export as a PNG: the picture that its encoder is given."""
    from engine.destination import output_file
    from engine.files import whole_file
    from engine.media.image import png
    from engine.pipeline.still import frame_at, render_still

    check_output_files({edit: "the edit"}, output, suffixes={".png"})
    time_s = seconds(at, "--at")
    plan = load_plan(edit, lenient=lenient)
    for warning in plan.warnings:
        warn(warning)
    number = frame_at(plan, time_s)
    upscaler = upscaling.choose()
    data = png(render_still(plan, number, upscaler, on_warning=warn))
    with whole_file(output_file(output)) as unfinished:
        unfinished.write_bytes(data)
    say(f"{output}: {plan.size}, frame {number} of {plan.frame_count}, {upscaler.name}", to=stdout)

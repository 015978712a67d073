"""`framestream demo`: a reel from footage that the command makes itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from engine.cli.console import errors_as_exit_codes, say, stdout
from engine.cli.edit_file import load_plan
from engine.cli.options import WorkOptions
from engine.cli.render import export_with_progress
from engine.errors import EditError


@errors_as_exit_codes()
def demo(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Where clips, edit and reel are put.")
    ] = Path("framestream-demo"),
    size: Annotated[
        str, typer.Option(metavar="WIDTHxHEIGHT", help="The reel's size.")
    ] = "1080x1920",
) -> None:
    """Make three clips, and render a reel of them: pan, zoom, slow motion, dissolve, fade."""
    from engine.cli.demo_footage import make_demo

    say(f"making three clips in {folder}")
    edit = make_demo(folder, *_sides(size))
    export_with_progress(load_plan(edit, lenient=False), folder / "reel.mp4", WorkOptions())
    say(f"The edit is {edit}; change it and run: framestream render {edit} -o reel.mp4", to=stdout)


def _sides(size: str) -> tuple[int, int]:
    """Width and height in pixels. Raises `EditError`."""
    width, _, height = size.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise EditError("--size", f"{size} is not WIDTHxHEIGHT")
    return int(width), int(height)

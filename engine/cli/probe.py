"""`framestream probe`: what source files are found to be."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from engine.cli.console import errors_as_exit_codes, stdout


@errors_as_exit_codes()
def probe(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show what the engine makes of source files."""
    from engine.cli.describe import dump_document, source_table
    from engine.media.probe import probe as probe_file
    from engine.pipeline.documents import source_document

    sources = [probe_file(path) for path in files]
    if as_json:
        typer.echo(dump_document({"files": [source_document(each) for each in sources]}))
    else:
        for source in sources:
            stdout.print(source_table(source))

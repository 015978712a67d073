"""The edit that a command is given: its argument, its plan, and the files beside it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine.cli.console import warn
from engine.errors import EngineError

if TYPE_CHECKING:
    from engine.timeline.plan import Plan

EditArgument = Annotated[
    Path, typer.Argument(metavar="EDIT.json", help="The edit document.", show_default=False)
]
LenientOption = Annotated[
    bool, typer.Option("--allow-unknown-keys", help="Unknown keys of the edit only warn.")
]


def load_plan(edit: Path, *, lenient: bool) -> Plan:
    """The plan of an edit file, after a look at each of its sources. Prints the edit's warnings.

    Raises `EditError`, also for an unknown key unless `lenient`.
    """
    from engine.pipeline.exporter import probe_sources
    from engine.timeline.edit import Edit
    from engine.timeline.plan import build_plan

    document = Edit.load(edit, unknown="warn" if lenient else "error")
    for warning in document.warnings:
        warn(warning)
    return build_plan(document, probe_sources(document, edit.parent))


def check_output_files(edit: Path, output: Path, report: Path | None = None) -> None:
    """Checks, before the work, that outputs can be written and overwrite no file that is needed.

    Raises `EngineError`.
    """
    needed = {edit.resolve(): "the edit"}
    for path, what in ((output, "the output"), (report, "the report")):
        if path is None:
            continue
        if path.resolve() in needed:
            raise EngineError(f"{path}: is {needed[path.resolve()]}; it is not overwritten")
        if not path.parent.is_dir():
            raise EngineError(f"{path}: there is no folder {path.parent}")
        if not os.access(path.parent, os.W_OK):
            raise EngineError(f"{path}: the folder {path.parent} cannot be written to")
        needed[path.resolve()] = what

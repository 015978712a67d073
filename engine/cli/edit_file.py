"""The edit that a command is given: its argument and its plan."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from engine.timeline.plan import Plan

EditArgument = Annotated[
    Path, typer.Argument(metavar="EDIT.json", help="The edit document.", show_default=False)
]
LenientOption = Annotated[
    bool, typer.Option("--allow-unknown-keys", help="Unknown keys of the edit only warn.")
]


def load_plan(edit: Path, *, lenient: bool) -> Plan:
    """The plan of an edit file, after a look at each of its sources.

    Raises `EditError`, also for an unknown key unless `lenient`.
    """
    from engine.pipeline.exporter import probe_sources
    from engine.timeline.edit import Edit
    from engine.timeline.plan import build_plan

    document = Edit.load(edit, unknown="warn" if lenient else "error")
    return build_plan(document, probe_sources(document, edit.parent))

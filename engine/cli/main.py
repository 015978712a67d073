"""The `framestream` program: its commands, each in a file of its own, and its help.

The command line is the only part of the engine that prints, handles signals and exits. A command is
loaded when it is called or described, and imports what it needs when it runs.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

BUILT_IN = ("render", "plan", "frame", "extract", "concat", "probe", "cache", "doctor", "demo")
"""Commands that are a function of a module of this package, both of that name."""


class Commands(Mapping[str, Any]):
    """The program's commands by name, as Typer wants them, each loaded when it is asked for.

    Packages built on the engine add theirs by entry points of the group `framestream.commands`. The
    engine never imports them by name.
    """

    def __getitem__(self, name: str) -> Any:
        if name in BUILT_IN:
            return _command(name, getattr(import_module(f"engine.cli.{name}"), name))
        return _command(name, _added()[name].load())

    def __iter__(self) -> Iterator[str]:
        return iter((*BUILT_IN, *_added()))

    def __len__(self) -> int:
        return len(BUILT_IN) + len(_added())


class _Group(TyperGroup):
    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = Commands()  # type: ignore[assignment]  # nobody adds to them


_STYLE: Any = {
    "add_completion": False,
    "rich_markup_mode": "rich",
    "pretty_exceptions_enable": False,
}

app = typer.Typer(
    name="framestream",
    cls=_Group,
    no_args_is_help=True,
    callback=lambda: None,  # a program with commands, although none is loaded yet
    help="Export highlight reels: crop, retime, join and encode in one pass.\n\n"
    "Start with [bold]framestream demo[/bold]: it makes its own footage and renders a reel.",
    epilog="Exit codes: 0 done, 1 failed, 2 bad edit or bad option, 130 cancelled.",
    **_STYLE,
)


def main() -> None:
    """Runs the command that the program was given."""
    # numpy would start a thread per core for linear algebra, of which there is next to none here,
    # and pydantic would look through all installed packages
    for name, value in (("OPENBLAS_NUM_THREADS", "1"), ("PYDANTIC_DISABLE_PLUGINS", "__all__")):
        os.environ.setdefault(name, value)
    gc.set_threshold(20_000)  # at Python's 700 a tenth of the start looks for garbage in vain
    app()


def _command(name: str, function: Any) -> Any:
    """A command as Typer runs it."""
    alone = typer.Typer(**_STYLE)
    alone.command(name)(function)
    return typer.main.get_command(alone)


def _added() -> dict[str, Any]:
    """The entry points of other packages' commands."""
    from importlib.metadata import entry_points  # slow to load

    return {each.name: each for each in entry_points(group="framestream.commands")}

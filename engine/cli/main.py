"""The `framestream` program: its commands, each in a file of its own, and its help.

The command line is the only part of the engine that prints, handles signals and exits. Commands
import what they need when they run, so that `--help` answers at once.
"""

from __future__ import annotations

from importlib.metadata import entry_points

import typer

from engine.cli.cache import cache
from engine.cli.concat import concat
from engine.cli.demo import demo
from engine.cli.doctor import doctor
from engine.cli.extract import extract
from engine.cli.frame import frame
from engine.cli.plan import plan
from engine.cli.probe import probe
from engine.cli.render import render

app = typer.Typer(
    name="framestream",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Export highlight reels: crop, retime, join and encode in one pass.\n\n"
    "Start with [bold]framestream demo[/bold]: it makes its own footage and renders a reel.",
    epilog="Exit codes: 0 done, 1 failed, 2 bad edit or bad option, 130 cancelled.",
)

for command in (render, plan, frame, extract, concat, probe, cache, doctor, demo):
    app.command()(command)

# Packages built on the engine add commands by entry point; the engine never imports them by name.
for entry in entry_points(group="framestream.commands"):
    app.command(name=entry.name)(entry.load())


def main() -> None:
    """Runs the command that the program was given."""
    app()

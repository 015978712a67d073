"""A group of options is one value to a command and single options to a user."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer
from typer.testing import CliRunner

from engine.cli.options import with_option_groups


@dataclass(frozen=True, slots=True)
class Place:
    """Where."""

    city: Annotated[str, typer.Option("--city", "-c", envvar="CITY", help="Which city.")] = "Rome"
    house: Annotated[int, typer.Option(min=1)] = 1


@dataclass(frozen=True, slots=True)
class Address(Place):
    """Where, and whose door."""

    names: Annotated[list[str] | None, typer.Option(metavar="NAME")] = None


received: list[tuple[str, Place, bool]] = []


def command() -> typer.Typer:
    app = typer.Typer()

    @app.command()
    @with_option_groups
    def send(
        letter: str,
        *,
        address: Address,
        express: Annotated[bool, typer.Option("--express")] = False,
    ) -> None:
        """Send a letter."""
        received.append((letter, address, express))

    return app


def test_fields_are_options_with_their_defaults_and_declarations() -> None:
    runner = CliRunner()
    received.clear()
    for words in (
        ["hello"],
        ["hello", "-c", "Bonn", "--names", "Ann", "--names", "Bo", "--house", "3", "--express"],
    ):
        assert runner.invoke(command(), words).exit_code == 0
    assert runner.invoke(command(), ["hello"], env={"CITY": "Oslo"}).exit_code == 0
    assert received == [
        ("hello", Address(), False),
        ("hello", Address("Bonn", 3, ["Ann", "Bo"]), True),
        ("hello", Address("Oslo"), False),
    ]


def test_help_and_errors_know_the_fields() -> None:
    runner = CliRunner(env={"COLUMNS": "120", "NO_COLOR": "1"})
    shown = runner.invoke(command(), ["--help"]).stdout
    assert "Send a letter." in shown and "Which city." in shown and "CITY" in shown
    places = [shown.index(option) for option in ("--city", "--house", "--names", "--express")]
    assert places == sorted(places), "options stand where their group stands"
    refused = runner.invoke(command(), ["hello", "--house", "0"])
    assert refused.exit_code == 2 and "--house" in refused.stderr

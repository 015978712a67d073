"""The files that a command is told to write, checked before the work that fills them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from engine.destination import FILM_SUFFIXES, output_file


def check_output_files(
    needed: Mapping[Path, str],
    output: Path,
    report: Path | None = None,
    *,
    suffixes: Collection[str] = FILM_SUFFIXES,
) -> None:
    """Checks that outputs can be written and overwrite no file that is needed.

    `needed` are files that the command reads, and what each is. Raises `EngineError`; see
    `output_file`.
    """
    film = output_file(output, suffixes=suffixes, keep=needed)
    if report is not None:
        output_file(report, keep={**needed, film: "the output"})

"""Writes stored results into `README.md`, and the peers' summary and chart into the project's own.

    python -m bench.report [RESULTS_FOLDER]      # bench/results where none is given

Each of cores.json, drill.json, guards.json, peers.json, scale.json, seeking.json and upscale*.json
is written between its own two marks, where it is there. Text outside of marks does not change, and
neither does a section without results.
Nothing is measured here.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from bench import chart, tables, upscale_tables

README = Path(__file__).with_name("README.md")
PROJECT_README = Path(__file__).parents[1] / "README.md"
RESULTS = Path(__file__).with_name("results")
CHART = Path(__file__).parents[1] / "docs" / "speed.svg"

Section = Callable[[dict[str, Any]], Iterable[str]]


def main(folder: Path = RESULTS) -> None:
    README.write_text(with_tables(README.read_text(), folder))
    if (measured := folder / "peers.json").exists():
        results = json.loads(measured.read_text())
        chart.draw(results, CHART)
        image = f"![Wall times of the peers]({CHART.relative_to(PROJECT_README.parent)})"
        lines = [image, "", *tables.summary(results)]
        PROJECT_README.write_text(filled(PROJECT_README.read_text(), "speed", lines))


def with_tables(text: str, folder: Path = RESULTS) -> str:
    """`text` with the tables of the folder's results. Raises ValueError where a mark is missing."""
    for name, section in SECTIONS.items():
        found = [json.loads(path.read_text()) for path in sorted(folder.glob(f"{name}*.json"))]
        if found:
            text = filled(text, name, [line for each in found for line in (*section(each), "")])
    return text


def filled(text: str, name: str, lines: Iterable[str]) -> str:
    """`text` with these lines between the marks of that name. Raises ValueError without marks."""
    start, stop = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, opened, rest = text.partition(start)
    _, closed, after = rest.partition(stop)
    if not opened or not closed:
        raise ValueError(f"the text lacks {start} or {stop}")
    body = "\n".join(lines).strip()
    return f"{before}{start}\n\n{body}\n\n{stop}{after}"


def _cores(results: dict[str, Any]) -> Iterable[str]:
    from bench.cores import tables as cores_tables

    return cores_tables(results)


def _scale(results: dict[str, Any]) -> Iterable[str]:
    from bench.scale import tables as scale_tables

    return scale_tables(results)


def _seeking(results: dict[str, Any]) -> Iterable[str]:
    from bench.seeking import tables as seeking_tables  # it needs playwright

    return seeking_tables(results)


SECTIONS: Mapping[str, Section] = {
    "cores": _cores,
    "drill": tables.drill,
    "guards": tables.guards,
    "peers": tables.peers,
    "scale": _scale,
    "seeking": _seeking,
    "upscale": upscale_tables.tables,
}


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))

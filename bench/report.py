"""Writes the figures of a benchmark run into `README.md`, between its two marks.

    pytest bench --benchmark-only --benchmark-json=RESULTS.json
    python -m bench.report RESULTS.json [LATER_RESULTS.json ...]

Everything it writes was measured in those runs, of which a later one replaces what it measured
again; what stands outside the marks is left alone.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

README = Path(__file__).with_name("README.md")
START, STOP = "<!-- results -->", "<!-- end of results -->"


def main(*paths: Path) -> None:
    before, _, rest = README.read_text().partition(START)
    _, _, after = rest.partition(STOP)
    text = "\n".join(written([json.loads(path.read_text()) for path in paths]))
    README.write_text(f"{before}{START}\n\n{text}\n{STOP}{after}")


def written(runs: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The lines of all tables, from what pytest-benchmark wrote about each run."""
    last = {each["fullname"]: each for run in runs for each in run["benchmarks"]}
    for run in runs:
        run["benchmarks"] = [each for each in run["benchmarks"] if each is last[each["fullname"]]]
    yield from _provenance(runs)
    groups: dict[str, list[dict[str, Any]]] = {}
    for each in last.values():
        groups.setdefault(each["group"], []).append(each)
    if exports := [_Export(each["extra_info"]) for each in groups.pop("exports", ())]:
        yield from _exports(exports)
    if memory := groups.pop("memory", ()):
        yield from _memory([each["extra_info"] for each in memory])
    for group, members in groups.items():
        yield from _timings(group, members)


def _provenance(runs: Sequence[dict[str, Any]]) -> Iterator[str]:
    machine = runs[-1]["machine_info"]
    packages = ", ".join(f"{name} {release}" for name, release in machine["packages"].items())
    cores = f"{machine['cores']} cores of {machine['processor_name']}"
    yield f"- {cores}, {machine['memory_gib']:.0f} GiB, {machine['system_name']}"
    yield f"- Python {machine['python_version']}, {packages}; ffmpeg {machine['ffmpeg']}"
    for run in runs:
        commit, names = run["commit_info"], {_file(each) for each in run["benchmarks"]}
        dirty = ", with changes" if commit["dirty"] else ""
        measured = f"{', '.join(sorted(names))}, {run['datetime'][:16]} UTC"
        yield f"- commit {commit['id'][:10]}{dirty}: {measured}"
    yield "- `pytest bench --benchmark-only --benchmark-json=RESULTS.json`"
    yield ""


def _file(benchmark: dict[str, Any]) -> str:
    return str(benchmark["fullname"]).partition("::")[0]


class _Export:
    """The figures of one case: medians of its rounds."""

    def __init__(self, info: dict[str, Any]) -> None:
        self.info = info

    def of(self, contender: str, figure: str) -> float:
        return median(float(run[figure]) for run in self.info["runs"][contender])

    def ratio(self, contender: str, peer: str, figure: str = "wall_s") -> str:
        return f"**{self.of(contender, figure) / self.of(peer, figure):.2f}**"

    def spread(self, contender: str) -> str:
        """Median and range of the wall time."""
        walls = [run["wall_s"] for run in self.info["runs"][contender]]
        return f"{median(walls):.1f} ({min(walls):.1f}-{max(walls):.1f})"


def _exports(exports: Sequence[_Export]) -> Iterator[str]:
    first = exports[0].info
    rounds = len(first["runs"]["framestream"])
    yield "## Whole exports"
    yield ""
    yield f"Seconds of wall time: the median of {rounds} rounds, in turns, and their range."
    yield ""
    yield from _table(
        ("", "frames", "ffmpeg", "framestream", "ratio", "start-up", "taken by others"),
        [
            (
                each.info["case"],
                each.info["frames"],
                each.spread("ffmpeg"),
                each.spread("framestream"),
                each.ratio("framestream", "ffmpeg"),
                f"{each.of('framestream', 'wall_s') - each.of('engine', 'wall_s'):.1f}",
                f"{_others(each):.0%}",
            )
            for each in exports
        ],
    )
    yield "The engine alone, by its report, and how both programs' work compares to libx264's."
    yield ""
    yield from _table(
        ("", "bare libx264", "engine", "engine to bare", "ffmpeg to bare", "engine to ffmpeg"),
        [
            (
                each.info["case"],
                each.spread("bare libx264"),
                each.spread("engine"),
                each.ratio("engine", "bare libx264"),
                each.ratio("ffmpeg", "bare libx264"),
                each.ratio("engine", "ffmpeg"),
            )
            for each in exports
        ],
    )
    yield "CPU seconds of the whole process, peak memory in MiB, size of the file in MB, and how"
    yield "alike the two films are (PSNR of luma)."
    yield ""
    yield from _table(
        ("", "CPU ffmpeg", "CPU framestream", "ratio", "MiB ffmpeg", "MiB framestream",
         "MB ffmpeg", "MB framestream", "PSNR"),
        [
            (
                each.info["case"],
                f"{each.of('ffmpeg', 'cpu_s'):.1f}",
                f"{each.of('framestream', 'cpu_s'):.1f}",
                each.ratio("framestream", "ffmpeg", "cpu_s"),
                f"{each.of('ffmpeg', 'peak_mib'):.0f}",
                f"{each.of('framestream', 'peak_mib'):.0f}",
                f"{each.info['size_bytes']['ffmpeg'] / 1e6:.2f}",
                f"{each.info['size_bytes']['framestream'] / 1e6:.2f}",
                f"{each.info['psnr_y_db']:.1f} dB",
            )
            for each in exports
        ],
    )  # fmt: skip
    x264 = first["x264"]
    yield f"libx264: core {x264['framestream']} in framestream, core {x264['ffmpeg']} in ffmpeg."
    yield ""


def _others(export: _Export) -> float:
    """Share of the machine that other processes had, over all rounds of the two programs."""
    runs = [run for name in ("framestream", "ffmpeg") for run in export.info["runs"][name]]
    return float(sum(run["others"] * run["wall_s"] for run in runs)) / float(
        sum(run["wall_s"] for run in runs)
    )


def _memory(cases: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield "## Memory"
    yield ""
    yield from _table(
        ("", "short, MiB", "long, MiB", "ratio"),
        [
            (
                case["case"],
                f"{case['short']['peak_mib']:.0f}",
                f"{case['long']['peak_mib']:.0f}",
                f"**{case['long']['peak_mib'] / case['short']['peak_mib']:.2f}**",
            )
            for case in cases
        ],
    )


def _timings(group: str, members: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield f"## {group[0].upper()}{group[1:]}"
    yield ""
    yield from _table(
        ("", "median, ms", "fastest, ms"),
        [
            (
                each["extra_info"].get("case", each["name"].removeprefix("test_")),
                f"{each['stats']['median'] * 1000:.2f}",
                f"{each['stats']['min'] * 1000:.2f}",
            )
            for each in members
        ],
    )


def _table(head: Sequence[object], rows: Sequence[Sequence[object]]) -> Iterator[str]:
    for row in (head, ["---", *["--:"] * (len(head) - 1)], *rows):
        yield "| " + " | ".join(str(cell) for cell in row) + " |"
    yield ""


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))

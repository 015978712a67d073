"""Stored results as Markdown tables. A cell without a measurement is empty."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from statistics import median
from typing import Any

from bench.machine import Machine


def table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """A table whose first column is text and whose others are numbers; None is an empty cell."""
    for row in (head, ["---", *["--:"] * (len(head) - 1)], *rows):
        yield "| " + " | ".join("" if cell is None else str(cell) for cell in row) + " |"
    yield ""


def guards(run: dict[str, Any]) -> Iterator[str]:
    """What pytest-benchmark wrote about a run: every ratio, then the exports in full."""
    yield from Machine(**run["machine_info"]).lines()
    yield ""
    held = [each for test in run["benchmarks"] for each in test["extra_info"].get("guards", ())]
    yield from table(
        ("guard", "reference", "ratio", "limit", "ours, ms", "reference, ms"),
        [
            (
                each["name"],
                each["peer"],
                f"**{each['ratio']:.2f}**",
                f"{each['limit']:g}",
                *(
                    f"{each[side] * 1000:.1f}" if side in each else None
                    for side in ("ours_s", "reference_s")
                ),
            )
            for each in held
        ],
    )
    tests = (test["extra_info"] for test in run["benchmarks"])
    yield from _exports([test for test in tests if "runs" in test])


def _exports(cases: Sequence[dict[str, Any]]) -> Iterator[str]:
    def of(case: dict[str, Any], contender: str) -> str:
        walls = [run["wall_s"] for run in case["runs"][contender]]
        return f"{median(walls):.1f} ({min(walls):.1f}-{max(walls):.1f})"

    if not cases:
        return
    yield "Exports in seconds of wall time: the median of the rounds, in turns, and their range."
    yield ""
    yield from table(
        (
            "",
            "frames",
            "bare libx264",
            "ffmpeg",
            "framestream",
            "the engine in it",
            "taken by others",
        ),
        [
            (
                case["case"],
                case["frames"],
                *(of(case, name) for name in ("bare libx264", "ffmpeg", "framestream", "engine")),
                f"{median(run['others'] for run in case['runs']['framestream']):.0%}",
            )
            for case in cases
        ],
    )


def drill(results: dict[str, Any]) -> Iterator[str]:
    """What `python -m bench.drill` counted: a table, and each scenario's faults."""
    yield from Machine(**results["machine"]).lines()
    yield f"- seed {results['seed']}, {results['times']} faults or spells of faults in a round"
    yield ""
    found = ("lost", "left_over", "double", "secrets", "broken")
    yield from table(
        ("", "rounds", "faults", "accepted", "done", "failed rightly", "lost", "left over",
         "double", "secrets in logs", "other promises broken", "lines of logs", "s"),
        [
            (
                each["scenario"],
                *(each["rounds"], sum(each["faults"].values()), each["accepted"], each["done"]),
                each["failed"],
                *(_must_be_none(each[name]) for name in found),
                each["log_lines"],
                f"{each['wall_s']:.0f}",
            )
            for each in results["scenarios"]
        ],
    )  # fmt: skip
    for each in results["scenarios"]:
        counts = ", ".join(f"{name} ({count})" for name, count in each["faults"].items())
        yield f"- **{each['scenario']}**: {each['skipped'] or counts}"
        for reason, count in each["reasons"].items():
            yield f"  - Failed rightly ({count}): {reason}"
        if each["growth_mib"] is not None:
            yield f"  - The server's peak memory grew by {each['growth_mib']:.0f} MiB."


def _must_be_none(found: Sequence[str]) -> str:
    return f"**{len(found)}**" if found else "0"


def peers(results: dict[str, Any]) -> Iterator[str]:
    """What `python -m bench.peers` wrote: a table per edit, and the bars."""
    if results["quick"]:
        yield "**A quick run, to try the benchmark: its times mean little.**"
        yield ""
    yield from Machine(**results["machine"]).lines()
    yield ""
    for edit in results["edits"]:
        network = f", {edit['network']}" if edit["network"] else ""
        yield f"### {edit['name'].capitalize()}"
        yield ""
        yield f"{edit['frames']} frames, a crop of {edit['crop']} to {edit['target']}{network}."
        yield ""
        yield from table(
            ("", "wall, s", "to framestream", "CPU, s", "memory, MiB", "disk to output",
             "encodes per frame", "file, MB", "PSNR, dB", "SSIM", "VMAF", "taken by others"),
            [(name, *_peer(each, edit)) for name, each in edit["peers"].items()],
        )  # fmt: skip
        for name, each in edit["peers"].items():
            if each["lack"]:
                yield f"{name}: {each['lack']}."
                yield ""
    yield from _bars(results["edits"])


def summary(results: dict[str, Any]) -> Iterator[str]:
    """The peers in one small table."""
    machine = Machine(**results["machine"])
    names = list(results["edits"][0]["peers"])
    yield from table(
        ("seconds of wall time", *names),
        [
            (edit["name"], *(_rounded(wall_s(edit["peers"][name])) for name in names))
            for edit in results["edits"]
        ],
    )
    yield f"{machine.cores} cores of {machine.processor}, commit {machine.commit}, the same libx264"
    yield "settings in all, start-up included. An empty cell: it cannot, or was not measured."


def _rounded(seconds: float | None) -> str | None:
    return None if seconds is None else f"{seconds:.1f}"


def wall_s(peer: dict[str, Any]) -> float | None:
    """The median of its rounds, None where it was not run."""
    return median(run["wall_s"] for run in peer["runs"]) if peer["runs"] else None


def _peer(peer: dict[str, Any], edit: dict[str, Any]) -> Iterator[str | None]:
    """The cells of one peer; all of them empty where it was not run."""
    wall, ours = wall_s(peer), wall_s(edit["peers"]["framestream"])
    if wall is None:
        yield from [None] * 11
        return
    walls = [run["wall_s"] for run in peer["runs"]]
    spread = f" ({min(walls):.1f}-{max(walls):.1f})" if len(walls) > 1 else ""
    yield f"{wall:.1f}{spread}"
    yield f"**{wall / ours:.2f}**" if ours else None
    yield f"{_median(peer, 'cpu_s'):.1f}"
    yield f"{_median(peer, 'peak_mib'):.0f}"
    yield f"{disk_to_output(peer):.2f}"
    yield f"{peer['frames_encoded'] / edit['frames']:.2f}"
    yield f"{peer['size_bytes'] / 1e6:.2f}"
    alike = peer["likeness"] or {}
    for measure, digits in (("psnr_y_db", 1), ("ssim", 4), ("vmaf", 1)):
        value = alike.get(measure)
        yield None if value is None else f"{value:.{digits}f}"
    yield f"{_median(peer, 'others'):.0%}"


def disk_to_output(peer: dict[str, Any]) -> float:
    """Peak disk over the size of the film."""
    return max(float(run["peak_disk_mb"]) for run in peer["runs"]) * 1e6 / float(peer["size_bytes"])


def _median(peer: dict[str, Any], figure: str) -> float:
    return median(float(run[figure]) for run in peer["runs"])


def _bars(edits: Sequence[dict[str, Any]]) -> Iterator[str]:
    """What framestream has to show, and whether it does."""
    rows = []
    for edit in edits:
        if (wall := wall_s(edit["peers"]["framestream"])) is None:
            continue
        ours = edit["peers"]["framestream"]
        for name, most in (("ffmpeg", 1.0), ("MoviePy", 0.2), ("step by step", 0.5)):
            theirs = wall_s(edit["peers"][name])
            asked = not edit["network"] and (name != "step by step" or edit["dissolves"])
            if theirs is not None and asked:
                rows.append((edit["name"], f"wall to {name}", wall / theirs, most))
        rows.append((edit["name"], "peak disk to output", disk_to_output(ours), 1.1))
        rows.append((edit["name"], "encodes per frame", ours["frames_encoded"] / edit["frames"], 1))
    yield "### The bars"
    yield ""
    yield from table(
        ("edit", "framestream's", "is", "at most", ""),
        [
            (edit, what, f"{is_:.2f}", f"{most:g}", "held" if is_ <= most else "**missed**")
            for edit, what, is_, most in rows
        ],
    )

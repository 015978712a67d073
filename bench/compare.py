"""Holds the ratios of a run of the guards against those of the last stored one.

    pytest bench --benchmark-only --benchmark-json=NEW.json
    python -m bench.compare NEW.json [--stored bench/results/guards.json] [--tolerance 0.15]

Exits 1 where a ratio has grown by more than the tolerance, or where a guard is gone.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

STORED = Path(__file__).with_name("results") / "guards.json"
TOLERANCE = 0.15
"""How much a ratio varies from run to run on a shared machine."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.compare", description=__doc__)
    parser.add_argument("new", type=Path, metavar="NEW.json")
    parser.add_argument("--stored", type=Path, default=STORED)
    parser.add_argument("--tolerance", type=float, default=TOLERANCE, help="0.15 is 15 %%")
    asked = parser.parse_args()
    before, now = (ratios(json.loads(path.read_text())) for path in (asked.stored, asked.new))
    worse = set(regressions(before, now, asked.tolerance))
    for name in {**before, **now}:
        cells = (f"{each[name]:8.2f}" if name in each else " " * 8 for each in (before, now))
        print(f"{name:30}", *cells, "  WORSE" if name in worse else "")
    return 1 if worse else 0


def ratios(run: dict[str, Any]) -> Mapping[str, float]:
    """By guard: ours over its reference; the last where there are several."""
    return {
        guard["name"]: guard["ratio"]
        for each in run["benchmarks"]
        for guard in each["extra_info"].get("guards", ())
    }


def regressions(
    before: Mapping[str, float], now: Mapping[str, float], tolerance: float
) -> Iterator[str]:
    """The guards that are gone, or whose ratio has grown by more than `tolerance`."""
    for name, ratio in before.items():
        if name not in now or now[name] > ratio * (1 + tolerance):
            yield name


if __name__ == "__main__":
    sys.exit(main())

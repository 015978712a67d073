"""Faults of all kinds, by chance, against the programs that users run; what is left is counted.

    python -m bench.drill --seed 1 --rounds 3 --json bench/results/drill.json
    python -m bench.drill --seed 1 --only kills

Every round of a scenario starts programs in a folder of its own, sends exports of small clips and
injects faults from outside. Then it waits for the end of every export and checks: each export that
was accepted has its film, once; no file, row, object or process is left over; and no log holds a
secret. Chance depends on seed, scenario and round alone, so that a failure can be played again.

Needs `pip install -e '.[test,bench]'` and the ffmpeg program. Scenarios that need more (a mount,
PostgreSQL's programs) are skipped with a reason where there is none. The exit code is 1 if anything
was found.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random

import pytest

from bench.drill import (
    bodies,
    commands,
    databases,
    disks,
    kills,
    modal_calls,
    postgres,
    records,
    stores,
    uploads,
)
from bench.drill.exports import clips_in
from bench.drill.round import Round
from bench.drill.tally import Finding, Tally
from bench.machine import PACKAGES, as_typed, this_machine

SCENARIOS: Mapping[str, Callable[[Round], None]] = {
    "kills": kills.play,
    "uploads": uploads.play,
    "commands": commands.play,
    "records": records.play,
    "disks": disks.play,
    "caches": disks.play_caches,
    "databases": databases.play,
    "postgres": postgres.play,
    "stores": stores.play,
    "modal": modal_calls.play,
    "bodies": bodies.play,
}
ONCE = {"bodies", "caches"}
"""Scenarios without chance: another round would be the same."""


def main(words: list[str] | None = None) -> int:
    """Plays the scenarios. Returns the exit code."""
    asked = _asked(words)
    with tempfile.TemporaryDirectory(prefix="drill-") as folder:
        Path(folder).chmod(0o711)  # PostgreSQL runs as another user
        tallies = [_played(name, asked, Path(folder)) for name in asked.only]
    if asked.json:
        document = {
            "kind": "drill",
            "machine": this_machine(as_typed("bench.drill"), (*PACKAGES, "moto")).document(),
            "seed": asked.seed,
            "times": asked.times,
            "scenarios": [tally.document() for tally in tallies],
        }
        asked.json.write_text(json.dumps(document, indent=1) + "\n")
    return 0 if all(tally.is_clean for tally in tallies) else 1


def _asked(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.drill",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=1, help="of each scenario (1)")
    parser.add_argument("--times", type=int, default=4, help="faults or spells in a round (4)")
    parser.add_argument(
        "--only",
        type=lambda text: text.split(","),
        default=list(SCENARIOS),
        metavar="SCENARIO,...",
        help=f"some of {', '.join(SCENARIOS)}",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the counts are stored")
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="where the folders of bad rounds are moved"
    )
    asked = parser.parse_args(words)
    if unknown := set(asked.only) - set(SCENARIOS):
        parser.error(f"no scenario {', '.join(sorted(unknown))}")
    return asked


def _played(name: str, asked: argparse.Namespace, folder: Path) -> Tally:
    """All rounds of one scenario."""
    tally = Tally(name)
    started_s = time.monotonic()
    for number in range(1 if name in ONCE else asked.rounds):
        place = folder / f"{name}-{number}"
        place.mkdir()
        tally.rounds += 1
        chance = Random(f"{asked.seed} {name} {number}")
        drill = Round(chance, place, clips_in(folder / "clips"), tally, asked.times)
        try:
            with drill.open_until_end:
                SCENARIOS[name](drill)
        except pytest.skip.Exception as reason:
            tally.skipped = str(reason)
        except Exception as error:
            why = str(error).strip().splitlines() or [""]
            tally.find(Finding.BROKEN, f"round {number}: {type(error).__name__}: {why[-1]}")
        finally:
            drill.kill_all()
        if asked.keep and not tally.is_clean:
            shutil.copytree(place, asked.keep / place.name, dirs_exist_ok=True)
        shutil.rmtree(place, ignore_errors=True)
        if tally.skipped:
            break
    tally.wall_s = time.monotonic() - started_s
    print(f"--seed {asked.seed} --only {tally.line()}", flush=True)
    for finding, found in tally.found.items():
        for what in found:
            print(f"    {finding.value}: {what}", flush=True)
    return tally


if __name__ == "__main__":
    sys.exit(main())

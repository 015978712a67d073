"""Guard: peak memory does not depend on how long an export is."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from bench.footage import Footage
from bench.guard import Guard
from bench.machine import ROOT
from bench.measured import Usage, usage_of

SMALL = {"targetWidth": 216, "targetHeight": 384}


def exported(folder: Path, document: dict[str, Any]) -> Usage:
    """What one export cost, run as a process of its own at the encoder's fastest."""
    folder.mkdir()
    edit, output = folder / "edit.json", folder / "out.mp4"
    edit.write_text(json.dumps(document))
    return usage_of(
        *(sys.executable, "-m", "engine", "render", edit, "--output", output),
        *("--upscaler", "none", "--encoder", "libx264", "--preset", "ultrafast", "--quiet"),
        cwd=ROOT,
    )


def clip(path: Path, stop_s: float) -> dict[str, Any]:
    return {"fileName": str(path), "segmentsData": {"trimRange": {"start": 0, "end": stop_s}}}


@pytest.mark.benchmark(group="memory")
@pytest.mark.parametrize("case", ["10 min against 1 min, 216x384", "40 s against 10 s, 1080x1920"])
def test_peak_memory(
    benchmark: Any, guard: Guard, footage: Footage, tmp_path: Path, case: str
) -> None:
    if "216x384" in case:
        short: dict[str, Any] = {"clips": [clip(footage.path("minute"), 60)], **SMALL}
        long: dict[str, Any] = {"clips": [clip(footage.path("ten_minutes"), 600)], **SMALL}
    else:
        # two different files: a chunk that was rendered before in the same export is not again
        reel, again = footage.path("reel"), footage.path("reel_with_sound")
        short, long = ({"clips": [clip(reel, stop_s), clip(again, stop_s)]} for stop_s in (5, 20))
    of_short = exported(tmp_path / "short", short)
    of_long = benchmark.pedantic(exported, args=(tmp_path / "long", long), rounds=1)
    benchmark.extra_info.update(case=case, short=asdict(of_short), long=asdict(of_long))
    guard.hold(f"memory, {case}", of_long.peak_mib / of_short.peak_mib, "the short export")

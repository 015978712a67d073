"""Stored results: held against earlier ones, and written as tables."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import compare, report, seeking, tables
from bench.guard import LIMITS

RUN = {"wall_s": 2.0, "cpu_s": 3.0, "peak_mib": 100.0, "peak_disk_mb": 1.05, "others": 0.01}

MACHINE = {
    "processor": "a processor",
    "cores": 2,
    "memory_gib": 24.0,
    "system": "Linux",
    "python": "3.11",
    "ffmpeg": "5.1",
    "packages": {"av": "18.1"},
    "commit": "abc",
    "measured_at": "now",
    "command": "python -m bench.peers",
}


def a_run(**ratios: float) -> dict[str, Any]:
    guards = [{"name": name, "ratio": ratio} for name, ratio in ratios.items()]
    return {"benchmarks": [{"extra_info": {"guards": guards}}, {"extra_info": {}}]}


def a_peer(**figures: Any) -> dict[str, Any]:
    made = {"lack": None, "runs": [RUN], "frames_encoded": 60, "size_bytes": 1_000_000}
    return {**made, "likeness": None, **figures}


def test_a_ratio_that_has_grown_or_is_gone_is_a_regression() -> None:
    before, now = compare.ratios(a_run(crop=2, join=1, blend=1)), compare.ratios(
        a_run(crop=2.2, join=1.3)
    )  # fmt: skip
    assert list(compare.regressions(before, now, 0.15)) == ["join", "blend"]


@pytest.mark.parametrize(("ratio", "status"), [(1.1, 0), (1.2, 1)])
def test_the_command_fails_on_a_regression(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ratio: float, status: int
) -> None:
    stored, new = tmp_path / "stored.json", tmp_path / "new.json"
    stored.write_text(json.dumps(a_run(crop=1)))
    new.write_text(json.dumps(a_run(crop=ratio)))
    monkeypatch.setattr(sys, "argv", ["compare", str(new), "--stored", str(stored)])
    assert compare.main() == status


def test_every_limit_is_a_ratio() -> None:
    assert all(0 < limit < 100 for limit in LIMITS.values())


def test_what_was_not_measured_is_empty() -> None:
    unmeasured = {"lack": "has no such network", "runs": []}
    edit = {
        "name": "short",
        "frames": 60,
        "crop": "60x60",
        "target": "90x90",
        "network": "",
        "dissolves": 0,
        "peers": {
            "framestream": a_peer(runs=[RUN, {**RUN, "wall_s": 4.0}, {**RUN, "wall_s": 3.0}]),
            "ffmpeg": unmeasured,
            "MoviePy": a_peer(frames_encoded=120, runs=[{**RUN, "wall_s": 30.0}]),
            "step by step": unmeasured,
        },
    }
    lines = list(tables.peers({"quick": False, "machine": MACHINE, "edits": [edit]}))
    assert "- 2 cores of a processor, 24 GiB, Linux" in lines
    assert any(line.startswith("| framestream | 3.0 (2.0-4.0) | **1.00** |") for line in lines)
    assert any(line.startswith("| MoviePy | 30.0 | **10.00** |") for line in lines)
    assert "| ffmpeg |  |  |  |  |  |  |  |  |  |  |  |" in lines
    assert "| short | wall to MoviePy | 0.10 | 0.2 | held |" in lines
    assert "| short | peak disk to output | 1.05 | 1.1 | held |" in lines
    assert not any("wall to ffmpeg" in line for line in lines)


def test_seeks_are_compared_with_the_longest_interval() -> None:
    films = [
        {
            "key_interval_s": interval_s,
            "frames": 720,
            "key_frames": 24 // interval_s,
            "size_bytes": size_bytes,
            "seeks_ms": seeks_ms,
            "render": RUN,
        }
        for interval_s, size_bytes, seeks_ms in (
            (8, 1_000_000, [200.0, 400.0, 300.0]),
            (2, 1_170_000, [100.0, 140.0, 120.0]),
        )
    ]
    scene = {"name": "a still camera", "chromium": "150", "others": 0.02, "films": films}
    lines = list(seeking.tables({"machine": MACHINE, "scenes": [scene]}))
    assert "### A still camera" in lines
    assert "720 frames, 3 seeks in each film;" in lines
    assert "others took 2% of the machine meanwhile." in lines
    assert "| 8 s | 3 | 1.00 | **1.00** | 300 | 380 | **1.00** | 1.00 | 2.0 | 1% |" in lines
    assert "| 2 s | 12 | 1.17 | **1.17** | 120 | 136 | **0.40** | 0.36 | 2.0 | 1% |" in lines


def test_only_what_stands_between_marks_is_written() -> None:
    text = "kept\n<!-- peers -->\nold\n<!-- end of peers -->\nkept, too\n"
    filled = report.filled(text, "peers", ["new", ""])
    assert filled == "kept\n<!-- peers -->\n\nnew\n\n<!-- end of peers -->\nkept, too\n"
    assert report.filled(filled, "peers", ["new", ""]) == filled
    with pytest.raises(ValueError, match="lacks <!-- scale -->"):
        report.filled(text, "scale", [])


def test_the_readme_has_a_place_for_every_table() -> None:
    for name in report.SECTIONS:
        report.filled(report.README.read_text(), name, [])
    report.filled(report.PROJECT_README.read_text(), "speed", [])


def test_the_tables_are_those_of_the_stored_results() -> None:
    text = report.README.read_text()
    assert report.with_tables(text) == text

"""The model of more processors than a machine has: arithmetic by hand."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest

from bench import cores
from tests.bench.test_report import MACHINE

PARTS = cores.Parts(
    cpu_s=0.030,
    decode_s=0.004,
    crop_s=0.004,
    encode_s=0.024,
    speedup_of_two=1.6,
    python_s=0.001,
)


def test_x264_by_amdahl() -> None:
    """1.6 with two threads: a quarter is serial, so four reach 1 / (1/4 + 3/16)."""
    assert PARTS.speedup_of_four == pytest.approx(16 / 7)
    assert replace(PARTS, speedup_of_two=2).speedup_of_four == 4
    assert replace(PARTS, speedup_of_two=2.2).speedup_of_four == 4
    assert PARTS.chunk_cores == pytest.approx(0.030 / (0.024 * 7 / 16))
    assert replace(PARTS, crop_s=0.015).chunk_cores == pytest.approx(2)


def test_a_film_by_hand() -> None:
    """Two chunks of 240 frames, each on at most 30 / 10.5 processors; two leave 3 % idle."""
    told = cores.modelled(PARTS, 4, 16)
    assert (told.chunks, told.workers) == (2, 2)
    assert told.busy_of_one == pytest.approx(30 / 10.5 / 4)
    assert told.busy == pytest.approx(0.97)
    assert told.to_one == pytest.approx(30 / 10.5 / 4 / 0.97)
    # where Python takes 20 ms of each frame, one process renders 50 frames/s at most
    slow = cores.modelled(replace(PARTS, python_s=0.02), 4, 16)
    assert slow.busy == pytest.approx(0.030 / 0.02 / 4)


def test_the_tables_say_what_was_measured_and_what_was_not() -> None:
    def run(wall_s: float, cpu_s: float) -> dict[str, Any]:
        stage_s = {"decode": 1.44, "crop": 1.44, "encode": 8.64}
        return {"wall_s": wall_s, "cpu_s": cpu_s, "first_s": 0.1, "peak_mib": 100.0,
                "others": 0.0, "stage_s": stage_s}  # fmt: skip

    kinds = {"one": [run(6, 10.8)], "two threads": [run(5, 10)], "two processes": [run(9, 12)]}
    results = {
        "machine": MACHINE,
        "frames": 360,
        "runs": {"4": kinds, "1": kinds},
        "bare_s": {"1": 0.016, "2": 0.010},
        "small": {"cpu_s": 0.36},
    }
    assert asdict(cores.parts_of(results)) == pytest.approx(asdict(PARTS))
    lines = list(cores.tables(results))
    assert "| two threads, x264 with 4 | 5.0 | **0.83** | 10.0 | 100% | 0.1 | 100 | 0% |" in lines
    assert "**Modelled, not measured:**" in lines

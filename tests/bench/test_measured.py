"""What a command cost, its children included."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bench.measured import family_cpu_s, usage_of

PARENT = """
import pathlib, subprocess, sys
film = pathlib.Path(sys.argv[1], "film")
film.write_bytes(bytes(3_000_000))
hold = "held = bytearray(80 << 20); import time; time.sleep(1)"
children = [subprocess.Popen([sys.executable, "-c", hold]) for _ in range(2)]
[child.wait() for child in children]
film.unlink()
"""

WORKER = """
import sys, time
while time.process_time() < 0.3:
    pass
print(flush=True)
sys.stdin.read()
"""


def test_children_and_files_that_are_gone_at_the_end_count(tmp_path: Path) -> None:
    usage = usage_of(sys.executable, "-c", PARENT, tmp_path, watch=tmp_path)
    assert not any(tmp_path.iterdir())
    assert usage.peak_mib > 160
    assert 3 <= usage.peak_disk_mb < 3.1
    assert usage.wall_s > 1
    assert usage.cpu_s > 0


def test_a_command_that_fails_says_why() -> None:
    with pytest.raises(RuntimeError, match="no such edit"):
        usage_of(sys.executable, "-c", "raise SystemExit('no such edit')")


def test_the_work_of_children_counts_before_and_after_their_end() -> None:
    before_s = family_cpu_s()
    command = [sys.executable, "-c", WORKER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        alive_s = family_cpu_s()
        assert alive_s - before_s > 0.25
    assert family_cpu_s() >= alive_s

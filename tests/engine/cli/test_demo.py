"""`framestream demo`: a reel out of nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine.cli.program import framestream


def test_demo_makes_a_reel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.cli.demo_footage.FPS", 10)  # less to draw, and as many frames in it
    done = framestream("demo", tmp_path / "here", "--size", "270x480")
    assert done.returncode == 0, done.stderr
    reel = tmp_path / "here" / "reel.mp4"
    assert f"{reel}: 270x480, 14.000 s, 420 frames" in done.stdout
    assert reel.stat().st_size > 50_000

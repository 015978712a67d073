"""`framestream cache`: what an export has put there, and how it is dropped."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine.cli.program import framestream


def test_chunks_of_another_export_are_taken_from_the_cache(
    edit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache folder"
    assert framestream("render", edit, "-o", tmp_path / "1.mp4", "--cache", cache).returncode == 0
    monkeypatch.setenv("FRAMESTREAM_CACHE_DIR", str(cache))
    done = framestream("render", edit, "-o", tmp_path / "2.mp4", "--workers", "2")
    assert (done.returncode, "(60 kept from an earlier run)" in done.stdout) == (0, True)
    assert framestream("cache", "--max-gb", "1").stdout.startswith(f"{cache}: 1 chunks, 0.0 MB; 0 ")
    assert framestream("cache", cache, "--max-days", "0").stdout.startswith(f"{cache}: 0 chunks")

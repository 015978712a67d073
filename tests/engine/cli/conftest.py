"""An edit for the commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clips import numbered_clip
from tests.engine.cli.program import write_edit


@pytest.fixture
def edit(tmp_path: Path) -> Path:
    """An edit over one clip of two seconds, in a folder of its own."""
    folder = tmp_path / "match"
    folder.mkdir()
    numbered_clip(folder / "a.mp4", 60, sound="bursts")
    return write_edit(folder / "edit.json", {"clips": [{"fileName": "a.mp4"}]})

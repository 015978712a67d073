"""`framestream probe`: the facts of a file, for people and for programs."""

from __future__ import annotations

import json
from pathlib import Path

from tests.engine.cli.program import framestream


def test_probe_tells_what_a_file_is(edit: Path) -> None:
    done = framestream("probe", edit.parent / "a.mp4", "--json")
    facts = json.loads(done.stdout)["files"][0]
    assert (facts["displaySize"], facts["frames"], facts["constantFrameRate"]) == (
        "160x96",
        60,
        True,
    )
    assert "160x96" in framestream("probe", edit.parent / "a.mp4").stdout

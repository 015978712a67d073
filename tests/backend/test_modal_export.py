"""The command that exports an edit on Modal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from backend.modal_export import app
from tests.clips import numbered_clip
from tests.media import needs_ffmpeg
from tests.modal_functions.control_plane import ControlPlane
from tests.modal_functions.world import World
from tests.witness import video_stream


@needs_ffmpeg
def test_an_edit_on_modal_from_the_command_line(
    s3_address: str, control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    world = World.made(s3_address, control_plane, monkeypatch)
    numbered_clip(tmp_path / "match.mp4", 20, size=(96, 64))
    edit = {"clips": [{"fileName": "match.mp4"}], "targetWidth": 64, "targetHeight": 96}
    (tmp_path / "edit.json").write_text(json.dumps(edit))
    command = [str(tmp_path / "edit.json"), "-o", str(tmp_path / "reel.mp4")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "uploading" in done.output and "1 containers" in done.output
    assert video_stream(tmp_path / "reel.mp4")["nb_frames"] == "20"
    assert len(world.keys("me/sources")) == 1 and world.keys("me/temp") == []
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 0 and "uploading" not in again.output
    assert len(world.plane.calls_of("/render_chunks")) == 1
    (tmp_path / "match.mp4").unlink()
    missing = CliRunner().invoke(app, command)
    assert missing.exit_code == 1 and "match.mp4" in missing.output

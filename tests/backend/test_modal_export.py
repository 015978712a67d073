"""The command that exports an edit on Modal."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from backend.modal_export import _run_export, app
from tests.clips import numbered_clip
from tests.media import needs_ffmpeg
from tests.modal_functions.control_plane import ControlPlane, Slow
from tests.modal_functions.world import USER, World, job_of
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


def test_interrupted_while_its_call_is_started(
    s3_address: str, control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody had the call's id yet, and still it ends."""
    world = World.made(s3_address, control_plane, monkeypatch)
    gate = world.deploy_gated()
    job = job_of(world.footage(frames=30))
    control_plane.fault = lambda name, _: Slow(0.3) if name == "FunctionMap" else None

    async def interrupted() -> bool:
        task = asyncio.create_task(_run_export(job, world.store))
        while "FunctionMap" not in control_plane.requests:
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task], timeout=60)
        return task.cancelled()

    assert asyncio.run(interrupted())
    gate.set()
    (call,) = control_plane.calls_of("/export_multi_clip")
    assert not call.unfinished and world.keys(USER) == [job.source_keys["match.mp4"]]

"""`framestream doctor`: every finding is named."""

from __future__ import annotations

from tests.engine.cli.program import framestream


def test_doctor_names_what_it_tried() -> None:
    done = framestream("doctor")
    assert done.returncode == 0
    for what in ("libx264", "h264_nvenc", "NVDEC", "FFmpeg", "free disk"):
        assert what in done.stdout

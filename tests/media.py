"""Where tests find material: real files outside the project, and the ffmpeg program."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

MEDIA_FOLDER = Path(
    os.environ.get("FRAMESTREAM_MEDIA", Path(__file__).resolve().parents[2] / "shared" / "media")
)

needs_ffmpeg = pytest.mark.skipif(
    not (shutil.which("ffmpeg") and shutil.which("ffprobe")),
    reason="the ffmpeg and ffprobe programs are the witness here, and are not installed",
)


def real_media(name: str) -> Path:
    """A real camera file, or a skip that says how to have it."""
    path = MEDIA_FOLDER / name
    if not path.exists():
        pytest.skip(f"{name} is not in {MEDIA_FOLDER} (set FRAMESTREAM_MEDIA)")
    return path

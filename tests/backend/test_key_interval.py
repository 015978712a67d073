"""How often a film of the server has key frames, as ffprobe finds them in what it hands out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from backend.modal_jobs import export_job
from backend.models import Job
from backend.settings import Settings
from tests.backend.conftest import Serve, edit_of, post
from tests.clips import numbered_clip
from tests.media import needs_ffmpeg
from tests.witness import key_frames


@needs_ffmpeg
def test_the_key_interval_is_the_edit_s_else_the_server_s(
    serve: Serve, clips: list[Path], tmp_path: Path
) -> None:
    client = serve(key_interval_s=0.2)
    film = tmp_path / "film.mp4"
    for edit, keys in (
        (edit_of(1), [0, 6, 12, 18]),
        (edit_of(1, keyInterval=0.3), [0, 9, 18]),
    ):
        made = post(client, clips[:1], multi_clip_data_json=edit)
        assert made.status_code == 200, made.text
        film.write_bytes(client.get(made.json()["presigned_url"]).content)
        assert key_frames(film) == keys
    clip = numbered_clip(tmp_path / "a.mov", 16, size=(64, 64), codec="mpeg4")  # is not copied
    form: dict[str, Any] = {"video": (clip.name, clip.read_bytes())}
    cut = client.post("/api/clips/extract", files=form, data={"start": "0", "end": "9"})
    assert cut.status_code == 200, cut.text
    film.write_bytes(client.get(cut.json()["presigned_url"]).content)
    assert key_frames(film) == [0, 6, 12]


def test_an_edit_s_interval_beyond_the_limits_is_refused(serve: Serve, clips: list[Path]) -> None:
    refused = post(serve(), clips[:1], multi_clip_data_json=edit_of(1, keyInterval=61))
    assert refused.status_code == 422
    assert "keyInterval: must be from 0.1 to 60 s, not 61" in refused.text


def test_modal_is_told_the_server_s() -> None:
    request = {"kind": "render", "edit": {"clips": []}, "mode": "fast"}
    job = Job(folder="a", user_id="7", output_key="7/a.mp4", request=request)
    assert export_job(job, Settings(key_interval_s=0.5)).key_interval_s == 0.5


@pytest.mark.parametrize("seconds", [0.09, 60.1])
def test_the_setting_has_limits(seconds: float) -> None:
    assert Settings().key_interval_s == 2
    with pytest.raises(ValidationError, match="key_interval_s"):
        Settings(key_interval_s=seconds)

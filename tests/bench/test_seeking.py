"""Seeks in Chromium: what is measured is the frame that was asked for."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import av
import pytest

from bench import program, seeking
from bench.player import CHROMIUM, player
from tests.clips import numbered_clip, read_number
from tests.media import needs_ffmpeg

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="the chromium program is missing")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return numbered_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", 60)


@needs_ffmpeg
@needs_chromium
def test_films_differ_in_key_frames_and_are_all_measured(clip: Path, tmp_path: Path) -> None:
    edit = {"clips": [{"fileName": str(clip)}], "targetWidth": 64, "targetHeight": 64}
    folder = tmp_path / "films"
    scene = seeking.compared(edit, (1, 2), 2, folder)
    often, seldom = scene["films"]
    assert program.key_frames(folder / often["file"]) == [0, 30]
    assert program.key_frames(folder / seldom["file"]) == [0]
    for film in scene["films"]:
        assert film["size_bytes"] == (folder / film["file"]).stat().st_size
        assert len(film["seeks_ms"]) == 2 and min(film["seeks_ms"]) > 0


@needs_chromium
def test_the_player_shows_the_frame_and_refuses_another(clip: Path) -> None:
    with player(clip.parent, [clip.name, clip.name], Fraction(30)) as films:
        for frame in (41, 7, 59):
            films.seek(1, frame)
            picture = films.page.locator("video").nth(1).screenshot()
            with av.open(BytesIO(picture), format="png_pipe") as container:
                assert isinstance(container, av.container.InputContainer)
                shown = next(container.decode(video=0)).to_ndarray(format="gray")
            assert read_number(shown) == frame
        with pytest.raises(RuntimeError, match="is not frame 21"):
            replace(films, fps=Fraction(25)).seek(0, 21)

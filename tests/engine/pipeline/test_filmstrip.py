"""A clip at a glance: the right pictures in their order, the sound where it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from engine.media.probe import probe
from engine.pipeline.filmstrip import filmstrip, sound_peaks
from tests.clips import numbered_clip, read_number


def numbers(path: Path, count: int) -> list[int]:
    warnings: list[str] = []
    made = filmstrip(probe(path), count, 48, on_warning=warnings.append)
    assert not warnings and made.size.height == 48
    pictures = np.split(made.strip.y, count, axis=1)
    return [read_number(picture) for picture in pictures]


def test_pictures_are_the_middles_of_equal_shares(tmp_path: Path) -> None:
    path = numbered_clip(tmp_path / "a.mp4", 40, gop=1000, size=(96, 64))
    assert numbers(path, 4) == [0, 15, 25, 35]  # the first share holds the only key frame


def test_a_key_frame_that_is_near_is_taken(tmp_path: Path) -> None:
    path = numbered_clip(tmp_path / "a.mp4", 40, gop=8, size=(96, 64))
    assert numbers(path, 4) == [0, 16, 24, 32]


def test_more_pictures_than_frames(tmp_path: Path) -> None:
    path = numbered_clip(tmp_path / "a.mp4", 2, size=(96, 64))
    assert numbers(path, 5) == [0, 0, 1, 1, 1]


def test_peaks_lie_where_the_sound_is(tmp_path: Path) -> None:
    path = numbered_clip(tmp_path / "a.mp4", 60, sound="bursts", size=(96, 64))
    peaks = sound_peaks(probe(path), 20, on_warning=lambda _: None)
    assert peaks is not None and [n for n, peak in enumerate(peaks) if peak > 0.3] == [0, 10]
    silent = numbered_clip(tmp_path / "b.mp4", 5, size=(96, 64))
    assert sound_peaks(probe(silent), 20, on_warning=lambda _: None) is None

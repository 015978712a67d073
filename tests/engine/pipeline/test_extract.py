"""Cuts, checked by the numbers painted into their frames as the ffmpeg program decodes them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from engine.errors import Cancelled, EditError
from engine.geometry import Size
from engine.media.probe import probe
from engine.pipeline.cut import planned_cut
from engine.pipeline.exporter import export, probe_sources
from engine.pipeline.extract import Extracted, extract
from engine.timeline.edit import Clip, Edit
from engine.timeline.plan import build_plan
from tests.clips import numbered_clip, read_number
from tests.media import needs_ffmpeg
from tests.witness import (
    check_key_frames_are_beginnings,
    complaints,
    ffprobe,
    key_frames,
    luma_frames,
    run,
    samples,
)

pytestmark = needs_ffmpeg


def cut(clip: Path, start: str, stop: str) -> tuple[Path, Extracted]:
    made = clip.with_name("cut.mp4")
    return made, extract(probe(clip), start, stop, made, on_progress=lambda *_: None)


def numbers(path: Path) -> list[int]:
    return [read_number(luma) for luma in luma_frames(path)]


@pytest.mark.parametrize(
    ("start", "stop", "frames", "copied"),
    [
        ("0.5", "1.5", range(15, 45), range(24, 36)),
        ("0.41", "1.59", range(12, 48), range(12, 48)),
        ("0.4", "9", range(12, 60), range(12, 60)),
        ("1", "2", range(30, 60), range(36, 60)),
        ("0.5", "0.7", range(15, 21), range(0)),
    ],
)
def test_the_frames_of_the_range_and_no_others(
    tmp_path: Path, start: str, stop: str, frames: range, copied: range
) -> None:
    clip = numbered_clip(tmp_path / "a.mp4", 60, size=(64, 64), options={"bf": "3"})
    made, told = cut(clip, start, stop)
    assert numbers(made) == list(frames)
    assert (told.frames, told.frames_copied) == (len(frames), len(copied))
    assert told.frames_encoded == len(frames) - len(copied)
    assert not complaints(made)
    times = [float(each["pts_time"]) for each in ffprobe(made, "-show_frames")["frames"]]
    assert times == pytest.approx([n / 30 for n in range(len(frames))], abs=1e-3)


def test_copied_packets_are_the_source_s(tmp_path: Path) -> None:
    clip = numbered_clip(tmp_path / "a.mp4", 60, size=(64, 64))
    made, _ = cut(clip, "0.5", "1.5")
    before, after = (luma_frames(path) for path in (clip, made))
    assert (before[24:36] == after[24 - 15 : 36 - 15]).all()


def test_open_gops_are_not_cut_where_pictures_refer_across(tmp_path: Path) -> None:
    options = {"bf": "2", "x264-params": "open-gop=1:keyint=12:scenecut=0"}
    clip = numbered_clip(tmp_path / "a.mp4", 60, size=(64, 64), options=options)
    made, told = cut(clip, "0.5", "1.5")
    assert numbers(made) == list(range(15, 45))
    assert told.frames_copied == 0 and "closed GOP" in told.why
    assert not complaints(made)


@pytest.mark.parametrize(
    ("start", "stop", "frames", "copied"),
    [
        ("0.2", "1.3", range(6, 39), range(10, 34)),
        (str(Fraction(10, 30)), str(Fraction(24, 30)), range(10, 24), range(10, 24)),
        ("0", "9", range(40), range(40)),
    ],
)
def test_a_film_of_ours_is_cut_at_any_of_its_key_frames(
    start: str, stop: str, frames: range, copied: range, tmp_path: Path
) -> None:
    """Two chunks of 24 and 16 frames, with a key frame every 10 from the start of each."""
    source = numbered_clip(tmp_path / "source.mp4", 40, size=(64, 64))
    film = tmp_path / "film.mp4"
    edit = Edit(
        [Clip(source, trim_stop_s=0.8), Clip(source, trim_start_s=0.8)],
        target_size=Size(64, 64),
        key_interval_s=Fraction(1, 3),
    )
    export(build_plan(edit, probe_sources(edit)), film)
    assert key_frames(film) == [0, 10, 20, 24, 34]
    made, told = cut(film, start, stop)
    assert numbers(made) == list(frames)
    assert (told.frames, told.frames_copied) == (len(frames), len(copied))
    shown, whole = luma_frames(made), luma_frames(film)
    at = copied.start - frames.start
    assert (shown[at : at + len(copied)] == whole[copied.start : copied.stop]).all()
    keys = {0, *(key - frames.start for key in (10, 20, 24, 34) if key in frames)}
    assert set(key_frames(made)) == keys
    assert not complaints(made)


def test_what_is_encoded_has_key_frames_too(tmp_path: Path) -> None:
    clip = numbered_clip(tmp_path / "a.mov", 45, size=(64, 64), codec="mpeg4")
    made = tmp_path / "cut.mp4"
    extract(probe(clip), "0", None, made, on_progress=lambda *_: None, key_interval_s=0.5)
    assert key_frames(made) == [0, 15, 30]
    check_key_frames_are_beginnings(made, [0, 15, 30])


def test_what_cannot_be_copied_is_encoded_and_says_why(tmp_path: Path) -> None:
    clip = numbered_clip(tmp_path / "a.mov", 30, size=(64, 64), codec="mpeg4")
    made, told = cut(clip, "0.2", "0.8")
    assert numbers(made) == list(range(6, 24))
    assert told.frames_copied == 0 and "mpeg4" in told.why


def test_the_sound_is_cut_to_the_sample(tmp_path: Path) -> None:
    clip = numbered_clip(tmp_path / "a.mp4", 90, size=(64, 64), sound="bursts")
    made, _ = cut(clip, "0.5", "2.5")
    heard = samples(made)
    assert 96_000 <= len(heard) < 96_000 + 1024  # ffmpeg plays the padding of the last packet
    loud = abs(heard[:, 0]) > 0.2
    starts = [int(loud[n - 4800 : n + 9600].argmax()) + n - 4800 for n in (24_000, 72_000)]
    assert starts == pytest.approx([24_000, 72_000], abs=60)


def test_variable_frame_rates_are_kept(tmp_path: Path) -> None:
    times = [Fraction(n, 30) + Fraction(n % 3, 100) for n in range(60)]
    clip = numbered_clip(tmp_path / "a.mp4", 60, size=(64, 96), pts=times)
    made, told = cut(clip, "0.51", "1.52")
    wanted = [n for n in range(60) if n == 15 or Fraction("0.509") < times[n] < Fraction("1.519")]
    assert numbers(made) == wanted[-told.frames :]
    first = times[wanted[-told.frames]]
    shown = [float(each["pts_time"]) for each in ffprobe(made, "-show_frames")["frames"]]
    assert shown == pytest.approx(
        [float(times[n] - first) for n in wanted[-told.frames :]], abs=1e-3
    )


def test_ranges_without_a_frame_are_refused(tmp_path: Path) -> None:
    source = probe(numbered_clip(tmp_path / "a.mp4", 30, size=(64, 64)))
    with pytest.raises(EditError, match=r"^end: must be after the start at 0.5 s$"):
        planned_cut(source, "0.5", "0.5")
    with pytest.raises(EditError, match=r"^start: must be before the end at 1.000 s$"):
        planned_cut(source, "1", "2")


def test_no_end_is_the_end_and_an_end_past_it_is_told(tmp_path: Path) -> None:
    source = probe(numbered_clip(tmp_path / "a.mp4", 30, size=(64, 64)))
    assert planned_cut(source, "0.5", None) == planned_cut(source, "0.5", "9")
    warnings = {}
    for end in (None, "1", "9"):
        made = extract(source, "0.5", end, tmp_path / "cut.mp4", on_progress=lambda *_: None)
        assert made.frames == 15
        warnings[end] = made.warnings
    assert warnings[None] == warnings["1"] == ()
    assert warnings["9"] == ("end: 9 s is past the end of the file; clamped to 1.000 s",)


def test_a_cut_can_be_stopped_while_its_sound_is_encoded(tmp_path: Path) -> None:
    source = probe(numbered_clip(tmp_path / "a.mp4", 30, size=(64, 64), sound="bursts"))
    seen = []

    def stop(done: int, total: int) -> None:
        seen.append((done, total))
        raise Cancelled

    with pytest.raises(Cancelled):
        extract(source, "0", None, tmp_path / "cut.mp4", on_progress=stop)
    assert seen == [(0, 30)]
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_what_was_repaired_in_the_source_is_told(tmp_path: Path) -> None:
    clip = numbered_clip(tmp_path / "a.mp4", 30, size=(64, 64), options={"bf": "0"})
    odd = tmp_path / "odd.mkv"
    later = "setts=pts=PTS+if(eq(N\\,10)\\,400\\,0):dts=PTS+if(eq(N\\,10)\\,400\\,0)"
    run("ffmpeg", "-v", "fatal", "-i", clip, "-c", "copy", "-bsf:v", later, odd)
    source = probe(odd)
    assert source.repairs
    made = extract(source, "0", "0.5", tmp_path / "cut.mp4", on_progress=lambda *_: None)
    assert made.warnings == tuple(f"{odd}: {each}" for each in source.repairs)

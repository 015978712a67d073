"""`framestream extract`: the frames of a range, what it says of them, its errors, and Ctrl-C."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.clips import numbered_clip, read_number
from tests.engine.cli.program import framestream, interrupted
from tests.media import needs_ffmpeg
from tests.witness import complaints, ffprobe, luma_frames, run, samples


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds, with a key frame every 12 frames and a burst of sound every second."""
    return numbered_clip(tmp_path_factory.mktemp("match") / "a.mp4", 60, sound="bursts")


def numbers(path: Path) -> list[int]:
    return [read_number(luma) for luma in luma_frames(path)]


@needs_ffmpeg
def test_a_range_is_cut_and_told(clip: Path, tmp_path: Path) -> None:
    out, report = tmp_path / "cut.mp4", tmp_path / "report.json"
    done = framestream(
        "extract", clip, "--start", "0.5", "--end", "0:01.5", "-o", out, "--report", report
    )
    assert done.returncode == 0, done.stderr
    why = "frames before the first and after the last key frame of the range"
    assert done.stdout == (
        f"{out}: 1.000 s from 0.500 s on, 30 frames: 12 copied, 18 encoded ({why})\n"
    )
    assert done.stderr.startswith("mixing sound: 0/30 frames (0 %), 0.0 frames/s, ETA -:--\n")
    assert "\nrendering: 0/30 frames (0 %)" in done.stderr
    assert numbers(out) == list(range(15, 45))
    assert abs(len(samples(out)) - 48_000) <= 1024
    assert not complaints(out)
    assert json.loads(report.read_text()) == {
        "source": str(clip),
        "output": str(out),
        "frames": 30,
        "frames_copied": 12,
        "frames_encoded": 18,
        "why": why,
        "start_s": 0.5,
        "duration_s": 1.0,
        "warnings": [],
    }


@needs_ffmpeg
@pytest.mark.parametrize(
    ("words", "frames", "said"),
    [
        (["--start", "1"], range(30, 60), ""),
        (["--end", "0.1"], range(3), ""),
        (
            ["--start", "0:01.5", "--end", "1:02:03"],
            range(45, 60),
            "warning end: 3723 s is past the end of the file; clamped to 2.000 s\n",
        ),
    ],
)
def test_a_range_may_be_open(
    words: list[str], frames: range, said: str, clip: Path, tmp_path: Path
) -> None:
    done = framestream("extract", clip, *words, "-o", tmp_path / "cut.mp4", "-q")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", said)
    assert numbers(tmp_path / "cut.mp4") == list(frames)


@pytest.mark.parametrize(
    ("words", "exit_code", "said"),
    [
        (["gone.mp4"], 1, "gone.mp4: does not exist"),
        (["folder"], 1, "folder: is a folder, not a file"),
        (["text.mp4"], 1, "text.mp4: is not a video file that can be read"),
        (["tune.m4a"], 1, "tune.m4a: has no video stream"),
        (["a.mp4", "--start", "2"], 2, "start: must be before the end at 2.000 s"),
        (["a.mp4", "--start", "1", "--end", "1"], 2, "end: must be after the start at 1 s"),
        (["a.mp4", "--end", "0"], 2, "end: must be after the start at 0 s"),
        (["a.mp4", "--end", "1:60"], 2, "--end: 1:60 is not a time, like 12.5 or 1:02:03.5"),
        (["a.mp4", "--start", "-1"], 2, "--start: -1 is not a time, like 12.5 or 1:02:03.5"),
        (["a.mp4", "-o", "./a.mp4"], 1, "a.mp4: is the source; it is not overwritten"),
        (["a.mp4", "-o", "nowhere/cut.mp4"], 1, "nowhere/cut.mp4: there is no folder {0}/nowhere"),
        (["a.mp4", "-o", "folder"], 1, "folder: is a folder, not a file to write"),
        (["a.mp4", "-o", "cut.webm"], 1, "cut.webm: would hold another format than .webm"),
        (["a.mp4", "--report", "a.mp4"], 1, "a.mp4: is the source; it is not overwritten"),
        (["a.mp4", "--report", "cut.mp4"], 1, "cut.mp4: is the output; it is not overwritten"),
    ],
)
@needs_ffmpeg
def test_what_is_wrong_is_one_line(
    words: list[str],
    exit_code: int,
    said: str,
    clip: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.mp4").write_bytes(clip.read_bytes())
    (tmp_path / "text.mp4").write_text("not a film")
    (tmp_path / "folder").mkdir()
    run("ffmpeg", "-v", "error", "-f", "lavfi", "-i", "sine=d=0.1", "tune.m4a")
    before = sorted(tmp_path.iterdir())
    done = framestream("extract", "-o", "cut.mp4", *words)
    assert (done.returncode, done.stdout) == (exit_code, "")
    assert done.stderr.startswith(f"error {said.format(tmp_path)}"), done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "a.mp4").read_bytes() == clip.read_bytes()


def test_files_may_be_in_the_user_s_folder(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.mp4").write_bytes(clip.read_bytes())
    done = framestream("extract", "~/a.mp4", "--end", "1", "-o", "~/two\nlines.mp4")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("~/two\\nlines.mp4: 1.000 s from 0.000 s on, 30 frames")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "two\nlines.mp4"]
    refused = framestream("extract", "~/a.mp4", "-o", tmp_path / "a.mp4")
    assert refused.returncode == 1 and "is the source" in refused.stderr


@needs_ffmpeg
def test_ctrl_c_leaves_what_was_there(tmp_path: Path) -> None:
    film, out = tmp_path / "film.mov", tmp_path / "cut.mp4"
    run("ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=640x360:r=30:d=20",
        "-c:v", "mpeg4", "-q:v", "8", film)  # fmt: skip
    out.write_text("an older cut")
    done = interrupted(
        "extract", film, "--start", "1", "-o", out, once=lambda: [*tmp_path.glob(".*.partial")]
    )
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr.splitlines()[-1] == "cancelled; nothing was written"
    assert out.read_text() == "an older cut"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut.mp4", "film.mov"]


@needs_ffmpeg
def test_sound_is_kept_beside_the_picture(clip: Path, tmp_path: Path) -> None:
    framestream("extract", clip, "--start", "0.9", "-o", tmp_path / "cut.mp4", "-q")
    kinds = [each["codec_type"] for each in ffprobe(tmp_path / "cut.mp4")["streams"]]
    assert sorted(kinds) == ["audio", "video"]
    heard = abs(samples(tmp_path / "cut.mp4")[:, 0]) > 0.2
    assert abs(int(heard.argmax()) - 4800) < 60  # the burst at 1 s

"""`framestream concat`: films in order, with sound and chapters; its errors, Ctrl-C and resume."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.clips import numbered_clip, read_number
from tests.engine.cli.program import framestream, interrupted
from tests.media import needs_ffmpeg
from tests.witness import complaints, ffprobe, luma_frames, samples


def encoded(film: Path, *options: str) -> Path:
    """The film as this engine encodes it, which may be copied later."""
    own = film.with_name("own.mp4")
    assert framestream("concat", film, "-o", own, "-q", *options).returncode == 0
    return own


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """36 frames that this engine encoded, 24 of another encoder, and 30 of another codec."""
    folder = tmp_path_factory.mktemp("films")
    return [
        encoded(numbered_clip(folder / "a.mov", 36, sound="bursts", codec="mpeg4")),
        numbered_clip(folder / "b.mp4", 24, sound="bursts"),
        numbered_clip(folder / "c.mov", 30, sound="bursts", codec="mpeg4"),
    ]


@needs_ffmpeg
def test_films_stand_end_to_end_with_sound_and_chapters(films: list[Path], tmp_path: Path) -> None:
    out, report = tmp_path / "reel.mp4", tmp_path / "report.json"
    titles = ["--title", "Kick-off", "--title", "Goal", "--title", "Whistle"]
    done = framestream("concat", *films, "-o", out, *titles, "--report", report)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{out}: 3.000 s, 90 frames: 36 copied, 54 encoded by libx264 (")
    warnings = [line for line in done.stderr.splitlines() if line.startswith("warning ")]
    assert len(warnings) == 2
    assert f"{films[1]} is encoded again: its stream parameters" in warnings[0]
    assert f"{films[2]} is encoded again: it is mpeg4, not h264" in warnings[1]
    assert "rendering: " in done.stderr and "ETA" in done.stderr
    shown = [read_number(luma) for luma in luma_frames(out)]
    assert shown == [*range(36), *range(24), *range(30)]
    assert not complaints(out)
    chapters = [(each["tags"]["title"], float(each["start_time"])) for each in
                ffprobe(out)["chapters"]]  # fmt: skip
    assert chapters == [("Kick-off", 0), ("Goal", pytest.approx(1.2)), ("Whistle", 2)]
    heard = abs(samples(out)[:, 0]) > 0.2
    for burst_s in (1.0, 1.2, 2.0):  # each film has one at its whole seconds
        window = heard[round((burst_s - 0.02) * 48_000) : round((burst_s + 0.02) * 48_000)]
        assert abs(int(window.argmax()) - 960) < 96, burst_s
    assert json.loads(report.read_text())["frames"] == 90


@needs_ffmpeg
def test_a_transition_and_no_sound(films: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "reel.mp4"
    done = framestream(
        "concat", *films[:2], "-o", out, "--transition", "dissolve", "--duration", "0.2",
        "--no-audio", "-q",
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "")
    streams = ffprobe(out)["streams"]
    assert [each["codec_type"] for each in streams if each["codec_type"] == "audio"] == []
    shown = luma_frames(out)
    assert len(shown) == 36 + 24 - 6
    assert [read_number(luma) for luma in shown[:30]] == list(range(30))
    assert [read_number(luma) for luma in shown[36:]] == list(range(6, 24))


@pytest.mark.parametrize(
    ("words", "exit_code", "said"),
    [
        (["gone.mp4"], 1, "gone.mp4: does not exist"),
        (["folder"], 1, "folder: is a folder, not a file"),
        (["text.mp4"], 1, "text.mp4: is not a video file that can be read"),
        (["a.mp4", "-o", "a.mp4"], 1, "a.mp4: is one of the sources; it is not overwritten"),
        (["a.mp4", "-o", "nowhere/out.mp4"], 1, "nowhere/out.mp4: there is no folder"),
        (["a.mp4", "--report", "a.mp4"], 1, "a.mp4: is one of the sources; it is not overwritten"),
        (["a.mp4", "--duration", "1"], 2, "--duration: a cut has none; --transition dissolve or"),
        (["a.mp4", "--transition", "fade", "--duration", "x"], 2, "--duration: x is not a time"),
        (["a.mp4", "--transition", "fade", "--duration", "61"], 2, "duration: must be at most 60"),
        (["a.mp4", "--title", "x"], 2, "--title: must be given once per film: 1 for 2 films"),
        (["a.mp4", "--encoder", "magic"], 2, "there is no encoder 'magic'"),
        (["a.mp4", "--encoder-option", "bf"], 2, "--encoder-option bf: is not KEY=VALUE"),
    ],
)
def test_what_is_wrong_is_one_line(
    words: list[str], exit_code: int, said: str, films: list[Path], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.mp4").write_bytes(films[1].read_bytes())
    (tmp_path / "text.mp4").write_text("not a film")
    (tmp_path / "folder").mkdir()
    before = sorted(tmp_path.iterdir())
    done = framestream("concat", "-o", "out.mp4", films[0], *words)
    assert (done.returncode, done.stdout) == (exit_code, "")
    assert done.stderr.startswith(f"error {said}"), done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "a.mp4").read_bytes() == films[1].read_bytes()


@needs_ffmpeg
def test_ctrl_c_leaves_no_film_and_the_same_command_goes_on(tmp_path: Path) -> None:
    slowly = ["--preset", "placebo"]
    own = encoded(numbered_clip(tmp_path / "a.mov", 12, codec="mpeg4"), *slowly)
    other = numbered_clip(tmp_path / "b.mov", 150, codec="mpeg4")
    out, report = tmp_path / "reel.mp4", tmp_path / "report.json"
    parts = tmp_path / "reel.mp4.parts"
    command: list[str | Path] = ["concat", own, other, "-o", out, "--report", report, *slowly]
    done = interrupted(*command, once=lambda: [*parts.glob("[!.]*.json")])
    assert (done.returncode, done.stdout) == (130, "")
    assert "cancelled; finished chunks are kept" in done.stderr
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"a.mov", "b.mov", "own.mp4", "reel.mp4.parts"}
    again = framestream(*command)
    assert again.returncode == 0, again.stderr
    resumed = json.loads(report.read_text())["frames_resumed"]
    assert resumed >= 12 and f"({resumed} kept from an earlier run)" in again.stdout
    assert [read_number(luma) for luma in luma_frames(out)] == [*range(12), *range(150)]
    assert not parts.exists()

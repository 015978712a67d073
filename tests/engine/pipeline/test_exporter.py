"""Whole exports of clips that carry their frame numbers, read back by the ffmpeg program."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction as F
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from engine.errors import Cancelled, DecodeError, EditError, EngineError, SourceError
from engine.geometry import Rect, Size
from engine.media.encoders import Encoder, choose_encoder
from engine.pipeline.cache import StoreCache
from engine.pipeline.chunk_pictures import OpenSources
from engine.pipeline.chunk_store import ChunkStore
from engine.pipeline.exporter import Listener, export, probe_sources
from engine.pipeline.progress import Phase, Progress
from engine.pipeline.render import render_chunk
from engine.pipeline.report import Report
from engine.storage import LocalStore
from engine.timeline.chunks import cut_into_chunks
from engine.timeline.edit import Clip, CropKeyframe, Edit, SpeedSegment, Transition
from engine.timeline.plan import Plan, build_plan
from engine.upscale.stage import PlainResampler
from tests.clips import numbered_clip, read_number
from tests.media import needs_ffmpeg
from tests.witness import (
    check_key_frames_are_beginnings,
    complaints,
    ffprobe,
    key_frames,
    luma_frames,
    samples,
    video_stream,
)

pytestmark = needs_ffmpeg

SIZE = Size(240, 144)


def plan_of(
    folder: Path,
    *clips: Clip,
    transitions: Transition | Sequence[Transition] = Transition(),  # noqa: B008
    fps: F | float = 30,
    size: Size = SIZE,
    sound: bool = False,
) -> Plan:
    edit = Edit(clips, transitions, fps, size, include_audio=sound)
    return build_plan(edit, probe_sources(edit, folder))


def encoder_for(plan: Plan, **options: str) -> Encoder:
    return choose_encoder(plan.size, plan.fps, name="libx264", preset="ultrafast", options=options)


def exported(plan: Plan, destination: Path, **options: str) -> Report:
    return export(plan, destination, encoder=encoder_for(plan, **options))


def numbers(path: Path) -> list[int]:
    assert complaints(path) == ""
    return [read_number(luma) for luma in luma_frames(path)]


def shown(times_s: Sequence[F], at_s: Sequence[F]) -> list[int]:
    """The last frame that starts by each time (and 1 ms), found by looking at every one."""
    return [max(n for n, t in enumerate(times_s) if t <= at + F(1, 1000)) for at in at_s]


CLIPS: dict[str, dict[str, Any]] = {
    "cfr": {"fps": 30},
    "60 to 30": {"fps": 60},
    "25 to 30": {"fps": 25},
    "29.97 to 30": {"fps": F(30000, 1001)},
    "one key frame": {"fps": 30, "gop": 1000},
    "B-frames, open GOP": {
        "fps": 30,
        "options": {"bf": "3", "x264-params": "open-gop=1:keyint=10"},
    },
    "variable": {"pts": [F(n * n % 7 + 40 * n, 1000) for n in range(60)]},
    "starts at 8 s": {"pts": [8 + F(n, 30) for n in range(60)]},
}


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
@pytest.mark.parametrize("kind", CLIPS)
def test_every_frame_is_the_right_one(kind: str, suffix: str, tmp_path: Path) -> None:
    """Trim, quarter speed and four times speed over clips of every kind of timing."""
    source = tmp_path / f"a{suffix}"
    numbered_clip(source, 60, **CLIPS[kind])
    times_s = CLIPS[kind].get("pts") or [n / F(CLIPS[kind]["fps"]) for n in range(60)]
    trim = F(1, 5), F(19, 20)
    speeds = [SpeedSegment(F(2, 5), F(3, 5), F(1, 4)), SpeedSegment(F(3, 5), F(4, 5), 4)]
    plan = plan_of(tmp_path, Clip(source.name, (), *trim, speeds))

    exported(plan, tmp_path / "out.mp4")

    # retimed: 0.2 s at 1x, 0.2 s at 0.25x = 0.8 s, 0.2 s at 4x = 0.05 s, 0.15 s at 1x = 1.2 s
    def source_s(out_s: F) -> F:
        if out_s < F(1, 5):
            return trim[0] + out_s
        if out_s < 1:
            return F(2, 5) + (out_s - F(1, 5)) / 4
        if out_s < F(21, 20):
            return F(3, 5) + (out_s - 1) * 4
        return F(4, 5) + out_s - F(21, 20)

    expected = shown([t - times_s[0] for t in times_s], [source_s(F(k, 30)) for k in range(36)])
    assert numbers(tmp_path / "out.mp4") == expected


def test_dissolve_and_fade_blend_the_right_frames(tmp_path: Path) -> None:
    """In the middle of a dissolve of clips of flat grey, half of each; in a fade, towards black."""
    for name, level in (("a", 60), ("b", 180), ("c", 120)):
        subprocess.run(
            ["ffmpeg", "-v", "error", "-f", "lavfi", "-i",
             f"color=gray:s=96x64:r=30:d=1,geq=lum={level}:cb=128:cr=128",
             "-pix_fmt", "yuv420p", "-qp", "0", tmp_path / f"{name}.mp4"],
            check=True,
        )  # fmt: skip
    plan = plan_of(
        tmp_path,
        *[Clip(f"{name}.mp4") for name in "abc"],
        transitions=[Transition("dissolve", 0.1), Transition("fade", 0.1)],
        size=Size(96, 64),
    )
    exported(plan, tmp_path / "out.mp4", crf="0", profile="high444")
    levels = luma_frames(tmp_path / "out.mp4").mean((1, 2))
    assert len(levels) == 87
    assert levels[26:31].tolist() == pytest.approx([60, 90, 120, 150, 180], abs=1)
    # frames 54, 55, 56 fade out to 16; 57, 58, 59 come from it
    ramp = [16 + 164 * w for w in (0.75, 0.5, 0.25)] + [16 + 104 * w for w in (0.25, 0.5, 0.75)]
    assert levels[54:60].tolist() == pytest.approx(ramp, abs=1)


def test_sub_pixel_pan_does_not_shake(tmp_path: Path) -> None:
    """A crop that moves 0.3 source pixels a frame: the edge lies within 0.25 px of the ideal."""
    source = tmp_path / "edge.mkv"
    subprocess.run(
        ["ffmpeg", "-v", "error", "-f", "lavfi", "-i",
         "color=black:s=320x96:r=30:d=1,format=gray,geq=lum='if(lt(X,160),30,220)',format=yuv420p",
         "-c:v", "ffv1", source],
        check=True,
    )  # fmt: skip
    size = Size(240, 144)
    keyframes = [CropKeyframe(0, Rect(80, 0, 160, 96)), CropKeyframe(1, Rect(89, 0, 160, 96))]
    plan = plan_of(tmp_path, Clip("edge.mkv", keyframes), size=size)
    exported(plan, tmp_path / "out.mp4", crf="1")
    rows = luma_frames(tmp_path / "out.mp4")[:, 60:80].mean(1)
    dark, bright = rows[:, :20].mean(), rows[:, -20:].mean()
    edges = size.width - ((rows - dark) / (bright - dark)).sum(1)
    ideal = (160 - (80 + 0.3 * np.arange(30))) * 1.5
    assert np.abs(edges - ideal).max() < 0.25


def test_sound_fits_the_picture_to_the_sample(tmp_path: Path) -> None:
    numbered_clip(tmp_path / "a.mp4", 90, sound="bursts")
    plan = plan_of(tmp_path, Clip("a.mp4", trim_stop_s=2), Clip("a.mp4"), sound=True, fps=29.97)
    exported(plan, tmp_path / "out.mp4")
    sound = samples(tmp_path / "out.mp4")
    assert abs(len(sound) - round(plan.frame_count * 48_000 * 1001 / 30_000)) <= 1024
    loud = np.abs(sound[:, 0]) > 0.1
    starts = [at for at in np.flatnonzero(loud) if not loud[max(0, at - 4800) : at].any()]
    second = round(plan.clips[1].frames.start * 48_000 * 1001 / 30_000)
    ideal = [0, 48_000, second, second + 48_000, second + 96_000]
    assert np.abs(np.array(starts) - ideal).max() < 144


def test_the_file_is_what_players_want(tmp_path: Path) -> None:
    numbered_clip(tmp_path / "a.mp4", 30, sound="bursts")
    plan = plan_of(
        tmp_path,
        Clip("a.mp4", title="Erste Hälfte"),
        Clip("a.mp4"),
        transitions=Transition("dissolve", 0.2),
        sound=True,
    )
    exported(plan, tmp_path / "out.mp4")
    facts = ffprobe(tmp_path / "out.mp4")
    video, sound = facts["streams"][:2]
    wanted = {
        "codec_name": "h264",
        "profile": "High",
        "pix_fmt": "yuv420p",
        "color_space": "bt709",
        "color_primaries": "bt709",
        "color_transfer": "bt709",
        "color_range": "tv",
        "sample_aspect_ratio": "1:1",
        "r_frame_rate": "30/1",
        "start_time": "0.000000",
        "nb_frames": "54",
    }
    assert {key: video[key] for key in wanted} | {"profile": "High"} == wanted
    assert (sound["codec_name"], sound["profile"]) == ("aac", "LC")
    assert (sound["sample_rate"], sound["channels"]) == ("48000", 2)
    assert sound["start_time"] == "0.000000"
    chapters = [(each["tags"]["title"], each["start_time"]) for each in facts["chapters"]]
    assert chapters == [("Erste Hälfte", "0.000000"), ("a", "0.800000")]
    data = (tmp_path / "out.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("footage")
    for name in "abc":
        numbered_clip(folder / f"{name}.mp4", 300, gop=100, sound="bursts", options={"bf": "3"})
    return folder


@pytest.fixture
def three_clips(footage: Path, tmp_path: Path) -> Plan:
    """Eight chunks of clips with B-frames, pan, slow motion, a dissolve and a fade."""
    for clip in footage.iterdir():
        shutil.copy(clip, tmp_path)
    return three_clips_again(tmp_path)


def three_clips_again(folder: Path) -> Plan:
    """The plan of `three_clips` over files that are already there."""
    pan = [CropKeyframe(0, Rect(0, 0, 140, 84)), CropKeyframe(9, Rect(17.5, 9.1, 140, 84))]
    return plan_of(
        folder,
        Clip("a.mp4", pan),
        Clip("b.mp4", speed_segments=[SpeedSegment(1, 3, 0.5)]),
        Clip("c.mp4", pan, trim_start_s=2.02),
        transitions=[Transition("dissolve", 0.5), Transition("fade", 0.5)],
        sound=True,
    )


def test_chunks_in_any_order_are_the_same_frames(three_clips: Plan, tmp_path: Path) -> None:
    encoder = encoder_for(three_clips)
    whole = export(three_clips, tmp_path / "whole.mp4", encoder=encoder)
    chunks = cut_into_chunks(three_clips, stage_key=lambda _: "bicubic", encoder_key=encoder.key)
    hashes = {}
    for chunk in np.random.default_rng(7).permutation(np.array(chunks, object)):
        with OpenSources(
            lambda _: PlainResampler(), strict=True, on_warning=lambda _, text: pytest.fail(text)
        ) as sources:
            rendered = render_chunk(
                chunk,
                sources,
                encoder,
                tmp_path / "chunk.mp4",
                following=None,
                on_frame=lambda: None,
                while_waiting=lambda: None,
            )
        hashes[chunk.digest] = rendered.frame_hash
    assert hashes == {each.digest: each.frame_hash for each in whole.chunks}


RESUMABLE = """
import os, sys
from pathlib import Path
from tests.engine.pipeline.test_exporter import encoder_for, three_clips_again
from engine.pipeline.exporter import export
folder = Path(sys.argv[1])
plan = three_clips_again(folder)
while sys.stdin.readline():  # each line is another try, by a process that starts as this one is
    child = os.fork()
    if child == 0:
        export(plan, folder / "killed.mp4", encoder=encoder_for(plan))
        os._exit(0)
    print(child, flush=True)
    sys.stdin.readline()
    os.waitpid(child, 0)
    print("ended", flush=True)
"""


def test_killed_again_and_again_it_ends_in_the_same_film(three_clips: Plan, tmp_path: Path) -> None:
    whole = exported(three_clips, tmp_path / "whole.mp4")
    shown, heard = (seen(tmp_path / "whole.mp4") for seen in (luma_frames, samples))
    target = tmp_path / "killed.mp4"
    moments = np.random.default_rng(3).uniform(0.05, 0.8, 10)
    with subprocess.Popen(
        [sys.executable, "-c", RESUMABLE, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        for moment_s in moments:
            process.stdin.write("start\n")
            child = int(process.stdout.readline())
            time.sleep(moment_s)
            os.kill(child, signal.SIGKILL)
            process.stdin.write("bury\n")
            assert process.stdout.readline() == "ended\n"
            assert not target.exists() or np.array_equal(luma_frames(target), shown)
    resumed = exported(three_clips, target)
    assert [each.frame_hash for each in resumed.chunks] == [c.frame_hash for c in whole.chunks]
    assert complaints(target) == "" and np.array_equal(luma_frames(target), shown)
    np.testing.assert_allclose(samples(target), heard, atol=0.01)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a.mp4", "b.mp4", "c.mp4", "killed.mp4", "whole.mp4",
    ]  # fmt: skip


def test_changing_one_clip_renders_only_its_chunks(three_clips: Plan, tmp_path: Path) -> None:
    encoder = encoder_for(three_clips)
    export(three_clips, tmp_path / "out.mp4", encoder=encoder, keep_parts=True)
    changed = plan_of(
        tmp_path,
        Clip("a.mp4"),
        Clip("b.mp4", speed_segments=[SpeedSegment(1, 3, 0.5)]),
        transitions=Transition("dissolve", 0.5),
        sound=True,
    )
    again = export(changed, tmp_path / "out.mp4", encoder=encoder)
    # a is new, and so is what it dissolves into; b keeps its first chunk and loses its fade
    assert [(each.start_frame, each.stop_frame, each.resumed) for each in again.chunks] == [
        (0, 240, False),
        (240, 285, False),
        (285, 300, False),
        (300, 540, True),
        (540, 645, False),
    ]


def test_another_key_interval_is_another_film(tmp_path: Path) -> None:
    """28 frames and 21 after a cut: the key frames count from the start of each chunk."""
    numbered_clip(tmp_path / "a.mp4", 49)
    clips = (Clip("a.mp4", trim_stop_s=F(28, 30)), Clip("a.mp4", trim_start_s=F(28, 30)))
    plan, out = plan_of(tmp_path, *clips), tmp_path / "out.mp4"
    cache = StoreCache(LocalStore(tmp_path / "cache"))

    def export_at(interval_s: F | None) -> Report:
        given = replace(plan, key_interval_s=interval_s)
        encoder = choose_encoder(
            plan.size, plan.fps, name="libx264", preset="ultrafast", key_interval_s=interval_s
        )
        return export(given, out, encoder=encoder, cache=cache)

    first = export_at(F(1, 2))
    assert (first.frames_resumed, first.key_interval) == (0, 15)
    assert key_frames(out) == [0, 15, 28, 43]
    second = export_at(None)
    assert (second.frames_resumed, second.key_interval) == (0, 60)
    assert key_frames(out) == [0, 28]
    again = export_at(F(1, 2))
    assert again.frames_resumed == 49
    assert key_frames(out) == [0, 15, 28, 43] and numbers(out) == list(range(49))
    check_key_frames_are_beginnings(out, [0, 15, 28, 43])


def test_the_key_interval_of_the_edit_counts_where_no_encoder_is_given(tmp_path: Path) -> None:
    numbered_clip(tmp_path / "a.mp4", 25, 25, size=(64, 48))
    edit = Edit([Clip("a.mp4")], target_fps=25, target_size=Size(64, 48), key_interval_s=F(2, 5))
    report = export(build_plan(edit, probe_sources(edit, tmp_path)), tmp_path / "out.mp4")
    assert report.key_interval == 10
    assert key_frames(tmp_path / "out.mp4") == [0, 10, 20]


def test_a_torn_part_is_rendered_again(tmp_path: Path) -> None:
    numbered_clip(tmp_path / "a.mp4", 30)
    plan = plan_of(tmp_path, Clip("a.mp4"))
    out = tmp_path / "out.mp4"
    export(plan, out, encoder=encoder_for(plan), keep_parts=True)
    part = next((tmp_path / "out.mp4.parts").glob("*.mp4"))
    part.write_bytes(part.read_bytes()[:-100])
    again = export(plan, out, encoder=encoder_for(plan), keep_parts=True)
    assert again.frames_rendered == 30
    assert exported(plan, out).frames_resumed == 30


def test_cancel_stops_soon_and_keeps_what_is_finished(three_clips: Plan, tmp_path: Path) -> None:
    seen: list[Progress] = []
    listener = Listener(
        on_progress=seen.append, should_stop=lambda: bool(seen) and seen[-1].chunks_done != ()
    )
    out = tmp_path / "out.mp4"
    with pytest.raises(Cancelled):
        export(three_clips, out, encoder=encoder_for(three_clips), listener=listener)
    assert not out.exists()
    assert not list(tmp_path.rglob("*.partial"))
    again = exported(three_clips, out)
    assert 0 < again.frames_resumed <= seen[-1].frames_done


def test_progress_is_monotone_and_ends_at_the_end(tmp_path: Path) -> None:
    numbered_clip(tmp_path / "a.mp4", 60)
    plan = plan_of(tmp_path, Clip("a.mp4"), Clip("a.mp4"))
    seen: list[Progress] = []
    listener = Listener(on_progress=seen.append)
    export(plan, tmp_path / "out.mp4", encoder=encoder_for(plan), listener=listener)
    done = [each.frames_done for each in seen]
    assert done == sorted(done)
    assert (seen[-1].phase, done[-1], seen[-1].frames_total) == (Phase.DONE, 120, 120)


def test_two_exports_do_not_share_a_folder(tmp_path: Path) -> None:
    numbered_clip(tmp_path / "a.mp4", 30)
    plan = plan_of(tmp_path, Clip("a.mp4"))
    with (
        ChunkStore(tmp_path / "out.mp4.parts").locked(),
        pytest.raises(EngineError, match="another export is working here"),
    ):
        exported(plan, tmp_path / "out.mp4")


def test_a_source_is_never_overwritten(tmp_path: Path) -> None:
    source = numbered_clip(tmp_path / "a.mp4", 30)
    before = source.read_bytes()
    with pytest.raises(EngineError, match="is one of the sources"):
        exported(plan_of(tmp_path, Clip("a.mp4")), source)
    assert source.read_bytes() == before


def test_a_missing_folder_and_a_folder_as_output(tmp_path: Path) -> None:
    numbered_clip(tmp_path / "a.mp4", 30)
    plan = plan_of(tmp_path, Clip("a.mp4"))
    with pytest.raises(EngineError, match="there is no folder"):
        exported(plan, tmp_path / "nowhere" / "out.mp4")
    with pytest.raises(EngineError, match="is a folder"):
        exported(plan, tmp_path)


def test_a_bad_source_is_named_with_its_clip(tmp_path: Path) -> None:
    numbered_clip(tmp_path / "a.mp4", 30)
    (tmp_path / "text.mp4").write_text("not a film")
    for name in ("missing.mp4", "text.mp4"):
        edit = Edit([Clip("a.mp4"), Clip(name)])
        with pytest.raises(EditError, match=rf"clips\[1\]\.fileName: .*{name}") as caught:
            probe_sources(edit, tmp_path)
        assert "\n" not in str(caught.value)


def test_a_file_that_changed_after_planning_is_refused(tmp_path: Path) -> None:
    source = numbered_clip(tmp_path / "a.mp4", 30)
    plan = plan_of(tmp_path, Clip("a.mp4"))
    numbered_clip(source, 30, gop=5)
    with pytest.raises(SourceError, match=r"a\.mp4: has changed since the export was planned"):
        exported(plan, tmp_path / "out.mp4")
    source.unlink()
    with pytest.raises(SourceError, match=r"a\.mp4: cannot be read any more: No such file"):
        exported(plan, tmp_path / "out.mp4")
    assert list(tmp_path.iterdir()) == []


def test_a_truncated_file_fails_and_leaves_nothing(tmp_path: Path) -> None:
    source = numbered_clip(
        tmp_path / "a.mp4", 120, container_options={"movflags": "+faststart"}, gop=30
    )
    source.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    with pytest.raises(DecodeError, match=r"clips\[0\]: .*a\.mp4: at \d"):
        exported(plan_of(tmp_path, Clip("a.mp4")), tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()
    assert not list(tmp_path.rglob("*.partial"))


def test_warnings_of_damage_are_told_again_when_the_chunk_is_found(tmp_path: Path) -> None:
    """And under `strict` nothing of a damaged file is taken from an earlier run."""
    source = numbered_clip(tmp_path / "a.mp4", 60, gop=12)
    with av.open(source) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        place, size = packets[27].pos, packets[27].size
    data = bytearray(source.read_bytes())
    assert place is not None
    data[place + 4 : place + size] = bytes(size - 4)
    source.write_bytes(data)
    plan = plan_of(tmp_path, Clip("a.mp4"))
    out = tmp_path / "out.mp4"
    first = export(plan, out, encoder=encoder_for(plan), keep_parts=True)
    again = export(plan, out, encoder=encoder_for(plan), keep_parts=True)
    assert first.warnings and set(again.warnings) == set(first.warnings)
    assert again.frames_resumed == 60
    with pytest.raises(EngineError, match=r"clips\[0\]: .*a\.mp4"):
        export(plan, out, encoder=encoder_for(plan), keep_parts=True, strict=True)


def test_odd_sizes_and_one_frame(tmp_path: Path) -> None:
    numbered_clip(tmp_path / "a.mkv", 1, size=(161, 121), codec="ffv1", gop=1)
    plan = plan_of(tmp_path, Clip("a.mkv"))
    exported(plan, tmp_path / "out.mp4")
    assert video_stream(tmp_path / "out.mp4")["nb_frames"] == "1"
    assert len(luma_frames(tmp_path / "out.mp4")) == 1

"""Exports of files from real cameras, phones and broadcasts, seen by the ffmpeg program."""

from __future__ import annotations

import subprocess
from fractions import Fraction as F
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from engine import (
    Clip,
    CropKeyframe,
    Edit,
    Plan,
    Rect,
    Report,
    Size,
    Transition,
    build_plan,
    choose_encoder,
    export,
    probe_sources,
)
from engine.errors import DecodeError
from engine.source import SourceInfo, Transfer
from engine.timeline.edit import SpeedSegment
from tests.media import needs_ffmpeg, real_media
from tests.witness import complaints, ffprobe, run, video_stream

pytestmark = needs_ffmpeg

WHOLE_FILES = [
    "animation_720p25_aac_5_1.mp4",
    "ball_juggle_720p24_noaudio_one_keyframe.mp4",
    "bear_vp9_161x121_odd_size.webm",
    "camcorder_1080i50_h264_ac3.mts",
    "gopro_fullrange_gpmf_tracks_480p.mp4",
    "iphone_portrait_h264_rot90_mono44k.mov",
    "iphone_portrait_hevc10_hlg_vfr_editlist.mp4",
    "kodak_mjpeg_422_fullrange_pcm22k.avi",
    "park_starts_at_8s_h264_aac.mp4",
    "phone_portrait_av1_10bit_hdr10_pq_audio.mp4",
    "screenrec_macos_60fps_preroll_noaudio.mov",
    "talking_head_720p_3_chapters.mp4",
    "traffic_cam_720p_vfr_longgop_noaudio.mp4",
]
DAMAGED_FILE = "testcard_h264_damaged_mid_stream.mp4"


def exported(plan: Plan, out: Path, *, quality: float = 20, strict: bool = False) -> Report:
    encoder = choose_encoder(
        plan.size, plan.fps, name="libx264", preset="ultrafast", quality=quality
    )
    return export(plan, out, encoder=encoder, strict=strict)


def check_file(plan: Plan, out: Path) -> None:
    assert complaints(out) == ""
    facts = ffprobe(out, "-count_frames")
    video = facts["streams"][0]
    assert int(video["nb_read_frames"]) == plan.frame_count
    assert (video["width"], video["height"]) == (plan.size.width, plan.size.height)
    assert "rotation" not in str(video.get("side_data_list"))
    kinds = [stream["codec_type"] for stream in facts["streams"]]
    assert kinds == ["video", "audio", "data"]  # the last is the chapters' text
    sound = facts["streams"][1]
    assert abs(F(sound["duration"]) * 48_000 - plan.sample_count) <= 1024
    tags = str(facts["format"]["tags"]) + str(video["tags"])
    assert "location" not in tags and "Apple" not in tags


def small(source: SourceInfo, long_side: int = 256) -> Size:
    """The display size shrunk, to even sides."""
    scale = long_side / max(source.display_size.width, source.display_size.height)
    width, height = source.display_size.width * scale, source.display_size.height * scale
    return Size(2 * round(width / 2), 2 * round(height / 2))


@pytest.mark.parametrize("name", WHOLE_FILES)
def test_whole_file(name: str, tmp_path: Path) -> None:
    """Every planned frame, upright, in the colours ffmpeg makes of it."""
    path = real_media(name)
    edit = Edit([Clip(path, trim_stop_s=4)])
    (source,) = probe_sources(edit)
    whole = CropKeyframe(0, Rect(0, 0, source.display_size.width, source.display_size.height))
    edit = Edit([Clip(path, [whole], trim_stop_s=4)], target_size=small(source), fit="stretch")
    plan = build_plan(edit, [source])
    report = exported(plan, tmp_path / "out.mp4", quality=3)
    assert [each for each in report.warnings if "past the end" not in each] == []
    check_file(plan, tmp_path / "out.mp4")
    if source.colour.transfer is Transfer.SDR:
        ours, theirs = first_frame(tmp_path / "out.mp4", None), first_frame(path, source, plan.size)
        for mine, witness in zip(ours, theirs, strict=True):
            assert np.abs(mine.astype(int) - witness).mean() < 2


def first_frame(
    path: Path, source: SourceInfo | None, size: Size | None = None
) -> list[NDArray[np.uint8]]:
    """The planes of the first frame as ffmpeg converts it, BT.709 limited range."""
    filters = "format=yuv420p"
    if source is not None and size is not None:
        matrix = {"bt601": "bt601", "bt709": "bt709"}[source.colour.matrix]
        colours = (
            f"in_color_matrix={matrix}:in_range={'pc' if source.colour.full_range else 'tv'}"
            ":out_color_matrix=bt709:out_range=tv"
        )
        scale = f"scale={size.width}:{size.height}:flags=bicubic+accurate_rnd:{colours}"
        deinterlace = "bwdif=mode=send_frame," if source.interlaced else ""
        filters = f"{deinterlace}{scale},format=yuv420p"
    if size is None:
        stream = video_stream(path)
        size = Size(stream["width"], stream["height"])
    raw = run("ffmpeg", "-v", "error", "-i", path, "-map", "0:v:0", "-frames:v", "1", "-vf",
              filters, "-f", "rawvideo", "-")  # fmt: skip
    data = np.frombuffer(raw, np.uint8)
    luma, chroma = size.width * size.height, size.width * size.height // 4
    return [data[:luma], data[luma : luma + chroma], data[luma + chroma :]]


@pytest.mark.parametrize("name", WHOLE_FILES)
def test_pan_trim_slow_and_fast(name: str, tmp_path: Path) -> None:
    path = real_media(name)
    (source,) = probe_sources(Edit([Clip(path)]))
    size, end_s = source.display_size, min(F(3), source.duration_s)
    width = min(size.width / 2, size.height * 9 / 16)
    height = width * 16 / 9
    pan = [
        CropKeyframe(0, Rect(0, 0, width, height)),
        CropKeyframe(end_s, Rect(size.width - width, size.height - height, width, height)),
    ]
    speeds = [SpeedSegment(end_s / 5, end_s * 2 / 5, 0.5), SpeedSegment(end_s / 2, end_s, 2)]
    clip = Clip(path, pan, trim_start_s=end_s / 10, trim_stop_s=end_s, speed_segments=speeds)
    plan = build_plan(Edit([clip], target_size=Size(108, 192)), [source])
    report = exported(plan, tmp_path / "out.mp4")
    assert report.frames == plan.frame_count
    check_file(plan, tmp_path / "out.mp4")


def test_a_damaged_file_is_held_with_a_warning_or_refused(tmp_path: Path) -> None:
    path = real_media(DAMAGED_FILE)
    edit = Edit([Clip(path)], target_size=Size(256, 144))
    plan = build_plan(edit, probe_sources(edit))
    report = exported(plan, tmp_path / "out.mp4")
    assert plan.frame_count == 150
    assert [each.split("mp4: ")[1] for each in report.warnings] == [
        "3.000 to 3.100 s: missing, the picture before it is held",
        "3.200 to 3.300 s: damaged, shown as the decoder repaired it",
    ]
    assert all(each.startswith("clips[0]: ") for each in report.warnings)
    assert complaints(tmp_path / "out.mp4") == ""
    with pytest.raises(DecodeError, match=rf"clips\[0\]: .*{DAMAGED_FILE}: at 3\."):
        exported(plan, tmp_path / "strict.mp4", strict=True)
    assert not (tmp_path / "strict.mp4").exists()


def test_a_truncated_file_is_an_error_that_names_file_and_time(tmp_path: Path) -> None:
    whole = real_media("ball_juggle_720p24_noaudio_one_keyframe.mp4")
    moved = tmp_path / "index_in_front.mp4"
    run("ffmpeg", "-v", "error", "-i", whole, "-c", "copy", "-movflags", "+faststart", moved)
    moved.write_bytes(moved.read_bytes()[: moved.stat().st_size // 3])
    edit = Edit([Clip(moved)], target_size=Size(128, 72))
    with pytest.raises(DecodeError, match=r"index_in_front\.mp4: at \d"):
        exported(build_plan(edit, probe_sources(edit)), tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()


def test_one_edit_of_everything(tmp_path: Path) -> None:
    """Portrait phone, 10-bit HLG, variable frame rate, PQ, interlaced and 5.1 sound, dissolved."""
    names = [
        "iphone_portrait_h264_rot90_mono44k.mov",
        "iphone_portrait_hevc10_hlg_vfr_editlist.mp4",
        "traffic_cam_720p_vfr_longgop_noaudio.mp4",
        "animation_720p25_aac_5_1.mp4",
        "phone_portrait_av1_10bit_hdr10_pq_audio.mp4",
        "camcorder_1080i50_h264_ac3.mts",
    ]
    clips = [Clip(real_media(name), trim_stop_s=1) for name in names]
    edit = Edit(clips, Transition("dissolve", 0.2), target_size=Size(270, 480))
    plan = build_plan(edit, probe_sources(edit))
    exported(plan, tmp_path / "out.mp4")
    check_file(plan, tmp_path / "out.mp4")
    titles = [each["tags"]["title"] for each in ffprobe(tmp_path / "out.mp4")["chapters"]]
    assert titles == [Path(name).stem for name in names]


def test_ffmpeg_is_told_nothing_by_a_file_without_gps(tmp_path: Path) -> None:
    """The phone's position does not leave the house."""
    path = real_media("iphone_portrait_h264_rot90_mono44k.mov")
    assert b"ISO6709" in path.read_bytes()
    edit = Edit([Clip(path, trim_stop_s=0.2)], target_size=Size(108, 192))
    exported(build_plan(edit, probe_sources(edit)), tmp_path / "out.mp4")
    strings = subprocess.run(["strings", tmp_path / "out.mp4"], capture_output=True, text=True)
    assert "ISO6709" not in strings.stdout and "apple" not in strings.stdout.lower()

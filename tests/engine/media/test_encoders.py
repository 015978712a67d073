"""Encoders and chunk files: what is refused, and that what goes in comes out."""

from __future__ import annotations

import resource
from collections.abc import Mapping
from fractions import Fraction as F
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import xxhash

from engine.errors import EncoderError, OutputError
from engine.files import whole_file
from engine.geometry import Size
from engine.media import encoders
from engine.media.chunk_writer import ChunkWriter
from engine.media.encoders import ENCODERS, Encoder, check_options, choose_encoder, refusal_of
from engine.media.inspect import read_chunk
from engine.pixels.picture import Picture
from tests.media import needs_ffmpeg
from tests.witness import luma_frames, video_stream

SIZE = Size(96, 64)
has_videotoolbox = "h264_videotoolbox" in av.codecs_available
has_nvenc = refusal_of(Encoder("h264_nvenc", (), Size(1080, 1920), F(30), 60)) is None


def a_picture(seed: int, size: Size = SIZE) -> Picture:
    """Smooth noise: no two alike, and easy on a codec."""
    picture = Picture(size)
    for plane in picture.planes:
        rows, columns = np.ogrid[: plane.shape[0], : plane.shape[1]]
        plane[:] = 128 + 60 * np.sin(rows / 9 + seed) * np.cos(columns / 7 - seed)
    return picture


def write(path: Path, count: int, encoder: Encoder) -> str | None:
    with ChunkWriter(encoder, path) as writer:
        for seed in range(count):
            writer.write(a_picture(seed, encoder.size))
    return writer.result.frame_hash


def test_auto_takes_what_opens_and_says_why() -> None:
    encoder = choose_encoder(SIZE, F(30))
    assert encoder.name == ("h264_nvenc" if has_nvenc else "libx264")
    assert "opens" in encoder.why and ("h264_nvenc" in encoder.why)


@pytest.mark.skipif(has_nvenc, reason="NVENC opens here")
def test_an_encoder_asked_for_by_name_is_not_replaced() -> None:
    with pytest.raises(EncoderError, match="h264_nvenc does not open here: no NVIDIA driver"):
        choose_encoder(SIZE, F(30), name="h264_nvenc")


@pytest.mark.skipif(not has_nvenc, reason="NVENC does not open here")
def test_nvenc_writes_closed_gops(tmp_path: Path) -> None:
    encoder = choose_encoder(Size(256, 256), F(30), name="h264_nvenc", key_interval_s=0.4)
    write(tmp_path / "a.mp4", 30, encoder)
    chunk = read_chunk(tmp_path / "a.mp4")
    assert (chunk.frame_count, chunk.key_frames) == (30, (0, 12, 24))


@pytest.mark.skipif(has_videotoolbox, reason="this is an Apple machine")
def test_apples_encoder_does_not_exist_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EncoderError, match="h264_videotoolbox does not exist here: this FF"):
        choose_encoder(SIZE, F(30), name="h264_videotoolbox")
    absent = Encoder("h264_videotoolbox", (), SIZE, F(30), 60)
    assert refusal_of(absent) == "this FFmpeg is built without it"
    monkeypatch.setattr(encoders, "AUTO_ORDER", ("h264_videotoolbox", "libx264"))
    assert choose_encoder(SIZE, F(30)).why == "libx264 opens"


@pytest.mark.skipif(not has_videotoolbox, reason="this is no Apple machine")
def test_apples_encoder_writes_closed_gops(tmp_path: Path) -> None:
    encoder = choose_encoder(Size(256, 256), F(30), name="h264_videotoolbox", key_interval_s=0.4)
    write(tmp_path / "a.mp4", 30, encoder)
    chunk = read_chunk(tmp_path / "a.mp4")
    assert (chunk.frame_count, chunk.key_frames) == (30, (0, 12, 24))


def test_a_lower_quality_number_is_the_better_one_with_apples_encoder_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its own scale runs the other way, in units of 118."""
    monkeypatch.setattr(encoders, "_is_built_in", lambda _name: True)
    monkeypatch.setattr(encoders, "refusal_of", lambda _encoder: None)
    monkeypatch.setattr(encoders, "check_options", lambda _name, _settings: None)

    def chosen(**how: Any) -> dict[str, str]:
        return dict(choose_encoder(SIZE, F(30), name="h264_videotoolbox", **how).options)

    assert chosen()["global_quality"] == str(65 * 118)
    assert chosen(quality=20)["global_quality"] == str(80 * 118)
    assert "preset" not in chosen()
    for how, fault in (
        ({"quality": 100}, "quality: must be from 0 to 99, not 100"),
        ({"preset": "fast"}, "has no preset 'fast'; it has none"),
        ({"options": {"flags": "0"}}, "option flags: is fixed"),
    ):
        with pytest.raises(EncoderError, match=fault):
            chosen(**how)


def test_generic_flags_of_apples_profile_are_known_to_ffmpeg() -> None:
    check_options("libx264", {"flags": "+qscale+cgop", "global_quality": "7670", "bf": "0"})
    with pytest.raises(EncoderError, match=r"option flags=\+qscale\+gone: is none of"):
        check_options("libx264", {"flags": "+qscale+gone"})


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("quality", [None, 24.5])
def test_every_encoders_settings_are_in_ffmpegs_own_tables(
    name: str, quality: float | None
) -> None:
    """So the NVENC settings are known to parse where no NVENC is at hand."""
    try:
        choose_encoder(SIZE, F(30), name=name, quality=quality)
    except EncoderError as error:
        assert "does not open here" in str(error) or "does not exist here" in str(error)


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"bogus": "1"}, "libx264 has no option 'bogus'"),
        ({"bf": "many"}, "libx264 option bf=many: is not a number"),
        ({"crf": "-7"}, r"libx264 option crf=-7: is outside \[-1, "),
        ({"coder": "huffman"}, "libx264 option coder=huffman: is none of .*cabac"),
    ],
)
def test_options_are_checked_before_anything_is_encoded(
    settings: Mapping[str, str], fault: str
) -> None:
    with pytest.raises(EncoderError, match=fault):
        check_options("libx264", settings)
    with pytest.raises(EncoderError, match=fault):
        choose_encoder(SIZE, F(30), name="libx264", options=settings)


def test_values_may_have_a_suffix_as_ffmpeg_reads_them() -> None:
    given = {"maxrate": "5M", "bufsize": "10000k"}
    assert (
        dict(choose_encoder(SIZE, F(30), name="libx264", options=given).options).items()
        >= given.items()
    )
    with pytest.raises(EncoderError, match="maxrate=5X: is not a number"):
        check_options("libx264", {"maxrate": "5X"})


def test_a_disk_that_takes_no_more_is_no_fault_of_the_encoder(tmp_path: Path) -> None:
    encoder = choose_encoder(SIZE, F(30), name="libx264", quality=1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with (
            pytest.raises(OutputError, match=r"a\.mp4: cannot be written: file too large"),
            whole_file(tmp_path / "a.mp4") as path,
        ):
            write(path, 200, encoder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_a_colon_in_a_name_is_no_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("final: 2-1.mp4")
    write(path, 3, choose_encoder(SIZE, F(30), name="libx264"))
    assert read_chunk(path).frame_count == 3


def test_unknown_names_and_presets_are_refused() -> None:
    with pytest.raises(EncoderError, match="there is no encoder 'x'; there are auto, libx264"):
        choose_encoder(SIZE, F(30), name="x")
    with pytest.raises(EncoderError, match="libx264 has no preset 'p5'; it has ultrafast"):
        choose_encoder(SIZE, F(30), name="libx264", preset="p5")


def test_only_the_key_interval_says_where_gops_begin() -> None:
    with pytest.raises(EncoderError, match="libx264 option g: is fixed; the key interval says"):
        choose_encoder(SIZE, F(30), options={"g": "10"})


@needs_ffmpeg
@pytest.mark.parametrize("size", [Size(96, 64), Size(66, 50), Size(90, 86), Size(16, 16)], ids=str)
def test_what_goes_in_comes_out(size: Size, tmp_path: Path) -> None:
    """Any even size, those that are no multiple of 4 or 16 among them."""
    encoder = choose_encoder(size, F(25), name="libx264", quality=1)
    write(tmp_path / "a.mp4", 7, encoder)
    decoded = luma_frames(tmp_path / "a.mp4")
    sent = np.array([a_picture(seed, size).y for seed in range(7)])
    assert np.abs(decoded.astype(int) - sent).mean() < 0.5


@pytest.mark.parametrize("count", [1, 2, 3, 40])
def test_a_chunk_holds_the_frames_that_were_written(count: int, tmp_path: Path) -> None:
    """Also where the picture changes wholly from one frame to the next."""
    encoder = choose_encoder(SIZE, F(30000, 1001), name="libx264")
    write(tmp_path / "a.mp4", count, encoder)
    chunk = read_chunk(tmp_path / "a.mp4")
    assert (chunk.frame_count, chunk.parameters.size) == (count, SIZE)
    assert chunk.parameters.fps == F(30000, 1001)


def test_parameter_sets_do_not_depend_on_the_pictures(tmp_path: Path) -> None:
    encoder = choose_encoder(SIZE, F(30), name="libx264")
    write(tmp_path / "a.mp4", 1, encoder)
    write(tmp_path / "b.mp4", 50, encoder)
    names = ("a.mp4", "b.mp4")
    sets = {read_chunk(tmp_path / name).parameters.parameter_sets for name in names}
    assert len(sets) == 1 and sets != {b""}


@needs_ffmpeg
def test_the_stream_is_tagged(tmp_path: Path) -> None:
    write(tmp_path / "a.mp4", 3, choose_encoder(SIZE, F(24), name="libx264"))
    stream = video_stream(tmp_path / "a.mp4")
    assert stream["profile"] == "High" and stream["sample_aspect_ratio"] == "1:1"
    tags = {stream[f"color_{key}"] for key in ("space", "primaries", "transfer")}
    assert (tags, stream["color_range"]) == ({"bt709"}, "tv")


def test_the_hash_is_of_the_frames_given_to_the_encoder(tmp_path: Path) -> None:
    whole = xxhash.xxh3_128()
    for seed in range(5):
        whole.update(a_picture(seed).buffer.tobytes())
    for quality in (10, 40):
        encoder = choose_encoder(SIZE, F(30), name="libx264", quality=quality)
        assert write(tmp_path / "a.mp4", 5, encoder) == whole.hexdigest()


def test_the_key_tells_settings_apart() -> None:
    a, b = (choose_encoder(SIZE, F(30), name="libx264", quality=q) for q in (18, 19))
    assert a.key != b.key
    assert a == choose_encoder(SIZE, F(30), name="libx264")


def test_a_picture_of_another_size_is_refused(tmp_path: Path) -> None:
    encoder = choose_encoder(SIZE, F(30), name="libx264")
    with ChunkWriter(encoder, tmp_path / "a.mp4") as writer:
        writer.write(a_picture(0))
        with pytest.raises(ValueError, match="takes 96x64, not 32x32"):
            writer.write(a_picture(0, Size(32, 32)))

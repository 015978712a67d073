"""The join, held against what the ffmpeg program decodes of the file that came out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from engine.audio.mix import write_sound
from engine.errors import Cancelled, ChunkError, JoinError
from engine.geometry import Size
from engine.media.chapters import ChapterMark, read_chapters
from engine.media.chunk_writer import ChunkWriter
from engine.media.encoders import Encoder, choose_encoder
from engine.media.inspect import read_chunk
from engine.media.join import join
from engine.pixels.picture import Picture
from engine.soundtrack import Ramp, SoundSpan, TempoPiece
from tests.clips import painted, read_number
from tests.media import needs_ffmpeg
from tests.sources import a_source
from tests.witness import complaints, ffprobe, luma_frames, samples, video_stream

SIZE, FPS = Size(160, 96), Fraction(30000, 1001)


def an_encoder(size: Size = SIZE, fps: Fraction = FPS, **options: str) -> Encoder:
    return choose_encoder(size, fps, name="libx264", options=options)


def a_chunk(path: Path, numbers: range, encoder: Encoder | None = None) -> Path:
    encoder = encoder or an_encoder()
    picture = Picture(encoder.size)
    picture.fill_black()
    with ChunkWriter(encoder, path) as writer:
        for number in numbers:
            picture.y[:] = painted(number, (encoder.size.width, encoder.size.height))
            writer.write(picture)
    return path


def chunks_of(folder: Path, *lengths: int) -> list[Path]:
    borders = [sum(lengths[:end]) for end in range(len(lengths) + 1)]
    return [
        a_chunk(folder / f"{start}.mp4", range(start, stop)) for start, stop in pairwise(borders)
    ]


def a_track(path: Path, sample_count: int) -> Path:
    """Silence: the sound of a source that has none."""
    whole = TempoPiece(Fraction(0), Fraction(60), Fraction(1), sample_count)
    span = SoundSpan(0, 0, (whole,), 0, Ramp.LINEAR, 0, Ramp.LINEAR)
    write_sound([span], [a_source()], sample_count, path, on_warning=print, on_step=lambda: None)
    return path


def joined(
    chunks: Sequence[Path],
    destination: Path,
    *,
    sound: Path | None = None,
    chapters: Sequence[ChapterMark] = (),
    frame_count: int = 0,
    sample_count: int = 0,
    on_step: Callable[[], None] = lambda: None,
    let_go: Callable[[Path], None] = lambda _: None,
) -> Path:
    join(
        [read_chunk(path) for path in chunks],
        sound,
        chapters,
        destination,
        frame_count=frame_count,
        sample_count=sample_count,
        fps=FPS,
        size=SIZE,
        on_step=on_step,
        let_go=let_go,
    )
    return destination


def boxes(path: Path) -> list[bytes]:
    """The top-level boxes of an MP4, in order."""
    content, found, at = path.read_bytes(), [], 0
    while at < len(content):
        found.append(content[at + 4 : at + 8])
        length = int.from_bytes(content[at : at + 4], "big")
        at += length if length != 1 else int.from_bytes(content[at + 8 : at + 16], "big")
    return found


@needs_ffmpeg
@pytest.mark.parametrize("lengths", [(1,), (1, 1, 1), (40, 1, 40), (1, 40, 2, 3, 40, 1)])
def test_every_frame_once_and_in_order(lengths: tuple[int, ...], tmp_path: Path) -> None:
    """Chunks shorter than the encoder's reordering have other decoding times than long ones."""
    total = sum(lengths)
    out = joined(chunks_of(tmp_path, *lengths), tmp_path / "out.mp4", frame_count=total)
    assert complaints(out) == ""
    assert [read_number(luma) for luma in luma_frames(out)] == list(range(total))
    packets = ffprobe(out, "-show_packets", "-select_streams", "v")["packets"]
    decoded = [int(packet["dts"]) for packet in packets]
    assert all(a < b for a, b in pairwise(decoded))
    shown_s = sorted(float(packet["pts_time"]) for packet in packets)
    assert np.allclose(shown_s, np.arange(total) / float(FPS), atol=1e-4)
    stream = video_stream(out)
    assert (stream["avg_frame_rate"], stream["start_time"]) == ("30000/1001", "0.000000")
    assert float(stream["duration"]) == pytest.approx(float(total / FPS), abs=1e-4)


@needs_ffmpeg
def test_a_key_frame_where_each_chunk_starts(tmp_path: Path) -> None:
    out = joined(chunks_of(tmp_path, 20, 1, 9), tmp_path / "out.mp4", frame_count=30)
    packets = ffprobe(out, "-show_packets", "-select_streams", "v")["packets"]
    keys = [float(each["pts_time"]) for each in packets if each["flags"].startswith("K")]
    assert keys == pytest.approx([0, float(20 / FPS), float(21 / FPS)], abs=1e-4)


@needs_ffmpeg
def test_chapters_start_at_their_first_frame(tmp_path: Path) -> None:
    titles = ["Kick-off", "Tor! ⚽ [b]", 'A "quote"; = # \\ and\nline']
    borders_s = [frame / FPS for frame in (0, 7, 20, 30)]
    marks = [
        ChapterMark(title, *ends) for title, ends in zip(titles, pairwise(borders_s), strict=True)
    ]
    chunks = chunks_of(tmp_path, 30)
    out = joined(chunks, tmp_path / "out.mp4", frame_count=30, chapters=marks)
    found = ffprobe(out)["chapters"]
    assert [each["tags"]["title"] for each in found] == titles
    starts_s = [Fraction(each["start"]) * Fraction(each["time_base"]) for each in found]
    # in whole ms, and never before the frame, or a player would show the one before it
    for start_s, border_s in zip(starts_s, borders_s, strict=False):
        assert border_s <= start_s < border_s + Fraction(1, 1000)
    read = read_chapters(out)
    assert [mark.title for mark in read] == titles
    assert [mark.start_s for mark in read] == starts_s
    assert read[-1].stop_s == Fraction(1001, 1000)


@needs_ffmpeg
def test_sound_is_as_long_as_the_picture_and_the_index_is_in_front(tmp_path: Path) -> None:
    count = round(60 / FPS * 48_000)
    chunks = chunks_of(tmp_path, 60)
    track = a_track(tmp_path / "sound.m4a", count)
    out = joined(chunks, tmp_path / "out.mp4", sound=track, frame_count=60, sample_count=count)
    assert complaints(out) == ""
    streams = {each["codec_type"]: each for each in ffprobe(out)["streams"]}
    assert (streams["audio"]["codec_name"], streams["audio"]["channels"]) == ("aac", 2)
    assert streams["audio"]["start_time"] == streams["video"]["start_time"] == "0.000000"
    assert float(streams["audio"]["duration"]) == pytest.approx(count / 48_000, abs=1e-4)
    assert count <= len(samples(out)) < count + 1024
    order = boxes(out)
    assert order.index(b"moov") < order.index(b"mdat")


@needs_ffmpeg
def test_no_sound_is_no_track(tmp_path: Path) -> None:
    out = joined(chunks_of(tmp_path, 5), tmp_path / "out.mp4", frame_count=5)
    assert [each["codec_type"] for each in ffprobe(out)["streams"]] == ["video"]
    assert boxes(out).index(b"moov") < boxes(out).index(b"mdat")


@pytest.mark.parametrize(
    ("frame_count", "sample_count", "fault"),
    [
        (31, 0, "holds 30 frames where the plan has 31"),
        (29, 0, "holds 30 frames where the plan has 29"),
        (30, 48_048, "has no sound track"),
    ],
)
def test_a_file_that_is_not_what_was_promised_is_not_kept(
    frame_count: int, sample_count: int, fault: str, tmp_path: Path
) -> None:
    chunks = chunks_of(tmp_path, 20, 10)
    out = tmp_path / "out.mp4"
    out.write_text("old")
    with pytest.raises(JoinError, match=fault):
        joined(chunks, out, frame_count=frame_count, sample_count=sample_count)
    assert out.read_text() == "old"
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("count", [0, 24_000, 96_000])
def test_a_sound_track_of_another_length_is_refused(count: int, tmp_path: Path) -> None:
    chunks, track = chunks_of(tmp_path, 30), a_track(tmp_path / "sound.m4a", 48_048)
    out = tmp_path / "out.mp4"
    with pytest.raises(JoinError, match=r"sound lasts 1\.001 s|nobody asked for"):
        joined(chunks, out, sound=track, frame_count=30, sample_count=count)
    assert not out.exists()


@pytest.mark.parametrize(
    "foreign",
    [
        an_encoder(size=Size(96, 160)),
        an_encoder(fps=Fraction(30)),
        an_encoder(bf="0"),
        an_encoder(profile="main"),
    ],
    ids=["size", "rate", "B-frames", "profile"],
)
def test_chunks_that_do_not_fit_each_other_are_refused(foreign: Encoder, tmp_path: Path) -> None:
    chunks = [a_chunk(tmp_path / "a.mp4", range(5)), a_chunk(tmp_path / "b.mp4", range(5), foreign)]
    with pytest.raises(ChunkError, match=r"b\.mp4: (is .* fps, not|its stream parameters)"):
        joined(chunks, tmp_path / "out.mp4", frame_count=10)
    assert not (tmp_path / "out.mp4").exists()


def test_a_chunk_with_a_frame_missing_is_refused(tmp_path: Path) -> None:
    whole, holed = a_chunk(tmp_path / "a.mp4", range(20)), tmp_path / "b.mp4"
    with av.open(str(whole)) as source, av.open(str(holed), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for place, packet in enumerate(source.demux(video=0)):
            if packet.size and place != 5:
                packet.stream = stream
                target.mux(packet)
    with pytest.raises(ChunkError, match="has a GOP at frame 0 that is not closed or lacks some"):
        read_chunk(holed)


@pytest.mark.parametrize("content", [b"", b"not a film"])
def test_a_chunk_that_is_no_video_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(ChunkError, match=r"a\.mp4: not a readable chunk"):
        read_chunk(path)


def test_a_chunk_that_was_replaced_after_it_was_read_is_noticed(tmp_path: Path) -> None:
    """The join does not read chunks a second time. The film is read back."""
    paths = chunks_of(tmp_path, 20, 10)
    chunks = [read_chunk(path) for path in paths]
    a_chunk(paths[0], range(19))
    with pytest.raises(JoinError, match="holds 29 frames where the plan has 30, each once"):
        join(
            chunks,
            None,
            (),
            tmp_path / "out.mp4",
            frame_count=30,
            sample_count=0,
            fps=FPS,
            size=SIZE,
            on_step=lambda: None,
        )
    assert not (tmp_path / "out.mp4").exists()


def test_nothing_to_join_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(JoinError, match="there is no chunk to join"):
        joined([], tmp_path / "out.mp4")


@needs_ffmpeg
def test_chunks_may_be_deleted_while_they_are_joined(tmp_path: Path) -> None:
    first, second = chunks_of(tmp_path, 40, 30)
    chunks = [first, second, first]
    left = []

    def delete(path: Path) -> None:
        path.unlink()
        left.append(first.exists() or second.exists())

    path = joined(chunks, tmp_path / "out.mp4", frame_count=110, let_go=delete)
    assert left == [True, False]
    numbers = [read_number(luma) for luma in luma_frames(path)]
    assert numbers == [*range(70), *range(40)]
    assert complaints(path) == ""


def test_a_join_that_is_stopped_leaves_nothing(tmp_path: Path) -> None:
    steps = 0

    def stop_soon() -> None:
        nonlocal steps
        steps += 1
        if steps == 10:
            raise Cancelled

    with pytest.raises(Cancelled):
        joined(chunks_of(tmp_path, 30), tmp_path / "out.mp4", frame_count=30, on_step=stop_soon)
    assert [path.name for path in tmp_path.iterdir()] == ["0.mp4"]

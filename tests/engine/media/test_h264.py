"""NAL units, held against the stream with start codes that the ffmpeg program makes of a file."""

from __future__ import annotations

from pathlib import Path

import av

from engine.media.h264 import from_start_codes, has_usual_lengths, is_idr, parameter_sets
from tests.clips import numbered_clip
from tests.media import needs_ffmpeg
from tests.witness import run


def packets_of(path: Path) -> tuple[bytes, list[bytes]]:
    """The extradata of a file and its packets."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        extradata = stream.codec_context.extradata
        assert extradata is not None
        return extradata, [bytes(packet) for packet in container.demux(stream) if packet.size]


@needs_ffmpeg
def test_packets_and_parameter_sets_are_those_of_the_stream_with_start_codes(
    tmp_path: Path,
) -> None:
    path = numbered_clip(tmp_path / "a.mp4", 5, gop=100)
    extradata, packets = packets_of(path)
    raw = run("ffmpeg", "-v", "error", "-i", path, "-c", "copy", "-f", "h264", "-")
    assert has_usual_lengths(extradata)
    units, in_front = from_start_codes(raw), parameter_sets(extradata)
    assert units.count(in_front) == 1
    assert units.replace(in_front, b"") == b"".join(packets)


def test_only_an_idr_is_an_idr(tmp_path: Path) -> None:
    """An open GOP begins at a picture that is a key frame to the container, and no IDR."""
    _, closed = packets_of(numbered_clip(tmp_path / "a.mp4", 36))
    assert [n for n, packet in enumerate(closed) if is_idr(packet)] == [0, 12, 24]
    options = {"bf": "2", "x264-params": "open-gop=1:keyint=12:scenecut=0"}
    _, opened = packets_of(numbered_clip(tmp_path / "b.mp4", 36, options=options))
    assert [n for n, packet in enumerate(opened) if is_idr(packet)] == [0]
    assert not is_idr(b"") and not is_idr(b"\0\0\0\0")


def test_extradata_that_is_not_as_mp4_stores_it() -> None:
    assert not has_usual_lengths(b"")
    assert not has_usual_lengths(b"\0\0\0\1\x67\x64\0\x0a")  # start codes, as in MPEG-TS
    assert not has_usual_lengths(b"\1\x64\0\x0a\xfd\xe1\0")  # lengths of two bytes

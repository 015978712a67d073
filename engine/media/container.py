"""Opens a media file, and finds the stream in it that is shown. Decodes nothing."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av

from engine.errors import SourceError
from engine.files import file_url
from engine.source import SourcePlace
from engine.storage.ranged import RangedReader

CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,mxf,ogg,nut,ivf,gif,"
    "h264,hevc,av1,m4v,yuv4mpegpipe,dv,mp3,wav,flac,aac,w64,aiff"
)
"""What may be opened. Playlists and image patterns are not files: they name other files to read."""

_BUFFER_BYTES = 1 << 16


def open_container(
    path: SourcePlace, reader: RangedReader | None = None
) -> av.container.InputContainer:
    """Open a media file, or raise SourceError in one readable line.

    A stored object is read through `reader`, by default one of its own: by one thread at a time.
    """
    options = {"format_whitelist": CONTAINERS}
    try:
        if size_bytes(path) == 0:
            raise SourceError(path, "is empty")
        file = file_url(path) if isinstance(path, Path) else reader or RangedReader(path)
        return av.open(
            file,
            "r",
            metadata_errors="replace",
            container_options=options,
            buffer_size=_BUFFER_BYTES,
        )
    except FileNotFoundError:
        raise SourceError(path, "does not exist") from None
    except PermissionError:
        raise SourceError(path, "may not be read") from None
    except (av.FFmpegError, OSError) as error:
        raise SourceError(path, _why_not_opened(path, error)) from None


def video_stream(container: av.container.InputContainer, path: SourcePlace) -> av.VideoStream:
    """The stream that is shown. Its packets alone will be read; cover art does not count.

    Raises SourceError where there is none, or no decoder for it.
    """
    stream = container.streams.best("video")
    cover = av.stream.Disposition.attached_pic
    if not isinstance(stream, av.VideoStream) or stream.disposition & cover:
        raise SourceError(path, "has no video stream")
    if stream.codec_context is None:
        raise SourceError(path, "has video in a format that cannot be decoded")
    for other in container.streams:
        if other is not stream:
            other.discard = av.stream.Discard.all
    stream.codec_context.thread_type = "AUTO"
    return stream


def time_base_of(stream: av.stream.Stream) -> Fraction:
    assert stream.time_base  # set for every stream of an opened file
    return stream.time_base


def family_of(container: av.container.InputContainer) -> str:
    return container.format.name.split(",")[0]


def read_at(path: SourcePlace, start: int, length: int) -> bytes:
    if not isinstance(path, Path):
        return path.read(start, length)
    with path.open("rb") as file:
        file.seek(start)
        return file.read(length)


def size_bytes(path: SourcePlace) -> int:
    if not isinstance(path, Path):
        return path.size_bytes
    if path.is_dir():
        raise SourceError(path, "is a folder, not a file")
    return path.stat().st_size


def _why_not_opened(path: SourcePlace, error: Exception) -> str:
    if not isinstance(error, av.InvalidDataError | av.ArgumentError):
        return f"cannot be opened: {getattr(error, 'strerror', error)}"
    beginning = read_at(path, 0, 8)
    if beginning[4:] == b"ftyp":
        return "is an unfinished or damaged MP4 or MOV: its index (moov) cannot be read"
    return "is not a video file that can be read"

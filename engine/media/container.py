"""Opens a media file and finds its video stream. Decodes nothing."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from engine.errors import SourceError
from engine.files import file_url
from engine.location import ObjectLocation, SourceLocation
from engine.storage.objects import ObjectReader, StoredObject
from engine.storage.ranged import RangedReader

CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,mxf,ogg,nut,ivf,gif,"
    "h264,hevc,av1,m4v,yuv4mpegpipe,dv,mp3,wav,flac,aac,w64,aiff"
)
"""The formats that may be opened. Playlists and image patterns may not: they name other files."""

_DURATION_TAG = re.compile(r"(\d+):(\d+):(\d+(?:\.\d+)?)")

_PHOTO_MARKS = (  # offset, bytes there, name
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (0, b"BM", "BMP"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (8, b"WEBP", "WebP"),
    *((4, b"ftyp" + brand, "HEIC") for brand in (b"heic", b"heix", b"heim", b"heis", b"mif1")),
    (4, b"ftypavif", "AVIF"),
)

_READING_ERRORS = {
    errno.EIO, errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENXIO, errno.EBADF, errno.ESTALE,
    errno.ETIMEDOUT, errno.ECONNRESET, errno.ENOSPC,
}  # fmt: skip

PHOTO_BYTES = 12

_BUFFER_BYTES = 1 << 16

_READ_ALL = {"analyzeduration": str(10**15), "probesize": str((1 << 31) - 1)}
"""FFmpeg looks for streams in the whole file, and not just in its first 5 s."""

_MOST_LATE_STREAMS = 64


def open_container(
    location: SourceLocation,
    store: ObjectReader | None = None,
    reader: RangedReader | None = None,
    *,
    late_streams: bool = False,
) -> av.container.InputContainer:
    """Opens a media file, or raises SourceError with one readable line.

    An object is read from `store`, through `reader` or a new one. One thread at a time may use it.
    `late_streams`: also streams that begin anywhere in the file; that reads it once.
    """
    options = {"format_whitelist": CONTAINERS, **(_READ_ALL if late_streams else {})}
    try:
        if size_bytes(location) == 0:
            raise SourceError(location, "is empty")
        if isinstance(location, Path):
            file: str | RangedReader = file_url(location)
        else:
            file = reader or RangedReader(stored_object(location, store))
        return av.open(
            file,
            "r",
            metadata_errors="replace",
            container_options=options,
            buffer_size=_BUFFER_BYTES,
        )
    except FileNotFoundError:
        raise SourceError(location, "does not exist") from None
    except PermissionError:
        raise SourceError(location, "may not be read") from None
    except (av.FFmpegError, OSError) as error:
        if not isinstance(error, av.FFmpegError) or isinstance(error, av.HTTPError):
            reason = f"cannot be opened: {getattr(error, 'strerror', error)}"
            raise SourceError(location, reason) from None
        beginning = read_at(location, store, 0, PHOTO_BYTES)
        if photo := photo_format(beginning):
            raise photo_error(location, photo) from None
        raise SourceError(location, _why_not_opened(beginning)) from None


def stored_object(location: ObjectLocation, store: ObjectReader | None) -> StoredObject:
    """The object with its store. Raises SourceError where there is no store."""
    if store is None:
        raise SourceError(location, "is in a store, and no store was given")
    return StoredObject(store, location)


def video_stream(
    container: av.container.InputContainer, location: SourceLocation
) -> av.VideoStream:
    """The video stream. The packets of all other streams are discarded. Cover art is not video.

    Raises SourceError where there is no video stream, or no decoder for it.
    """
    stream = container.streams.best("video")
    cover = av.stream.Disposition.attached_pic
    if not isinstance(stream, av.VideoStream) or stream.disposition & cover:
        raise SourceError(location, "has no video stream")
    if stream.codec_context is None:
        raise SourceError(location, "has video in a format that cannot be decoded")
    for other in container.streams:
        if other is not stream:
            other.discard = av.stream.Discard.all
    stream.codec_context.thread_type = "AUTO"
    return stream


def packets_of(
    container: av.container.InputContainer,
    streams: av.stream.Stream | Sequence[av.stream.Stream],
    *,
    on_late_stream: Callable[[], None] = lambda: None,
) -> Iterator[av.Packet[Any]]:
    """The packets of some streams, in the order of the file, and an empty one for each at its end.

    A stream that begins in the middle of a file ends PyAV's iteration with an IndexError. It goes
    on here, without that stream, after a call of `on_late_stream`.
    """
    at_end = False
    for _ in range(_MOST_LATE_STREAMS):
        try:
            for packet in container.demux(streams):
                at_end = not packet.size and packet.dts is None
                yield packet
        except IndexError:
            on_late_stream()
            if not at_end:
                continue
        return


def time_base_of(stream: av.stream.Stream) -> Fraction:
    """Seconds per tick of the stream's timestamps."""
    assert stream.time_base  # set for every stream of an opened file
    return stream.time_base


def is_damage(error: av.FFmpegError) -> bool:
    """Whether an error comes from what a file holds, and not from reading it.

    FFmpeg has many names for damage: invalid data, but also a lack of memory for a size that a
    broken header names, or "try again" from a decoder that got nonsense.
    """
    return error.errno not in _READING_ERRORS


@contextmanager
def source_errors(location: SourceLocation, what: str) -> Iterator[None]:
    """Turns an error of FFmpeg in the block into a SourceError that names the file.

    `what` says what failed, such as `cannot be decoded`.
    """
    try:
        yield
    except av.FFmpegError as error:
        raise SourceError(location, f"{what}: {_reason(error)}") from error


def _reason(error: av.FFmpegError) -> str:
    reason = (error.strerror or type(error).__name__).lower()
    return f"it is damaged ({reason})" if is_damage(error) else reason


def tagged_duration_s(stream: av.stream.Stream) -> Fraction | None:
    """The length that Matroska's tag DURATION gives for the stream; None where there is none."""
    written = _DURATION_TAG.fullmatch(stream.metadata.get("DURATION", ""))
    if written is None:
        return None
    hours, minutes, seconds = written.groups()
    return int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds)


def family_of(container: av.container.InputContainer) -> str:
    """The first of FFmpeg's names for the format: `mov` for MP4, `matroska` for WebM."""
    return container.format.name.split(",")[0]


def read_at(location: SourceLocation, store: ObjectReader | None, start: int, length: int) -> bytes:
    """Bytes `[start, start + length)`, fewer at the end."""
    if not isinstance(location, Path):
        return stored_object(location, store).read(start, length)
    with location.open("rb") as file:
        file.seek(start)
        return file.read(length)


def size_bytes(location: SourceLocation) -> int:
    """The file's length. Raises SourceError for a folder, FileNotFoundError for no file."""
    if not isinstance(location, Path):
        return location.size_bytes
    if location.is_dir():
        raise SourceError(location, "is a folder, not a file")
    return location.stat().st_size


def photo_format(beginning: bytes) -> str | None:
    """The name of a photo's format, by the first `PHOTO_BYTES` of its file; None for no photo.

    FFmpeg opens a HEIC or AVIF, too, and shows one of the tiles that it is made of.
    """
    for at, mark, name in _PHOTO_MARKS:
        if beginning[at : at + len(mark)] == mark:
            return name
    return None


def photo_error(location: SourceLocation, photo: str) -> SourceError:
    """Says that a photo is no film, and what to do."""
    return SourceError(
        location, f"is a photo ({photo}), and clips are films: make a video of it first"
    )


def _why_not_opened(beginning: bytes) -> str:
    if beginning[4:8] == b"ftyp":
        return "is an unfinished or damaged MP4 or MOV: its index (moov) cannot be read"
    return "is not a video file that can be read"

"""Chooses an encoder, and writes the frames of one chunk with it. The only file that names codecs.

Knows no plan: it is given pictures and writes them as one closed GOP.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

import av
import numpy as np
import xxhash
from av.codec.context import CodecOption
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from av.video.stream import VideoStream

from engine.compose import blend
from engine.errors import ChunkError, EncoderError
from engine.files import file_url
from engine.geometry import Size
from engine.picture import Finished, Picture

THREADS = 4
"""x264's output depends on its thread count, so it is the same on every machine."""

AUTO_ORDER = ("h264_nvenc", "libx264")

_ONE_CLOSED_GOP = frozenset(
    {"g", "keyint_min", "sc_threshold", "forced-idr", "no-scenecut", "strict_gop"}
)
"""Options that nobody may change, or chunks could not be joined."""

_SINGLE_GOP = "100000"
"""Key frame interval no chunk reaches: the only key frame of a chunk is its first."""


_SUFFIXES = {"k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9}
"""As FFmpeg reads them: `maxrate=5M`."""


@dataclass(frozen=True, slots=True)
class _Profile:
    """How one of FFmpeg's encoders spells the settings the engine cares about."""

    fixed: Mapping[str, str]
    quality_option: str
    quality: float
    presets: tuple[str, ...]
    preset: str
    tag: str


_NVENC_PRESETS = ("p1", "p2", "p3", "p4", "p5", "p6", "p7")
_NVENC_FIXED = {
    "tune": "hq",
    "rc": "vbr",
    "b": "0",
    "bf": "2",
    "g": _SINGLE_GOP,
    "no-scenecut": "1",
    "forced-idr": "1",
    "strict_gop": "1",
    "spatial-aq": "1",
}

_PROFILES: Final[Mapping[str, _Profile]] = {
    "libx264": _Profile(
        fixed={
            "profile": "high",
            "g": _SINGLE_GOP,
            "keyint_min": _SINGLE_GOP,
            "sc_threshold": "0",
            "forced-idr": "1",
        },
        quality_option="crf",
        quality=18,
        presets=(
            "ultrafast",
            "superfast",
            "veryfast",
            "faster",
            "fast",
            "medium",
            "slow",
            "slower",
            "veryslow",
            "placebo",
        ),
        preset="veryfast",
        tag="avc1",
    ),
    "h264_nvenc": _Profile(
        fixed={**_NVENC_FIXED, "profile": "high"},
        quality_option="cq",
        quality=21,
        presets=_NVENC_PRESETS,
        preset="p5",
        tag="avc1",
    ),
    "hevc_nvenc": _Profile(
        fixed={**_NVENC_FIXED, "profile": "main"},
        quality_option="cq",
        quality=23,
        presets=_NVENC_PRESETS,
        preset="p5",
        tag="hvc1",
    ),
}

ENCODERS = tuple(_PROFILES)


@dataclass(frozen=True, slots=True)
class Encoder:
    """One encoder with every setting decided: the same for all chunks of an export."""

    name: str
    options: tuple[tuple[str, str], ...]
    size: Size
    fps: Fraction
    why: str = field(default="", compare=False)

    @property
    def key(self) -> str:
        """Everything that decides the coded bytes, for the digest of a chunk."""
        settings = ",".join(f"{name}={value}" for name, value in self.options)
        return f"{self.name}:{settings}:threads={THREADS}"

    @property
    def is_on_cuda(self) -> bool:
        """Whether it may take frames that lie on a CUDA device."""
        return "nvenc" in self.name


def choose_encoder(
    size: Size,
    fps: Fraction,
    *,
    name: str = "auto",
    quality: float | None = None,
    preset: str | None = None,
    options: Mapping[str, str] | None = None,
) -> Encoder:
    """The encoder for an export, proved by opening it once.

    `auto` takes the first of `AUTO_ORDER` that opens. `quality` is the encoder's own constant
    quality scale (libx264: crf, NVENC: cq; lower is better). `options` are passed on to FFmpeg.
    Raises `EncoderError` for an unknown name, preset, option or value, and for an encoder that was
    asked for by name and does not open here.
    """
    if name == "auto":
        return _first_that_opens(size, fps, quality, preset, options or {})
    encoder = _configured(name, size, fps, quality, preset, options or {}, "asked for")
    if (refusal := refusal_of(encoder)) is not None:
        raise EncoderError(f"{name} does not open here: {refusal}")
    return encoder


def _first_that_opens(
    size: Size,
    fps: Fraction,
    quality: float | None,
    preset: str | None,
    options: Mapping[str, str],
) -> Encoder:
    refusals: list[str] = []
    for name in AUTO_ORDER:
        last = name == AUTO_ORDER[-1]
        try:
            encoder = _configured(
                name, size, fps, quality, preset, options, "; ".join([*refusals, f"{name} opens"])
            )
        except EncoderError:  # options written for another encoder of the list
            if last:
                raise
            refusals.append(f"{name} does not know these options")
            continue
        refusal = refusal_of(encoder)
        if refusal is None:
            return encoder
        refusals.append(f"{name} does not open: {refusal}")
    raise EncoderError("no encoder opens here: " + "; ".join(refusals))


def refusal_of(encoder: Encoder) -> str | None:
    """Why an encoder does not open on this machine, or None where it does."""
    context = av.codec.CodecContext.create(encoder.name, "w")
    assert isinstance(context, VideoCodecContext)
    _configure(context, encoder)
    try:
        context.open()
    except FFmpegError as error:
        if "nvenc" in encoder.name and isinstance(error, av.error.PermissionError):
            return "no NVIDIA driver with NVENC"
        return f"{error.strerror}" if error.strerror else str(error)
    return None


def _configured(
    name: str,
    size: Size,
    fps: Fraction,
    quality: float | None,
    preset: str | None,
    options: Mapping[str, str],
    why: str,
) -> Encoder:
    profile = _PROFILES.get(name)
    if profile is None:
        raise EncoderError(f"there is no encoder {name!r}; there are auto, {_listed(ENCODERS)}")
    if preset is not None and preset not in profile.presets:
        raise EncoderError(f"{name} has no preset {preset!r}; it has {_listed(profile.presets)}")
    for key in sorted(_ONE_CLOSED_GOP & set(options)):
        raise EncoderError(f"{name} option {key}: is fixed, since each chunk is one closed GOP")
    settings = {
        **profile.fixed,
        "preset": preset or profile.preset,
        profile.quality_option: f"{profile.quality if quality is None else quality:g}",
        **options,
    }
    check_options(name, settings)
    return Encoder(name, tuple(sorted(settings.items())), size, fps, why)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


def check_options(name: str, settings: Mapping[str, str]) -> None:
    """Checks option names and values against FFmpeg's own tables; the encoder is not opened.

    Raises `EncoderError` that names the option.
    """
    supported = av.codec.CodecContext.create(name, "w").supported_options
    # an encoder's private option hides a generic one of the same name
    known = {option.name: option for option in (*supported.generic, *supported.private)}
    for key, value in settings.items():
        if key not in known:
            raise EncoderError(f"{name} has no option {key!r}")
        if (fault := _fault(known[key], value)) is not None:
            raise EncoderError(f"{name} option {key}={value}: {fault}")


def _fault(option: CodecOption, value: str) -> str | None:
    names = [choice.name for choice in option.choices]
    if value in names or option.min == option.max:  # free text has no bounds
        return None
    scale = _SUFFIXES.get(value[-1:], 1)
    try:
        number = float(value if scale == 1 else value[:-1]) * scale
    except ValueError:
        return f"is none of {_listed(names)}" if names else "is not a number"
    if not option.min <= number <= option.max:
        return f"is outside [{option.min:g}, {option.max:g}]"
    return None


def _configure(context: VideoCodecContext, encoder: Encoder) -> None:
    context.width, context.height = encoder.size.width, encoder.size.height
    context.pix_fmt = "yuv420p"
    context.time_base = 1 / encoder.fps
    context.framerate = encoder.fps
    context.sample_aspect_ratio = Fraction(1)
    context.thread_count = THREADS
    context.thread_type = "AUTO"  # PyAV's default, slices, is slower and larger
    context.colorspace = Colorspace.ITU709
    context.color_primaries = ColorPrimaries.BT709
    context.color_trc = ColorTrc.BT709
    context.color_range = ColorRange.MPEG
    context.codec_tag = _PROFILES[encoder.name].tag
    context.options = dict(encoder.options)


def _video_frame(picture: Picture) -> av.VideoFrame:
    """A copy of the picture as a frame for FFmpeg.

    Not `VideoFrame.from_numpy_buffer`: that takes I420 of any height for one of a multiple of 4,
    and the encoder would silently stretch the rest.
    """
    frame = av.VideoFrame(picture.size.width, picture.size.height, "yuv420p")
    for plane, samples in zip(frame.planes, picture.planes, strict=True):
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
        rows[:, : plane.width] = samples
    return frame


class Door(Protocol):
    """Where finished pictures of one chunk lie, and how they become the encoder's frames."""

    @property
    def pixel_format(self) -> str:
        """Of the frames."""

    def brought(self, picture: Finished) -> Finished:
        """The picture where this door takes it from."""

    def blended(self, layers: Sequence[tuple[Finished, float]]) -> Finished:
        """As `compose.blend`; the result is of no use after the next call."""

    def frame(self, picture: Finished) -> av.VideoFrame:
        """The next frame for the encoder. The picture may be reused afterwards."""

    def released(self, index: int) -> None:
        """The encoder has put out the packet of that frame."""

    def frame_hash(self) -> str:
        """Hash of the frames so far, in order, each as I420."""


class HostDoor:
    """The `Door` in host memory."""

    pixel_format = "yuv420p"

    def __init__(self) -> None:
        self._hash = xxhash.xxh3_128()
        self._blend: Picture | None = None

    def brought(self, picture: Finished) -> Picture:
        """See `Door`."""
        return picture.on_host()

    def blended(self, layers: Sequence[tuple[Finished, float]]) -> Picture:
        """See `Door`."""
        self._blend = self._blend or Picture(layers[0][0].size)
        blend([(picture.on_host(), weight) for picture, weight in layers], self._blend)
        return self._blend

    def frame(self, picture: Finished) -> av.VideoFrame:
        """See `Door`."""
        there = picture.on_host()
        self._hash.update(there.buffer.data)
        return _video_frame(there)

    def released(self, index: int) -> None:
        """See `Door`. The frame was a copy."""

    def frame_hash(self) -> str:
        """See `Door`."""
        return self._hash.hexdigest()


@dataclass(frozen=True, slots=True)
class EncodedChunk:
    """What was written: how many frames, and a hash of the frames given to the encoder."""

    frame_count: int
    frame_hash: str
    route: tuple[str, ...] = ()
    """Where the frames of each layer, and those for the encoder, were copied and why; empty where
    no device took part."""


class ChunkWriter:
    """Encodes pictures into one MP4 with a single closed GOP.

    A context manager: leaving it without an error finishes the file, after which `result` tells
    what was written. Raises `EncoderError` when the encoder refuses a frame.
    """

    def __init__(self, encoder: Encoder, path: Path, door: Door | None = None) -> None:
        """`door`: how pictures become frames, by default from host memory; for one chunk."""
        self._encoder = encoder
        self._path = path
        self._door = door or HostDoor()
        self._count = 0

    def __enter__(self) -> Self:
        self._container = av.open(file_url(self._path), "w", format="mp4")
        stream = self._container.add_stream(self._encoder.name, rate=self._encoder.fps)
        assert isinstance(stream, VideoStream)
        _configure(stream.codec_context, self._encoder)
        stream.codec_context.pix_fmt = self._door.pixel_format
        stream.time_base = 1 / self._encoder.fps
        self._stream = stream
        return self

    def write(self, picture: Finished) -> None:
        """Encodes the next frame. The picture may be reused afterwards."""
        if picture.size != self._encoder.size:
            raise ValueError(f"the encoder takes {self._encoder.size}, not {picture.size}")
        try:
            frame = self._door.frame(picture)
        except (FFmpegError, RuntimeError) as error:  # RuntimeError: torch's, of CUDA too
            raise EncoderError(f"frame {self._count} cannot be handed over: {error}") from error
        frame.pts, frame.time_base = self._count, 1 / self._encoder.fps
        frame.pict_type = PictureType.I if self._count == 0 else PictureType.NONE
        self._mux(frame)
        self._count += 1

    def _mux(self, frame: av.VideoFrame | None) -> None:
        try:
            packets = self._stream.encode(frame)
        except FFmpegError as error:
            at = "the end" if frame is None else f"frame {self._count}"
            raise EncoderError(f"{self._encoder.name} failed at {at}: {error.strerror}") from error
        for packet in packets:
            assert packet.pts is not None
            self._door.released(packet.pts)
        self._container.mux(packets)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._mux(None)
                self._frame_hash = self._door.frame_hash()
        finally:
            self._container.close()

    @property
    def result(self) -> EncodedChunk:
        if self._count == 0:
            raise ChunkError("a chunk without frames was written")
        return EncodedChunk(self._count, self._frame_hash)

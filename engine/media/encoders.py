"""Chooses an export's encoder and its settings. The only file that names encoders."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from typing import Final

import av
from av.codec.codec import UnknownCodecError
from av.codec.context import CodecOption
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from engine.errors import EncoderError
from engine.geometry import Size
from engine.timing import DEFAULT_KEY_INTERVAL_S, KEY_INTERVALS_S, exact_seconds, round_half_up

THREADS = 4
"""x264's output depends on its thread count, so it is the same on every machine."""

AUTO_ORDER = ("h264_nvenc", "h264_videotoolbox", "libx264")
"""`auto` is the first of these that opens. FFmpeg has Apple's on Apple machines only."""

_GOP_OPTIONS = frozenset(
    {"g", "keyint_min", "sc_threshold", "forced-idr", "no-scenecut", "strict_gop"}
)
"""Options that callers must not change: key frames are where `Encoder.key_interval` puts them."""

_NONE_BY_ITSELF = "100000"
"""An interval beyond any chunk's length: the encoder makes no key frame that it is not asked for.
So parameter sets do not depend on the interval, and films of different intervals can be joined."""

_NOT_BUILT_IN = "this FFmpeg is built without it"

_SUFFIXES = {"k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9}
"""FFmpeg's suffixes of numbers: `maxrate=5M`."""


@dataclass(frozen=True, slots=True)
class _Profile:
    """Settings of one of FFmpeg's encoders, in its own spelling."""

    fixed: Mapping[str, str]
    quality_option: str
    quality: float
    presets: tuple[str, ...]
    preset: str | None
    tag: str
    to_option: Callable[[float], float] = float
    """From a quality, of which lower is better, to the value of its option."""


_NVENC_PRESETS = ("p1", "p2", "p3", "p4", "p5", "p6", "p7")
_NVENC_FIXED = {
    "tune": "hq",
    "rc": "vbr",
    "b": "0",
    "bf": "2",
    "g": _NONE_BY_ITSELF,
    "no-scenecut": "1",
    "forced-idr": "1",
    "strict_gop": "1",
    "spatial-aq": "1",
}

_QUALITY_UNIT = 118
"""FFmpeg's FF_QP2LAMBDA: `global_quality` counts in these."""


def _videotoolbox_quality(quality: float) -> float:
    """VideoToolbox's own scale is 100 for the best to 1. Raises `EncoderError`."""
    if not 0 <= quality <= 99:
        raise EncoderError(f"h264_videotoolbox quality: must be from 0 to 99, not {quality:g}")
    return round((100 - quality) * _QUALITY_UNIT)


_PROFILES: Final[Mapping[str, _Profile]] = {
    "libx264": _Profile(
        fixed={
            "profile": "high",
            "g": _NONE_BY_ITSELF,
            "keyint_min": _NONE_BY_ITSELF,
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
    # untried; the options are those of FFmpeg's videotoolboxenc.c
    "h264_videotoolbox": _Profile(
        fixed={
            "profile": "high",
            "flags": "+qscale+cgop",  # constant quality, which Intel's Macs refuse; closed GOPs
            "g": _NONE_BY_ITSELF,
            "bf": "0",  # nothing is reordered, so a key frame that is asked for closes its GOP
            "realtime": "0",
        },
        quality_option="global_quality",
        quality=35,
        presets=(),
        preset=None,
        tag="avc1",
        to_option=_videotoolbox_quality,
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

_NVENC_REFUSALS: Final[Mapping[type[FFmpegError], str]] = {
    av.error.PermissionError: "no NVIDIA driver with NVENC",
    av.error.ExternalError: "no GPU here opens it",
}
"""What FFmpeg's errors mean where NVENC does not open: their own words do not tell."""

ENCODERS = tuple(_PROFILES)
"""The names that `choose_encoder` takes besides `auto`."""


@dataclass(frozen=True, slots=True)
class Encoder:
    """One encoder with every setting decided: the same for all chunks of an export."""

    name: str
    options: tuple[tuple[str, str], ...]
    size: Size
    fps: Fraction
    key_interval: int
    """Frames from one key frame of a chunk to the next, counted from its first."""
    why: str = field(default="", compare=False)
    """Why this encoder was chosen, for a report."""

    @property
    def key(self) -> str:
        """Everything that decides the coded bytes except size and rate, for a chunk's digest."""
        settings = ",".join(f"{name}={value}" for name, value in self.options)
        return f"{self.name}:{settings}:threads={THREADS}:key_interval={self.key_interval}"

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
    key_interval_s: float | Fraction | None = None,
) -> Encoder:
    """The encoder for an export, checked by opening it once.

    `auto` takes the first of `AUTO_ORDER` that opens. `quality` is the encoder's own constant
    quality scale, of which lower is better (libx264: crf, NVENC: cq, VideoToolbox: what its own
    lacks of 100). `options` go to FFmpeg unchanged.
    `key_interval_s` is from one key frame to the next: see `key_interval_frames`. Raises
    `EncoderError` for an unknown name, preset, option or value, and for an encoder that is
    requested by name and does not open here.
    """
    make = partial(
        named_encoder,
        size,
        fps,
        quality=quality,
        preset=preset,
        options=options,
        key_interval_s=key_interval_s,
    )
    if name == "auto":
        return _first_that_opens(make)
    encoder = make(name)
    check_opens(encoder)
    return encoder


def key_interval_frames(interval_s: float | Fraction | None, fps: Fraction) -> int:
    """The interval of key frames in whole frames, at least 1; None means the default.

    Raises `EncoderError` for a time outside `KEY_INTERVALS_S`.
    """
    shortest_s, longest_s = KEY_INTERVALS_S
    if interval_s is None:
        interval_s = DEFAULT_KEY_INTERVAL_S
    if not shortest_s <= interval_s <= longest_s:
        limits = f"from {float(shortest_s):g} to {float(longest_s):g} s"
        raise EncoderError(f"key_interval_s: must be {limits}, not {float(interval_s):g}")
    return max(1, round_half_up(exact_seconds(interval_s) * fps))


def _first_that_opens(make: Callable[..., Encoder]) -> Encoder:
    """The first of `AUTO_ORDER` that opens. `make` is given a name, and why it was chosen."""
    refusals: list[str] = []
    for name in AUTO_ORDER:
        if not _is_built_in(name):
            continue
        last = name == AUTO_ORDER[-1]
        try:
            encoder = make(name, why="; ".join([*refusals, f"{name} opens"]))
        except EncoderError:  # the options may be meant for another encoder of the list
            if last:
                raise
            refusals.append(f"{name} does not know these options")
            continue
        refusal = refusal_of(encoder)
        if refusal is None:
            return encoder
        refusals.append(f"{name} does not open: {refusal}")
    raise EncoderError("no encoder opens here: " + "; ".join(refusals))


def check_opens(encoder: Encoder) -> None:
    """Raises `EncoderError` where the encoder does not open on this machine."""
    if (refusal := refusal_of(encoder)) is not None:
        raise EncoderError(f"{encoder.name} does not open here: {refusal}")


def refusal_of(encoder: Encoder) -> str | None:
    """Why an encoder does not open on this machine; None where it opens."""
    if not _is_built_in(encoder.name):
        return _NOT_BUILT_IN
    context = av.codec.CodecContext.create(encoder.name, "w")
    assert isinstance(context, VideoCodecContext)
    configure(context, encoder)
    try:
        context.open()
    except FFmpegError as error:
        if "nvenc" in encoder.name and type(error) in _NVENC_REFUSALS:
            return _NVENC_REFUSALS[type(error)]
        return f"{error.strerror}" if error.strerror else str(error)
    return None


def _is_built_in(name: str) -> bool:
    try:
        av.codec.Codec(name, "w")
    except UnknownCodecError:
        return False
    return True


def named_encoder(
    size: Size,
    fps: Fraction,
    name: str,
    *,
    why: str = "asked for",
    quality: float | None = None,
    preset: str | None = None,
    options: Mapping[str, str] | None = None,
    key_interval_s: float | Fraction | None = None,
) -> Encoder:
    """The encoder of that name, for a machine that may be another one: it is not opened.

    Arguments are as for `choose_encoder`, and so are the errors.
    """
    profile = _PROFILES.get(name)
    if profile is None:
        raise EncoderError(f"there is no encoder {name!r}; there are auto, {_listed(ENCODERS)}")
    if not _is_built_in(name):
        raise EncoderError(f"{name} does not exist here: {_NOT_BUILT_IN}")
    if preset is not None and preset not in profile.presets:
        has = _listed(profile.presets) or "none"
        raise EncoderError(f"{name} has no preset {preset!r}; it has {has}")
    options = options or {}
    for key in sorted((_GOP_OPTIONS | {"flags"} & profile.fixed.keys()) & set(options)):
        raise EncoderError(f"{name} option {key}: is fixed; the key interval says where GOPs begin")
    wanted = profile.to_option(profile.quality if quality is None else quality)
    settings = {**profile.fixed, profile.quality_option: f"{wanted:g}", **options}
    if (chosen := preset or profile.preset) is not None:
        settings.setdefault("preset", chosen)
    check_options(name, settings)
    key_interval = key_interval_frames(key_interval_s, fps)
    return Encoder(name, tuple(sorted(settings.items())), size, fps, key_interval, why)


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
        if (problem := _problem_with(known[key], value)) is not None:
            raise EncoderError(f"{name} option {key}={value}: {problem}")


def _problem_with(option: CodecOption, value: str) -> str | None:
    names = [choice.name for choice in option.choices]
    if value.startswith("+") and set(value[1:].split("+")) <= set(names):  # flags to be added
        return None
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


def configure(context: VideoCodecContext, encoder: Encoder) -> None:
    """Sets an encoder's size, rate, colour tags, threads and options, before it is opened."""
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

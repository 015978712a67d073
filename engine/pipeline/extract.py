"""Cuts a range out of a file, exact to the frame. Knows no edit and no plan.

Whole GOPs are copied. Only the frames before the first of them and after the last are encoded
again. Copied and encoded packets have different parameter sets, so these are stored with the
pictures (`avc3`), and each stretch begins with an IDR. What cannot be copied is encoded, and the
result says why. The sound is always cut to the sample and encoded again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType
from av.video.stream import VideoStream

from engine.audio.mix import encode_sound, sound_blocks
from engine.destination import FILM_SUFFIXES, output_file
from engine.errors import EncoderError
from engine.files import file_url, temporary_file, whole_file
from engine.media.container import open_container, video_stream
from engine.media.encoders import key_interval_frames
from engine.media.h264 import from_start_codes, parameter_sets
from engine.media.inspect import check_presentation_times, inspect_file
from engine.media.join import MP4_OPTIONS, Packet, mux_in_order, sound_packets
from engine.media.video_reader import FrameReader
from engine.pipeline.cut import (
    TOLERANCE_S,
    CopiedRange,
    Cut,
    copied_range,
    cut_warnings,
    packets_around,
    planned_cut,
    presentation_times_s,
)
from engine.soundtrack import Ramp, SoundSpan, TempoPiece
from engine.source import SourceInfo
from engine.storage import ObjectReader, cached
from engine.timing import SAMPLE_RATE_HZ, FrameRange, round_half_up

_ENCODER = "libx264"
_OPTIONS = {"preset": "fast", "crf": "16", "bf": "0", "sc_threshold": "0", "forced-idr": "1"}
"""A little better than what is copied, because it is a second generation. Without reordering."""


@dataclass(frozen=True, slots=True)
class Extracted:
    """What `extract` did."""

    frames: int
    frames_copied: int
    frames_encoded: int
    why: str
    """Why some were encoded, or that none was."""
    start_s: float
    """When the first frame appears, in source time."""
    duration_s: float
    warnings: tuple[str, ...]


def extract(
    source: SourceInfo,
    start_s: Fraction | str,
    stop_s: Fraction | str | None,
    destination: Path,
    *,
    on_progress: Callable[[int, int], None],
    store: ObjectReader | None = None,
    key_interval_s: float | Fraction | None = None,
) -> Extracted:
    """Writes the range as an MP4 at `destination`, whole or not at all, and says what was done.

    See `planned_cut` for the range. `store` holds a source that is an object. `on_progress` is
    given the frames done and their total, and may raise to stop. It is also called while the sound
    is encoded, before the first frame. `key_interval_s` is from one key frame to the next in what
    is encoded, as for `choose_encoder`. Raises `EditError`, `SourceError`, `EncoderError`, and
    `JoinError` where the file that came out does not hold the frames of the range.
    """
    needed = source.location if isinstance(source.location, Path) else None
    keep = {} if needed is None else {needed: "the source"}
    destination = output_file(destination, suffixes=FILM_SUFFIXES, keep=keep)
    cut = planned_cut(source, start_s, stop_s)
    warnings = cut_warnings(source, stop_s)
    store = cached(store)  # the file is opened several times
    copied = copied_range(source, cut.frames, store)
    rate = (len(source.frame_pts) / source.duration_s).limit_denominator(1001)
    key_interval = key_interval_frames(key_interval_s, rate)
    writer = _Writer(source, store, cut, copied, rate, key_interval, warnings, on_progress)
    try:
        with (
            whole_file(destination) as path,
            _sound_of(
                cut,
                source,
                store,
                destination,
                warnings,
                on_step=lambda: on_progress(0, len(cut.frames)),
            ) as sound,
        ):
            writer.write(path, sound)
            times_s = presentation_times_s(source, cut)
            check_presentation_times(inspect_file(path), destination, times_s, TOLERANCE_S)
    except FFmpegError as error:
        raise EncoderError(f"{destination}: cannot be written: {error.strerror}") from error
    return Extracted(
        frames=len(cut.frames),
        frames_copied=len(copied.frames),
        frames_encoded=len(cut.frames) - len(copied.frames),
        why=copied.why,
        start_s=float(cut.start_s),
        duration_s=float(cut.duration_s),
        warnings=tuple(dict.fromkeys(warnings)),
    )


@dataclass(frozen=True, slots=True)
class _Coded:
    """A packet to write: its bytes, and which frame of the source it holds."""

    data: bytes
    index: int
    is_key: bool


@dataclass(slots=True)
class _Writer:
    """Writes the picture and the sound of a cut."""

    source: SourceInfo
    store: ObjectReader | None
    cut: Cut
    copied: CopiedRange
    rate: Fraction
    """Average frames per second of the source."""
    key_interval: int
    """Frames from one key frame to the next in what is encoded."""
    warnings: list[str]
    """Takes what there is to warn of."""
    on_progress: Callable[[int, int], None]
    done: int = 0
    """Frames written."""

    def write(self, path: Path, sound: Path | None) -> None:
        """Writes the file at `path`, with the track of `sound` beside the picture."""
        with av.open(file_url(path), "w", format="mp4", options=MP4_OPTIONS) as container:
            if self.copied.frames:
                with open_container(self.source.location, self.store) as template:
                    taken = video_stream(template, self.source.location)
                    stream = container.add_stream_from_template(taken)
                stream.codec_tag = "avc3"
                coded = self._mended()
            else:
                added = container.add_stream(_ENCODER, options=_OPTIONS)
                assert isinstance(added, VideoStream)
                stream = added
                self._configure(stream.codec_context)
                if self.source.rotation_deg or self.source.mirrored:
                    # FFmpeg mirrors after it has turned: then the turn is the other way round
                    turn = self.source.rotation_deg * (1 if self.source.mirrored else -1)
                    stream.set_display_rotation(turn, hflip=self.source.mirrored)
                coded = self._encoded(self.cut.frames, stream.codec_context)
            stream.time_base = self.source.time_base
            packets = [self._timed(coded, stream)]
            if sound is None:
                mux_in_order(container, packets, lambda: None)
                return
            with av.open(file_url(sound)) as track:
                voice = container.add_stream_from_template(track.streams.audio[0])
                packets.append(sound_packets(track, voice))
                mux_in_order(container, packets, lambda: None)

    def _mended(self) -> Iterator[_Coded]:
        """Encoded, copied, encoded."""
        frames, copied = self.cut.frames, self.copied.frames
        yield from self._edge(FrameRange(frames.start, copied.start))
        yield from self._copies()
        yield from self._edge(FrameRange(copied.stop, frames.stop))

    def _edge(self, frames: FrameRange) -> Iterator[_Coded]:
        """Frames before or after the copied ones, encoded with parameter sets of their own."""
        context = av.CodecContext.create(_ENCODER, "w")
        assert isinstance(context, VideoCodecContext)
        context.options = dict(_OPTIONS)
        self._configure(context)
        for coded in self._encoded(frames, context):
            yield _Coded(from_start_codes(coded.data), coded.index, coded.is_key)

    def _copies(self) -> Iterator[_Coded]:
        """The copied packets; the first has the source's parameter sets in front."""
        copied = self.copied.frames
        for index, packet in packets_around(self.source, copied, self.store):
            if copied.start <= index < copied.stop:
                data = bytes(packet)
                if index == copied.start:
                    extradata = packet.stream.codec_context.extradata
                    assert extradata is not None
                    data = parameter_sets(extradata) + data
                yield _Coded(data, index, packet.is_keyframe)

    def _encoded(self, frames: FrameRange, context: VideoCodecContext) -> Iterator[_Coded]:
        """The packets that `context` makes of these frames: closed GOPs."""
        if not frames:
            return
        wanted = self.source.frame_pts[frames.start : frames.stop]
        with FrameReader(
            self.source, strict=False, on_warning=self.warnings.append, store=self.store
        ) as reader:
            for number, frame in enumerate(reader.frames(wanted.tolist())):
                picture = self._picture(frame.owner, context)
                picture.pts, picture.time_base = number, context.time_base
                is_key = number % self.key_interval == 0
                picture.pict_type = PictureType.I if is_key else PictureType.NONE
                for each in (picture, None) if number + 1 == len(frames) else (picture,):
                    for packet in context.encode(each):
                        assert packet.pts is not None
                        yield _Coded(bytes(packet), frames.start + packet.pts, packet.is_keyframe)

    def _picture(self, owner: object, context: VideoCodecContext) -> av.VideoFrame:
        assert isinstance(owner, av.VideoFrame)
        return owner.reformat(context.width, context.height, context.pix_fmt)

    def _configure(self, context: VideoCodecContext) -> None:
        """Gives an encoder the size, format, rate and colours of the source."""
        source = self.source
        with open_container(source.location, self.store) as container:
            stream = video_stream(container, source.location)
            taken = stream.codec_context
            context.width, context.height = taken.width & ~1, taken.height & ~1
            formats = {each.name for each in av.Codec(_ENCODER, "w").video_formats or ()}
            known = source.pixel_format in formats
            context.pix_fmt = source.pixel_format if known else "yuv420p"
            context.sample_aspect_ratio = stream.sample_aspect_ratio or Fraction(1)
            for name in ("color_range", "color_primaries", "color_trc", "colorspace"):
                setattr(context, name, getattr(taken, name))
        context.framerate = self.rate
        context.time_base = 1 / self.rate
        context.thread_type = "AUTO"

    def _timed(
        self, coded: Iterable[_Coded], stream: VideoStream
    ) -> Iterator[tuple[float, Packet]]:
        """The packets on the time line of the cut, each with its decoding time in seconds.

        The decoding times are the presentation times in order, shifted ahead by the reordering of
        the copied frames. So every frame is decoded before it is shown, copied or encoded.
        """
        frames, source = self.cut.frames, self.source
        pts = source.frame_pts[frames.start : frames.stop] - source.frame_pts[frames.start]
        step = max(1, round(int(pts[-1]) / max(1, len(pts) - 1)))
        ends = [*pts[1:], round_half_up(self.cut.duration_s / source.time_base)]
        for place, each in enumerate(coded):
            number = each.index - frames.start
            packet = av.Packet(each.data)
            packet.pts = int(pts[number])
            early = place - self.copied.reorder_frames
            packet.dts = int(pts[early]) if early >= 0 else early * step
            packet.duration = int(ends[number]) - packet.pts
            packet.time_base = source.time_base
            packet.is_keyframe = each.is_key
            packet.stream = stream
            self.done += 1
            self.on_progress(self.done, len(frames))
            yield float(packet.dts * source.time_base), packet


@contextmanager
def _sound_of(
    cut: Cut,
    source: SourceInfo,
    store: ObjectReader | None,
    destination: Path,
    warnings: list[str],
    on_step: Callable[[], None],
) -> Iterator[Path | None]:
    """A file with the sound of the cut, beside `destination` until the block ends. None where
    there is no sound."""
    if source.sound is None:
        yield None
        return
    sample_count = max(1, round_half_up(cut.duration_s * SAMPLE_RATE_HZ))
    piece = TempoPiece(cut.start_s, cut.stop_s, Fraction(1), sample_count)
    span = SoundSpan(0, 0, (piece,), 0, Ramp.LINEAR, 0, Ramp.LINEAR)
    with temporary_file(destination.parent, f"{destination.name}.sound") as path:
        blocks = sound_blocks([span], [source], sample_count, warnings.append, store)
        encode_sound(blocks, path, on_step)
        yield path

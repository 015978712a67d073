"""What a finished film holds, read back from its file: frames, samples, tags. Knows no plan."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from engine.errors import SourceError
from engine.geometry import Size
from engine.media.container import open_container
from engine.source import SourcePlace
from engine.timing import round_half_up


@dataclass(frozen=True, slots=True)
class Proof:
    """A film as its file tells it."""

    frames: int
    size: Size
    fps: Fraction
    codec: str
    pixel_format: str
    colour: tuple[str, str, str, str]
    """Matrix, primaries, transfer and range, as FFmpeg names them."""
    samples: int
    """Presented, per channel; 0 without sound."""
    sample_rate_hz: int


def read_proof(place: SourcePlace) -> Proof:
    """Counts the pictures of a film and reads its tags; decodes nothing.

    Raises SourceError for what is no film.
    """
    with open_container(place) as container:
        if not container.streams.video:
            raise SourceError(str(place), "has no picture")
        video = container.streams.video[0]
        context = video.codec_context
        sound = next(iter(container.streams.audio), None)
        lasts_s = (sound.duration or 0) * (sound.time_base or Fraction(0)) if sound else Fraction(0)
        return Proof(
            frames=sum(packet.pts is not None for packet in container.demux(video)),
            size=Size(video.width, video.height),
            fps=video.average_rate or Fraction(0),
            codec=context.name,
            pixel_format=context.pix_fmt or "",
            colour=(
                Colorspace(context.colorspace).name,
                ColorPrimaries(context.color_primaries).name,
                ColorTrc(context.color_trc).name,
                ColorRange(context.color_range).name,
            ),
            samples=round_half_up(lasts_s * sound.rate) if sound else 0,
            sample_rate_hz=sound.rate if sound else 0,
        )

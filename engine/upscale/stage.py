"""The seam between decoding and blending: source frames with rectangles in, pictures out.

A stage sees the frames of one layer of one chunk as a stream, so a network may batch them; it gives
back one picture per frame, in order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from engine.geometry import Fit, Size
from engine.pixels.crop import CropSampler
from engine.pixels.picture import DeviceSurface, FinishedPicture, Picture, SourceFrame
from engine.source import SourceInfo

if TYPE_CHECKING:
    pass


class FrameCrop(NamedTuple):
    """One output frame of a layer: a source frame and the rectangle of it that is shown."""

    frame: SourceFrame | DeviceSurface
    """On a device only for a stage that works there."""
    rect: NDArray[np.float64]
    """Shape (4,): x, y, width, height in display pixels."""


class Stage(Protocol):
    """Turns one clip's shots into pictures of the target's size."""

    @property
    def key(self) -> str:
        """Everything that decides its pixels, for the digest of a chunk."""

    @property
    def frames_on(self) -> str | None:
        """The device, as torch spells it, where it leaves its pictures and would rather have its
        frames; None for host memory."""

    def pictures(
        self, shots: Iterable[FrameCrop], source: SourceInfo, target: Size, fit: Fit
    ) -> Iterator[FinishedPicture]:
        """One picture per shot, in order.

        Consecutive shots of the same frame and rectangle may give the same object; a picture is
        not changed after it was given. Raises `UpscalerError`.
        """


class Upscaler(Protocol):
    """Chooses a stage for each clip: a whole clip goes through one, so that nothing pops."""

    @property
    def name(self) -> str:
        """What the user calls it."""

    @property
    def why(self) -> str:
        """Why this one was chosen, for the report."""

    @property
    def device(self) -> str:
        """Where it works, as torch spells it."""

    @property
    def events(self) -> Sequence[str]:
        """What had to be done about memory or precision so far, one line each."""

    def for_scale(self, scale: float) -> Stage:
        """The stage of a clip whose crop is enlarged at most `scale` times."""


class PlainResampler:
    """Bicubic resampling of the crop, no network: one pass from source planes to target planes."""

    name = "none"
    key = "bicubic"
    device = "cpu"
    frames_on = None
    events: Sequence[str] = ()

    def __init__(self, why: str) -> None:
        self.why = why

    def for_scale(self, scale: float) -> Stage:  # noqa: ARG002 - the same for all
        return self

    def pictures(
        self, shots: Iterable[FrameCrop], source: SourceInfo, target: Size, fit: Fit
    ) -> Iterator[Picture]:
        sampler = CropSampler(
            display_size=source.display_size,
            rotation_deg=source.rotation_deg,
            colour=source.colour,
            target=target,
            fit=fit,
        )
        last: FrameCrop | None = None
        picture = Picture(target)
        for shot in shots:
            assert isinstance(shot.frame, SourceFrame)
            if last is None or shot.frame is not last.frame or (shot.rect != last.rect).any():
                picture = Picture(target)
                sampler.sample(shot.frame, shot.rect, picture)
            last = shot
            yield picture

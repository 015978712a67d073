"""The seam between decoding and blending: source frames with rectangles in, pictures out.

An upscaler sees the frames of one layer of one chunk as a stream, so a network may batch them;
it gives back one picture per frame, in order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from engine.crop import CropSampler
from engine.errors import UpscalerError
from engine.geometry import Fit, Size
from engine.picture import Picture, SourceFrame
from engine.source import SourceInfo


class Shot(NamedTuple):
    """One output frame of a layer: a source frame and the rectangle of it that is shown."""

    frame: SourceFrame
    rect: NDArray[np.float64]
    """Shape (4,): x, y, width, height in display pixels."""


class Upscaler(Protocol):
    """Turns shots into pictures of the target's size."""

    @property
    def name(self) -> str:
        """What the user calls it."""

    @property
    def key(self) -> str:
        """Everything that decides its pixels, for the digest of a chunk."""

    @property
    def why(self) -> str:
        """Why this one was chosen, for the report."""

    def pictures(
        self, shots: Iterable[Shot], source: SourceInfo, target: Size, fit: Fit
    ) -> Iterator[Picture]:
        """One picture per shot, in order.

        Consecutive shots of the same frame and rectangle may give the same object; a picture is
        not changed after it was given. Raises `UpscalerError`.
        """


class PlainResampler:
    """Bicubic resampling of the crop, no network: one pass from source planes to target planes."""

    name = "none"
    key = "bicubic"

    def __init__(self, why: str) -> None:
        self.why = why

    def pictures(
        self, shots: Iterable[Shot], source: SourceInfo, target: Size, fit: Fit
    ) -> Iterator[Picture]:
        sampler = CropSampler(
            display_size=source.display_size,
            rotation_deg=source.rotation_deg,
            colour=source.colour,
            target=target,
            fit=fit,
        )
        last: Shot | None = None
        picture = Picture(target)
        for shot in shots:
            if last is None or shot.frame is not last.frame or (shot.rect != last.rect).any():
                picture = Picture(target)
                sampler.sample(shot.frame, shot.rect, picture)
            last = shot
            yield picture


def choose_upscaler(name: str = "auto", device: str = "auto") -> Upscaler:
    """The upscaler of that name; `auto` takes what this machine can run well.

    Raises `UpscalerError` for a name or a device that does not exist here.
    """
    if device == "cuda":
        raise UpscalerError("device cuda: plain resampling, all this version has, runs on the CPU")
    if name == "auto":
        return PlainResampler("auto: this version has no network, so plain resampling")
    if name == "none":
        return PlainResampler("asked for")
    raise UpscalerError(f"there is no upscaler {name!r}; there are auto, none")

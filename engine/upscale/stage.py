"""The seam between decoding and blending: source frames with rectangles in, pictures out.

An upscaler decides a stage for each clip, as a value. A renderer loads the stage from it. A stage
sees the frames of one layer of one chunk as a stream, so a network may batch them. It gives back
one picture per frame, in order.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from engine.geometry import Framing
from engine.pixels.crop import CropSampler
from engine.pixels.picture import DeviceSurface, FinishedPicture, Picture, SourceFrame
from engine.source import SourceInfo


class FrameCrop(NamedTuple):
    """One output frame of a layer: a source frame and the rectangle of it that is shown."""

    frame: SourceFrame | DeviceSurface
    """On a device only for a stage that works there."""
    rect: NDArray[np.float64]
    """Shape (4,): x, y, width, height in display pixels, after the tilt."""


class Stage(Protocol):
    """Turns one clip's frames and rectangles into pictures."""

    @property
    def frames_on(self) -> str | None:
        """The device, as torch spells it, where it leaves its pictures and prefers its frames.

        None for host memory.
        """

    @property
    def events(self) -> Sequence[str]:
        """What had to be done about memory or precision so far, one line each."""

    def pictures(
        self, crops: Iterable[FrameCrop], source: SourceInfo, framing: Framing
    ) -> Iterator[FinishedPicture]:
        """One picture per crop, in order.

        Consecutive crops of the same frame and rectangle may give the same object. A picture is
        not changed after it was given. Raises `UpscalerError`.
        """


class StageSpec(Protocol):
    """A decided stage: a hashable, picklable value that any process can load the stage from."""

    @property
    def key(self) -> str:
        """Everything that decides its pixels, for the digest of a chunk."""

    def load(self) -> Stage:
        """The stage, ready to run. Raises `UpscalerError` where it cannot run here as decided."""


class Upscaler(Protocol):
    """Decides a stage for each clip: a whole clip goes through one, so that nothing pops."""

    @property
    def name(self) -> str:
        """What the user calls it."""

    @property
    def why(self) -> str:
        """Why this one was chosen, for the report."""

    @property
    def device(self) -> str:
        """Where it works, as torch spells it."""

    def stage_for(self, scale: float) -> StageSpec:
        """The stage of a clip whose crop is enlarged at most `scale` times.

        Raises `UpscalerError` for weights that cannot be had.
        """


@dataclass(slots=True)
class LoadedStages:
    """The stages that this process has loaded, each once. Threads may share them."""

    _loaded: dict[StageSpec, Stage] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    """Held while a stage is loaded."""

    def of(self, spec: StageSpec) -> Stage:
        """The stage, loaded when it is first asked for. Raises `UpscalerError`."""
        if spec not in self._loaded:  # those that are there need not wait for one that is loaded
            with self._lock:
                if spec not in self._loaded:
                    self._loaded[spec] = spec.load()
        return self._loaded[spec]

    @property
    def events(self) -> list[str]:
        """The events of all of them; see `Stage`."""
        return [event for stage in list(self._loaded.values()) for event in stage.events]


@dataclass(frozen=True)
class PlainResampler:
    """Bicubic resampling of the crop, no network: one pass from source planes to target planes.

    It has no state, so it is an upscaler, the spec of its only stage, and that stage.
    """

    why: str = field(default="asked for", compare=False)
    name: ClassVar[str] = "none"
    key: ClassVar[str] = "bicubic"
    device: ClassVar[str] = "cpu"
    frames_on: ClassVar[None] = None
    events: ClassVar[Sequence[str]] = ()

    def stage_for(self, scale: float) -> StageSpec:  # noqa: ARG002 - the same for all
        """See `Upscaler`."""
        return self

    def load(self) -> Stage:
        """See `StageSpec`."""
        return self

    def pictures(
        self, crops: Iterable[FrameCrop], source: SourceInfo, framing: Framing
    ) -> Iterator[Picture]:
        """See `Stage`."""
        sampler = CropSampler(
            display_size=source.display_size,
            rotation_deg=source.rotation_deg,
            mirrored=source.mirrored,
            colour=source.colour,
            target=framing.target,
            fit=framing.fit,
            tilt_deg=framing.tilt_deg,
        )
        last: FrameCrop | None = None
        picture = Picture(framing.target)
        for crop in crops:
            assert isinstance(crop.frame, SourceFrame)
            if last is None or crop.frame is not last.frame or (crop.rect != last.rect).any():
                picture = Picture(framing.target)
                sampler.sample(crop.frame, crop.rect, picture)
            last = crop
            yield picture

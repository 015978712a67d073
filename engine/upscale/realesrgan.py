"""Real-ESRGAN in the stream: only the crop, only the frames that are shown, each once, in batches.

    shots ─▶ stills ─▶ batches of one shape ─▶ network ─▶ the exact rectangles ─▶ pictures

A still is a source frame with all rectangles through which it is shown, upscaled once over the
whole pixels that hold them. On a GPU a batch is at work while the next one is cut out, frames that
were decoded there are cut there, and finished pictures stay there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.errors import UpscalerError
from engine.geometry import Box, Fit, Rect, Size, fit_crop
from engine.gpu.frames import DeviceFrame, cut
from engine.gpu.pictures import DevicePicture
from engine.gpu.streams import Lanes
from engine.pixels.crop import CropSampler
from engine.pixels.picture import FinishedPicture, Picture, SourceFrame
from engine.source import Colour, Matrix, SourceInfo, Transfer
from engine.upscale.inference import Runner
from engine.upscale.regions import Region, covering
from engine.upscale.stage import FrameCrop
from engine.upscale.tensors import i420_of_ycc, rgb_of_i420, ycc_of_rgb

_UPSCALED = Colour(Matrix.BT709, full_range=False, transfer=Transfer.SDR, assumed=False)
_DEPTH = 14
"""Bits of an upscaled sample on its way to the sampler, on the CPU."""

Ready = Callable[[], Sequence[FinishedPicture]]
"""Gives the pictures of a batch that was set to work, in order; waits for them if need be."""


@dataclass(frozen=True, slots=True, eq=False)
class Still:
    """A source frame's region, upright and in BT.709, and the rectangles it is shown through."""

    region: Region
    pixels: Tensor
    """I420, uint8 (h * 3 / 2, w), in host memory or on the device."""
    rects: list[NDArray[np.float64]]


class RealESRGAN:
    """A `Stage` that puts every frame through one network."""

    def __init__(
        self,
        runner: Runner,
        *,
        batch: int | None = None,
        stays_there: bool | None = None,
        name: str = "network",
    ) -> None:
        """`batch`: images at a time, by default as many as fit. `name`: of the model, for events.

        `stays_there`: frames are taken and pictures left on the device; by default on CUDA.
        """
        self._name = name
        self._cuda = runner.device.type == "cuda"
        self.frames_on = (
            str(runner.device) if stays_there or (stays_there is None and self._cuda) else None
        )
        self._runner = runner
        self._lanes = Lanes(runner.device)
        self._batch = batch

    @property
    def events(self) -> list[str]:
        """What had to be done about memory or precision so far, one line each."""
        return [f"{self._name}: {event}" for event in self._runner.events]

    def pictures(
        self, shots: Iterable[FrameCrop], source: SourceInfo, target: Size, fit: Fit
    ) -> Iterator[FinishedPicture]:
        """See `Stage`."""
        at_work: deque[Ready] = deque()
        ahead = 1 if self._cuda else 0
        stills = self._stills(shots, source)
        for batch in _batches(stills, lambda size: self._runner.batch_size(size, self._batch)):
            at_work.append(self._set_to_work(batch, target, fit))
            if len(at_work) > ahead:
                yield from at_work.popleft()()
        while at_work:
            yield from at_work.popleft()()

    def _set_to_work(self, batch: list[Still], target: Size, fit: Fit) -> Ready:
        """Where a batch, its finished pictures included, does not fit into memory, two halves."""
        try:
            return self._at_work(batch, target, fit)
        except torch.OutOfMemoryError as error:
            if len(batch) == 1:
                raise UpscalerError(f"{self._runner.device} has not enough memory") from error
        self._runner.out_of_memory(len(batch))
        middle = len(batch) // 2
        halves = [self._set_to_work(half, target, fit) for half in (batch[:middle], batch[middle:])]
        return lambda: [picture for half in halves for picture in half()]

    def _at_work(self, batch: list[Still], target: Size, fit: Fit) -> Ready:
        buffers = self._lanes.gathered([still.pixels for still in batch])
        with self._lanes.computing():
            made = self._runner(rgb_of_i420(buffers))
            finite = made.isfinite().all()
            ready = self._finish(made, batch, target, fit)

        def checked() -> Sequence[FinishedPicture]:
            with self._lanes.computing():
                if bool(finite):  # waits for all that was computed
                    return ready()
                again = self._runner.in_full_precision(rgb_of_i420(buffers))
                return self._finish(again, batch, target, fit)()

        return checked

    def _finish(self, made: Tensor, batch: list[Still], target: Size, fit: Fit) -> Ready:
        if self._cuda or self.frames_on is not None:
            return self._on_device(made, batch, target, fit)
        return self._on_host(made, batch, target, fit)

    def _on_host(self, made: Tensor, batch: list[Still], target: Size, fit: Fit) -> Ready:
        """The exact rectangles by the integer sampler: on a CPU it is far faster than torch."""

        def sampled() -> list[Picture]:
            codes = ycc_of_rgb(made.clamp(0, 1)).mul_(1 << _DEPTH - 8).round_()
            planes = codes.to(torch.uint16).numpy()
            scale = self._runner.shape.scale
            pictures = []
            for still, (y, cb, cr) in zip(batch, planes, strict=True):
                size = Size(y.shape[1], y.shape[0])
                frame = SourceFrame(0, (y, cb, cr), _DEPTH, (1, 1), (0.0, 0.0), planes)
                sampler = CropSampler(
                    display_size=size, rotation_deg=0, colour=_UPSCALED, target=target, fit=fit
                )
                for rect in still.rects:
                    picture = Picture(target)
                    sampler.sample(frame, _inside(rect, still.region) * scale, picture)
                    pictures.append(picture)
            return pictures

        return sampled

    def _on_device(self, made: Tensor, batch: list[Still], target: Size, fit: Fit) -> Ready:
        """The exact rectangles in torch, where the pictures are."""
        scale = self._runner.shape.scale
        buffers = []
        for rgb, still in zip(made, batch, strict=True):
            codes = ycc_of_rgb(rgb.clamp(0, 1))
            for rect in still.rects:
                x, y, width, height = (float(v) for v in _inside(rect, still.region) * scale)
                shown, box = fit_crop(Rect(x, y, width, height), target, fit)
                place = (shown.x, shown.y, shown.width, shown.height)
                buffers.append(i420_of_ycc(codes, place, box, target))
        return lambda: [DevicePicture(target, self._lanes.handed_out(each)) for each in buffers]

    def _stills(self, shots: Iterable[FrameCrop], source: SourceInfo) -> Iterator[Still]:
        """Shots of the same source frame made one, its region cut out upright and in BT.709."""
        sampler: CropSampler | None = None
        sampled: Size | None = None
        for _, same in groupby(shots, key=lambda shot: id(shot.frame)):
            of_frame = list(same)
            frame, rects = of_frame[0].frame, [shot.rect for shot in of_frame]
            region = covering(np.array(rects), source.display_size, self._runner.shape.multiple)
            if isinstance(frame, DeviceFrame):
                box = Box(region.x, region.y, region.width, region.height)
                yield Still(region, cut(frame, box, source.colour), rects)
                continue
            if sampler is None or sampled != region.size:
                sampled = region.size
                sampler = CropSampler(
                    display_size=source.display_size,
                    rotation_deg=source.rotation_deg,
                    colour=source.colour,
                    target=region.size,
                    fit=Fit.STRETCH,
                )
            pixels = self._lanes.empty((region.height * 3 // 2, region.width))
            place = np.array([region.x, region.y, region.width, region.height], np.float64)
            assert isinstance(frame, SourceFrame)
            sampler.sample(frame, place, Picture(region.size, pixels.numpy()))
            yield Still(region, pixels, rects)


def _inside(rect: NDArray[np.float64], region: Region) -> NDArray[np.float64]:
    inside: NDArray[np.float64] = rect - np.array([region.x, region.y, 0, 0])
    return inside


def _batches(stills: Iterable[Still], most: Callable[[Size], int]) -> Iterator[list[Still]]:
    """Neighbours of one size, at most `most` of that size at a time."""
    for size, alike in groupby(stills, key=lambda still: still.region.size):
        while batch := list(islice(alike, most(size))):
            yield batch

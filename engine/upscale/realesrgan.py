"""Real-ESRGAN in the stream: only the crop, only the frames that are shown, each once, in batches.

    shots ─▶ stills ─▶ batches of one shape ─▶ network ─▶ the exact rectangles ─▶ pictures

A still is a source frame with all rectangles through which it is shown, upscaled once over the
whole pixels that hold them. On a GPU a batch is at work while the next one is cut out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby, islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.crop import CropSampler
from engine.geometry import Fit, Rect, Size, placed
from engine.picture import Picture, SourceFrame
from engine.source import Colour, Matrix, SourceInfo, Transfer
from engine.upscale.regions import Region, covering
from engine.upscale.runner import Runner
from engine.upscale.tensors import i420_of_ycc, rgb_of_i420, ycc_of_rgb
from engine.upscale.upscaler import Shot

_UPSCALED = Colour(Matrix.BT709, full_range=False, transfer=Transfer.SDR, assumed=False)
_DEPTH = 14
"""Bits of an upscaled sample on its way to the sampler, on the CPU."""

Ready = Callable[[], list[Picture]]
"""Gives the pictures of a batch that was set to work, in order; waits for them if need be."""


@dataclass(frozen=True, slots=True, eq=False)
class Still:
    """A source frame's region, upright and in BT.709, and the rectangles it is shown through."""

    region: Region
    pixels: Picture
    rects: list[NDArray[np.float64]]


class RealESRGAN:
    """A `Stage` that puts every frame through one network."""

    def __init__(self, runner: Runner, *, weights: str, batch: int | None = None) -> None:
        """`weights` tells them from all others; `batch`: images at a time, else as many as fit."""
        self.key = f"{weights}:{runner.precision}:{runner.device.type}"
        self._runner = runner
        self._batch = batch

    @property
    def events(self) -> list[str]:
        """What had to be done about memory or precision so far, one line each."""
        return self._runner.events

    def pictures(
        self, shots: Iterable[Shot], source: SourceInfo, target: Size, fit: Fit
    ) -> Iterator[Picture]:
        """See `Stage`."""
        at_work: deque[Ready] = deque()
        ahead = 1 if self._runner.device.type == "cuda" else 0
        stills = _stills(shots, source, self._runner.shape.multiple)
        for batch in _batches(stills, lambda size: self._batch or self._runner.batch_size(size)):
            at_work.append(self._set_to_work(batch, target, fit))
            if len(at_work) > ahead:
                yield from at_work.popleft()()
        while at_work:
            yield from at_work.popleft()()

    def _set_to_work(self, batch: list[Still], target: Size, fit: Fit) -> Ready:
        finish = self._on_device if self._runner.device.type == "cuda" else self._on_host
        buffers = torch.from_numpy(np.stack([still.pixels.buffer for still in batch]))
        images = rgb_of_i420(self._moved(buffers))
        made = self._runner(images)
        ready = finish(made, batch, target, fit)
        finite = made.isfinite().all()

        def checked() -> list[Picture]:
            if bool(finite):
                return ready()
            return finish(self._runner.in_full_precision(images), batch, target, fit)()

        return checked

    def _moved(self, tensor: Tensor) -> Tensor:
        if self._runner.device.type != "cuda":
            return tensor
        return tensor.pin_memory().to(self._runner.device, non_blocking=True)

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
        """The exact rectangles in torch, so that only finished pictures leave the device."""
        scale = self._runner.shape.scale
        ycc = ycc_of_rgb(made.clamp(0, 1))
        buffers = []
        for codes, still in zip(ycc, batch, strict=True):
            for rect in still.rects:
                x, y, width, height = (float(v) for v in _inside(rect, still.region) * scale)
                shown, box = placed(Rect(x, y, width, height), target, fit)
                place = (shown.x, shown.y, shown.width, shown.height)
                buffers.append(i420_of_ycc(codes, place, box, target))
        shape = (len(buffers), *buffers[0].shape)
        host = torch.empty(shape, dtype=torch.uint8, pin_memory=self._runner.device.type == "cuda")
        host.copy_(torch.stack(buffers), non_blocking=True)
        done = _recorded(self._runner.device)

        def copied() -> list[Picture]:
            if done is not None:
                done.synchronize()
            return [Picture(target, buffer) for buffer in host.numpy()]

        return copied


def _recorded(device: torch.device) -> torch.cuda.Event | None:
    if device.type != "cuda":
        return None
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record()
    return event


def _inside(rect: NDArray[np.float64], region: Region) -> NDArray[np.float64]:
    inside: NDArray[np.float64] = rect - np.array([region.x, region.y, 0, 0])
    return inside


def _stills(shots: Iterable[Shot], source: SourceInfo, multiple: int) -> Iterator[Still]:
    """Shots of the same source frame made one, its region cut out upright and in BT.709."""
    sampler: CropSampler | None = None
    sampled: Size | None = None
    for _, same in groupby(shots, key=lambda shot: id(shot.frame)):
        of_frame = list(same)
        rects = [shot.rect for shot in of_frame]
        region = covering(np.array(rects), source.display_size, multiple)
        if sampler is None or sampled != region.size:
            sampled = region.size
            sampler = CropSampler(
                display_size=source.display_size,
                rotation_deg=source.rotation_deg,
                colour=source.colour,
                target=region.size,
                fit=Fit.STRETCH,
            )
        pixels = Picture(region.size)
        place = np.array([region.x, region.y, region.width, region.height], np.float64)
        sampler.sample(of_frame[0].frame, place, pixels)
        yield Still(region, pixels, rects)


def _batches(stills: Iterable[Still], most: Callable[[Size], int]) -> Iterator[list[Still]]:
    """Neighbours of one size, at most `most` of that size at a time."""
    for size, alike in groupby(stills, key=lambda still: still.region.size):
        while batch := list(islice(alike, most(size))):
            yield batch

"""A network in the stream: only the crop, only the frames that are shown, each once, in batches.

    crops ─▶ regions ─▶ batches of one size ─▶ network ─▶ the exact rectangles ─▶ pictures

A region is the part of a source frame that holds all the rectangles it is shown through, in whole
pixels. It is upscaled once. On a GPU one batch is computed while the next is cut out, frames that
were decoded there are cut there, and finished pictures stay there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby, islice

import numpy as np
import torch
from torch import Tensor

from engine.errors import UpscalerError
from engine.geometry import Box, Fit, Framing, Size
from engine.gpu.frames import DeviceFrame, cut
from engine.gpu.memory import first_line, is_out_of_memory
from engine.gpu.pictures import DevicePicture
from engine.gpu.streams import DeviceStreams, streams_of
from engine.pixels.crop import CropSampler
from engine.pixels.picture import FinishedPicture, Picture, SourceFrame
from engine.source import SourceInfo
from engine.upscale.device_pictures import picture_plans
from engine.upscale.host_pictures import HostPictures
from engine.upscale.inference import Runner
from engine.upscale.regions import UpscaleRegion, covering
from engine.upscale.stage import FrameCrop
from engine.upscale.tensors import rgb_of_i420, split_range

Finish = Callable[[Tensor, Tensor], "Pending"]
"""Begins the pictures of a network's result and of what lay outside of its input's range."""
Pending = Callable[[], Sequence[FinishedPicture]]
"""Waits for a batch that was begun, and gives its pictures in order."""


class NetworkStage:
    """A `Stage` that puts every frame through one network, of whatever kind."""

    def __init__(
        self,
        runner: Runner,
        *,
        batch: int | None = None,
        keep_on_device: bool | None = None,
        name: str = "network",
        streams: DeviceStreams | None = None,
    ) -> None:
        """`batch`: regions at a time, by default as many as fit. `name`: of the model, for events.

        `keep_on_device`: frames are taken from the device and pictures left on it. By default this
        is so on CUDA. `streams`: by default those of the device.
        """
        self._name = name
        self._cuda = runner.device.type == "cuda"
        stays = self._cuda if keep_on_device is None else keep_on_device
        self.frames_on = str(runner.device) if stays else None
        self._runner = runner
        self._tuning = runner.tuning
        self._streams = streams or streams_of(runner.device)
        self._batch = batch
        self._host = None if stays or self._cuda else HostPictures(runner)

    def warm_up(self, size: Size) -> None:
        """See `Runner`; `size` is that of a region."""
        self._runner.warm_up(size)

    @property
    def events(self) -> list[str]:
        """What had to be done about memory or precision so far, one line each."""
        return [f"{self._name}: {event}" for event in self._runner.events]

    def pictures(
        self, crops: Iterable[FrameCrop], source: SourceInfo, framing: Framing
    ) -> Iterator[FinishedPicture]:
        """See `Stage`."""
        regions = self._regions(crops, source, framing.tilt_deg)
        batches = _batches(regions, lambda size: self._runner.batch_size(size, self._batch))
        if self._host is not None:
            yield from self._host.of(batches, framing)
            return
        begun: deque[Pending] = deque()
        ahead = self._tuning.batches_ahead if self._streams.asynchronous else 0
        for batch in batches:
            begun.append(self._begin(batch, framing))
            if len(begun) > ahead:
                yield from begun.popleft()()
        while begun:
            yield from begun.popleft()()

    def _begin(
        self, batch: list[UpscaleRegion], framing: Framing, *, in_full_precision: bool = False
    ) -> Pending:
        """Begins a batch, or two halves where it and its pictures do not fit into memory."""
        try:
            return self._begin_whole(batch, framing, in_full_precision=in_full_precision)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if len(batch) == 1:
                raise UpscalerError(
                    f"{self._runner.device} has not enough memory ({first_line(error)})"
                ) from error
        self._runner.out_of_memory(len(batch), in_full_precision=in_full_precision)
        middle = len(batch) // 2
        halves = [
            self._begin(half, framing, in_full_precision=in_full_precision)
            for half in (batch[:middle], batch[middle:])
        ]
        return lambda: [picture for half in halves for picture in half()]

    @torch.inference_mode()
    def _begin_whole(
        self, batch: list[UpscaleRegion], framing: Framing, *, in_full_precision: bool
    ) -> Pending:
        """Begins a batch. Where its result is not finite, it is computed again in float32."""
        buffers = self._streams.upload([each.pixels for each in batch])
        finished_by = self._on_device(batch, framing)
        with self._streams.computing():
            inside, outside = split_range(rgb_of_i420(buffers))
            compute = self._runner.in_full_precision if in_full_precision else self._runner
            made = compute(inside)
            finite = self._streams.answer(_all_finite(made))
            pending = finished_by(made, outside)
        computed = self._streams.computed(blocking=self._tuning.blocking_waits)

        def checked() -> Sequence[FinishedPicture]:
            computed()
            if bool(finite):
                return pending()
            if in_full_precision:
                raise UpscalerError("the network's result is not finite, in float32 either")
            self._runner.not_finite()
            return self._begin(batch, framing, in_full_precision=True)()

        return checked

    def _on_device(self, batch: list[UpscaleRegion], framing: Framing) -> Finish:
        """Takes the exact rectangles in torch, where the pictures are."""
        scale, banded = self._runner.shape.scale, self._tuning.banded_resampling
        plans = [picture_plans(each, framing, scale, banded=banded) for each in batch]
        arrays = [array for of_region in plans for plan in of_region for array in plan.arrays]
        sent = self._streams.upload_arrays(arrays, together=self._tuning.gathered_tables)

        def finish(made: Tensor, outside: Tensor) -> Pending:
            tables, inside = iter(sent), made.clamp_(0, 1)
            buffers = [
                plan.picture(rgb, beyond, tables)
                for of_region, rgb, beyond in zip(plans, inside, outside, strict=True)
                for plan in of_region
            ]
            return lambda: [
                DevicePicture(framing.target, self._streams.for_default_stream(buffer))
                for buffer in buffers
            ]

        return finish

    def _regions(
        self, crops: Iterable[FrameCrop], source: SourceInfo, tilt_deg: float
    ) -> Iterator[UpscaleRegion]:
        """One region for all consecutive crops of the same source frame, upright and in BT.709."""
        sampler: CropSampler | None = None
        sampled: Size | None = None
        for _, same in groupby(crops, key=lambda crop: id(crop.frame)):
            of_frame = list(same)
            frame, rects = of_frame[0].frame, [crop.rect for crop in of_frame]
            size, multiple = source.display_size, self._runner.shape.multiple
            region = covering(np.array(rects), size, multiple, tilt_deg)
            if isinstance(frame, DeviceFrame):
                box = Box(region.x, region.y, region.width, region.height)
                yield UpscaleRegion(region, cut(frame, box, source.colour), rects, size)
                continue
            if sampler is None or sampled != region.size:
                sampled = region.size
                sampler = CropSampler(
                    display_size=source.display_size,
                    rotation_deg=source.rotation_deg,
                    mirrored=source.mirrored,
                    colour=source.colour,
                    target=region.size,
                    fit=Fit.STRETCH,
                )
            pixels = self._streams.host_buffer((region.height * 3 // 2, region.width))
            place = np.array([region.x, region.y, region.width, region.height], np.float64)
            assert isinstance(frame, SourceFrame)
            sampler.sample(frame, place, Picture(region.size, pixels.numpy()))
            yield UpscaleRegion(region, pixels, rects, size)


def _all_finite(made: Tensor) -> Tensor:
    """One truth value. One pass reads the least and the largest, which keep what is no number."""
    return torch.stack(torch.aminmax(made)).isfinite().all()


def _batches(
    regions: Iterable[UpscaleRegion], most: Callable[[Size], int]
) -> Iterator[list[UpscaleRegion]]:
    """Neighbours of one size, at most `most` of that size at a time."""
    for size, alike in groupby(regions, key=lambda each: each.region.size):
        while batch := list(islice(alike, most(size))):
            yield batch

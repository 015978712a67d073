"""A network's way through host memory: several pictures at once, each by few threads.

Threads of one pass wait for each other after every layer, so a thread that loses its processor to
the encoder holds up all of them. Two passes at once fill each other's gaps, and the pixels between
network and encoder are computed meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.errors import UpscalerError
from engine.geometry import Framing, Size
from engine.pixels.crop import CropSampler
from engine.pixels.picture import Picture, SourceFrame
from engine.prefetch import computed_ahead
from engine.source import Colour, Matrix, Transfer
from engine.upscale.fine_codes import DEPTH, fine_codes
from engine.upscale.inference import Runner
from engine.upscale.regions import UpscaleRegion
from engine.upscale.tensors import rgb_of_i420, split_range

_UPSCALED = Colour(Matrix.BT709, full_range=False, transfer=Transfer.SDR, assumed=False)


class HostPictures:
    """Upscales regions in host memory. Threads may share one: together they get its threads."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._pool = ThreadPoolExecutor(
            runner.at_once,
            thread_name_prefix="upscale",
            initializer=_compute_with,
            initargs=(max(1, torch.get_num_threads() // runner.at_once),),
        )

    def of(self, batches: Iterable[list[UpscaleRegion]], framing: Framing) -> Iterator[Picture]:
        """A picture for each rectangle of each region, in order. Raises `UpscalerError`."""
        for pictures in computed_ahead(
            lambda batch: self._of_batch(batch, framing),
            batches,
            self._pool,
            ahead=self._runner.at_once,
        ):
            yield from pictures

    def _of_batch(self, batch: list[UpscaleRegion], framing: Framing) -> list[Picture]:
        scale = self._runner.shape.scale
        return [
            picture
            for region, codes in zip(batch, self._codes(batch), strict=True)
            for picture in resampled(codes, region, framing, scale)
        ]

    @torch.inference_mode()
    def _codes(self, batch: list[UpscaleRegion]) -> list[NDArray[np.uint16]]:
        """The codes of each region. Where any is not finite, all are computed again in float32."""
        buffers = torch.stack([region.pixels for region in batch])
        inside, outside = split_range(rgb_of_i420(buffers))
        there = inside.to(self._runner.device)
        codes = _finite(self._runner(there).cpu(), outside)
        if codes is None:
            self._runner.not_finite()
            codes = _finite(self._runner.in_full_precision(there).cpu(), outside)
        if codes is None:
            raise UpscalerError("the network's result is not finite, in float32 either")
        return codes


def _finite(made: Tensor, outside: Tensor) -> list[NDArray[np.uint16]] | None:
    """The `fine_codes` of each picture of a batch; None where any is not finite."""
    codes = []
    for each, beyond in zip(made, outside, strict=True):
        if (of_each := fine_codes(each, beyond)) is None:
            return None
        codes.append(of_each)
    return codes


def resampled(
    codes: NDArray[np.uint16], region: UpscaleRegion, framing: Framing, scale: int
) -> list[Picture]:
    """A picture for each rectangle of the region, whose enlargement has these `fine_codes`."""
    y, cb, cr = codes
    frame = SourceFrame(0, (y, cb, cr), DEPTH, (1, 1), (0.0, 0.0), codes)
    sampler = CropSampler(
        display_size=Size(y.shape[1], y.shape[0]),
        rotation_deg=0,
        colour=_UPSCALED,
        target=framing.target,
        fit=framing.fit,
        tilt_deg=framing.tilt_deg,
        whole=region.enlarged_frame(scale),
    )
    pictures = []
    for rect in region.rects:
        picture = Picture(framing.target)
        sampler.sample(frame, np.array(astuple(region.enlarged(rect, scale))), picture)
        pictures.append(picture)
    return pictures


def _compute_with(threads: int) -> None:
    """Has torch compute with so many threads for the calling thread, and for no other.

    `torch.set_num_threads` sets that of its caller and that of threads to come.
    """
    to_come = torch.get_num_threads()
    torch.set_num_threads(threads)
    restoring = threading.Thread(target=torch.set_num_threads, args=(to_come,))
    restoring.start()
    restoring.join()

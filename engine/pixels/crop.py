"""Sub-pixel crop sampling: a rectangle of a decoded frame, written into a finished picture.

One pass of integer arithmetic per plane does the crop, the tilt, the scale, the rotation, the
chroma siting, the bit depth and the range. So the bytes are the same on every machine. Samples
outside the rectangle but inside the frame take part. The frame's border is repeated outward. A
tilted frame has black around it. Knows neither edits nor files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.geometry import Box, Fit, Rect, Size, fit_crop
from engine.pixels.colour import Levels, levels
from engine.pixels.mapping import LUMA, PICTURE_CHROMA, Grid, Mapping, PlaneTaps
from engine.pixels.picture import BLACK, Picture, SourceFrame
from engine.pixels.recolour import colour_conversion
from engine.pixels.resample import SAMPLE_BITS, resample_plane
from engine.pixels.tilted import TiltedTaps, resample_tilted_plane
from engine.source import Colour


@dataclass(frozen=True, slots=True, eq=False)
class _CropTaps:
    """How one rectangle is resampled from frames of one plane layout."""

    key: tuple[object, ...]
    """The rectangle and the layout."""
    box: Box
    """The part of the picture that it fills."""
    planes: tuple[PlaneTaps | TiltedTaps, ...]


class CropSampler:
    """Samples crop rectangles of one source's frames. Threads must not share one.

    `display_size`, `rotation_deg` and `mirrored` are those of `SourceInfo`. A frame of any size
    stands for the whole display, turned back and stretched. `fit` and `tilt_deg` are those of
    `Framing`. `whole` is where the whole upright frame lies, in display pixels, if the display
    shows a part of it only: it is tilted about its own centre. Raises ValueError where
    `rotation_deg` is not 0, 90, 180 or 270.
    """

    def __init__(
        self,
        *,
        display_size: Size,
        rotation_deg: int,
        colour: Colour,
        target: Size,
        fit: Fit,
        mirrored: bool = False,
        tilt_deg: float = 0.0,
        whole: Rect | None = None,
    ) -> None:
        if rotation_deg not in (0, 90, 180, 270):
            raise ValueError(f"a picture is turned by quarter turns, not {rotation_deg} degrees")
        self._display = display_size
        self._rotation_deg = rotation_deg
        self._mirrored = mirrored
        self._colour = colour
        self._target = target
        self._fit = fit
        self._tilt_deg = tilt_deg
        self._whole = whole or Rect(0.0, 0.0, display_size.width, display_size.height)
        self._convert = colour_conversion(colour)
        self._taps: _CropTaps | None = None
        self._fine: tuple[NDArray[np.uint16], ...] = ()

    def sample(self, frame: SourceFrame, rect: NDArray[np.float64], out: Picture) -> None:
        """Fills `out` with what `rect` shows; the rest of `out` becomes black.

        `rect` is (x, y, width, height) in display pixels, float64, not necessarily whole. Raises
        ValueError where `out` is not of the target's size.
        """
        if out.size != self._target:
            raise ValueError(f"the picture is {out.size}, the target {self._target}")
        crop_taps = self._taps_for(frame, rect)
        box = crop_taps.box
        if (box.width, box.height) != (out.size.width, out.size.height):
            out.fill_black()
        if self._convert is None:
            self._resample(frame, crop_taps, out.planes, (box.x, box.y))
        else:
            fine = self._fine_planes(box)
            self._resample(frame, crop_taps, fine, (0, 0))
            self._convert(fine, out, box)

    def _taps_for(self, frame: SourceFrame, rect: NDArray[np.float64]) -> _CropTaps:
        """The taps of this rectangle, kept as long as it stays the same."""
        layout = (frame.size, frame.depth, frame.chroma_step, frame.chroma_offset)
        key = (rect.tobytes(), *layout)
        if self._taps is None or self._taps.key != key:
            x, y, width, height = (float(value) for value in rect)
            shown, box = fit_crop(Rect(x, y, width, height), self._target, self._fit)
            mapping = Mapping(
                shown, box, self._display, frame.size, self._rotation_deg, self._mirrored
            )
            luma, chroma = levels(self._colour.full_range, frame.depth)
            coded = Grid(frame.chroma_step, frame.chroma_offset)
            of_luma = self._plane_taps(mapping, LUMA, LUMA, luma)
            of_chroma = self._plane_taps(mapping, coded, PICTURE_CHROMA, chroma)
            self._taps = _CropTaps(key, box, (of_luma, of_chroma, of_chroma))
        return self._taps

    def _plane_taps(
        self, mapping: Mapping, coded: Grid, out: Grid, level: Levels
    ) -> PlaneTaps | TiltedTaps:
        if self._tilt_deg == 0:
            return mapping.plane_taps(coded, out, level.unit)
        return mapping.tilted_taps(coded, out, self._tilt_deg, self._whole, level.unit)

    def _resample(
        self,
        frame: SourceFrame,
        crop_taps: _CropTaps,
        out: Sequence[NDArray[Any]],
        corner: tuple[int, int],
    ) -> None:
        """Resamples all three planes into `out`; the luma box has its top left at `corner`."""
        transposed = self._rotation_deg in (90, 270)
        luma, chroma = levels(self._colour.full_range, frame.depth)
        for plane, how, level, black, target, step in zip(
            frame.planes, crop_taps.planes, (luma, chroma, chroma), BLACK, out, (1, 2, 2),
            strict=True,
        ):  # fmt: skip
            left, top = corner[0] // step, corner[1] // step
            upright = isinstance(how, PlaneTaps)
            if upright and not transposed and _copied(plane, how, target, left, top):
                continue
            depth = min(frame.depth, SAMPLE_BITS)
            samples = plane if depth == frame.depth else plane >> (frame.depth - SAMPLE_BITS)
            flat, pitch = _flat_view(samples)
            height, width = plane.shape
            if upright:
                resample_plane(
                    flat, pitch, width, height, 1 << (SAMPLE_BITS - depth),
                    how.across.starts, how.across.weights, how.down.starts, how.down.weights,
                    level.bias, target.dtype != np.uint8, transposed, target, left, top,
                )  # fmt: skip
            else:
                resample_tilted_plane(
                    flat, pitch, width, height, 1 << (SAMPLE_BITS - depth), how,
                    level.sample_of(black), level.bias, target.dtype != np.uint8, target, left, top,
                )  # fmt: skip

    def _fine_planes(self, box: Box) -> tuple[NDArray[np.uint16], ...]:
        whole, half = (box.height, box.width), (box.height // 2, box.width // 2)
        if not self._fine or self._fine[0].shape != whole:
            self._fine = tuple(np.empty(shape, np.uint16) for shape in (whole, half, half))
        return self._fine


def _copied(plane: NDArray[Any], how: PlaneTaps, out: NDArray[Any], left: int, top: int) -> bool:
    """Copies 8-bit samples to (left, top), where resampling would give a copy of them."""
    x, y = how.across.shift, how.down.shift
    if x is None or y is None or x < 0 or y < 0 or plane.dtype != np.uint8 or out.dtype != np.uint8:
        return False
    height, width = plane.shape
    columns, rows = len(how.across), len(how.down)
    if x + columns > width or y + rows > height:
        return False
    out[top : top + rows, left : left + columns] = plane[y : y + rows, x : x + columns]
    return True


def _flat_view(plane: NDArray[Any]) -> tuple[NDArray[Any], int]:
    """A read-only 1-D view of a plane and its padding, and the pitch: samples from row to row."""
    height, width = plane.shape
    row_bytes, sample_bytes = plane.strides
    if (
        sample_bytes != plane.itemsize
        or row_bytes < width * sample_bytes
        or row_bytes % sample_bytes
    ):
        return _flat_view(np.ascontiguousarray(plane))
    pitch = row_bytes // sample_bytes
    shape = ((height - 1) * pitch + width,)
    return np.lib.stride_tricks.as_strided(plane, shape, (sample_bytes,), writeable=False), pitch

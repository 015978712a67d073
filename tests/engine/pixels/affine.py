"""A witness of tilted crops: an affine resampler in float64. It shares no code with the engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class View:
    """A crop of a frame that is turned counter-clockwise by `tilt_deg` about its centre."""

    rect: tuple[float, float, float, float]
    target: tuple[int, int]
    tilt_deg: float
    display: tuple[int, int]
    coded: tuple[int, int]
    quarter_deg: int = 0
    mirrored: bool = False

    def plane(
        self,
        samples: NDArray[Any],
        black: float,
        step: tuple[int, int] = (1, 1),
        offset: tuple[float, float] = (0.0, 0.0),
        out_step: int = 1,
    ) -> Floats:
        """One plane of the picture, in the samples' own codes, not rounded."""
        columns, rows = self.target[0] // out_step, self.target[1] // out_step
        x, y = np.meshgrid(np.arange(columns + 1.0), np.arange(rows + 1.0))
        places = self._places(x, y, step, offset, out_step)
        made = np.zeros((rows, columns))
        weights = []
        for place in places:
            pace = np.hypot(place[0, 1] - place[0, 0], place[1, 0] - place[0, 0])
            weights.append(_weights(place[:rows, :columns], max(1.0, float(pace))))
        (across, of_across), (down, of_down) = weights
        height, width = samples.shape
        for y_tap, y_weight in zip(down, of_down, strict=True):
            for x_tap, x_weight in zip(across, of_across, strict=True):
                inside = (x_tap >= 0) & (x_tap < width) & (y_tap >= 0) & (y_tap < height)
                taken = samples[y_tap.clip(0, height - 1), x_tap.clip(0, width - 1)]
                made += y_weight * x_weight * np.where(inside, taken, black)
        return made

    def _places(
        self, x: Floats, y: Floats, step: tuple[int, int], offset: tuple[float, float], out: int
    ) -> tuple[Floats, Floats]:
        """Where output samples lie among the plane's samples."""
        left, top, width, height = self.rect
        site = 0.5 if out == 2 else 0.0  # a picture's chroma lies between luma rows
        across = left + (x * out + 0.5) * width / self.target[0]
        down = top + (y * out + site + 0.5) * height / self.target[1]
        centre = complex(self.display[0] / 2, self.display[1] / 2)
        # y points down: a counter-clockwise turn multiplies by exp(-i angle), and its inverse is
        angle = np.deg2rad(self.tilt_deg)
        upright = (across + 1j * down - centre) * np.exp(1j * angle) + centre
        u, v = upright.real / self.display[0], upright.imag / self.display[1]
        turned = {0: (u, v), 90: (v, 1 - u), 180: (1 - u, 1 - v), 270: (1 - v, u)}
        u, v = turned[self.quarter_deg]
        u = 1 - u if self.mirrored else u
        luma_x, luma_y = u * self.coded[0] - 0.5, v * self.coded[1] - 0.5
        return (luma_x - offset[0]) / step[0], (luma_y - offset[1]) / step[1]


def _weights(place: Floats, stretch: float) -> tuple[list[NDArray[np.int64]], list[Floats]]:
    """The samples around each place, and the weights of Keys' cubic with a = -0.6."""
    reach = int(np.ceil(2 * stretch)) + 1
    nearest = np.floor(place).astype(int)
    at = [nearest + k for k in range(-reach, reach + 1)]
    raw = [_cubic(np.abs(each - place) / stretch) for each in at]
    total = np.sum(raw, axis=0)
    return at, [each / total for each in raw]


def _cubic(d: Floats) -> Floats:
    a = -0.6
    near = (a + 2) * d**3 - (a + 3) * d**2 + 1
    far = a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
    return np.where(d < 1, near, np.where(d < 2, far, 0.0))

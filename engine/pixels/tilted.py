"""Resampling of one plane along axes that lie askew to its own, in fixed point: one interpolation.

An output sample lies anywhere between source samples, so each has its own weights: those of
`resample.py`'s cubic, across and down the plane, for its place in a source sample in steps of
1/1024. They are taken from tables. Rounding is that of `resample.py`, too.

The source samples that are needed are first copied side by side, with black around the frame. So
the kernel has no borders. It works on whole output rows, without branches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.compiled import compiled
from engine.geometry import Affine
from engine.pixels.colour import UNIT
from engine.pixels.resample import copy_quads, fill_weights, filter_row, load_row, store

POSITION_BITS = 32
"""Places are counted in 2**-32 source samples: over 8,000 columns, steps add up to 2**-20."""
PHASE_BITS = 10
"""Weights are made for places in steps of 2**-10 source samples."""
PHASES = 1 << PHASE_BITS
PHASE_SHIFT = POSITION_BITS - PHASE_BITS


@dataclass(frozen=True, slots=True, eq=False)
class TiltedTaps:
    """How one plane is resampled by an affine map.

    Output sample (column, row) lies at `places[axis] @ (column, row, 1)`, in 2**-POSITION_BITS
    samples of the window. Shifted by `PHASE_SHIFT` to the right, that is a sample of the window and
    one of the `PHASES` between it and the next.
    """

    columns: int
    """Output samples in a row."""
    rows: int
    places: NDArray[np.int64]
    """Shape (2, 3): for x and y, the steps per column and per row, and the place of (0, 0)."""
    across: NDArray[np.int16]
    """Shape (groups, PHASES, 4): weights of the samples from that of the window on."""
    down: NDArray[np.int16]
    window_x: range
    """The samples of the plane that are needed. They may lie outside of it."""
    window_y: range
    inside_x: range
    """The samples that lie inside the frame; the others are black."""
    inside_y: range


def tilted_taps(
    to_samples: Affine,
    columns: int,
    rows: int,
    inside: tuple[range, range],
    unit: int = UNIT,
) -> TiltedTaps:
    """Taps for the output samples that `to_samples` maps to samples of the source plane.

    `inside`: the columns and rows of the plane that are in the frame. The weights of each output
    sample sum to UNIT across and to `unit` down. The cubic is widened along each axis of the plane
    by as much as the map moves along it in a step.
    """
    m, ends = to_samples, (columns - 1, rows - 1)
    x_places, across, window_x = _axis((m.xx, m.xy, m.x0), ends, UNIT)
    y_places, down, window_y = _axis((m.yx, m.yy, m.y0), ends, unit)
    places = np.array([x_places, y_places], np.int64)
    return TiltedTaps(columns, rows, places, across, down, window_x, window_y, *inside)


def _axis(
    line: tuple[float, float, float], ends: tuple[int, int], unit: int
) -> tuple[tuple[int, int, int], NDArray[np.int16], range]:
    """The places, the weights and the window along one axis of the plane.

    `line`: its samples per column and per row, and the place of (0, 0); `ends`: the last column and
    row.
    """
    by_column, by_row, origin = (round(value * (1 << POSITION_BITS)) for value in line)
    origin += 1 << PHASE_SHIFT - 1  # half a phase, so that a shift rounds to the nearest one
    spacing = math.sqrt(line[0] * line[0] + line[1] * line[1])
    # rounded, since a turn that keeps the size is not to widen the cubic by a last bit
    stretch = max(1.0, round(spacing * (1 << 20)) / (1 << 20))
    start = 1 - math.ceil(2 * stretch)
    weights = np.empty((math.ceil(stretch), PHASES, 4), np.int16)
    _fill_phases(start, stretch, unit, weights)
    corners = [
        (origin + by_column * column + by_row * row) >> POSITION_BITS
        for column in (0, ends[0])
        for row in (0, ends[1])
    ]
    first = min(corners) + start
    stop = max(corners) + start + 4 * len(weights)
    places = (by_column, by_row, origin - (min(corners) << POSITION_BITS))
    return places, weights, range(first, stop)


@compiled()
def _fill_phases(start: int, stretch: float, unit: int, weights: NDArray[Any]) -> None:
    for phase in range(PHASES):
        fill_weights(start, phase / PHASES, stretch, unit, weights[:, phase])


def resample_tilted_plane(
    flat: NDArray[Any], pitch: int, width: int, height: int, scale: int, how: TiltedTaps,
    black: int, bias: int, fine: bool, out: NDArray[Any], left: int, top: int,
) -> None:  # fmt: skip
    """Resamples a plane into `out` at (left, top). `black`: its code, scaled to 14 bits.

    Samples of the frame that the plane lacks repeat the plane's border. The other parameters are
    those of `resample.resample_plane`.
    """
    window = np.empty((len(how.window_y), len(how.window_x)), np.int16)
    _fill_window(
        flat, pitch, width, height, scale, how.window_x.start, how.window_y.start,
        how.inside_x.start, how.inside_x.stop, how.inside_y.start, how.inside_y.stop,
        black, window,
    )  # fmt: skip
    _resample_window(
        window, how.places, how.across, how.down, how.columns, how.rows, bias, fine, out, left, top
    )  # fmt: skip


@compiled()
def _fill_window(
    flat: NDArray[Any], pitch: int, width: int, height: int, scale: int, left: int, top: int,
    inside_left: int, inside_right: int, inside_top: int, inside_bottom: int,
    black: int, window: NDArray[Any],
) -> None:  # fmt: skip
    """Copies the samples from (left, top) on, in 14 bits."""
    lead = min(max(inside_left - left, 0), window.shape[1])
    end = min(max(inside_right - left, 0), window.shape[1])
    for row in range(window.shape[0]):
        y = top + row
        line = window[row]
        if y < inside_top or y >= inside_bottom:
            line[:] = black
            continue
        load_row(flat, min(max(y, 0), height - 1) * pitch, width, left, scale, line)
        line[:lead] = black
        line[end:] = black


@compiled()
def _place_row(
    places: NDArray[Any],
    row: int,
    pitch: int,
    at: NDArray[Any],
    x_phases: NDArray[Any],
    y_phases: NDArray[Any],
) -> None:
    """For each output sample of a row: its first tap in the window, and four times its phases."""
    x_step, y_step = places[0, 0], places[1, 0]
    x = places[0, 1] * row + places[0, 2]
    y = places[1, 1] * row + places[1, 2]
    for column in range(at.size):
        to_x, to_y = (x + x_step * column) >> PHASE_SHIFT, (y + y_step * column) >> PHASE_SHIFT
        at[column] = (to_y >> PHASE_BITS) * pitch + (to_x >> PHASE_BITS)
        x_phases[column], y_phases[column] = 4 * (to_x & PHASES - 1), 4 * (to_y & PHASES - 1)


@compiled()
def _add_weighted_rows(
    a: NDArray[Any], b: NDArray[Any], c: NDArray[Any], d: NDArray[Any],
    w: NDArray[Any], sums: NDArray[Any],
) -> None:  # fmt: skip
    """Adds four rows to `sums`, each sample with its own four weights."""
    for x in range(sums.size):
        sums[x] += (
            np.int32(a[x]) * np.int32(w[4 * x]) + np.int32(b[x]) * np.int32(w[4 * x + 1])
            + np.int32(c[x]) * np.int32(w[4 * x + 2]) + np.int32(d[x]) * np.int32(w[4 * x + 3])
        )  # fmt: skip


@compiled()
def _resample_window(
    window: NDArray[Any], places: NDArray[Any], x_weights: NDArray[Any], y_weights: NDArray[Any],
    columns: int, rows: int, bias: int, fine: bool, out: NDArray[Any], left: int, top: int,
) -> None:  # fmt: skip
    flat, pitch = window.reshape(window.size), window.shape[1]
    x_table = x_weights.reshape(x_weights.shape[0], 4 * PHASES)
    y_table = y_weights.reshape(y_weights.shape[0], 4 * PHASES)
    at = np.empty(columns, np.int32)
    x_phases, y_phases = np.empty(columns, np.int32), np.empty(columns, np.int32)
    across = np.empty((x_table.shape[0], 4 * columns), np.int16)
    down = np.empty(4 * columns, np.int16)
    quads = np.empty(4 * columns, np.int16)
    halves = np.empty(2 * columns, np.int32)
    filtered = np.empty((4, columns), np.int16)
    sums = np.empty(columns, np.int32)
    for row in range(rows):
        _place_row(places, row, pitch, at, x_phases, y_phases)
        for group in range(x_table.shape[0]):
            copy_quads(x_table[group], x_phases, 0, across[group])
        sums[:] = 0
        for group in range(y_table.shape[0]):
            for k in range(4):
                line = flat[(4 * group + k) * pitch :]
                filter_row(line, at, across, quads, halves, filtered[k])
            copy_quads(y_table[group], y_phases, 0, down)
            _add_weighted_rows(filtered[0], filtered[1], filtered[2], filtered[3], down, sums)
        store(sums, bias, fine, out[top + row, left : left + columns])

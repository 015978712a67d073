"""Pictures into and out of torch: 8-bit BT.709 I420 to RGB, and RGB to the target's I420.

All is computed on the tensor's device. Luma and chroma weights are those of ITU-R BT.709.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from engine.geometry import Framing, Rect, Size, fit_crop
from engine.pixels.colour import CHROMA_SPAN, LUMA_SPAN, UNIT
from engine.pixels.mapping import LUMA, PICTURE_CHROMA, Mapping
from engine.pixels.picture import BLACK
from engine.pixels.resample import Taps
from engine.pixels.tilted import PHASE_BITS, PHASE_SHIFT, PHASES, TiltedTaps

KR, KB = 0.2126, 0.0722
KG = 1 - KR - KB


def rgb_of_i420(buffers: Tensor) -> Tensor:
    """RGB, float32 (n, 3, h, w), from I420 pictures, uint8 (n, h * 3 / 2, w).

    Black is 0 and white 1. Codes can hold more than that: whites above 235, blacks below 16, and
    colours that red, green and blue cannot make. Chroma is sited left and interpolated linearly to
    the luma samples.
    """
    count, rows, width = buffers.shape
    height = rows * 2 // 3
    flat = buffers.reshape(count, -1)
    luma = flat[:, : height * width].reshape(count, height, width).float()
    chroma = flat[:, height * width :].reshape(count, 2, height // 2, width // 2).float()
    y = (luma - BLACK[0]) / LUMA_SPAN
    cb, cr = (_at_luma(chroma) - BLACK[1]).div(CHROMA_SPAN).unbind(1)
    red = y + 2 * (1 - KR) * cr
    blue = y + 2 * (1 - KB) * cb
    green = (y - KR * red - KB * blue) / KG
    return torch.stack([red, green, blue], 1)


def split_range(rgb: Tensor) -> tuple[Tensor, Tensor]:
    """RGB in [0, 1], which networks are made for, and what lies outside of it: float32, as `rgb`.

    Their sum is `rgb`.
    """
    inside = rgb.clamp(0, 1)
    return inside, rgb - inside


def join_range(made: Tensor, outside: Tensor) -> Tensor:
    """A network's result, kept in [0, 1], with what lay outside of its input's range.

    That is enlarged linearly to the result's size. So a white above 235 stays what it is where a
    clip is only resampled.
    """
    inside = made.clamp(0, 1)
    if outside.device.type == "cpu" and not outside.any():  # on a GPU, asking would wait for it
        return inside
    return inside + interpolate(outside, made.shape[-2:], mode="bilinear", align_corners=False)


def _at_luma(chroma: Tensor) -> Tensor:
    """Chroma planes (..., h / 2, w / 2) at the luma samples.

    Chroma sits between rows and on even columns.
    """
    above = torch.cat([chroma[..., :1, :], chroma[..., :-1, :]], -2)
    below = torch.cat([chroma[..., 1:, :], chroma[..., -1:, :]], -2)
    rows = torch.stack([chroma * 0.75 + above * 0.25, chroma * 0.75 + below * 0.25], -2)
    rows = rows.flatten(-3, -2)
    right = torch.cat([rows[..., 1:], rows[..., -1:]], -1)
    return torch.stack([rows, (rows + right) / 2], -1).flatten(-2, -1)


def ycc_of_rgb(rgb: Tensor) -> Tensor:
    """Y, Cb, Cr as 8-bit codes, not rounded, from RGB: float32 (..., 3, h, w), 0 to 255."""
    red, green, blue = rgb.unbind(-3)
    y = KR * red + KG * green + KB * blue
    cb, cr = (blue - y) / (2 * (1 - KB)), (red - y) / (2 * (1 - KR))
    codes = [y * LUMA_SPAN + BLACK[0], cb * CHROMA_SPAN + BLACK[1], cr * CHROMA_SPAN + BLACK[2]]
    return torch.stack(codes, -3).clamp_(0, 255)


def i420_of_ycc(ycc: Tensor, rect: Rect, framing: Framing, frame: Rect) -> Tensor:
    """The target's I420 buffer, uint8 (h * 3 / 2, w), that shows `rect` of `ycc` (3, h, w).

    It is resampled as `crop.CropSampler` does on planes: bicubic, widened when shrinking. `rect`
    and the whole frame's place are in samples of `ycc`.
    """
    target = framing.target
    out = torch.empty((target.height * 3 // 2, target.width), dtype=torch.uint8, device=ycc.device)
    luma, chroma = out[: target.height], out[target.height :]
    halves = chroma.view(2, target.height // 2, target.width // 2)
    shown, box = fit_crop(rect, target, framing.fit)
    size = Size(ycc.shape[-1], ycc.shape[-2])
    mapping = Mapping(shown, box, display=size, coded=size)
    for planes, codes, black, grid in (
        (luma[None], ycc[:1], BLACK[0], LUMA),
        (halves, ycc[1:], BLACK[1], PICTURE_CHROMA),
    ):
        if framing.tilt_deg == 0:
            upright = mapping.plane_taps(LUMA, grid)
            made = _matrix(upright.down, codes, -2) @ (codes @ _matrix(upright.across, codes, -1).T)
        else:
            tilted = mapping.tilted_taps(LUMA, grid, framing.tilt_deg, frame)
            made = torch.stack([_tilted(plane, tilted, black) for plane in codes])
        left, top = box.x // grid.step[0], box.y // grid.step[1]
        rows, columns = made.shape[1:]
        planes.fill_(black)
        planes[:, top : top + rows, left : left + columns] = made.round_().clamp_(0, 255)
    return out


def _matrix(how: Taps, planes: Tensor, axis: int) -> Tensor:
    """The weight of each sample along an axis of `planes` in each output: (outputs, samples).

    Most are zero. One product is many times faster to launch than a sum over taps, and no slower to
    compute.
    """
    starts = _sent(how.starts, planes.device).long()
    weights = _sent(how.weights, planes.device).to(planes.dtype) / UNIT
    side = planes.shape[axis]
    reach = torch.arange(4 * weights.shape[0], device=planes.device)
    at = (starts[:, None] + reach).clamp_(0, side - 1)
    matrix = planes.new_zeros((len(how), side))
    return matrix.scatter_add_(1, at, weights.transpose(0, 1).flatten(1))


def _tilted(plane: Tensor, how: TiltedTaps, black: int) -> Tensor:
    """`tilted.resample_tilted_plane` on a tensor (h, w): the same places and weights, in floats."""
    window, pitch = _window(plane, how, black).flatten(), len(how.window_x)
    x, x_phase, across = _axis(plane, how, 0, how.across)
    y, y_phase, down = _axis(plane, how, 1, how.down)
    first = (y * pitch + x).int()
    made = plane.new_zeros(len(first))
    for row, of_row in enumerate(down):
        line = torch.zeros_like(made)
        for column, of_column in enumerate(across):
            samples = window[row * pitch + column :].index_select(0, first)
            line.addcmul_(samples, of_column.index_select(0, x_phase))
        made.addcmul_(line, of_row.index_select(0, y_phase))
    return made.view(how.rows, how.columns)


def _axis(
    plane: Tensor, how: TiltedTaps, axis: int, per_phase: NDArray[np.int16]
) -> tuple[Tensor, Tensor, Tensor]:
    """Of every output sample, its first tap along an axis of the window and its phase; the weights.

    Those are of shape (taps, phases).
    """
    by_column, by_row, origin = how.places[axis].tolist()
    column = torch.arange(how.columns, device=plane.device)
    row = torch.arange(how.rows, device=plane.device)[:, None]
    place = (column * by_column + row * by_row + origin).flatten() >> PHASE_SHIFT
    phase = place & PHASES - 1
    weights = _sent(per_phase, plane.device).transpose(1, 2).flatten(0, 1)
    return place >> PHASE_BITS, phase.int(), weights.to(plane.dtype) / UNIT


def _window(plane: Tensor, how: TiltedTaps, black: int) -> Tensor:
    """The samples that are needed, with black around the frame."""
    height, width = plane.shape
    x = torch.arange(how.window_x.start, how.window_x.stop, device=plane.device)
    y = torch.arange(how.window_y.start, how.window_y.stop, device=plane.device)[:, None]
    inside = (x >= how.inside_x.start) & (x < how.inside_x.stop)
    inside = inside & (y >= how.inside_y.start) & (y < how.inside_y.stop)
    return plane[y.clamp(0, height - 1), x.clamp(0, width - 1)].where(inside, black)


def _sent(array: NDArray[np.generic], device: torch.device) -> Tensor:
    """The array on the device, without waiting for what the device is computing."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor

"""Colours in torch: 8-bit BT.709 I420 to RGB, and RGB to codes of Y, Cb and Cr.

All is computed on the tensor's device. Luma and chroma weights are those of ITU-R BT.709.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from engine.pixels.colour import CHROMA_SPAN, LUMA_SPAN
from engine.pixels.picture import BLACK

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


def luma_of_rgb(rgb: Tensor) -> Tensor:
    """The Y of `ycc_of_rgb`, not kept in the codes' range: (1, h, w) from (3, h, w)."""
    red, green, blue = rgb.unbind(0)
    y = (red * (KR * LUMA_SPAN)).add_(green, alpha=KG * LUMA_SPAN)
    y.add_(blue, alpha=KB * LUMA_SPAN).add_(BLACK[0])
    return y.unsqueeze(0)


def chroma_of_rgb(rgb: Tensor) -> Tensor:
    """The Cb and Cr of `ycc_of_rgb`, not kept in the codes' range: (2, h, w) from (3, h, w)."""
    red, green, blue = rgb.unbind(0)
    y = (red * KR).add_(green, alpha=KG).add_(blue, alpha=KB)
    cb, cr = (blue - y) / (2 * (1 - KB)), (red - y) / (2 * (1 - KR))
    return torch.stack([cb, cr]).mul_(CHROMA_SPAN).add_(BLACK[1])

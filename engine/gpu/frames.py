"""A decoded frame on a device, and how a region of it is cut out for a network.

The bits are those that `crop.CropSampler` gives for that region: on whole pixels both are integer
arithmetic on single samples. Knows tensors on any device, the CPU too. It knows no CUDA.
"""

from __future__ import annotations

from dataclasses import dataclass

import av
import torch
import torch.utils.dlpack
from av.video.reformatter import ColorRange
from torch import Tensor

from engine.geometry import Box
from engine.pixels.colour import FINE_BITS, Levels, levels, matrix_weights
from engine.source import Colour, Matrix


@dataclass(frozen=True, slots=True, eq=False)
class DeviceFrame:
    """One decoded, upright 8-bit 4:2:0 frame as NV12. Chroma is sited "left"."""

    pts: int
    luma: Tensor
    """uint8 (h, w). Rows may have padding between them."""
    chroma: Tensor
    """uint8 (h / 2, w / 2, 2): Cb and Cr."""


def device_frame(picture: av.VideoFrame, pts: int) -> DeviceFrame:
    """The picture where it lies, without a copy.

    Planar pictures, from the CPU's decoders, are interleaved into a copy.

    FFmpeg's own work on it may still run on CUDA's default stream.
    """
    if picture.format.name not in ("cuda", "nv12"):
        same = {"src_color_range": ColorRange.JPEG, "dst_color_range": ColorRange.JPEG}
        picture = picture.reformat(format="nv12", **same)
    # by capsule: given a plane, torch asks for a stream, which PyAV does not know on CUDA
    luma, chroma = (torch.utils.dlpack.from_dlpack(plane.__dlpack__()) for plane in picture.planes)
    return DeviceFrame(pts, luma, chroma)


def cut(frame: DeviceFrame, box: Box, colour: Colour) -> Tensor:
    """The box as BT.709 limited-range I420, uint8 (h * 3 / 2, w), on the frame's device.

    `colour` is SDR in BT.709 or BT.601, the box inside the frame.
    """
    luma = frame.luma[box.y : box.y + box.height, box.x : box.x + box.width]
    y, x = box.y // 2, box.x // 2
    chroma = frame.chroma[y : y + box.height // 2, x : x + box.width // 2].permute(2, 0, 1)
    of_luma, of_chroma = levels(colour.full_range, depth=8)
    if colour.matrix is Matrix.BT601:
        fine = _levelled(luma, of_luma, FINE_BITS), _levelled(chroma, of_chroma, FINE_BITS)
        luma, chroma = _from_bt601(*fine)
    elif colour.full_range:
        luma, chroma = _levelled(luma, of_luma, 0), _levelled(chroma, of_chroma, 0)
    flat = torch.cat([luma.flatten(), chroma.flatten()]).to(torch.uint8)
    return flat.view(box.height * 3 // 2, box.width)


def _levelled(plane: Tensor, level: Levels, bits: int) -> Tensor:
    """8-bit samples as limited-range codes with so many bits more; int32."""
    shift = 20 - bits
    sums = plane.int() * (64 * level.unit) + (level.bias + (1 << shift - 1))
    return (sums >> shift).clamp_(0, (256 << bits) - 1)


def _from_bt601(luma: Tensor, chroma: Tensor) -> tuple[Tensor, Tensor]:
    """`colour._matrix_kernel` on tensors: fine BT.601 codes to 8-bit BT.709 codes."""
    weights = [int(weight) for weight in matrix_weights(Matrix.BT601)]
    cb, cr = chroma
    grey = torch.full_like(cb, 128 << FINE_BITS)
    return _mixed(luma, *_at_luma(chroma), *weights[0:2]), torch.stack(
        [_mixed(grey, cb, cr, *weights[2:4]), _mixed(grey, cb, cr, *weights[4:6])]
    )


def _mixed(base: Tensor, cb: Tensor, cr: Tensor, of_cb: int, of_cr: int) -> Tensor:
    grey = 128 << FINE_BITS
    total = (base << 14) + (cb - grey) * of_cb + (cr - grey) * of_cr + (1 << 19)
    return (total >> 20).clamp_(0, 255)


def _at_luma(chroma: Tensor) -> Tensor:
    """Chroma, int32 (2, h / 2, w / 2), at the luma samples.

    It sits between rows and on even columns.
    """
    above = torch.cat([chroma[:, :1], chroma[:, :-1]], 1)
    below = torch.cat([chroma[:, 1:], chroma[:, -1:]], 1)
    here = torch.stack([chroma * 3 + above, chroma * 3 + below], 2).flatten(1, 2)
    right = torch.cat([here[..., 1:], here[..., -1:]], -1)
    return torch.stack([here * 2 + 4 >> 3, here + right + 4 >> 3], -1).flatten(-2)

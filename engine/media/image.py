"""Finished pictures as image files. Knows no clip and no plan."""

from __future__ import annotations

from fractions import Fraction

import av
from av.video.reformatter import ColorRange, Colorspace, Interpolation

from engine.pixels.picture import Picture

_ACCURATE = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
"""Within half a level of the formulas. The default of libswscale is up to three levels off."""

JPEG_QUALITY = "4"
"""From 1, the best, to 31."""


def png(picture: Picture) -> bytes:
    """The picture as an 8-bit RGB PNG: converted from BT.709, chroma enlarged bicubically."""
    return _encoded(picture, "png", "rgb24", Colorspace.ITU709, {})


def jpeg(picture: Picture) -> bytes:
    """The picture as a 4:2:0 JPEG, in the full-range BT.601 that JFIF prescribes."""
    options = {"qmin": JPEG_QUALITY, "qmax": JPEG_QUALITY}
    return _encoded(picture, "mjpeg", "yuvj420p", Colorspace.ITU601, options)


def _encoded(
    picture: Picture, codec: str, pixel_format: str, space: Colorspace, options: dict[str, str]
) -> bytes:
    frame = av.VideoFrame.from_ndarray(picture.buffer, "yuv420p").reformat(
        format=pixel_format,
        src_colorspace=Colorspace.ITU709,
        dst_colorspace=space,
        src_color_range=ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
        interpolation=_ACCURATE,
    )
    encoder = av.codec.CodecContext.create(codec, "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.width, encoder.height = picture.size.width, picture.size.height
    encoder.pix_fmt = pixel_format
    encoder.time_base = frame.time_base = Fraction(1)
    encoder.options = options
    packets = [*encoder.encode(frame), *encoder.encode(None)]
    return b"".join(bytes(packet) for packet in packets)

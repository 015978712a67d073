"""Checks that frames can stay on a device, before anything relies on it: decoding and encoding.

A refusal is one readable reason for the report. What a check refuses goes through host memory.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import numpy as np
import torch
from av.error import FFmpegError
from numpy.typing import NDArray

from engine.errors import Cancelled, EngineError
from engine.files import file_url
from engine.geometry import Size
from engine.gpu.encoder_frames import DeviceFrameSink
from engine.gpu.frames import DeviceFrame
from engine.gpu.nvdec import SurfaceDecoder
from engine.gpu.pictures import DeviceCompositor
from engine.media.chunk_writer import ChunkWriter
from engine.media.encoders import Encoder
from engine.media.frame_sink import FrameSink, HostFrameSink
from engine.media.planes import NV12_LIKE
from engine.media.video_reader import FrameReader
from engine.pixels.blend import Compositor, HostCompositor
from engine.pixels.picture import Picture, SourceFrame
from engine.source import ChromaSiting, Matrix, Primaries, SourceInfo, Transfer
from engine.storage.objects import ObjectReader

CODECS = ("h264", "hevc", "vp9")
"""NVDEC decodes these, and all decoders of them give the same bits."""
TRIAL_FRAMES = 3
MOST_APART = 2.0
"""The largest mean difference, in 8-bit codes, between what is encoded from the device and from
host memory."""


def decoding_refusal(
    source: SourceInfo,
    device: str,
    *,
    strict: bool,
    store: ObjectReader | None = None,
    on_step: Callable[[], None] = lambda: None,
) -> str | None:
    """Why the source is not decoded on the device, None where it can be.

    Its first frame is decoded there and must be the CPU's, bit for bit. `on_step` is called for
    every packet; what it raises to stop must be `Cancelled`.
    """
    if strict:
        return "strict, and NVDEC does not tell of damage"
    return _unsuitable(source) or _first_frame_refusal(source, device, store, on_step)


def _unsuitable(source: SourceInfo) -> str | None:
    """Why it is not enough to cut whole pixels out of this source's frames."""
    colour, size = source.colour, source.coded_size
    reasons = {
        f"{colour.transfer} source": colour.transfer is not Transfer.SDR,
        f"{colour.matrix} source": colour.matrix not in (Matrix.BT709, Matrix.BT601),
        f"{source.pixel_format} source": source.pixel_format not in NV12_LIKE,
        f"{source.codec} source": source.codec not in CODECS,
        f"{colour.gamut} primaries": colour.gamut is not Primaries.BT709,
        f"chroma sited {source.chroma_siting}": source.chroma_siting is not ChromaSiting.LEFT,
        f"turned by {source.rotation_deg} degrees": source.rotation_deg != 0,
        "mirrored": source.mirrored,
        "interlaced": source.interlaced,
        "pixels are not square": source.display_size != size and source.rotation_deg == 0,
        "odd sides": bool(size.width % 2 or size.height % 2),
        "frames are known by their order only": source.known_by_order,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def _first_frame_refusal(
    source: SourceInfo, device: str, store: ObjectReader | None, on_step: Callable[[], None]
) -> str | None:
    def reader(decoder: SurfaceDecoder | None) -> FrameReader:
        return FrameReader(
            source,
            strict=False,
            on_warning=lambda _: None,  # what is refused here is read, and warned of, again
            on_step=on_step,
            device=decoder,
            store=store,
        )

    first = [int(source.frame_pts[0])]
    try:
        with reader(SurfaceDecoder(device)) as there:
            made = next(there.surfaces(first))
            if not isinstance(made, DeviceFrame):
                return there.device_failure
            luma, chroma = made.luma.cpu().numpy(), made.chroma.cpu().numpy()
        with reader(None) as here:
            wanted = next(here.frames(first))
    except Cancelled:
        raise
    except (EngineError, FFmpegError, RuntimeError, ValueError, TypeError) as error:
        return f"its first frame did not come: {error}"
    return None if _same(luma, chroma, wanted) else "its first frame is not that of the CPU"


def _same(luma: NDArray[np.uint8], chroma: NDArray[np.uint8], wanted: SourceFrame) -> bool:
    pairs = zip((luma, chroma[..., 0], chroma[..., 1]), wanted.planes, strict=True)
    return all(np.array_equal(made, plane) for made, plane in pairs)


def encoder_input(encoder: Encoder, device: str) -> tuple[Compositor, FrameSink, str]:
    """How the pictures of a chunk that are made on the device are blended and become frames.

    The text tells the report whether they are copied, and why.
    """
    refusal = encoding_refusal(encoder, device)
    if refusal is not None:
        how = f"encoded from host memory ({refusal}), one download per frame"
        return HostCompositor(), HostFrameSink(), how
    there = torch.device(device)
    sink = DeviceFrameSink(encoder.size, there)
    return DeviceCompositor(there), sink, f"encoded on {device}, no copy"


def encoding_refusal(encoder: Encoder, device: str) -> str | None:
    """Why the encoder takes no frames on the device, None where it does.

    A few pictures are encoded from the device and from host memory. Both must give a stream with
    the same parameter sets, and pictures that look the same. What came out is remembered. Where
    none came, as from a device that has no memory left now, the next call tries again.
    """
    if device.startswith("cuda") and not encoder.is_on_cuda:
        return f"{encoder.name}: {encoder.why}"
    try:
        return _difference(encoder, device)
    except (EngineError, FFmpegError, OSError, RuntimeError, ValueError, TypeError) as error:
        return f"frames on the device are refused: {error}"


@cache
def _difference(encoder: Encoder, device: str) -> str | None:
    """What is wrong with pictures that are encoded from the device; None for nothing."""
    with TemporaryDirectory() as folder:
        there = DeviceFrameSink(encoder.size, torch.device(device))
        by_device = _trial_chunk(encoder, Path(folder) / "device.mp4", there)
        by_host = _trial_chunk(encoder, Path(folder) / "host.mp4", HostFrameSink())
    if by_device[0] != by_host[0]:
        return "frames on the device make a stream that does not join with others"
    apart = np.abs(by_device[1].astype(int) - by_host[1]).mean((1, 2))
    return "pictures come out wrong" if apart.max() > MOST_APART else None


def _trial_chunk(encoder: Encoder, path: Path, sink: FrameSink) -> tuple[bytes, NDArray[np.uint8]]:
    """The parameter sets of a small chunk, and its decoded pictures: (frames, h * 3 / 2, w)."""
    with ChunkWriter(encoder, path, sink) as writer:
        for index in range(TRIAL_FRAMES):
            writer.write(_slope(encoder.size, index))
    with av.open(file_url(path)) as container:
        parameter_sets = container.streams.video[0].codec_context.extradata or b""
        frames = [frame.to_ndarray(format="yuv420p") for frame in container.decode(video=0)]
    return parameter_sets, np.stack(frames).astype(np.uint8)


def _slope(size: Size, index: int) -> Picture:
    """A picture with no two places, planes or indices alike: a row out of place shows."""
    picture = Picture(size)
    for plane, (right, down) in zip(picture.planes, ((1, 1), (1, -1), (-1, 1)), strict=True):
        across, along = np.linspace(0, right, plane.shape[1]), np.linspace(0, down, plane.shape[0])
        plane[:] = np.rint(128 + 50 * across + 40 * along[:, None] + 8 * index)
    return picture

"""NVIDIA's decoder, through FFmpeg: frames that stay in torch's CUDA context."""

from __future__ import annotations

import av
import torch
from av.codec.hwaccel import HWAccel
from av.video.codeccontext import VideoCodecContext


def nvdec_context(stream: av.VideoStream, device: str) -> VideoCodecContext:
    """A decoder of the stream's packets on a CUDA device. Raises FFmpegError where it cannot be."""
    index = torch.device(device).index or 0
    # makes torch's context current in this thread; one of FFmpeg's own would be another world
    torch.zeros(1, device=device).item()
    accelerator = HWAccel(
        "cuda",
        device=index,
        is_hw_owned=True,
        allow_software_fallback=False,
        options={"primary_ctx": "0", "current_ctx": "1"},
    )
    context = av.CodecContext.create(stream.codec_context.codec, "r", hwaccel=accelerator)
    assert isinstance(context, VideoCodecContext)
    if not context.is_hwaccel:
        raise NotImplementedError(f"there is no NVDEC for {context.codec.name}")
    context.extradata = stream.codec_context.extradata
    context.thread_count = 1  # each thread more takes surfaces, of which a decoder has 32
    return context

"""Decoders that leave frames on a device: NVDEC, through FFmpeg, in torch's CUDA context."""

from __future__ import annotations

from dataclasses import dataclass

import av
import torch
from av.codec.hwaccel import HWAccel
from av.video.codeccontext import VideoCodecContext

from engine.gpu.frames import DeviceFrame, device_frame


@dataclass(frozen=True, slots=True)
class SurfaceDecoder:
    """Decodes for a `FrameReader` so that its frames stay on `device`, as torch spells it.

    On CUDA that is NVDEC. On the CPU it is FFmpeg's own decoder, so tests can run the same path.
    """

    device: str

    @property
    def name(self) -> str:
        """What decodes, for people."""
        return "NVDEC" if self.device.startswith("cuda") else "the CPU"

    def open(self, stream: av.VideoStream) -> VideoCodecContext:
        """A decoder of the stream's packets. Raises FFmpegError where there is none."""
        if not self.device.startswith("cuda"):
            return stream.codec_context
        return nvdec_context(stream, self.device)

    def surface(self, picture: av.VideoFrame, pts: int) -> DeviceFrame:
        """The decoded picture where it lies, without a copy."""
        return device_frame(picture, pts)


def nvdec_context(stream: av.VideoStream, device: str) -> VideoCodecContext:
    """A decoder of the stream's packets on a CUDA device.

    Raises `FFmpegError`, or `NotImplementedError` for a codec that NVDEC lacks.
    """
    index = torch.device(device).index or 0
    # makes torch's context current in this thread: pointers of FFmpeg's own would not fit it
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
    context.thread_count = 1  # every further thread takes surfaces, of which a decoder has 32
    return context

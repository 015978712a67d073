"""Alpha channels that lie beside a stream: WebM keeps those of VP8 and VP9 in additions to blocks.

FFmpeg's own decoders pass them over; libvpx decodes them.
"""

from __future__ import annotations

import av
from av.codec.codec import UnknownCodecError
from av.video.codeccontext import VideoCodecContext

_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
PIXEL_FORMAT = "yuva420p"
"""The format of the frames that `alpha_decoder` gives."""


def has_alpha_beside(stream: av.VideoStream) -> bool:
    """Whether the stream's alpha channel is in additions to its packets."""
    return stream.codec.canonical_name in _DECODERS and stream.metadata.get("alpha_mode") == "1"


def alpha_decoder(stream: av.VideoStream) -> VideoCodecContext | None:
    """A decoder of the stream's packets that gives the alpha channel beside them, too.

    None where there is no such channel, or no such decoder in this build of FFmpeg.
    """
    if not has_alpha_beside(stream):
        return None
    try:
        decoder = av.CodecContext.create(_DECODERS[stream.codec.canonical_name], "r")
    except UnknownCodecError:
        return None
    assert isinstance(decoder, VideoCodecContext)
    decoder.extradata = stream.codec_context.extradata
    return decoder

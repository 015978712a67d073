"""Compiles the engine's kernels once, when an image is built.

A container would take longer to compile them than to render its first chunk. A kernel is compiled
for every combination of types that it is called with. The films here cause all of them: a test
compares them with what films of many other kinds need.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from engine.media.encoders import choose_encoder
from engine.pipeline.executors import InProcess
from engine.pipeline.exporter import export, probe_sources
from engine.timeline.edit import Edit
from engine.timeline.plan import build_plan
from engine.timing import SAMPLE_RATE_HZ
from engine.upscale.stage import PlainResampler

FPS, FRAMES = 10, 6
WIDTH, HEIGHT = 64, 48


class _Film(NamedTuple):
    """A kind of film: its pixel format and its colours, as FFmpeg names them."""

    pixel_format: str
    matrix: int = Colorspace.ITU709
    primaries: int = ColorPrimaries.BT709
    transfer: int = ColorTrc.BT709


_FILMS = (
    _Film("yuv420p"),
    _Film("yuv420p10le"),
    _Film("yuv420p", Colorspace.ITU601),
    _Film("yuv420p10le", Colorspace.BT2020, ColorPrimaries.BT2020, ColorTrc.ARIB_STD_B67),
    _Film("yuva420p"),
    _Film("yuva420p10le"),
)
"""8 and more bits, without and with a conversion of colours by a matrix or through light, without
and with an alpha channel. A tilt is the edit's."""


def compile_kernels() -> None:
    """Exports all kinds of films, upright and tilted, in slow motion and with dissolves."""
    clips: list[dict[str, Any]] = []
    with TemporaryDirectory() as folder:
        for number, film in enumerate(_FILMS):
            name = f"{number}.mkv"
            _write(Path(folder) / name, film)
            slow = {"segments": [{"start": 0, "end": 0.3, "speed": 0.5}]}
            clips += [
                {"fileName": name, "segmentsData": slow, "rotation": tilt_deg}
                for tilt_deg in (0, 5)
            ]
        edit = Edit.parse(
            {
                "clips": clips,
                "transition": {"type": "dissolve", "duration": 0.1},
                "targetWidth": WIDTH,
                "targetHeight": 2 * HEIGHT,
                "targetFps": FPS,
            }
        )
        plan = build_plan(edit, probe_sources(edit, folder))
        encoder = choose_encoder(plan.size, plan.fps, name="libx264", preset="ultrafast")
        upscaler = PlainResampler("kernels are compiled")
        export(
            plan,
            Path(folder) / "film.mp4",
            upscaler=upscaler,
            encoder=encoder,
            executor=InProcess(),
        )


def _write(path: Path, film: _Film) -> None:
    """Some grey frames with silence, in codecs that take every format."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("ffv1", rate=FPS)
        sound = container.add_stream("pcm_s16le", rate=SAMPLE_RATE_HZ, layout="stereo")
        assert isinstance(video, av.VideoStream) and isinstance(sound, av.AudioStream)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, film.pixel_format
        context = video.codec_context
        context.colorspace, context.color_primaries = film.matrix, film.primaries
        context.color_trc, context.color_range = film.transfer, ColorRange.MPEG
        for _ in range(FRAMES):
            frame = av.VideoFrame(WIDTH, HEIGHT, film.pixel_format)
            for plane in frame.planes:
                plane.update(b"\1" * plane.buffer_size)
            container.mux(video.encode(frame))
        silence = np.zeros((1, 2 * SAMPLE_RATE_HZ * FRAMES // FPS), np.int16)
        heard = av.AudioFrame.from_ndarray(silence, "s16", "stereo")
        heard.sample_rate, heard.pts = SAMPLE_RATE_HZ, 0
        heard.time_base = Fraction(1, SAMPLE_RATE_HZ)
        container.mux([*video.encode(None), *sound.encode(heard), *sound.encode(None)])

"""A crop on a curve, measured in the film: where a painted edge lies in each decoded frame."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from engine import Clip, CropKeyframe, Edit, build_plan, export, probe_sources
from engine.geometry import Rect, Size
from engine.upscale.stage import PlainResampler
from tests import witness

EDGE = 320
KEYS = [(0.0, 150.0), (0.5, 200.5), (1.0, 200.5), (1.6, 140.0)]
"""Seconds, and the left side of the crop."""


def clip_with_an_edge(path: Path) -> Path:
    """1.6 s at 30 frames a second: black on the left of column 320, white from there on."""
    luma = np.full((96, 640), 16, np.uint8)
    luma[:, EDGE:] = 235
    planes = np.vstack([luma, np.full((48, 640), 128, np.uint8)])
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"qp": "0"})
        stream.width, stream.height, stream.pix_fmt = 640, 96, "yuv420p"
        for number in range(48):
            frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 30)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def left_side(time_s: float) -> float:
    """The curve by Barry and Goldman's pyramid, for knots at whole numbers: no code of ours."""
    times_s = [time for time, _ in KEYS]
    place = min(int(np.searchsorted(times_s, time_s, side="right")) - 1, len(KEYS) - 2)
    if time_s >= times_s[-1]:
        return KEYS[-1][1]
    t = (time_s - times_s[place]) / (times_s[place + 1] - times_s[place])
    values = [KEYS[0][1], *(x for _, x in KEYS), KEYS[-1][1]][place : place + 4]

    def between(a: float, b: float, start: int, stop: int) -> float:
        return (a * (stop - t) + b * (t - start)) / (stop - start)

    a1, a2, a3 = (between(values[k], values[k + 1], k - 1, k) for k in range(3))
    b1, b2 = between(a1, a2, -1, 1), between(a2, a3, 0, 2)
    return between(b1, b2, 0, 1)


def test_an_edge_lies_on_the_curve_in_every_frame(tmp_path: Path) -> None:
    source = clip_with_an_edge(tmp_path / "edge.mp4")
    keyframes = [CropKeyframe(time, Rect(x, 0, 256, 96)) for time, x in KEYS]
    edit = Edit([Clip(source, keyframes)], target_size=Size(256, 96), ease="spline")
    export(build_plan(edit, probe_sources(edit)), tmp_path / "out.mp4", upscaler=PlainResampler())
    film = witness.luma_frames(tmp_path / "out.mp4")
    white = (film.astype(np.float64) - 16).mean(axis=1) / (235 - 16)  # (frames, columns)
    edges = 256 - white.sum(axis=1)
    expected = np.array([EDGE - left_side(number / 30) for number in range(48)])
    assert len(film) == 48
    assert np.abs(edges - expected).max() < 0.1
    # the curve swings past both of its keyframes, which a straight line does not
    assert edges.min() < EDGE - 200.5 - 1

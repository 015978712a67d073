"""Edits and sources for the page's arithmetic: drawn, in every spelling that the engine reads."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise, product
from random import Random
from typing import Any

import numpy as np
from hypothesis import strategies as st

from engine.geometry import Size
from engine.source import SourceInfo
from engine.timeline.document_schema import ASPECT_RATIOS
from engine.timing import NTSC_RATES, round_half_up
from tests.sources import FULL_HD, a_source


@dataclass(frozen=True, slots=True)
class Case:
    """An edit document, and the source of each of its file names."""

    document: dict[str, Any]
    sources: dict[str, SourceInfo]


def source_of_steps(
    time_base: Fraction, steps: list[int], *, first_pts: int = 0, size: Size = FULL_HD
) -> SourceInfo:
    """A source whose frames last `steps` ticks each."""
    pts = first_pts + np.cumsum([0, *steps])
    return replace(
        a_source(size=size), time_base=time_base, frame_pts=pts[:-1], end_pts=int(pts[-1])
    )


def _sources() -> list[SourceInfo]:
    """Constant and variable frame rates of 1 to 60 frames, on the grids of usual containers."""
    random = Random(11)
    time_bases = [(1, 90_000), (1, 15_360), (1, 1000), (1, 600), (1001, 30_000), (1, 10**9)]
    rates = [Fraction(24), Fraction(25), Fraction(30_000, 1001), Fraction(50), None]
    found = []
    for (ticks, per_s), rate in product(time_bases, rates):
        time_base, count = Fraction(ticks, per_s), random.choice([1, 2, 17, 30, 60])
        if rate is None:
            longest = max(2, int(Fraction(1, 5) / time_base))
            steps = [random.randint(1, longest) for _ in range(count)]
        else:
            grid = [round_half_up(frame / rate / time_base) for frame in range(count + 1)]
            steps = [max(1, after - before) for before, after in pairwise(grid)]
        size = random.choice([FULL_HD, Size(1080, 1920), Size(640, 481), Size(16, 9)])
        first_pts = random.choice([0, 3003, 750_000, -2002])
        found.append(source_of_steps(time_base, steps, first_pts=first_pts, size=size))
    return found


def _words(*words: str) -> list[str]:
    """Words in the cases that people write."""
    return [*words, *words, *map(str.upper, words), *map(str.title, words)]


RATES = st.one_of(
    st.sampled_from([24, 25, 30, 50, 60, 12.5, 1, 240, 23.975, None]),
    st.sampled_from(["25.00", "029.97", "29.970", "24/1", "120/7"]),
    st.sampled_from([*NTSC_RATES, *map(float, NTSC_RATES), *map(str, NTSC_RATES.values())]),
    st.floats(1, 240),
    st.builds("{}/{}".format, st.integers(10**6, 10**8), st.integers(10**6, 5 * 10**6)),
    st.integers(10**9, 240 * 10**9).map(lambda rate: f"{rate // 10**9}.{rate % 10**9:09}"),
)
SPEEDS = st.sampled_from([0.25, 0.5, 1, 2, 4, 0.05, 20, 1 / 3, 0.37, 3.3333, 1.0001, None]) | (
    st.floats(0.05, 20)
)

_SHARES = st.integers(0, 1200)
"""Thousandths of a source's duration; its end is passed, too."""
_OFF_US = st.sampled_from([0, 0, 0, 0.5, -0.5, 0.25, 0.4999, -0.37])
"""Parts of a microsecond, which times as people write them are rounded to."""
_PLACES = st.lists(st.tuples(_SHARES, _OFF_US), max_size=6, unique_by=lambda each: each[0])
_SPEEDS_OR_GAPS = st.lists(SPEEDS | st.just("gap"), min_size=6, max_size=6)
_RECTS = st.tuples(
    st.integers(-5000, 20_000),
    st.integers(-5000, 20_000),
    st.integers(5, 30_000),
    st.integers(5, 30_000),
)
"""Tenths of a pixel: x, y, width, height."""
_KEYFRAMES = st.lists(
    st.tuples(
        _SHARES, _OFF_US, _RECTS, st.sampled_from([None, *_words("linear", "smooth", "cut")])
    ),
    max_size=9,
    unique_by=lambda each: each[0],
)
_TRANSITIONS = st.tuples(
    st.sampled_from(_words("cut", "dissolve", "dissolve", "fade")),
    st.sampled_from([None, 0, 60]) | st.integers(0, 1500) | st.integers(0, 60_000),
).map(lambda drawn: {"type": drawn[0], "duration": drawn[1] and drawn[1] / 1000})
_SIDES = st.integers(8, 3840).map(lambda half: 2 * half)
_CLIPS = st.tuples(
    st.sampled_from(_sources()),
    _KEYFRAMES,
    _PLACES,
    _SPEEDS_OR_GAPS,
    st.none() | st.tuples(st.integers(0, 900), st.none() | st.integers(1, 1200), _OFF_US),
    st.booleans(),
)
_TARGETS = st.one_of(
    st.just({}),
    st.sampled_from(sorted(ASPECT_RATIOS)).map(lambda ratio: {"globalAspectRatio": ratio}),
    st.builds(lambda width, height: {"targetWidth": width, "targetHeight": height}, _SIDES, _SIDES),
)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Reels of one to four clips; a few of them the engine refuses."""
    drawn = draw(st.lists(_CLIPS, min_size=1, max_size=4))
    sources = {f"{place}.mp4": clip[0] for place, clip in enumerate(drawn)}
    clips = [_clip(f"{place}.mp4", *clip) for place, clip in enumerate(drawn)]
    for clip, index in zip(clips, draw(st.none() | st.permutations(range(4))) or (), strict=False):
        clip["clipIndex"] = index
    joins = [draw(_TRANSITIONS | st.none()) for _ in clips[1:]]
    transition = joins if draw(st.integers(0, 3)) else draw(_TRANSITIONS | st.none())
    document = {"clips": clips, "transition": transition, "targetFps": draw(RATES)}
    return Case(document | draw(_TARGETS), sources)


def _clip(
    name: str,
    source: SourceInfo,
    keyframes: list[Any],
    places: list[tuple[int, float]],
    speeds: list[Any],
    trim: tuple[int, int | None, float] | None,
    in_first_spelling: bool,
) -> dict[str, Any]:
    """A clip of the document, its speeds in one of the two spellings."""

    def seconds(share: int, off_us: float) -> int | float:
        written = (round(float(source.duration_s) * share * 1000) + off_us) / 1_000_000
        return int(written) if written.is_integer() else max(0, written)

    clip: dict[str, Any] = {"fileName": name, "cropKeyframes": []}
    for share, off_us, rect, ease in keyframes:
        sides = dict(zip(("x", "y", "width", "height"), (side / 10 for side in rect), strict=True))
        clip["cropKeyframes"].append({"time": seconds(share, off_us), **sides, "ease": ease})
    clip["cropKeyframes"] += clip["cropKeyframes"][:1]  # one twice, which means the same as once
    trim_range = None
    if trim is not None:
        start, longer, off_us = trim
        stop = None if longer is None else seconds(start + longer, 0)
        trim_range = {"start": seconds(start, off_us), "end": stop}
    boundaries = [seconds(*place) for place in sorted(places)]
    stretches = [
        (index, start, end, speed)
        for index, ((start, end), speed) in enumerate(
            zip(pairwise(boundaries), speeds, strict=False)
        )
        if speed != "gap"
    ]
    if in_first_spelling:
        segments = [
            {"start": start, "end": end, "speed": speed} for _, start, end, speed in stretches
        ]
        return clip | {"segmentsData": {"segments": segments[::-1], "trimRange": trim_range}}
    by_index = {str(index): speed for index, _, _, speed in stretches}
    spelled = {"boundaries": boundaries, "segmentSpeeds": by_index}
    return clip | {"segments": spelled, "trimRange": trim_range}

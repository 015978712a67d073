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
from engine.timeline.document_schema import ASPECT_RATIOS, KEYFRAME_FPS
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
    st.sampled_from([*map(float, NTSC_RATES), *map(str, NTSC_RATES.values())]),
    st.sampled_from([*map(float, NTSC_RATES.values()), " 30 ", "30/1", "24.0", 30 * 0.999]),
    st.sampled_from([str(float(rate)) for rate in NTSC_RATES.values()]),
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
) | st.tuples(*[st.integers(1, 4000)] * 4)
"""Tenths of a pixel: x, y, width, height. The second kind lies inside of most frames."""
_EASES = st.sampled_from([None, *_words("linear", "smooth", "spline", "cut")])
_KEYFRAMES = st.lists(st.tuples(_SHARES, _OFF_US, _RECTS, _EASES, st.booleans()), max_size=9)
"""When, where, how on from there, and whether the time is written in frames."""
_TRANSITIONS = st.tuples(
    st.sampled_from(_words("cut", "dissolve", "dissolve", "fade")),
    st.sampled_from([None, 0, 60]) | st.integers(0, 1500) | st.integers(0, 60_000),
).map(lambda drawn: {"type": drawn[0], "duration": drawn[1] and drawn[1] / 1000})
_SIDES = st.integers(8, 3840).map(lambda half: 2 * half)
_RANGES = st.none() | st.tuples(
    st.integers(0, 900), st.none() | st.integers(1, 1200), _OFF_US, st.booleans()
)
"""Start and length in shares, and whether it is written as a pair."""
_SPELLINGS = st.sampled_from(
    ["segmentsData", "stored", "speeds by index", "trim inside", "splits only", "open end"]
)
_EXTRAS = st.fixed_dictionaries(
    {},
    optional={
        "title": st.sampled_from(["Goal", " Save ", "", None]),
        "clipName": st.just("Corner"),
        "rotation": st.sampled_from([0, 12.5, -20, 0.1]),
        "fit": st.sampled_from(_words("cover", "stretch")),
        "duration": st.floats(0, 100),
        "workingClipId": st.just(7),
    },
)
_CLIPS = st.tuples(
    st.sampled_from(_sources()),
    _KEYFRAMES,
    _PLACES,
    _SPEEDS_OR_GAPS,
    _RANGES,
    _SPELLINGS,
    _RANGES,
    _EXTRAS,
)
_EDIT_EXTRAS = st.fixed_dictionaries(
    {},
    optional={
        "ease": _EASES,
        "keyInterval": st.sampled_from([0.1, 2, 1.5, 60, None]),
        "includeAudio": st.sampled_from([True, False, None]),
        "fit": st.sampled_from(_words("contain", "cover")),
    },
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
    return Case(document | draw(_TARGETS) | draw(_EDIT_EXTRAS), sources)


def _clip(
    name: str,
    source: SourceInfo,
    keyframes: list[Any],
    places: list[tuple[int, float]],
    speeds: list[Any],
    trim: tuple[int, int | None, float, bool] | None,
    spelling: str,
    source_range: tuple[int, int | None, float, bool] | None,
    extras: dict[str, Any],
) -> dict[str, Any]:
    """A clip of the document, its trim and speeds in one of the spellings."""

    def seconds(share: int, off_us: float) -> int | float:
        written = (round(float(source.duration_s) * share * 1000) + off_us) / 1_000_000
        return int(written) if written.is_integer() else max(0, written)

    def span(drawn: tuple[int, int | None, float, bool] | None) -> Any:
        if drawn is None:
            return None
        start, longer, off_us, as_pair = drawn
        ends = seconds(start, off_us), None if longer is None else seconds(start + longer, 0)
        return list(ends) if as_pair else dict(zip(("start", "end"), ends, strict=True))

    clip: dict[str, Any] = {"fileName": name, "cropKeyframes": [], **extras}
    clip["sourceRange"] = span(source_range)
    for share, off_us, rect, ease, in_frames in keyframes:
        time_s = seconds(share, off_us)
        at = {"frame": round(time_s * KEYFRAME_FPS)} if in_frames else {"time": time_s}
        sides = dict(zip(("x", "y", "width", "height"), (side / 10 for side in rect), strict=True))
        clip["cropKeyframes"].append({**at, **sides, "ease": ease})
    clip["cropKeyframes"] += clip["cropKeyframes"][:1]  # one twice, which means the same as once
    return clip | _spelt(
        spelling, [seconds(*place) for place in sorted(places)], speeds, span(trim)
    )


def _spelt(spelling: str, times: list[float], speeds: list[Any], trim: Any) -> dict[str, Any]:
    """Trim and speeds of a clip. `speeds` are those between the times, in order."""
    if spelling in ("segmentsData", "stored", "open end"):
        segments = [
            {"start": start, "end": end, "speed": speed}
            for (start, end), speed in zip(pairwise(times), speeds, strict=False)
            if speed != "gap"
        ]
        if spelling == "open end" and segments:
            del segments[-1]["end"]
        data: dict[str, Any] = {"segments": segments[::-1], "boundaries": times}
        if spelling == "stored":
            start, end = trim.values() if isinstance(trim, dict) else trim or (None, None)
            return {"segmentsData": data | {"trim_start": start, "trim_end": end}}
        return {"segmentsData": data | {"trimRange": trim}}
    splits = [time for time in times if time > 0]
    boundaries = splits if spelling == "splits only" else [0, *splits]
    stretches = len(splits) + (spelling == "splits only")
    by_index = {
        str(index): speed
        for index, speed in zip(range(stretches), speeds, strict=False)
        if speed != "gap"
    }
    data = {"boundaries": boundaries, "segmentSpeeds": by_index}
    if spelling == "trim inside":
        return {"segments": data | {"trimRange": trim}}
    return {"segments": data, "trimRange": trim}

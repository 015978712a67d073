"""The engine's constants as a JavaScript module, which the page loads as `/page/constants.js`.

The page repeats the plan's arithmetic, so it needs the same numbers. None of them is written a
second time: exact ones are texts such as "1/1000", and the page reads them as fractions.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from engine import timing
from engine.geometry import STRETCH_TOLERANCE, Fit, Size
from engine.timeline import clip, edit, transition, validation
from engine.timeline.document_schema import ASPECT_RATIOS, KEYFRAME_FPS


def page_constants() -> dict[str, Any]:
    """The constants by their names in the module, ready for JSON."""
    return {
        "TIME_STEP_S": str(timing.MICROSECOND),
        "TIMESTAMP_TOLERANCE_S": str(timing.TIMESTAMP_TOLERANCE_S),
        "NTSC_RATES": {str(written): str(rate) for written, rate in timing.NTSC_RATES.items()},
        "RATE_SPELLING": validation.RATE_SPELLING.pattern,
        "RATES_HZ": validation.RATES_HZ,
        "MAX_RATE_DENOMINATOR": timing.MAX_RATE_DENOMINATOR,
        "SPEEDS": [str(speed) for speed in validation.SPEEDS],
        "MAX_SPEED_DENOMINATOR": validation.MAX_SPEED_DENOMINATOR,
        "LARGEST_NUMBER": validation.LARGEST_NUMBER,
        "MAX_CLIPS": edit.MAX_CLIPS,
        "TARGET_SIDES_PX": edit.TARGET_SIDES_PX,
        "SOURCE_SIDES_PX": clip.SOURCE_SIDES_PX,
        "MAX_ROTATION_DEG": clip.MAX_ROTATION_DEG,
        "KEY_INTERVALS_S": [str(interval) for interval in timing.KEY_INTERVALS_S],
        "KEYFRAME_FPS": KEYFRAME_FPS,
        "SMALLEST_SHARE": clip.SMALLEST_SHARE,
        "ASPECT_RATIOS": {name: _sides(size) for name, size in ASPECT_RATIOS.items()},
        "DEFAULT_SIZE": _sides(edit.DEFAULT_SIZE),
        "DEFAULT_FPS": edit.DEFAULT_FPS,
        "DEFAULT_TRANSITION_S": str(transition.DEFAULT_TRANSITION_S),
        "MAX_TRANSITION_S": transition.MAX_TRANSITION_S,
        "TRANSITION_TYPES": list(transition.TransitionType),
        "EASES": list(clip.Ease),
        "APP_EASE": clip.APP_EASE,
        "FITS": list(Fit),
        "STRETCH_TOLERANCE": STRETCH_TOLERANCE,
    }


@cache
def page_constants_module() -> str:
    """The module's text: one `export const` per constant."""
    constants = page_constants().items()
    return "".join(f"export const {name} = {json.dumps(value)};\n" for name, value in constants)


def _sides(size: Size) -> list[int]:
    return [size.width, size.height]

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
from engine.timeline import edit, transition, validation
from engine.timeline.clip import Ease
from engine.timeline.document_schema import ASPECT_RATIOS


def page_constants() -> dict[str, Any]:
    """The constants by their names in the module, ready for JSON."""
    return {
        "TIME_STEP_S": str(timing.MICROSECOND),
        "TIMESTAMP_TOLERANCE_S": str(timing.TIMESTAMP_TOLERANCE_S),
        "NTSC_RATES": {text: str(rate) for text, rate in timing.NTSC_RATES.items()},
        "RATE_SPELLING": validation.RATE_SPELLING.pattern,
        "RATES_HZ": validation.RATES_HZ,
        "MAX_RATE_DENOMINATOR": timing.MAX_RATE_DENOMINATOR,
        "SPEEDS": [str(speed) for speed in validation.SPEEDS],
        "MAX_SPEED_DENOMINATOR": validation.MAX_SPEED_DENOMINATOR,
        "LARGEST_NUMBER": validation.LARGEST_NUMBER,
        "MAX_CLIPS": edit.MAX_CLIPS,
        "TARGET_SIDES_PX": edit.TARGET_SIDES_PX,
        "ASPECT_RATIOS": {name: _sides(size) for name, size in ASPECT_RATIOS.items()},
        "DEFAULT_SIZE": _sides(edit.DEFAULT_SIZE),
        "DEFAULT_FPS": edit.DEFAULT_FPS,
        "DEFAULT_TRANSITION_S": str(transition.DEFAULT_TRANSITION_S),
        "MAX_TRANSITION_S": transition.MAX_TRANSITION_S,
        "TRANSITION_TYPES": list(transition.TransitionType),
        "EASES": list(Ease),
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

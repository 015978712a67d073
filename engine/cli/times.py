"""Times as people write them on the command line."""

from __future__ import annotations

import re
from fractions import Fraction

from engine.errors import EditError

_SPELLING = re.compile(r"(\d{1,3}:){0,2}\d{1,6}(\.\d{1,6})?", re.ASCII)


def seconds(text: str, option: str) -> Fraction:
    """The time that `text` names, exactly: `12.5`, or by the clock `67:12` and `1:07:12.5`.

    Raises `EditError` that names the option.
    """
    if _SPELLING.fullmatch(text):
        places = [Fraction(place) for place in text.split(":")]
        if all(place < 60 for place in places[1:]):
            return sum((each * 60**n for n, each in enumerate(reversed(places))), Fraction(0))
    raise EditError(option, f"{text} is not a time, like 12.5 or 1:02:03.5")

"""Checks what people write into an edit, and makes it exact. Knows no edit, no file, no pydantic.

Each check takes a value as written and `where` it stands, in the document's spelling. It returns
the exact value, or raises `EditError`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from fractions import Fraction
from numbers import Real
from typing import Any, TypeVar

from engine.errors import EditError
from engine.geometry import Rect, Size
from engine.timing import KEY_INTERVALS_S, exact_rate, exact_seconds

Number = float | Fraction
"""A number as people write it in a script."""

SPEEDS = (Fraction(1, 20), Fraction(20))
"""The slowest and the fastest speed of a segment."""

MAX_SPEED_DENOMINATOR = 10_000
"""A speed is kept as the nearest fraction with a denominator up to this."""

RATES_HZ = (1, 240)
"""The lowest and the highest frame rate of an export."""

RATE_SPELLING = re.compile(r" *[0-9]{1,9}(\.[0-9]{1,20}|/[0-9]{1,9})? *")
"""How a frame rate is written as a text; a float may have 17 digits."""

LARGEST_NUMBER = 10**9
"""The limit on seconds and pixels: beyond it a float cannot hold microseconds."""

SHOWN_CHARS = 40
"""So much of a text is repeated in an error."""

_Choice = TypeVar("_Choice", bound=StrEnum)


def number(value: object, where: str) -> Fraction:
    """Exactly the decimal number that was written. A truth value or a text is not a number."""
    return Fraction(str(_finite(value, where)))


def pixels(value: object, where: str) -> float:
    """A coordinate or an extent, as the nearest float."""
    return float(_finite(value, where))


def _finite(value: object, where: str) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float | Real):
        raise EditError(where, f"must be a number, not {shown(value)}")
    written: Any = value  # mypy gives Real no order
    if not -LARGEST_NUMBER <= written <= LARGEST_NUMBER:
        raise EditError(where, f"must be between -1e9 and 1e9, not {shown(value)}")
    return written


def whole_number(value: object, where: str) -> int:
    """An integer; `2.0` is one, too."""
    exact = number(value, where)
    if exact.denominator != 1:
        raise EditError(where, f"must be a whole number, not {shown(value)}")
    return exact.numerator


def seconds(value: object, where: str) -> Fraction:
    """A source time, at least 0, to the microsecond."""
    exact = exact_seconds(number(value, where))
    if exact < 0:
        raise EditError(where, f"must not be negative, and is {shown(value)}")
    return exact


def speed(value: object, where: str) -> Fraction:
    """A speed factor within `SPEEDS`, as a fraction with a small denominator."""
    exact = number(value, where)
    slowest, fastest = SPEEDS
    if not slowest <= exact <= fastest:
        limits = f"from {shown(slowest)} to {shown(fastest)}"
        raise EditError(where, f"must be {limits}, not {shown(value)}")
    return exact.limit_denominator(MAX_SPEED_DENOMINATOR)


def frame_rate(value: object, where: str) -> Fraction:
    """A rate within `RATES_HZ`: `30`, `29.97`, `"30000/1001"`, as `timing.exact_rate` reads it."""
    if not isinstance(value, str):
        number(value, where)
    elif not RATE_SPELLING.fullmatch(value):
        # Fraction also reads "1e999999999", and would compute for hours.
        raise EditError(where, f'must be a number or like "30000/1001", not {shown(value)}')
    try:
        rate = exact_rate(str(value))
    except ValueError as error:
        raise EditError(where, str(error)) from None
    lowest, highest = RATES_HZ
    if not lowest <= rate <= highest:
        raise EditError(where, f"must be from {lowest} to {highest}, not {shown(value)}")
    return rate


def key_interval(value: object, where: str) -> Fraction:
    """A time from one key frame to the next, within `KEY_INTERVALS_S`, in seconds."""
    exact = exact_seconds(number(value, where))
    shortest, longest = KEY_INTERVALS_S
    if not shortest <= exact <= longest:
        limits = f"from {shown(shortest)} to {shown(longest)} s"
        raise EditError(where, f"must be {limits}, not {shown(value)}")
    return exact


def size(written: Size, whose: str, limits_px: tuple[int, int]) -> Size:
    """A size in whole pixels, both sides within the limits; `whose` is `source` or `target`."""
    lowest, highest = limits_px
    sides = []
    for side, value in (("Width", written.width), ("Height", written.height)):
        extent = whole_number(value, f"{whose}{side}")
        if not lowest <= extent <= highest:
            reason = f"must be from {lowest} to {highest}, not {extent}"
            raise EditError(f"{whose}{side}", reason)
        sides.append(extent)
    return Size(*sides)


def rect(written: Rect) -> Rect:
    """A rectangle in pixels that is not flat."""
    exact = Rect(
        pixels(written.x, "x"),
        pixels(written.y, "y"),
        pixels(written.width, "width"),
        pixels(written.height, "height"),
    )
    for side, extent in (("width", exact.width), ("height", exact.height)):
        if extent <= 0:
            raise EditError(side, f"must be above 0, not {shown(extent)}")
    return exact


def flag(value: object, where: str) -> bool:
    """True or false; no other value stands for one of them."""
    if not isinstance(value, bool):
        raise EditError(where, f"must be true or false, not {shown(value)}")
    return value


def text(value: object, where: str) -> str:
    """A text that a file or its name can hold: without NUL and lone surrogates."""
    if not isinstance(value, str):
        raise EditError(where, f"must be text, not {shown(value)}")
    if any(character == "\0" or "\ud800" <= character <= "\udfff" for character in value):
        raise EditError(where, f"{shown(value)} holds a character that cannot be written")
    return value


def choice(choices: type[_Choice], value: object, where: str) -> _Choice:
    """One of the words of `choices`, in upper or lower case."""
    if isinstance(value, str) and value.lower() in list(choices):
        return choices(value.lower())
    raise EditError(where, f"must be {listed(list(choices))}, not {shown(value)}")


class RepeatedKeyError(ValueError):
    """A key stands twice in one object of JSON: which of its values counts?"""


def unique_keys(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """One object of JSON, for `json.loads(object_pairs_hook=...)`. Raises RepeatedKeyError."""
    read: dict[str, Any] = {}
    for key, value in pairs:
        if key in read:
            raise RepeatedKeyError(f"the key {shown(key)} stands twice in one object")
        read[key] = value
    return read


def shown(value: object) -> str:
    """A value of the document in a few words, on one line, for an error text."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, str):
        return json.dumps(value if len(value) <= SHOWN_CHARS else f"{value[: SHOWN_CHARS - 3]}...")
    if isinstance(value, Fraction | float):
        return f"{float(value):.12g}"
    if isinstance(value, int):
        return str(value) if abs(value) <= 10**20 else "a huge number"
    if isinstance(value, Mapping):
        return "an object"
    return "a list" if isinstance(value, list | tuple) else f"a {type(value).__name__}"


def listed(words: Sequence[str]) -> str:
    """`cut, dissolve or fade`"""
    return f"{', '.join(words[:-1])} or {words[-1]}"


def path(steps: Sequence[int | str]) -> str:
    """A place in the document, such as `clips[2].segmentsData.segments[0].speed`."""
    parts = []
    for step in steps:
        if isinstance(step, int):
            parts.append(f"[{step}]")
        else:
            is_plain = len(step) <= SHOWN_CHARS and step.isidentifier()
            parts.append(f".{step}" if is_plain else f"[{shown(step)}]")
    return "".join(parts).removeprefix(".")


def set_fields(value: object, **fields: object) -> None:
    """Sets the fields of a frozen dataclass in its own constructor, after they were checked."""
    for name, content in fields.items():
        object.__setattr__(value, name, content)

"""What people write into an edit, checked and made exact. Knows no edit, no file and no pydantic.

Each check takes a value as written and `where` it stands, in the document's spelling, and returns
what the engine keeps; all raise `EditError`.
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
from engine.timing import exact_rate, exact_seconds

SPEEDS = (Fraction(1, 20), Fraction(20))
"""The slowest and the fastest speed of a segment."""

RATES_HZ = (1, 240)
"""The lowest and the highest frame rate of an export."""

_LARGEST = 10**9
"""Seconds and pixels beyond this are refused: to the microsecond they would not fit a float."""

_Choice = TypeVar("_Choice", bound=StrEnum)


def number(value: object, where: str) -> Fraction:
    """Exactly the decimal number that was written; neither a truth value nor a text is one."""
    return Fraction(str(_finite(value, where)))


def pixels(value: object, where: str) -> float:
    """A place or an extent, as near as a float comes."""
    return float(_finite(value, where))


def _finite(value: object, where: str) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float | Real):
        raise EditError(where, f"must be a number, not {shown(value)}")
    written: Any = value  # mypy gives Real no order
    if not -_LARGEST <= written <= _LARGEST:
        raise EditError(where, f"must be between -1e9 and 1e9, not {shown(value)}")
    return written


def whole_number(value: object, where: str) -> int:
    exact = number(value, where)
    if exact.denominator != 1:
        raise EditError(where, f"must be a whole number, not {shown(value)}")
    return exact.numerator


def seconds(value: object, where: str) -> Fraction:
    """A source time, to the microsecond."""
    exact = exact_seconds(number(value, where))
    if exact < 0:
        raise EditError(where, f"must not be negative, and is {shown(value)}")
    return exact


def speed(value: object, where: str) -> Fraction:
    """A speed factor, to the nearest fraction with a denominator of at most 10,000."""
    exact = number(value, where)
    slowest, fastest = SPEEDS
    if not slowest <= exact <= fastest:
        limits = f"from {shown(slowest)} to {shown(fastest)}"
        raise EditError(where, f"must be {limits}, not {shown(value)}")
    return exact.limit_denominator(10_000)


def frame_rate(value: object, where: str) -> Fraction:
    """`30`, `29.97`, `"30000/1001"`, as `timing.exact_rate` reads them."""
    if not isinstance(value, str):
        number(value, where)
    elif not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9}|/[0-9]{1,9})?", value):
        # What else Fraction reads could keep it busy for hours: "1e999999999".
        raise EditError(where, f'must be a number or like "30000/1001", not {shown(value)}')
    try:
        rate = exact_rate(str(value))
    except ValueError as error:
        raise EditError(where, str(error)) from None
    lowest, highest = RATES_HZ
    if not lowest <= rate <= highest:
        raise EditError(where, f"must be from {lowest} to {highest}, not {shown(value)}")
    return rate


def flag(value: object, where: str) -> bool:
    if not isinstance(value, bool):
        raise EditError(where, f"must be true or false, not {shown(value)}")
    return value


def text(value: object, where: str) -> str:
    """Any text that a file or its name can hold."""
    if not isinstance(value, str):
        raise EditError(where, f"must be text, not {shown(value)}")
    if any(character == "\0" or "\ud800" <= character <= "\udfff" for character in value):
        raise EditError(where, f"{shown(value)} holds a character that cannot be written")
    return value


def choice(choices: type[_Choice], value: object, where: str) -> _Choice:
    """One of a few words, in any case."""
    if isinstance(value, str) and value.lower() in list(choices):
        return choices(value.lower())
    raise EditError(where, f"must be {listed(list(choices))}, not {shown(value)}")


def shown(value: object) -> str:
    """A value of the document in a few words, on one line."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, str):
        return json.dumps(value if len(value) <= 40 else f"{value[:37]}...")
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
    """A place in the document: `clips[2].segmentsData.segments[0].speed`."""
    parts = []
    for step in steps:
        if isinstance(step, int):
            parts.append(f"[{step}]")
        else:
            parts.append(f".{step}" if step.isidentifier() else f"[{shown(step)}]")
    return "".join(parts).removeprefix(".")

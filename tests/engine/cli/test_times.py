"""Times as people write them: seconds, or by the clock."""

from __future__ import annotations

from fractions import Fraction

import pytest

from engine.cli.times import seconds
from engine.errors import EditError


@pytest.mark.parametrize(
    ("text", "exact"),
    [
        ("0", Fraction(0)),
        ("12.5", Fraction(25, 2)),
        ("0.033333", Fraction(33_333, 1_000_000)),
        ("100", Fraction(100)),
        ("2:03.5", Fraction(247, 2)),
        ("67:12", Fraction(4032)),
        ("1:07:12", Fraction(4032)),
        ("1:02:03.5", Fraction(7447, 2)),
    ],
)
def test_a_time_is_exact(text: str, exact: Fraction) -> None:
    assert seconds(text, "--at") == exact


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "-1",
        "1e3",
        "1/3",
        "nan",
        "inf",
        "1:60",
        "1:60:00",
        "1.5:00",
        "1:2:3:4",
        "1:",
        "\u0661",
    ],
)
def test_what_is_no_time_is_an_error_that_names_the_option(text: str) -> None:
    with pytest.raises(EditError, match=r"^--at: .* is not a time, like 12.5 or 1:02:03.5$"):
        seconds(text, "--at")

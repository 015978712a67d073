"""How two neighbouring clips of an edit are joined."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

from engine.errors import EditError
from engine.timeline import validation
from engine.timeline.validation import Number, set_fields

DEFAULT_TRANSITION_S = Fraction(1, 2)
MAX_TRANSITION_S = 60


class TransitionType(StrEnum):
    """How one clip gives way to the next."""

    CUT = "cut"
    DISSOLVE = "dissolve"
    FADE = "fade"


@dataclass(frozen=True, slots=True, init=False)
class Transition:
    """How two neighbouring clips are joined. A cut lasts 0 s, whatever duration is given."""

    type: TransitionType
    duration_s: Fraction

    def __init__(
        self,
        type: TransitionType | str = TransitionType.CUT,  # noqa: A002 - the document's word
        duration_s: Number | None = None,
    ) -> None:
        checked_type = validation.choice(TransitionType, type, "type")
        exact_s = DEFAULT_TRANSITION_S
        if duration_s is not None:
            exact_s = validation.seconds(duration_s, "duration")
        if exact_s > MAX_TRANSITION_S:
            shown = validation.shown(exact_s)
            raise EditError("duration", f"must be at most {MAX_TRANSITION_S} s, not {shown}")
        is_cut = checked_type is TransitionType.CUT
        set_fields(self, type=checked_type, duration_s=Fraction(0) if is_cut else exact_s)

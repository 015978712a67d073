"""The edit: what a user asks for, as values with one spelling and exact times.

It holds everything that the plan reads of a user's wishes. It knows no file: names are not resolved
and nothing is opened. The plan checks what depends on a file's length and size. `document.py`
reads and writes the app's JSON. A script can also write an edit directly:

    Edit(clips=[Clip("a.mp4", trim_start_s=2), Clip("b.mp4")], transitions=Transition("dissolve"))

The constructors take what people write (`0.1`, lists, words) and check it. They raise `EditError`,
which names fields as the document spells them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from engine.errors import EditError
from engine.geometry import Fit, Size
from engine.timeline import validation
from engine.timeline.clip import Clip as Clip
from engine.timeline.clip import CropKeyframe as CropKeyframe
from engine.timeline.clip import Ease as Ease
from engine.timeline.clip import SpeedSegment as SpeedSegment
from engine.timeline.transition import Transition as Transition
from engine.timeline.transition import TransitionType as TransitionType
from engine.timeline.validation import Number, set_fields

DEFAULT_FPS = 30
DEFAULT_SIZE = Size(1080, 1920)
MAX_CLIPS = 500
"""An edit with more clips is a mistake of the program that wrote it."""

TARGET_SIDES_PX = (16, 7680)
"""The shortest and the longest side of an export."""

_CUTS = Transition()
"""A cut at every join."""


@dataclass(frozen=True, slots=True, init=False)
class Edit:
    """The whole export as a user wants it."""

    clips: tuple[Clip, ...]
    """In the order they play."""
    transitions: tuple[Transition, ...]
    """One per join; the constructor also takes a single one, for every join."""
    target_fps: Fraction
    target_size: Size
    fit: Fit
    include_audio: bool
    ease: Ease
    """That of the crop keyframes that have none of their own."""
    key_interval_s: Fraction | None
    """From one key frame of the film to the next. None: what is exporting decides."""
    warnings: tuple[str, ...] = field(compare=False)
    """What `parse` left out of the document, and why, one line each."""

    def __init__(
        self,
        clips: Iterable[Clip],
        transitions: Transition | Sequence[Transition] = _CUTS,
        target_fps: Number | str = DEFAULT_FPS,
        target_size: Size = DEFAULT_SIZE,
        fit: Fit | str = Fit.CONTAIN,
        include_audio: bool = True,
        warnings: Iterable[str] = (),
        ease: Ease | str = Ease.LINEAR,
        key_interval_s: Number | None = None,
    ) -> None:
        played = tuple(clips)
        if not 1 <= len(played) <= MAX_CLIPS:
            raise EditError("clips", f"must be 1 to {MAX_CLIPS} clips, not {len(played)}")
        set_fields(
            self,
            clips=played,
            transitions=_per_join(transitions, len(played) - 1),
            target_fps=validation.frame_rate(target_fps, "targetFps"),
            target_size=_even(validation.size(target_size, "target", TARGET_SIDES_PX)),
            fit=validation.choice(Fit, fit, "fit"),
            include_audio=validation.flag(include_audio, "includeAudio"),
            ease=validation.choice(Ease, ease, "ease"),
            key_interval_s=None
            if key_interval_s is None
            else validation.key_interval(key_interval_s, "keyInterval"),
            warnings=tuple(warnings),
        )

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], *, unknown: Literal["error", "warn"] = "error"
    ) -> Edit:
        """The edit in a JSON file; see `parse`. Raises EditError where it cannot be read."""
        try:
            document = Path(path).read_bytes()
        except OSError as error:
            reason = (error.strerror or "I/O error").lower()
            raise EditError(os.fspath(path), f"cannot be read: {reason}") from error
        return cls.parse(document, unknown=unknown)

    @classmethod
    def parse(
        cls,
        document: Mapping[str, Any] | str | bytes,
        *,
        unknown: Literal["error", "warn"] = "error",
    ) -> Edit:
        """The edit that a JSON text describes, or the object that was read from one.

        Raises EditError for the first problem, and says how many more there are. An unknown key is
        a problem. With `unknown="warn"` it becomes an entry of `warnings` where it belongs to the
        edit or to a clip. In a keyframe, a segment, a range or a transition it stays a problem: the
        film might be another one.
        """
        from engine.timeline.document import read_document  # it loads pydantic

        return cls(**read_document(document, unknown))

    def to_document(self) -> dict[str, Any]:
        """The edit in the app's spelling, ready for JSON; `parse` of it gives an equal edit."""
        from engine.timeline.document_writer import write_document

        return write_document(
            clips=self.clips,
            transitions=self.transitions,
            target_fps=self.target_fps,
            target_size=self.target_size,
            fit=self.fit,
            include_audio=self.include_audio,
            ease=self.ease,
            key_interval_s=self.key_interval_s,
        )


def _even(target: Size) -> Size:
    for where, extent in (("targetWidth", target.width), ("targetHeight", target.height)):
        if extent % 2:
            raise EditError(where, f"must be even, and {extent} is odd")
    return target


def _per_join(transitions: Transition | Sequence[Transition], joins: int) -> tuple[Transition, ...]:
    if isinstance(transitions, Transition):
        return (transitions,) * joins
    if len(transitions) != joins:
        reason = f"must be {joins}, one per join of {joins + 1} clips, not {len(transitions)}"
        raise EditError("transition", reason)
    return tuple(transitions)

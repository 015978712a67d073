"""Every error the engine raises on purpose.

    EngineError
    ├── EditError        the edit document is wrong: where in it, and why
    ├── SourceError      a file cannot be used: which file, and why
    │   └── DecodeError  a wanted frame or sample cannot be decoded: when in the file, and why
    ├── EncoderError     an encoder, option or value does not exist, or an encoder refuses a frame
    ├── UpscalerError    an upscaler does not exist or cannot run here
    ├── OutputError      a file or folder cannot be written: which, and why
    ├── StoreError       a store cannot be reached or refuses: which object, and why
    │   ├── ObjectMissingError   there is no such object
    │   └── ObjectChangedError   it is not the version that was asked for, or to replace
    ├── ChunkError       a rendered chunk is not what the plan says
    ├── JoinError        the finished file is not what the plan says
    └── Cancelled        the caller asked to stop

This module does not know how an error is shown. The command line turns `EditError` into exit code
2, `Cancelled` into 130 and the others into 1. The HTTP layer has its own codes.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

MAX_TEXT = 1000
"""The longest text of an error, in characters. It may repeat a part of what people wrote."""


class EngineError(Exception):
    """Base of all errors raised on purpose; its text is one readable line of at most `MAX_TEXT`.

    It survives pickling with its type, its fields and the system's error behind it, so an error
    from another process can be raised here.
    """

    def __init__(self, text: str) -> None:
        super().__init__(shortened(text))

    def __reduce__(self) -> tuple[object, tuple[object, ...], dict[str, object]]:
        state = dict(self.__dict__)
        for each in _with_causes(self):
            if isinstance(each, OSError):  # a plain one: libraries' own may not survive pickling
                state["__cause__"] = OSError(each.errno, each.strerror)
                break
        return _restored, (type(self), *self.args), state


def shortened(text: str) -> str:
    """The text, cut off where it is longer than `MAX_TEXT`."""
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 3]}..."


def _restored(kind: type[EngineError], *args: object) -> EngineError:
    """An unpickled error. The constructor is skipped: it takes other arguments than `args`."""
    return kind.__new__(kind, *args)


class EditError(EngineError):
    """The edit document is wrong.

    `where` is the path in the document (`clips[1].segmentsData.trimRange`). `reason` says what is
    wrong with the value there.
    """

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"{where}: {reason}" if where else reason)
        self.where = where
        self.reason = reason


class SourceError(EngineError):
    """A source file cannot be used. `path` is where it lies (`location.SourceLocation`)."""

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = str(path)
        self.reason = reason


class DecodeError(SourceError):
    """A wanted frame or sample cannot be decoded.

    `time_s` is source presentation time. `clip` is the clip's index in play order, None where it is
    not known.
    """

    def __init__(
        self, path: object, time_s: Fraction | float, reason: str, clip: int | None = None
    ) -> None:
        place = "" if clip is None else f"clips[{clip}]: "
        EngineError.__init__(self, f"{place}{path}: at {float(time_s):.3f} s: {reason}")
        self.path = str(path)
        self.reason = reason
        self.time_s = float(time_s)
        self.clip = clip

    def of_clip(self, clip: int) -> DecodeError:
        """The same error, naming the clip."""
        return DecodeError(self.path, self.time_s, self.reason, clip)


class EncoderError(EngineError):
    """An encoder, option or value does not exist here, or an encoder refuses a frame."""


class UpscalerError(EngineError):
    """An upscaler does not exist, or cannot run on this machine."""


class OutputError(EngineError):
    """A file or folder cannot be written."""

    def __init__(self, path: Path | str, error: OSError) -> None:
        super().__init__(f"{path}: cannot be written: {(error.strerror or str(error)).lower()}")
        self.path = str(path)


class StoreError(EngineError):
    """A store cannot be reached or refuses, or a key or request is not valid.

    `name` says which object or store. Neither it nor `reason` contains a secret or a signature.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason


class ObjectMissingError(StoreError):
    """There is no object under the key."""


class ObjectChangedError(StoreError):
    """The object is not the version that was asked for, or that the caller wanted to replace."""


class ChunkError(EngineError):
    """A rendered chunk is not what the plan says."""


class JoinError(EngineError):
    """The finished file is not what the plan says; it was not given its final name."""


class Cancelled(EngineError):  # noqa: N818 - a decision of the caller, not a fault
    """The caller asked to stop; finished chunks are kept."""

    def __init__(self) -> None:
        super().__init__("cancelled")


def is_out_of_space(error: BaseException) -> bool:
    """Whether a full disk or an exhausted quota led to `error`. It may go once there is room."""
    return any(
        isinstance(each, OSError) and each.errno in (errno.ENOSPC, errno.EDQUOT)
        for each in _with_causes(error)
    )


def _with_causes(error: BaseException) -> Iterator[BaseException]:
    """The error and all that led to it, each once."""
    waiting: list[BaseException | None] = [error]
    seen: set[int] = set()
    while waiting:
        each = waiting.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            waiting += [each.__context__, each.__cause__]
            yield each

"""Errors cross processes whole, and tell what is behind them."""

from __future__ import annotations

import errno
import os
import pickle

import pytest

from engine.errors import (
    MAX_TEXT,
    Cancelled,
    DecodeError,
    EditError,
    EngineError,
    ObjectChangedError,
    OutputError,
    SourceError,
    is_out_of_space,
)


@pytest.mark.parametrize(
    "error",
    [
        EngineError("why"),
        EditError("clips[0]", "is odd"),
        SourceError("a.mp4", "is odd"),
        DecodeError("a.mp4", 1.5, "is damaged", clip=2),
        OutputError("out", OSError(28, "No space left on device")),
        ObjectChangedError("bucket/key", "has changed"),
        Cancelled(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_comes_whole_from_another_process(error: EngineError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert (str(again), again.__dict__) == (str(error), error.__dict__)


def behind(number: int, *, hidden: bool = False) -> EngineError:
    """An error that two others and a system's error led to."""
    try:
        try:
            try:
                raise OSError(number, os.strerror(number))
            except OSError as error:
                raise OutputError("out.mp4", error) from error
        except OutputError:
            raise ValueError("on the way") from None
    except ValueError as error:
        try:
            raise EngineError("the film failed") from (None if hidden else error)
        except EngineError as made:
            return made


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize(
    ("number", "is_full"),
    [(errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EACCES, False), (errno.EFBIG, False)],
)
def test_a_full_disk_is_seen_behind_other_errors(number: int, is_full: bool, hidden: bool) -> None:
    error = behind(number, hidden=hidden)
    assert is_out_of_space(error) is is_full
    assert is_out_of_space(pickle.loads(pickle.dumps(error))) is is_full


def test_an_error_that_is_its_own_cause_has_an_end() -> None:
    first, second = EngineError("first"), EngineError("second")
    first.__cause__, second.__cause__ = second, first
    assert not is_out_of_space(first)


@pytest.mark.parametrize(
    "error",
    [EngineError("y" * 10_000), EditError("clips", "x" * 10_000), SourceError("z" * 9999, "")],
)
def test_a_text_is_never_long(error: EngineError) -> None:
    assert len(str(error)) == MAX_TEXT and str(error).endswith("...")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)

from __future__ import annotations

import pickle

import pytest

from engine.errors import (
    Cancelled,
    DecodeError,
    EditError,
    EngineError,
    ObjectChangedError,
    OutputError,
    SourceError,
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

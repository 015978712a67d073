"""Turns what a function raises into a response: plain values, no exception type, no secret."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from engine.errors import EngineError
from engine.storage import redacted
from modal_functions.protocol import ErrorResponse

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger(__name__)


def errors_to_responses(work: Callable[P, T]) -> Callable[P, T | ErrorResponse]:
    """Returns an `ErrorResponse` for what `work` raises. A cancellation passes through."""

    @functools.wraps(work)
    def respond(*args: P.args, **kwargs: P.kwargs) -> T | ErrorResponse:
        try:
            return work(*args, **kwargs)
        except Exception as error:
            return error_response(error)

    return respond


def error_response(error: Exception) -> ErrorResponse:
    """The response for an error. One that is no `EngineError` is a fault, and is logged."""
    text = str(error)
    if not isinstance(error, EngineError):
        log.error("unexpected error", exc_info=error)
        text = " ".join(f"unexpected {type(error).__name__}: {error}".split())
    return {"status": "error", "error": redacted(text)}

"""What crosses to the caller: plain dicts, errors among them. No exception type, no secret."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any, ParamSpec, TypeAlias

from engine.errors import EngineError
from engine.storage import redacted
from engine.version import VERSION

P = ParamSpec("P")
Response: TypeAlias = dict[str, Any]

log = logging.getLogger(__name__)


class VersionError(EngineError):
    """The caller's engine is another than the deployed one."""


def check_version(engine_version: str | None) -> None:
    """Raises `VersionError` where the caller says which engine it has, and it is not this one."""
    if engine_version not in (None, VERSION):
        raise VersionError(
            f"the backend has framestream {engine_version} and Modal {VERSION}: deploy again "
            "(modal deploy -m modal_functions.video_processing)"
        )


def errors_to_responses(work: Callable[P, Response]) -> Callable[P, Response]:
    """Makes `{"status": "error", "error"}` of what goes wrong; a cancellation passes through."""

    @functools.wraps(work)
    def respond(*args: P.args, **kwargs: P.kwargs) -> Response:
        try:
            return {"status": "success", **work(*args, **kwargs)}
        except EngineError as error:
            return {"status": "error", "error": redacted(str(error))}
        except Exception as error:
            log.exception("%s failed", work.__name__)
            return {
                "status": "error",
                "error": redacted(f"unexpected {type(error).__name__}: {error}"),
            }

    return respond

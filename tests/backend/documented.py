"""Checks that the OpenAPI document names each answer of a server, and what its errors look like."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import httpx

from backend.app import create_app

Operation = tuple[str, re.Pattern[str], dict[str, Any]]
"""Method, pattern of the path, and the described responses by status."""


@cache
def operations() -> list[Operation]:
    """All operations of the document. Only the key of a file has slashes."""
    return [
        (
            method.upper(),
            re.compile(re.sub(r"{\w+}", ".+" if path.startswith("/api/files/") else "[^/]+", path)),
            described["responses"],
        )
        for path, methods in create_app().openapi()["paths"].items()
        for method, described in methods.items()
    ]


def check_answer(response: httpx.Response) -> None:
    """Fails the test for an answer that is not described. For a client's `event_hooks`."""
    request = response.request
    if "access-control-request-method" in request.headers:
        return  # CORS answers, and no route
    path = request.url.path  # without its escapes, as the server sees it
    for method, pattern, responses in operations():
        if method == request.method and pattern.fullmatch(path):
            described = responses.get(str(response.status_code))
            assert described is not None, f"{method} {path} gave {response.status_code}"
            if "Error" in str(described.get("content")) and method != "HEAD":
                response.read()
                _check_error(response.json()["detail"])


def _check_error(detail: Any) -> None:
    if not isinstance(detail, str):
        assert detail and all({"loc", "msg", "type"} <= each.keys() for each in detail), detail

"""The OpenAPI document: what errors look like, and how a client says who it is.

An error is `{"detail": ...}` from every route. `errors` declares which ones a route can give.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

_MEANINGS = {
    400: "The request is broken.",
    401: "No valid key, and nobody is logged in.",
    403: "Not allowed. A page of another origin may have sent it.",
    404: "There is no such thing, or it belongs to somebody else.",
    408: "The body came too slowly.",
    409: "The request does not fit the present state.",
    410: "What is needed was removed.",
    411: "The length of the body is missing.",
    412: "Another version of the protocol is spoken here.",
    413: "Too large.",
    415: "The body has the wrong type.",
    421: "Another host name was meant.",
    422: "A value is not valid. `detail` says which one and why.",
    423: "Another request is using it.",
    429: "Too many of your exports are unfinished.",
    500: "The server failed.",
    502: "Modal cannot take the work.",
    503: "The server is busy, or its database or its store does not answer.",
    504: "The work took too long.",
    507: "There is not enough disk space.",
}


class InvalidValue(BaseModel):
    """A value of the request that is not valid. It is not repeated."""

    loc: list[str | int]
    """`body`, `query`, `path` or `header`, and the names that lead to the value from there."""
    msg: str
    type: str


class Error(BaseModel):
    """Why a request was refused, or failed."""

    detail: str | list[InvalidValue]
    """One line; or a list, of values that are not valid."""


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route, or of a router, that can give these statuses."""
    return {status: {"model": Error, "description": _MEANINGS[status]} for status in statuses}


class Api(FastAPI):
    """A FastAPI app whose OpenAPI document describes errors as they are."""

    def openapi(self) -> dict[str, Any]:
        """The document. It is made once."""
        if self.openapi_schema is None:
            self.openapi_schema = _completed(super().openapi())
        return self.openapi_schema


def _completed(document: dict[str, Any]) -> dict[str, Any]:
    for path in document["paths"].values():
        for operation in path.values():
            _add_errors(operation)
    components = document["components"]
    for name in ("HTTPValidationError", "ValidationError"):  # FastAPI's own idea of a 422
        components["schemas"].pop(name, None)
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    document["security"] = [{}, {"key": []}]  # not for all routes, and not without keys
    return document


def _add_errors(operation: dict[str, Any]) -> None:
    """Adds to an operation what it need not declare: all that validation and bodies can give."""
    responses = operation["responses"]
    statuses = [422] if "422" in responses else []
    if "requestBody" in operation:
        statuses += [408, 413]
    for status in statuses:
        responses[str(status)] = {
            "description": _MEANINGS[status],
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
        }
    operation["responses"] = dict(sorted(responses.items()))

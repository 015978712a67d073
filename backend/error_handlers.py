"""What is answered to an error: one JSON object, `{"detail": ...}`, that repeats no long value."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException

from backend.outage import Outage
from engine.errors import StoreError, shortened

MAX_INVALID_VALUES = 20
"""At most so many invalid values of a request are named."""

_MAX_NAME = 100


def add_error_handlers(app: FastAPI) -> None:
    """Makes the app answer errors as `api_document.Error` says."""
    database_outage, store_outage = Outage("the database refuses"), Outage("the store refuses")

    @app.exception_handler(HTTPException)
    async def refused(_request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"detail": _printable(error.detail)}, error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        found = [
            {
                "loc": [_name(step) for step in each["loc"]],
                "msg": _printable(each["msg"]),
                "type": each["type"],
            }
            for each in error.errors()[:MAX_INVALID_VALUES]
        ]
        return JSONResponse({"detail": found}, 422)

    @app.exception_handler(SQLAlchemyError)
    async def database_failed(_request: Request, error: SQLAlchemyError) -> JSONResponse:
        database_outage.met(error)
        return JSONResponse({"detail": "the database does not answer"}, 503)

    @app.exception_handler(StoreError)
    async def store_failed(_request: Request, error: StoreError) -> JSONResponse:
        store_outage.met(error)
        return JSONResponse({"detail": "the store does not answer"}, 503)

    @app.exception_handler(Exception)  # which is raised again afterwards, and logged
    async def failed(_request: Request, _error: Exception) -> JSONResponse:
        return JSONResponse({"detail": "the server failed; its log says why"}, 500)


def _name(step: int | str) -> int | str:
    """A step to an invalid value. The name of a key may come from the request."""
    return step if isinstance(step, int) else _printable(step)[:_MAX_NAME]


def _printable(text: str) -> str:
    """A text of bounded length that can be written as UTF-8."""
    return shortened(text).encode(errors="backslashreplace").decode()

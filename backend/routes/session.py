"""Routes of the page's login: a key becomes a session, and a cookie that scripts cannot read.

Nothing limits how often a key is tried: it has 256 random bits.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from backend.access import Visitor, current_visitor
from backend.login_sessions import LIFETIME
from backend.origins import check_origin
from backend.services import Server, Services

router = APIRouter(prefix="/api/session", tags=["session"])


class Login(BaseModel):
    """An API key."""

    key: str = Field(min_length=1, max_length=200)


class Session(BaseModel):
    """Who you are."""

    user_id: str
    expires_at: datetime | None
    """When the login in the cookie ends. None if you are known by other means."""


async def from_own_page(request: Request, server: Server) -> None:
    """FastAPI dependency: no other page may log anybody in or out. Raises `HTTPException` 403."""
    check_origin(request, server.settings)


@router.get("")
async def who(visitor: Annotated[Visitor, Depends(current_visitor)]) -> Session:
    """The user's id. 401 if a key is required."""
    return Session(user_id=visitor.user_id, expires_at=visitor.login_expires_at)


@router.post("", status_code=204, dependencies=[Depends(from_own_page)])
async def enter(request: Request, server: Server, login: Login) -> Response:
    """Log in with an API key. Sets the cookie."""
    token = await run_in_threadpool(server.access.sessions.start, login.key)
    if token is None:
        raise HTTPException(401, "there is no such key")
    return _with_cookie(request, server, token, int(LIFETIME.total_seconds()))


@router.delete("", status_code=204, dependencies=[Depends(from_own_page)])
async def leave(request: Request, server: Server) -> Response:
    """Log out: the session ends, and the cookie is deleted."""
    if token := server.access.token_of(request):
        await run_in_threadpool(server.access.sessions.end, token)
    return _with_cookie(request, server, "", 0)


def _with_cookie(request: Request, server: Services, token: str, max_age_s: int) -> Response:
    response = Response(status_code=204)
    response.set_cookie(
        server.access.cookie_name(request),
        token,
        max_age=max_age_s,
        secure=server.access.has_secure_cookie(request),
        httponly=True,
        samesite="strict",
    )
    return response

"""Routes of the page's login: an API key is kept in a cookie that scripts cannot read."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException, Request, Response
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from backend.access import COOKIE, User
from backend.services import Server

router = APIRouter(prefix="/api/session", tags=["session"])

_COOKIE_LIFETIME_S = 30 * 86_400


class Login(BaseModel):
    """An API key."""

    key: str = Field(min_length=1, max_length=200)


@router.get("")
def who(user: User) -> dict[str, str]:
    """The user's id. 401 if a key is required."""
    return {"user_id": user}


@router.post("")
async def enter(request: Request, server: Server, login: Login) -> Response:
    """Check a key and set the cookie."""
    user_id = await run_in_threadpool(server.access.user_of_key, login.key)
    if user_id is None:
        raise HTTPException(401, "there is no such key")
    response = Response(status_code=204)
    response.set_cookie(
        COOKIE,
        login.key,
        max_age=_COOKIE_LIFETIME_S,
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )
    return response


@router.delete("", status_code=204)
def leave() -> Response:
    """Delete the cookie."""
    response = Response(status_code=204)
    response.delete_cookie(COOKIE)
    return response

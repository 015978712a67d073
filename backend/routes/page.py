"""The page, and what a browser may do on it."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from fastapi import APIRouter, HTTPException
from fastapi.responses import FileResponse, Response

from backend.page_constants import page_constants_module
from backend.services import Server, Services

FOLDER = Path(__file__).parent.parent / "page"

_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

router = APIRouter(include_in_schema=False)


@router.get("/")
def page(server: Server) -> FileResponse:
    """The page."""
    return _sent("index.html", server)


@router.get("/page/constants.js")
def constants(server: Server) -> Response:
    """The engine's constants, as a module of the page."""
    return Response(page_constants_module(), media_type=_KINDS[".js"], headers=_headers(server))


@router.get("/page/{name}")
def part(server: Server, name: str) -> FileResponse:
    """A file of the page."""
    return _sent(name, server)


def _sent(name: str, server: Services) -> FileResponse:
    path = FOLDER / name
    if path.parent != FOLDER or path.suffix not in _KINDS or not path.is_file():
        raise HTTPException(404, "the page has no such file")
    return FileResponse(path, media_type=_KINDS[path.suffix], headers=_headers(server))


def _headers(server: Services) -> dict[str, str]:
    return {"Content-Security-Policy": _policy(server), "Cache-Control": "no-cache"}


def _policy(server: Services) -> str:
    """Nothing but this server's own files; videos also from the bucket, if there is one."""
    media = " ".join(["'self'", *_bucket(server)])
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; "
        f"img-src 'self' blob:; media-src {media}; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _bucket(server: Services) -> list[str]:
    url = urlsplit(server.store.url("page", 60))
    return [f"{url.scheme}://{url.netloc}"] if url.netloc else []

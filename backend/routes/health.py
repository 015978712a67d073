"""Routes of health, readiness and metrics."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from backend.access import User
from backend.services import Server
from engine.version import VERSION

router = APIRouter(tags=["health"])


@router.get("/api/health")
def health() -> dict[str, str]:
    """The server is running."""
    return {"status": "healthy", "version": VERSION}


@router.get("/api/ready", responses={503: {"description": "One of them cannot."}})
async def ready(server: Server) -> JSONResponse:
    """Whether the server can take work: the database, the store, the disk. 503 if one cannot."""
    parts = await server.readiness.parts()
    fine = set(parts.values()) == {"ok"}
    return JSONResponse({"ready": fine, **parts}, 200 if fine else 503)


@router.get("/metrics", include_in_schema=False)
def metrics(_user: User, server: Server) -> Response:
    """The metrics, for Prometheus. They tell of all users' jobs, so they are for users only."""
    return Response(generate_latest(server.metrics.registry), media_type=CONTENT_TYPE_LATEST)

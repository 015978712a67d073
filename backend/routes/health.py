"""Routes of health, readiness and metrics."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from backend.services import Server
from engine.errors import StoreError
from engine.version import VERSION

router = APIRouter(tags=["health"])


@router.get("/api/health")
def health() -> dict[str, str]:
    """The server is running."""
    return {"status": "healthy", "version": VERSION}


@router.get("/api/ready")
def ready(server: Server) -> JSONResponse:
    """Whether database and store answer. 503 and the reason if one does not."""
    parts = {"database": "ok", "store": "ok"}
    try:
        with server.database.read() as session:
            session.execute(text("SELECT 1"))
    except SQLAlchemyError as error:
        parts["database"] = type(error).__name__
    try:
        server.store.stat("readiness")
    except StoreError as error:
        parts["store"] = error.reason
    fine = set(parts.values()) == {"ok"}
    return JSONResponse({"ready": fine, **parts}, 200 if fine else 503)


@router.get("/metrics", include_in_schema=False)
def metrics(server: Server) -> Response:
    """The metrics, for Prometheus."""
    return Response(generate_latest(server.metrics.registry), media_type=CONTENT_TYPE_LATEST)

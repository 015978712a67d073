"""The FastAPI app: its routes, middleware and error handlers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from sqlalchemy.exc import SQLAlchemyError

from backend.api_document import Api, errors
from backend.metrics import Metrics, MetricsMiddleware
from backend.outage import Outage
from backend.routes import (
    clips,
    documentation,
    exports,
    files,
    health,
    page,
    previews,
    progress,
    tus,
)
from backend.routes import session as sessions
from backend.services import running_services
from backend.settings import Settings
from engine.errors import StoreError
from engine.version import VERSION


def create_app(settings: Settings | None = None) -> FastAPI:
    """The app of one server. Its services start and end with it."""
    settings = settings or Settings()
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with running_services(settings, metrics) as services:
            app.state.services = services
            app.state.access = services.access
            yield

    app = Api(
        title="framestream", version=VERSION, lifespan=lifespan, docs_url=None, redoc_url=None
    )
    for module in (exports, clips, tus, previews, progress, sessions):
        app.include_router(module.router, responses=errors(400, 401, 403, 421, 503))
    for module in (files, health, page, documentation):
        app.include_router(module.router)
    app.include_router(tus.discovery)
    app.mount("/docs/files", documentation.swagger_ui)

    database_outage, store_outage = Outage("the database refuses"), Outage("the store refuses")

    @app.exception_handler(SQLAlchemyError)
    async def database_failed(_request: Request, error: SQLAlchemyError) -> JSONResponse:
        database_outage.met(error)
        return JSONResponse({"detail": "the database does not answer"}, 503)

    @app.exception_handler(StoreError)
    async def store_failed(_request: Request, error: StoreError) -> JSONResponse:
        store_outage.met(error)
        return JSONResponse({"detail": "the store does not answer"}, 503)

    app.add_middleware(MetricsMiddleware, metrics=metrics)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_credentials=True,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=tus.EXPOSED_HEADERS,
        )
    return app

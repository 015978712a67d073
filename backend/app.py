"""The FastAPI app: its routes, middleware and error handlers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from backend.api_document import Api, errors
from backend.body_limits import BodyLimits
from backend.error_handlers import add_error_handlers
from backend.metrics import Metrics, MetricsMiddleware
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
from backend.security_headers import SecurityHeaders
from backend.services import running_services
from backend.settings import Settings
from backend.shutdown import ShutdownResponses
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

    add_error_handlers(app)

    app.add_middleware(MetricsMiddleware, metrics=metrics)  # the last one added is the outermost
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_credentials=True,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=tus.EXPOSED_HEADERS,
        )
    app.add_middleware(BodyLimits, settings=settings)
    app.add_middleware(ShutdownResponses)
    # around everything, also around what answers 500
    app.middleware_stack = SecurityHeaders(
        app.build_middleware_stack(), embedded_elsewhere=bool(settings.cors_origins)
    )
    return app

"""The server's metrics for Prometheus. They hold no user ids and no file names."""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Metrics:
    """The metrics of one server, in its own registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.jobs = Counter(
            "framestream_jobs_ended", "Jobs that ended", ["type", "status"], registry=self.registry
        )
        self.queued = Gauge("framestream_jobs_queued", "Jobs that wait", registry=self.registry)
        self.running = Gauge("framestream_jobs_running", "Jobs at work", registry=self.registry)
        self.watchers = Gauge(
            "framestream_progress_watchers", "Clients that follow a job", registry=self.registry
        )
        self.uploaded = Counter(
            "framestream_uploaded_bytes", "Bytes of accepted uploads", registry=self.registry
        )
        self.frames = Counter(
            "framestream_frames_rendered", "Frames of finished jobs", registry=self.registry
        )
        self.requests = Histogram(
            "framestream_request_seconds",
            "Time to a response",
            ["method", "route", "status"],
            registry=self.registry,
        )


class MetricsMiddleware:
    """Middleware that times requests."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        started_s = time.perf_counter()

        async def send_message(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "none")
                labels = self._metrics.requests.labels(scope["method"], route, message["status"])
                labels.observe(time.perf_counter() - started_s)
            await send(message)

        return await self._app(scope, receive, send_message)

"""The parts of a running server, built once and given to the routes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends
from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection

from backend.access import Access
from backend.cleanup import Cleanup
from backend.database import Database
from backend.disk_space import DiskSpace
from backend.file_cache import FileCache
from backend.inspection import Inspector
from backend.installation import opened
from backend.job_runner import JobRunner
from backend.jobs import Jobs
from backend.metrics import Metrics
from backend.outside_tasks import OutsideTasks
from backend.previewer import Previewer
from backend.progress_hub import ProgressHub
from backend.readiness import Readiness
from backend.resumable_upload import put_back_whole_files
from backend.scheduler import Scheduler
from backend.server_lock import ServerLock
from backend.settings import Settings
from backend.signed_urls import UrlSigner
from backend.worker_pool import warm_up
from engine.storage import LocalStore, Store, open_store


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of one server."""

    settings: Settings
    database: Database
    access: Access
    store: Store
    url_signer: UrlSigner
    jobs: Jobs
    hub: ProgressHub
    inspector: Inspector
    previewer: Previewer
    cleanup: Cleanup
    scheduler: Scheduler
    readiness: Readiness
    metrics: Metrics


@asynccontextmanager
async def running_services(settings: Settings, metrics: Metrics) -> AsyncIterator[Services]:
    """Starts the parts of a server, and ends them on leaving. Raises what `opened` raises."""
    await run_in_threadpool(warm_up)
    with ExitStack() as stack:
        database, lock = await run_in_threadpool(stack.enter_context, opened(settings))
        for folder in (settings.work_dir, settings.upload_dir):
            folder.mkdir(exist_ok=True)
        await run_in_threadpool(put_back_whole_files, settings.upload_dir)
        services = _build(settings, metrics, database, lock)
        if isinstance(services.store, LocalStore):
            await run_in_threadpool(services.store.discard_unfinished)
        try:
            await services.scheduler.start()
            yield services
        finally:
            await services.scheduler.stop()


def _build(settings: Settings, metrics: Metrics, database: Database, lock: ServerLock) -> Services:
    url_signer = UrlSigner.load_or_create(settings.data_dir, settings.public_url)
    store = open_store(settings.data_dir / "store", sign=url_signer.sign)
    jobs = Jobs(database, limit=settings.queue_limit, limit_per_user=settings.queue_limit_per_user)
    hub = ProgressHub()
    source_cache = FileCache(settings.data_dir / "sources")
    preview_cache = FileCache(settings.data_dir / "glances")
    caches = (source_cache, preview_cache)
    cleanup = Cleanup(settings.work_dir, settings.upload_dir, jobs, store, caches)
    outside = OutsideTasks(database, store, cleanup, lock)
    runner = JobRunner(settings, jobs, hub, store, source_cache, metrics, outside)
    space = DiskSpace(settings.work_dir, settings.min_free_bytes)
    return Services(
        settings=settings,
        database=database,
        access=Access(settings, database),
        store=store,
        url_signer=url_signer,
        jobs=jobs,
        hub=hub,
        inspector=Inspector(settings, store, source_cache),
        previewer=Previewer(settings, store, source_cache, preview_cache),
        cleanup=cleanup,
        scheduler=Scheduler(settings, jobs, runner, cleanup, metrics, outside, lock, space),
        readiness=Readiness(database, lock, store, settings.data_dir, space),
        metrics=metrics,
    )


def _services(connection: HTTPConnection) -> Services:
    """FastAPI dependency: the services of the app."""
    services: Services = connection.app.state.services
    return services


Server = Annotated[Services, Depends(_services)]

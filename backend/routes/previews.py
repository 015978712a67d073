"""Routes of what the page shows before an export: clip previews, exact frames, estimates."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from enum import StrEnum
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, HTTPException, Path, Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from pydantic import AfterValidator, BaseModel, Field
from starlette.concurrency import run_in_threadpool

from backend.access import User, current_visitor
from backend.api_document import errors
from backend.body_limits import allow_body
from backend.export_form import checked_json, clip_key, stored_clips
from backend.models import JobStatus
from backend.routes.exports import ExportId, existing
from backend.services import Server, Services
from backend.worker_pool import WorkError
from engine.storage import ObjectInfo
from engine.upscale.models import GENERAL

Handler = Callable[[Request], Coroutine[Any, Any, Response]]
Key = Annotated[str, Path(min_length=1, max_length=200)]


class EditRoute(APIRoute):
    """A route that is sent an edit, which is as long as a text field of a form may be."""

    def get_route_handler(self) -> Handler:
        """The handler. It asks for a known user first: FastAPI itself would read the body first."""
        handle = super().get_route_handler()

        async def handle_edit(request: Request) -> Response:
            await current_visitor(request)
            allow_body(request, request.app.state.services.settings.max_field_bytes)
            return await handle(request)

        return handle_edit


router = APIRouter(prefix="/api", tags=["previews"])
edits = APIRouter(route_class=EditRoute)


_BY_A_WORKER = errors(404, 422, 500, 504, 507)


class PreviewUpscaler(StrEnum):
    """What enlarges the crop in a preview."""

    EXPORT = "export"
    """The same as in an export on this server."""
    NETWORK = "network"
    """A network, even if it is slow."""
    PLAIN = "plain"
    """Bicubic resampling."""


class EditRequest(BaseModel):
    """An edit whose clips are in the store: each has a `key`."""

    edit: Annotated[dict[str, Any], AfterValidator(checked_json)]


class FrameRequest(EditRequest):
    """An edit, and the number of one frame of its export."""

    frame: int = Field(0, ge=0, le=10**9)
    through: PreviewUpscaler = PreviewUpscaler.EXPORT


@router.get("/clips/{key}/glance", responses=_BY_A_WORKER)
async def glance(user: User, server: Server, key: Key) -> dict[str, Any]:
    """A clip's facts, the layout of its filmstrip and the peaks of its sound."""
    try:
        return await server.previewer.clip_preview(await _clip(server, user, key), user)
    except WorkError as error:
        raise HTTPException(error.status, error.detail) from error


@router.get(
    "/clips/{key}/filmstrip",
    response_class=Response,
    responses=_BY_A_WORKER | {200: {"content": {"image/jpeg": {}}}},
)
async def filmstrip(user: User, server: Server, key: Key) -> Response:
    """Pictures of a clip side by side, as a JPEG. `glance` says how many."""
    try:
        picture = await server.previewer.filmstrip(await _clip(server, user, key), user)
    except WorkError as error:
        raise HTTPException(error.status, error.detail) from error
    return Response(
        picture, media_type="image/jpeg", headers={"Cache-Control": "private, no-cache"}
    )


@edits.post(
    "/preview",
    response_class=Response,
    responses=_BY_A_WORKER | {200: {"content": {"image/png": {}}}},
)
async def preview(user: User, server: Server, wanted: FrameRequest) -> Response:
    """One exact frame of an export as a PNG: the picture that its encoder is given."""
    network = server.settings.upscaler
    names = {
        PreviewUpscaler.EXPORT: network,
        PreviewUpscaler.NETWORK: GENERAL.name if network in ("auto", "none") else network,
        PreviewUpscaler.PLAIN: "none",
    }
    task = stored_clips(wanted.edit, user, server.settings.max_clips)
    try:
        made, picture = await server.previewer.frame(
            task, user, wanted.frame, names[wanted.through]
        )
    except WorkError as error:
        raise HTTPException(error.status, error.detail) from error
    facts = {name: made[name] for name in ("frame", "frames", "upscaler", "why", "warnings")}
    headers = {"X-Preview": quote(json.dumps(facts)), "Cache-Control": "no-store"}
    return Response(picture, media_type="image/png", headers=headers)


@edits.post("/estimate", responses=_BY_A_WORKER)
async def estimate(user: User, server: Server, edited: EditRequest) -> dict[str, Any]:
    """The plan of an edit, and an estimate of its export. Renders nothing."""
    try:
        task = stored_clips(edited.edit, user, server.settings.max_clips)
        return await server.previewer.estimate(task, user)
    except WorkError as error:
        raise HTTPException(error.status, error.detail) from error


@router.get("/exports/{export_id}/proof", responses=_BY_A_WORKER | errors(409))
async def proof(user: User, server: Server, export_id: ExportId) -> dict[str, Any]:
    """What the finished film holds, read from its file: frames, samples, tags."""
    job = existing(await run_in_threadpool(server.jobs.find, user, export_id))
    if job.status != JobStatus.DONE:
        raise HTTPException(409, f"the export is {job.status}: there is no film yet")
    try:
        return await server.previewer.read_back(job.output_key, user)
    except WorkError as error:
        raise HTTPException(error.status, error.detail) from error


router.include_router(edits)


async def _clip(server: Services, user_id: str, key: str) -> ObjectInfo:
    info = await run_in_threadpool(server.store.stat, clip_key(user_id, key))
    if info is None:
        raise HTTPException(404, "there is no such clip")
    return info

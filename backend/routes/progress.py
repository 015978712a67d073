"""Routes of an export's progress: once, as server-sent events, or over a WebSocket."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request, WebSocket
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.status import WS_1008_POLICY_VIOLATION
from starlette.websockets import WebSocketDisconnect

from backend.access import User
from backend.api_document import errors
from backend.progress_hub import JobKey
from backend.routes.exports import ExportId, existing
from backend.services import Server, Services
from backend.submission import stored_state

KEEP_ALIVE_S = 15.0
"""After this much silence a comment is sent, so that proxies keep the connection open."""

RECHECK_S = 15.0
"""How often it is asked whether a client that follows an export is still allowed to."""

router = APIRouter(tags=["progress"])


@router.get(
    "/api/export/progress/{export_id}",
    responses={200: {"content": {"text/event-stream": {}}}, **errors(404)},
)
async def progress(request: Request, user: User, server: Server, export_id: ExportId) -> Response:
    """The current state. With `Accept: text/event-stream`, each state until the final one."""
    key = user, export_id
    if server.hub.state(key) is None:
        existing(await run_in_threadpool(server.jobs.find, *key))
    if "text/event-stream" in request.headers.get("accept", ""):
        return StreamingResponse(_events(request, server, key), media_type="text/event-stream")
    state = server.hub.state(key) or await stored_state(server, key)
    assert state is not None
    return JSONResponse(state.document())


@router.websocket("/ws/export/{export_id}")
async def follow(socket: WebSocket, user: User, server: Server, export_id: str) -> None:
    """Each state until the final one. It may be opened before the export starts."""
    await socket.accept()
    key = user, export_id
    sending = asyncio.create_task(_send_states(socket, server, key))
    listening = asyncio.create_task(_until_disconnect(socket))
    checking = asyncio.create_task(_until_refused(socket, user, server))
    tasks = {sending, listening, checking}
    server.metrics.watchers.inc()
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        server.metrics.watchers.dec()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _send_states(socket: WebSocket, server: Services, key: JobKey) -> None:
    async for state in server.hub.watch(key, lambda: stored_state(server, key)):
        await socket.send_json(state.document())
    await socket.close()


async def _until_disconnect(socket: WebSocket) -> None:
    """Returns when the client disconnects. What it sends is ignored."""
    try:
        while True:
            await socket.receive_text()
    except (WebSocketDisconnect, KeyError):
        return


async def _until_refused(socket: WebSocket, user: str, server: Services) -> None:
    """Closes the socket when its key was revoked, or its login has ended."""
    while await run_in_threadpool(server.access.still_allows, socket, user):
        await asyncio.sleep(RECHECK_S)
    await socket.close(WS_1008_POLICY_VIOLATION, "the key or the login is no longer valid")


async def _events(request: Request, server: Services, key: JobKey) -> AsyncIterator[str]:
    states = server.hub.watch(key, lambda: stored_state(server, key))
    following: asyncio.Task[Any] | None = None
    checked_s = time.monotonic()
    try:
        while True:
            if time.monotonic() - checked_s >= RECHECK_S:
                if not await run_in_threadpool(server.access.still_allows, request, key[0]):
                    return
                checked_s = time.monotonic()
            following = following or asyncio.ensure_future(anext(states, None))
            done, _ = await asyncio.wait({following}, timeout=min(KEEP_ALIVE_S, RECHECK_S))
            if not done:
                yield ": still there\n\n"
                continue
            state, following = following.result(), None
            if state is None:
                return
            yield f"data: {json.dumps(state.document())}\n\n"
    finally:
        if following is not None:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
        await states.aclose()

"""A real server on a free port of loopback, and clips to send it."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from sqlalchemy import create_engine, text
from starlette.requests import Request

from backend.database import Database
from backend.server import create_server
from backend.settings import Settings
from tests.backend.documented import check_answer
from tests.clips import numbered_clip
from tests.waiting import join

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

POSTGRESQL = os.environ.get("TEST_DATABASE_URL")
SIZE = {"targetWidth": 64, "targetHeight": 64}

Serve = Callable[..., httpx.Client]


@contextmanager
def serving(settings: Settings) -> Iterator[httpx.Client]:
    """A client of a server that runs in a thread."""
    server = create_server(settings)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive(), "the server did not start"
                time.sleep(0.02)
            where = {"X-Data-Dir": str(settings.data_dir)}  # for tests that read the server's files
            with httpx.Client(
                base_url=f"http://127.0.0.1:{port}",
                headers=where,
                timeout=120,
                verify=False,  # no TLS on loopback; to load certificates takes 50 ms
                event_hooks={"response": [check_answer]},
            ) as client:
                yield client
        finally:
            server.should_exit = True
            join(thread)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts servers with the given settings. They end with the test."""
    with ExitStack() as stack:

        def start(**settings: Any) -> httpx.Client:
            settings = {"data_dir": tmp_path / "data", **settings}
            context: AbstractContextManager[httpx.Client] = serving(Settings(**settings))
            return stack.enter_context(context)

        yield start


@pytest.fixture
def arrived(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many bytes of bodies the routes of servers in this process have read in this test."""
    bytes_read = 0
    stream = Request.stream

    async def counted(request: Request) -> AsyncGenerator[bytes, None]:
        nonlocal bytes_read
        async for piece in stream(request):
            bytes_read += len(piece)
            yield piece

    monkeypatch.setattr(Request, "stream", counted)
    return lambda: bytes_read


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A server for a whole module of tests, with default settings."""
    folder = tmp_path_factory.mktemp("server")
    with serving(Settings(data_dir=folder)) as client:
        yield client


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param(
            "postgresql",
            marks=pytest.mark.skipif(not POSTGRESQL, reason="TEST_DATABASE_URL is not set"),
        ),
    ]
)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database; on PostgreSQL it has its own schema."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'test.db'}"
        return
    assert POSTGRESQL
    schema = f"test_{uuid.uuid4().hex}"
    admin = create_engine(POSTGRESQL)
    with admin.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {schema}"))
    separator = "&" if "?" in POSTGRESQL else "?"
    yield f"{POSTGRESQL}{separator}options=-csearch_path%3D{schema}"
    with admin.begin() as connection:
        connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))
    admin.dispose()


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """An empty migrated database."""
    database = Database(database_url)
    database.migrate()
    yield database
    database.close()


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two short clips of numbered frames, one with sound."""
    folder = tmp_path_factory.mktemp("clips")
    return [
        numbered_clip(folder / "goal.mp4", 24, size=(96, 96), sound="bursts"),
        numbered_clip(folder / "save.mp4", 18, size=(96, 96)),
    ]


def edit_of(count: int, **more: Any) -> str:
    """An edit document of `count` clips as the app's frontend sends it."""
    clips = [
        {"clipIndex": n, "fileName": f"clip {n}.mp4", "cropKeyframes": []} for n in range(count)
    ]
    return json.dumps({"clips": clips, **SIZE, **more})


def files_of(paths: list[Path]) -> dict[str, tuple[str, bytes, str]]:
    return {
        f"video_{number}": (path.name, path.read_bytes(), "video/mp4")
        for number, path in enumerate(paths)
    }


def post(
    client: httpx.Client, paths: list[Path], *, headers: dict[str, str] | None = None, **fields: str
) -> httpx.Response:
    """`POST /api/export/multi-clip` of these files."""
    data = {"multi_clip_data_json": edit_of(len(paths)), **fields}
    return client.post(
        "/api/export/multi-clip", data=data, files=files_of(paths), headers=headers or {}
    )


def wait_for(client: httpx.Client, export_id: str, *statuses: str, **kwargs: Any) -> dict[str, Any]:
    """Waits until the export has one of these statuses, and returns it."""
    for _ in range(1200):
        document: dict[str, Any] = client.get(f"/api/exports/{export_id}", **kwargs).json()
        if document["status"] in statuses:
            return document
        time.sleep(0.05)
    raise AssertionError(f"{export_id} is still {document}")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's chromium."""
    from playwright.sync_api import sync_playwright

    from tests.backend.page_in_chromium import CHROMIUM

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that must not raise, nor be kept from anything by its own policy."""
    from tests.backend.page_in_chromium import PATIENCE_MS

    context = browser.new_context(viewport={"width": 1360, "height": 1000}, reduced_motion="reduce")
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    errors: list[str] = []
    lines: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda line: lines.append(line.text))
    yield page
    context.close()
    assert not errors and not [each for each in lines if "Content Security Policy" in each]

"""Finding and fetching weights, against a small web server on this machine that misbehaves."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import pooch
import pytest

from engine.errors import UpscalerError
from engine.upscale.models import Model
from engine.upscale.weights import ATTEMPTS, FOLDER_VARIABLE, weights_path
from tests.waiting import join

BODY = b"".join(number.to_bytes(4, "big") for number in range(200_000))
MODEL = Model(
    name="tiny",
    release="v1",
    file_name="tiny.pth",
    size_bytes=len(BODY),
    sha256=hashlib.sha256(BODY).hexdigest(),
    scale=4,
    flops_per_pixel=1,
    moved_bytes_per_pixel=1,
)


@dataclass
class Server:
    """Serves one body, and remembers what it was asked for."""

    body: bytes = BODY
    status: int = 200
    cuts: list[int] = field(default_factory=list)
    """After how many bytes the next answers break off."""
    says_length: bool = True
    endless: bool = False
    """Whether the body never ends."""
    paths: list[str] = field(default_factory=list)
    """What was asked for, one path for each request."""
    sent_bytes: int = 0
    moved_from: str = ""
    """A path that answers with a redirect to the same path without it."""
    url: str = ""

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.paths.append(handler.path)
        if self.moved_from and handler.path.startswith(self.moved_from):
            handler.send_response(302)
            handler.send_header("Location", handler.path.removeprefix(self.moved_from))
            handler.end_headers()
            return
        if self.status != 200:
            handler.send_error(self.status)
            return
        handler.send_response(200)
        if self.says_length:
            handler.send_header("Content-Length", str(len(self.body)))
        handler.end_headers()
        if self.endless:
            self.send_without_end(handler)
        else:
            handler.wfile.write(self.body[: self.cuts.pop(0)] if self.cuts else self.body)

    def send_without_end(self, handler: BaseHTTPRequestHandler) -> None:
        with suppress(ConnectionError):
            while self.sent_bytes < 100 * len(self.body):
                handler.wfile.write(self.body)
                self.sent_bytes += len(self.body)


@pytest.fixture
def server() -> Iterator[Server]:
    served = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.answer(self)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Says nothing."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.url = f"http://127.0.0.1:{http.server_port}"
    thread = Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield served
    http.shutdown()
    join(thread)
    http.server_close()


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(pooch.core, "time", SimpleNamespace(sleep=lambda _s: None))


def fetch(server: Server, folder: Path) -> Path:
    return weights_path(MODEL, folder=folder, base_url=server.url)


def files_of(folder: Path) -> list[str]:
    """What lies there, but for the lock."""
    return sorted(path.name for path in folder.iterdir() if path.name != ".tiny.pth.lock")


def test_a_download_is_whole_and_told(server: Server, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    path = weights_path(
        MODEL,
        folder=tmp_path / "new",
        base_url=server.url,
        on_progress=lambda done, total: told.append((done, total)),
    )
    assert path == tmp_path / "new" / "tiny.pth"
    assert path.read_bytes() == BODY
    assert server.paths == ["/v1/tiny.pth"]
    assert told == sorted(told) and told[-1] == (len(BODY), len(BODY)) and len(told) > 1
    assert files_of(path.parent) == ["tiny.pth"]


def test_a_file_that_is_there_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    assert fetch(server, tmp_path) == fetch(server, tmp_path)
    assert len(server.paths) == 1


def test_the_user_s_cache_is_where_files_go(server: Server, tmp_path: Path) -> None:
    path = weights_path(MODEL, base_url=server.url)
    assert path == tmp_path / "cache" / "framestream" / "weights" / "tiny.pth"


def test_a_download_that_breaks_off_is_begun_again(server: Server, tmp_path: Path) -> None:
    server.cuts = [300_000, 200_000]
    assert fetch(server, tmp_path).read_bytes() == BODY
    assert len(server.paths) == 3 == ATTEMPTS
    assert files_of(tmp_path) == ["tiny.pth"]


def test_a_connection_that_keeps_breaking_is_an_error_until_it_does_not(
    server: Server, tmp_path: Path
) -> None:
    server.cuts = [100_000] * ATTEMPTS
    with pytest.raises(UpscalerError, match=r"100000 bytes read, 700000 more expected.*put it in"):
        fetch(server, tmp_path)
    assert files_of(tmp_path) == []
    assert fetch(server, tmp_path).read_bytes() == BODY
    assert len(server.paths) == ATTEMPTS + 1


def test_a_caller_that_stops_can_begin_again(server: Server, tmp_path: Path) -> None:
    class StopError(Exception):
        """Raised by the caller."""

    def stop(*_: int) -> None:
        raise StopError

    with pytest.raises(StopError):
        weights_path(MODEL, folder=tmp_path, base_url=server.url, on_progress=stop)
    assert files_of(tmp_path) == [] and len(server.paths) == 1
    assert fetch(server, tmp_path).read_bytes() == BODY
    assert len(server.paths) == 2


def test_a_server_that_tells_no_length(server: Server, tmp_path: Path) -> None:
    server.says_length = False
    server.cuts = [300_000]
    assert fetch(server, tmp_path).read_bytes() == BODY


def test_a_redirect_is_followed(server: Server, tmp_path: Path) -> None:
    """As GitHub answers for the files of a release."""
    server.moved_from = "/old"
    path = weights_path(MODEL, folder=tmp_path, base_url=f"{server.url}/old")
    assert path.read_bytes() == BODY
    assert server.paths == ["/old/v1/tiny.pth", "/v1/tiny.pth"]


def test_nothing_is_printed(
    server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    server.cuts = [300_000]
    fetch(server, tmp_path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("says_length", [True, False])
@pytest.mark.parametrize("body", [BODY[:-1], BODY + b"!", BODY[:-1] + b"!"])
def test_another_file_is_refused(
    server: Server, tmp_path: Path, body: bytes, says_length: bool
) -> None:
    server.body, server.says_length = body, says_length
    with pytest.raises(UpscalerError, match=r"not the official file"):
        fetch(server, tmp_path)
    assert files_of(tmp_path) == []


def test_a_file_without_end_is_refused_when_it_is_too_large(server: Server, tmp_path: Path) -> None:
    server.endless, server.says_length = True, False
    told: list[int] = []
    with pytest.raises(UpscalerError, match="not the official file"):
        weights_path(
            MODEL,
            folder=tmp_path,
            base_url=server.url,
            on_progress=lambda done, _total: told.append(done),
        )
    assert max(told) <= len(BODY) and server.sent_bytes < 50 * len(BODY)
    assert files_of(tmp_path) == []


@pytest.mark.parametrize("status", [404, 500])
def test_an_answer_that_is_none_says_what_to_do(
    server: Server, tmp_path: Path, status: int
) -> None:
    server.status = status
    with pytest.raises(UpscalerError) as caught:
        fetch(server, tmp_path)
    text = str(caught.value)
    assert f"{server.url}/v1/tiny.pth answers {status}" in text
    assert "github.com/xinntao/Real-ESRGAN/releases/download/v1/tiny.pth" in text
    for hint in (str(tmp_path), FOLDER_VARIABLE, "--model-path", MODEL.sha256, "800000 bytes"):
        assert hint in text
    assert "\n" not in text
    assert len(server.paths) == 1


def test_no_server_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(
        UpscalerError, match=r"cannot be fetched .*Connection refused.*put it in .*--model-path"
    ):
        weights_path(MODEL, folder=tmp_path, base_url="http://127.0.0.1:9")


def test_without_pooch_it_says_what_to_install(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(UpscalerError, match=r"pip install 'framestream\[upscale\]'.*put it in"):
        fetch(server, tmp_path)


def test_a_folder_that_cannot_be_written_says_so(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UpscalerError, match=r"file/weights: Not a directory"):
        fetch(server, tmp_path / "file" / "weights")


PROCESS = """
import sys
from pathlib import Path
from engine.upscale.weights import weights_path
from tests.engine.upscale.test_weights import MODEL
print(weights_path(MODEL, folder=Path(sys.argv[1]), base_url=sys.argv[2]))
"""


def test_processes_at_once_fetch_once(server: Server, tmp_path: Path) -> None:
    server.cuts = [100_000]
    command = [sys.executable, "-c", PROCESS, str(tmp_path), server.url]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    printed = {process.communicate(timeout=120)[0].strip() for process in running}
    assert [process.returncode for process in running] == [0, 0, 0]
    assert printed == {str(tmp_path / "tiny.pth")}
    assert (tmp_path / "tiny.pth").read_bytes() == BODY
    assert len(server.paths) == 2


KILLED = """
import os, signal, sys
from pathlib import Path
from engine.upscale.weights import weights_path
from tests.engine.upscale.test_weights import MODEL
def die(done, total):
    os.kill(os.getpid(), signal.SIGKILL)
weights_path(MODEL, folder=Path(sys.argv[1]), base_url=sys.argv[2], on_progress=die)
"""


def test_a_killed_download_leaves_nothing_behind_the_next(server: Server, tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path), server.url]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert files_of(tmp_path) == [".tiny.pth.download"]
    assert fetch(server, tmp_path).read_bytes() == BODY
    assert files_of(tmp_path) == ["tiny.pth"]


def test_a_named_file_is_taken_as_it_is(tmp_path: Path) -> None:
    mine = tmp_path / "mine.pth"
    mine.write_bytes(b"anything")
    assert weights_path(MODEL, model_path=mine) == mine
    with pytest.raises(UpscalerError, match=r"nothing\.pth: there is no such file of weights"):
        weights_path(MODEL, model_path=tmp_path / "nothing.pth")


def test_the_folder_of_the_environment_comes_before_the_cache(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = fetch(server, tmp_path / "cached")
    named = tmp_path / "named"
    named.mkdir()
    monkeypatch.setenv(FOLDER_VARIABLE, str(named))
    assert fetch(server, cached.parent) == cached
    (named / "tiny.pth").write_bytes(BODY)
    assert fetch(server, cached.parent) == named / "tiny.pth"
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "gone"))
    with pytest.raises(UpscalerError, match=f"{FOLDER_VARIABLE} is .*gone, which is no folder"):
        fetch(server, cached.parent)


@pytest.mark.parametrize("content", [b"short", BODY[:-1] + b"!"])
def test_another_file_under_the_official_name_is_refused(
    server: Server, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "tiny.pth"
    path.write_bytes(content)
    with pytest.raises(UpscalerError, match=r"tiny\.pth: not the official file: .*--model-path"):
        fetch(server, tmp_path)
    assert path.read_bytes() == content and server.paths == []


def test_other_names_are_not_taken_for_official(server: Server, tmp_path: Path) -> None:
    (tmp_path / "tiny.approx.pth").write_bytes(BODY)
    fetch(server, tmp_path)
    assert len(server.paths) == 1

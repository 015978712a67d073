"""Finding and fetching weights, against a small web server on this machine that misbehaves."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from engine.errors import UpscalerError
from engine.upscale.models import Model
from engine.upscale.weights import ATTEMPTS, FOLDER_VARIABLE, weights_path

BODY = b"".join(number.to_bytes(4, "big") for number in range(200_000))
MODEL = Model(
    name="tiny",
    release="v1",
    file_name="tiny.pth",
    size_bytes=len(BODY),
    sha256=hashlib.sha256(BODY).hexdigest(),
    scale=4,
    flops_per_pixel=1,
)


@dataclass
class Server:
    """Serves one body, and remembers from where it was asked for it."""

    body: bytes = BODY
    status: int = 200
    cuts: list[int] = field(default_factory=list)
    """After how many bytes the next answers break off."""
    knows_ranges: bool = True
    says_length: bool = True
    starts: list[int] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    url: str = ""

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        start = int(handler.headers.get("Range", "bytes=0-")[6:-1])
        self.starts.append(start)
        self.paths.append(handler.path)
        if self.status != 200:
            handler.send_error(self.status)
            return
        partial = self.knows_ranges and start > 0
        rest = self.body[start:] if partial else self.body
        handler.send_response(206 if partial else 200)
        if partial:
            end = len(self.body)
            handler.send_header("Content-Range", f"bytes {start}-{end - 1}/{end}")
        if self.says_length:
            handler.send_header("Content-Length", str(len(rest)))
        handler.end_headers()
        handler.wfile.write(rest[: self.cuts.pop(0)] if self.cuts else rest)


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
    thread.join()
    http.server_close()


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def fetch(server: Server, folder: Path) -> Path:
    return weights_path(MODEL, folder=folder, base_url=server.url)


def partial_of(folder: Path) -> Path:
    return folder / ".tiny.pth.partial"


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
    assert not partial_of(path.parent).exists()


def test_a_file_that_is_there_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    assert fetch(server, tmp_path) == fetch(server, tmp_path)
    assert len(server.starts) == 1


def test_the_user_s_cache_is_where_files_go(server: Server, tmp_path: Path) -> None:
    path = weights_path(MODEL, base_url=server.url)
    assert path == tmp_path / "cache" / "framestream" / "weights" / "tiny.pth"


def test_a_broken_download_goes_on_where_it_broke(server: Server, tmp_path: Path) -> None:
    server.cuts = [300_000, 200_000]
    assert fetch(server, tmp_path).read_bytes() == BODY
    assert server.starts == [0, 300_000, 500_000]


def test_the_next_call_goes_on_too(server: Server, tmp_path: Path) -> None:
    server.cuts = [100_000] + [0] * (ATTEMPTS - 1)
    with pytest.raises(UpscalerError, match=r"the connection ends at 100000 of 800000 bytes"):
        fetch(server, tmp_path)
    assert not (tmp_path / "tiny.pth").exists()
    assert fetch(server, tmp_path).read_bytes() == BODY
    assert server.starts[-1] == 100_000


def test_a_caller_that_stops_can_go_on(server: Server, tmp_path: Path) -> None:
    class StopError(Exception):
        """Raised by the caller."""

    def stop(*_: int) -> None:
        raise StopError

    with pytest.raises(StopError):
        weights_path(MODEL, folder=tmp_path, base_url=server.url, on_progress=stop)
    kept = partial_of(tmp_path).stat().st_size
    assert fetch(server, tmp_path).read_bytes() == BODY
    assert 0 < kept < len(BODY) and server.starts == [0, kept]


def test_a_server_without_ranges_starts_over(server: Server, tmp_path: Path) -> None:
    server.knows_ranges = False
    server.cuts = [300_000]
    assert fetch(server, tmp_path).read_bytes() == BODY
    assert server.starts == [0, 300_000]


def test_a_server_that_tells_no_length(server: Server, tmp_path: Path) -> None:
    server.says_length = False
    server.cuts = [300_000]
    assert fetch(server, tmp_path).read_bytes() == BODY


@pytest.mark.parametrize("left", [BODY[:-1] + b"!", b"!" * 1000, BODY + b"more"])
def test_a_damaged_beginning_is_fetched_again(server: Server, tmp_path: Path, left: bytes) -> None:
    partial_of(tmp_path).write_bytes(left)
    assert fetch(server, tmp_path).read_bytes() == BODY
    assert server.starts[-1] == 0


@pytest.mark.parametrize("says_length", [True, False])
@pytest.mark.parametrize("body", [BODY[:-1], BODY + b"!", BODY[:-1] + b"!"])
def test_another_file_is_refused(
    server: Server, tmp_path: Path, body: bytes, says_length: bool
) -> None:
    server.body, server.says_length = body, says_length
    with pytest.raises(UpscalerError, match=r"not the official file|the connection ends"):
        fetch(server, tmp_path)
    assert not (tmp_path / "tiny.pth").exists()


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
    assert len(server.starts) == 1


def test_no_server_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UpscalerError, match=r"cannot be reached.*put it in .*--model-path"):
        weights_path(MODEL, folder=tmp_path, base_url="http://127.0.0.1:9")


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
    printed = {process.communicate()[0].strip() for process in running}
    assert [process.returncode for process in running] == [0, 0, 0]
    assert printed == {str(tmp_path / "tiny.pth")}
    assert (tmp_path / "tiny.pth").read_bytes() == BODY
    assert server.starts == [0, 100_000]


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
    assert path.read_bytes() == content and server.starts == []


def test_other_names_are_not_taken_for_official(server: Server, tmp_path: Path) -> None:
    (tmp_path / "tiny.approx.pth").write_bytes(BODY)
    fetch(server, tmp_path)
    assert len(server.starts) == 1

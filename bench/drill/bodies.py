"""Bodies of 300 MB to every route, and bodies that fall silent: the server's memory stays flat."""

from __future__ import annotations

import base64
import select
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.drill.exports import Exports
from bench.drill.round import Round
from bench.drill.server import Server
from bench.drill.tally import Finding
from bench.drill.witness import check, local_witness

MIB = 1 << 20
BODY_BYTES = 300 * MIB
GROWTH_LIMIT_MIB = 64
IDLE_S = 2
"""`UPLOAD_IDLE_S` of the server."""
CLOSED_WITHIN_S = 30
"""When all connections whose bodies fell silent must be closed."""
STUCK_S = 60
"""The longest that the server may stop to read without closing the connection."""

BLOCK = b"%x\r\n%b\r\n" % (MIB, b"a" * MIB)
VALUES = {"key": "drill.mp4", "export_id": "drill"}
UNKNOWN = (("POST", "/api/nothing"), ("PUT", "/"))

_FORM = "multipart/form-data; boundary=B"
_PART = b'--B\r\nContent-Disposition: form-data; name="%b"\r\n\r\n'
BEGINNINGS: dict[str, Sequence[tuple[str, bytes]]] = {
    "application/json": [("application/json", b'{"key": "')],
    "multipart/form-data": [
        (_FORM, _PART % b"multi_clip_data_json"),
        (_FORM, _PART % b'video_0"; filename="a.mp4'),
    ],
}
"""By the type that a route takes: content types, and how their bodies begin."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request whose body never ends by itself."""

    method: str
    path: str
    content_type: str
    beginning: bytes
    authorization: str

    @property
    def name(self) -> str:
        """For people."""
        key = "with" if self.authorization else "without"
        return f"{self.method} {self.path} ({self.content_type}), {key} a key"

    def head(self) -> bytes:
        """Everything up to the body, and the body's beginning."""
        headers = {
            "Host": "127.0.0.1",
            "Content-Type": self.content_type,
            "Transfer-Encoding": "chunked",
            "Tus-Resumable": "1.0.0",
            "Upload-Offset": "0",
            **({"Authorization": self.authorization} if self.authorization else {}),
        }
        lines = [f"{self.method} {self.path} HTTP/1.1", *(f"{n}: {v}" for n, v in headers.items())]
        begun = b"%x\r\n%b\r\n" % (len(self.beginning), self.beginning)
        return "\r\n".join([*lines, "", ""]).encode() + begun


def play(drill: Round) -> None:
    """See the module."""
    data = drill.folder / "data"
    server = Server(drill, data, MIN_FREE_BYTES="0", UPLOAD_IDLE_S=str(IDLE_S))
    exports = Exports(drill, server)
    server.start()
    assert server.process is not None
    exports.send(exports.new())
    exports.wait_for_end()
    before_mib = _peak_mib(server.process.pid)
    requests = list(_requests(server))
    _begin_upload(server)
    for asked in requests:
        drill.tally.injected("body of 300 MB")
        if not _sent_whole_or_closed(server, asked):
            drill.tally.find(Finding.BROKEN, f"{asked.name}: the connection stands still")
        growth_mib = _peak_mib(server.process.pid) - before_mib
        if growth_mib > max(GROWTH_LIMIT_MIB, drill.tally.growth_mib or 0):
            drill.tally.find(Finding.BROKEN, f"{asked.name}: {growth_mib:.0f} MiB more memory")
        drill.tally.growth_mib = round(growth_mib, 1)
    _fall_silent(drill, server, requests)
    server.client.delete(f"/api/uploads/{VALUES['key']}", headers={"Tus-Resumable": "1.0.0"})
    exports.send(exports.new())
    check(drill, server, exports, local_witness(data))


def _requests(server: Server) -> Iterator[Asked]:
    """One or two for every operation of the OpenAPI document, and for paths that do not exist."""
    document: dict[str, Any] = server.client.get("/openapi.json").json()
    operations = [
        (
            method.upper(),
            path.format(**VALUES),
            facts.get("requestBody", {}).get("content", {}),
        )
        for path, operations in document["paths"].items()
        for method, facts in operations.items()
    ]
    for method, path, types in [*operations, *((*each, {}) for each in UNKNOWN)]:
        for kind in types or ["application/octet-stream"]:
            for content_type, beginning in BEGINNINGS.get(kind, [(kind, b"a")]):
                for authorization in ("", server.client.headers["Authorization"]):
                    yield Asked(method, path, content_type, beginning, authorization)


def _begin_upload(server: Server) -> None:
    """So that there is something for PATCH to go on with."""
    key = base64.b64encode(VALUES["key"].encode()).decode()
    headers = {"Tus-Resumable": "1.0.0", "Upload-Length": str(2 * BODY_BYTES)}
    server.client.post("/api/uploads", headers={**headers, "Upload-Metadata": f"key {key}"})


def _connected(server: Server) -> socket.socket:
    url = urlsplit(str(server.client.base_url))
    return socket.create_connection((url.hostname or "", url.port or 0), timeout=STUCK_S)


def _sent_whole_or_closed(server: Server, asked: Asked) -> bool:
    """Sends the whole body, whatever the server answers. False if it neither reads nor closes."""
    with _connected(server) as connection:
        try:
            connection.sendall(asked.head())
            for _ in range(BODY_BYTES // MIB):
                connection.sendall(BLOCK)
            connection.sendall(b"0\r\n\r\n")
            connection.recv(1)
        except TimeoutError:
            return False
        except OSError:
            return True
    return True


def _fall_silent(drill: Round, server: Server, requests: Sequence[Asked]) -> None:
    """Begins a body of every request at once, and waits for the server to close them all."""
    with ExitStack() as stack:
        waiting = {}
        for asked in requests:
            drill.tally.injected("silent body")
            connection = stack.enter_context(_connected(server))
            connection.sendall(asked.head())
            waiting[connection] = asked
        until_s = time.monotonic() + CLOSED_WITHIN_S
        while waiting and (left_s := until_s - time.monotonic()) > 0:
            for connection in select.select(list(waiting), [], [], left_s)[0]:
                if _has_ended(connection):
                    del waiting[connection]
        drill.tally.find_all(
            Finding.BROKEN,
            (f"{asked.name}: a silent body keeps it open" for asked in waiting.values()),
        )


def _has_ended(connection: socket.socket) -> bool:
    try:
        return connection.recv(1 << 16) == b""
    except OSError:
        return True


def _peak_mib(process: int) -> float:
    """The highest resident memory that the process ever had."""
    status = Path(f"/proc/{process}/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(peak.split()[1]) / 1024

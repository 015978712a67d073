"""Uploads of clips by tus, cut off by kills and broken connections, and gone on with."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from bench.drill.exports import Exports
from bench.drill.round import Round
from bench.drill.server import USER, Server
from bench.drill.tally import Finding
from bench.drill.witness import Witness, check, local_witness, stored_in

CLIP_BYTES = 3 << 20
"""About as large is a clip; most of it is an MP4 `free` box."""
MOST_PIECE_BYTES = 1 << 20
BLOCK_BYTES, BLOCK_PAUSE_S = 1 << 16, 0.01
AT_THE_END = 0.5
"""How many of the faults come while the whole clip is inspected."""
FINISHED_WITHIN_S = 120
CLIPS = f"{USER}/clips/"
"""The prefix of the user's clips in the store."""
TUS = {"Tus-Resumable": "1.0.0"}


@dataclass(slots=True)
class Upload:
    """A clip on its way to the server, in pieces of these sizes, over and over."""

    server: Server
    key: str
    content: bytes
    pieces: list[int]
    acknowledged: int = -1
    """How many bytes the server said to have; -1 before it has said that it accepts the upload."""
    lost: str = ""
    """What the server had and has no more."""
    stopped: threading.Event = field(default_factory=threading.Event)
    """Set to break the connection off."""

    @property
    def is_complete(self) -> bool:
        """Whether the server said that it has everything."""
        return self.acknowledged == len(self.content)

    def go_on(self) -> None:
        """Sends what the server lacks, until it has everything or the connection breaks."""
        self.stopped.clear()
        with suppress(httpx.TransportError):
            if self.acknowledged < 0 and not self._create():
                return
            offset = self._offset()
            for number in range(len(self.content)):
                if offset is None or offset == len(self.content):
                    break
                offset = self._send(offset, self.pieces[number % len(self.pieces)])

    def _create(self) -> bool:
        name = base64.b64encode(self.key.encode()).decode()
        length = str(len(self.content))
        headers = {**TUS, "Upload-Length": length, "Upload-Metadata": f"key {name}"}
        if self.server.client.post("/api/uploads", headers=headers).status_code == 201:
            self.acknowledged = 0
        return self.acknowledged == 0

    def _offset(self) -> int | None:
        """How much the server has. None where it does not say."""
        answer = self.server.client.head(f"/api/uploads/{self.key}", headers=TUS)
        if answer.status_code == 404 and self.acknowledged >= 0:
            self.lost = "the upload is not known any more"
        if not answer.is_success:
            return None
        offset = int(answer.headers["Upload-Offset"])
        if offset < self.acknowledged:
            self.lost = f"{self.acknowledged - offset} bytes are gone"
        self.acknowledged = offset
        return offset

    def _send(self, offset: int, length: int) -> int | None:
        """Sends one piece. Returns the new offset, None where the piece was refused."""
        piece = self.content[offset : offset + length]
        headers = {
            **TUS,
            "Upload-Offset": str(offset),
            "Content-Type": "application/offset+octet-stream",
            "Content-Length": str(len(piece)),
        }
        answer = self.server.client.patch(
            f"/api/uploads/{self.key}", headers=headers, content=self._blocks(piece)
        )
        if not answer.is_success:
            return None
        self.acknowledged = int(answer.headers["Upload-Offset"])
        return self.acknowledged

    def _blocks(self, piece: bytes) -> Iterator[bytes]:
        for start in range(0, len(piece), BLOCK_BYTES):
            if self.stopped.wait(BLOCK_PAUSE_S):
                raise httpx.WriteError("broken off")
            yield piece[start : start + BLOCK_BYTES]


def play(drill: Round) -> None:
    """See the module."""
    data = drill.folder / "data"
    server = Server(drill, data, MIN_FREE_BYTES="0")
    exports = Exports(drill, server)
    server.start()
    uploads: list[Upload] = []
    for _ in range(drill.times):
        upload = _new_upload(drill, server, len(uploads))
        uploads.append(upload)
        sending = threading.Thread(target=upload.go_on)
        sending.start()
        if drill.chance.random() < AT_THE_END:
            _wait_for_last_byte(data, sending)
            time.sleep(drill.chance.uniform(0, 0.3))
        else:
            time.sleep(drill.chance.uniform(0, 1))
        drill.one_of(
            {
                "server killed": server.kill,
                "server told to end": server.stop,
                "connection broken off": upload.stopped.set,
            }
        )
        sending.join()
        assert server.process is not None
        if server.process.poll() is not None:
            server.start()
    for upload in uploads:
        _finish(drill, upload)
    exports.begin()
    local = local_witness(data)
    check(drill, server, exports, Witness(data, local.query, lambda: _without_clips(data)))
    _check_clips(drill, data, uploads)


def _wait_for_last_byte(data: Path, sending: threading.Thread) -> None:
    """Returns once a clip has come whole, or is not sent any more."""
    while sending.is_alive() and not any((data / "uploads").glob("*/*")):
        time.sleep(0.001)


def _new_upload(drill: Round, server: Server, number: int) -> Upload:
    clip = drill.chance.choice(drill.clips).read_bytes()
    padding = drill.chance.randrange(CLIP_BYTES)
    box = (8 + padding).to_bytes(4, "big") + b"free" + bytes(padding)
    pieces = [drill.chance.randint(1000, MOST_PIECE_BYTES) for _ in range(5)]
    return Upload(server, f"clip-{number}.mp4", clip + box, pieces)


def _finish(drill: Round, upload: Upload) -> None:
    """Goes on with an upload until it is a clip."""
    drill.tally.accepted += 1
    until_s = time.monotonic() + FINISHED_WITHIN_S
    while not upload.is_complete and not upload.lost and time.monotonic() < until_s:
        upload.go_on()
    if upload.is_complete and not upload.lost:
        drill.tally.done += 1
    else:
        why = upload.lost or f"{upload.acknowledged} of {len(upload.content)} bytes"
        drill.tally.find(Finding.LOST, f"{upload.key}: {why}")


def _check_clips(drill: Round, data: Path, uploads: list[Upload]) -> None:
    """Each clip is stored as it was sent, once, and nothing else is."""
    stored = [key for key in stored_in(data) if key.startswith(CLIPS)]
    for upload in uploads:
        path = data / "store" / CLIPS / upload.key
        if not path.exists() or path.read_bytes() != upload.content:
            drill.tally.find(Finding.LOST, f"{upload.key}: is not what was sent")
    if len(stored) > len(uploads):
        drill.tally.find(Finding.DOUBLE, f"clips {stored}")


def _without_clips(data: Path) -> list[str]:
    return [key for key in stored_in(data) if not key.startswith(CLIPS)]

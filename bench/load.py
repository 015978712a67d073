"""Loads a server: many uploads at once, more who watch, and the server's memory meanwhile.

    python -m bench.load --uploads 20 --watchers 100 --megabytes 5 50

Starts `framestream serve` in a folder of its own. Each upload is a short clip made heavy by an MP4
`free` box, so that what is measured is the server and not the encoder. Every watcher follows one of
the exports over a WebSocket from before its upload until its end. Asserts that nobody saw an error
or a step back, that nobody was told more than four times a second, and that the server's memory did
not grow with the size of the uploads.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
from websockets.asyncio.client import connect

MIB = 1 << 20
BLOCK = bytes(1 << 16)
GROWTH_LIMIT_MIB = 64
"""What the largest uploads may cost the server over the smallest."""
PER_SECOND = 4
EDIT = {"clips": [{"fileName": "clip.mp4"}], "targetWidth": 64, "targetHeight": 64}


@dataclass(frozen=True, slots=True)
class Round:
    """One load."""

    megabytes: float
    uploads: int
    watchers: int
    accepted_s: float
    """Until the last upload was answered 202."""
    finished_s: float
    """Until the last export was done and the last watcher told."""
    peak_mib: float
    """Resident memory of the server's own process."""
    messages: int


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    arguments.add_argument("--uploads", type=int, default=20)
    arguments.add_argument("--watchers", type=int, default=100)
    arguments.add_argument("--megabytes", type=float, nargs="+", default=[5, 50])
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        clip = _clip(Path(folder) / "clip.mp4")
        command = [sys.executable, "-m", "engine", "serve", "--port", "0", "--data-dir"]
        server = subprocess.Popen([*command, f"{folder}/data"], stderr=subprocess.PIPE, text=True)
        try:
            url = _listening(server)
            rounds = [
                asyncio.run(_round(url, server.pid, clip, size, given.uploads, given.watchers))
                for size in given.megabytes
            ]
        finally:
            server.terminate()
            server.wait()
    print("| uploads | MB each | watchers | accepted, s | finished, s | messages | server, MiB |")
    print("|---|---|---|---|---|---|---|")
    for each in rounds:
        print(
            f"| {each.uploads} | {each.megabytes:g} | {each.watchers} | {each.accepted_s:.1f} "
            f"| {each.finished_s:.1f} | {each.messages} | {each.peak_mib:.0f} |"
        )
    growth = rounds[-1].peak_mib - rounds[0].peak_mib
    assert growth < GROWTH_LIMIT_MIB, f"the server grew by {growth:.0f} MiB"


def _clip(path: Path) -> bytes:
    source = "testsrc2=size=64x64:rate=30:duration=1"
    encode = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-movflags", "+faststart"]
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", source, *encode, str(path)]
    subprocess.run(command, check=True)
    return path.read_bytes()


def _listening(server: subprocess.Popen[str]) -> str:
    assert server.stderr
    for line in server.stderr:
        if '"url": ' in line:
            threading.Thread(target=server.stderr.read, daemon=True).start()
            url: str = json.loads(line)["url"]
            return url
    raise RuntimeError("the server did not start")


async def _round(
    url: str, pid: int, clip: bytes, megabytes: float, uploads: int, watchers: int
) -> Round:
    names = [f"load-{megabytes:g}-{number}" for number in range(uploads)]
    started_s = time.monotonic()
    watching = [
        asyncio.create_task(_watch(url, names[number % uploads])) for number in range(watchers)
    ]
    measuring = asyncio.create_task(_peak_mib(pid))
    limits = httpx.Limits(max_connections=uploads)
    async with httpx.AsyncClient(base_url=url, timeout=600, limits=limits) as client:
        await asyncio.gather(*(_upload(client, name, clip, megabytes) for name in names))
    accepted_s = time.monotonic() - started_s
    messages = sum(await asyncio.gather(*watching))
    finished_s = time.monotonic() - started_s
    measuring.cancel()
    peaks = await asyncio.gather(measuring, return_exceptions=True)
    assert isinstance(peaks[0], float)
    return Round(megabytes, uploads, watchers, accepted_s, finished_s, peaks[0], messages)


async def _upload(client: httpx.AsyncClient, name: str, clip: bytes, megabytes: float) -> None:
    fields = {"export_id": name, "multi_clip_data_json": json.dumps(EDIT)}
    head = "".join(
        f'--B\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{text}\r\n'
        for field, text in fields.items()
    )
    head += '--B\r\nContent-Disposition: form-data; name="video_0"; filename="clip.mp4"\r\n\r\n'
    blocks = int(megabytes * MIB) // len(BLOCK)
    free = (8 + blocks * len(BLOCK)).to_bytes(4, "big") + b"free"
    start, end = head.encode() + clip + free, b"\r\n--B--\r\n"

    async def body() -> AsyncIterator[bytes]:
        yield start
        for _ in range(blocks):
            yield BLOCK
        yield end

    answer = await client.post(
        "/api/export/multi-clip",
        content=body(),
        headers={
            "Content-Type": "multipart/form-data; boundary=B",
            "Content-Length": str(len(start) + blocks * len(BLOCK) + len(end)),
            "Prefer": "respond-async",
        },
    )
    assert answer.status_code == 202, answer.text


async def _watch(url: str, name: str) -> int:
    """Follows an export to its end; gives how many messages there were."""
    percents: list[float] = []
    times_s: list[float] = []
    async with connect(f"{url.replace('http', 'ws', 1)}ws/export/{name}") as socket:
        async for message in socket:
            state = json.loads(message)
            percents.append(state["progress"])
            times_s.append(time.monotonic())
            assert state["status"] != "error", state
    assert state["status"] == "complete" and percents == sorted(percents), percents
    assert len(percents) <= PER_SECOND * (times_s[-1] - times_s[0]) + 2
    return len(percents)


async def _peak_mib(pid: int) -> float:
    """The highest resident memory of a process until this is cancelled."""
    peak = 0.0
    try:
        while True:
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            peak = max(peak, pages * os.sysconf("SC_PAGE_SIZE") / MIB)
            await asyncio.sleep(0.05)
    except asyncio.CancelledError:
        return peak


if __name__ == "__main__":
    main()

"""Server and worker are killed at random moments: no job is lost, and no file is left over.

FRAMESTREAM_KILLS is the number of kills: few in the test suite, more before a release.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import httpx

from backend.assignment import LOCK_FILE
from engine.storage.local import INCOMING
from tests.backend.conftest import post, wait_for
from tests.clips import read_number
from tests.media import needs_ffmpeg
from tests.waiting import join, wait_until
from tests.witness import luma_frames

KILLS = int(os.environ.get("FRAMESTREAM_KILLS", "2"))
ASYNC = {"Prefer": "respond-async"}


SERVE = ("-m", "engine", "serve")


@contextmanager
def server(
    folder: Path,
    *,
    program: Sequence[str] = SERVE,
    host: str = "0.0.0.0",
    log: list[str] | None = None,
    **settings: str,
) -> Iterator[tuple[httpx.Client, subprocess.Popen[str]]]:
    """The program itself. It is told to listen on all addresses; without keys it takes loopback.

    `settings` are variables of its environment. What it logs is appended to `log`, line by line.
    """
    command = [sys.executable, *program, "--host", host, "--port", "0"]
    process = subprocess.Popen(
        [*command, "--data-dir", str(folder)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **settings},
    )
    assert process.stderr
    lines = [] if log is None else log
    reading = threading.Thread(target=_read, args=(process.stderr, lines), daemon=True)
    try:
        for line in process.stderr:
            lines.append(line)
            if found := re.search(r'"url": "(http://127\.0\.0\.1:\d+)/"', line):
                break
        else:
            raise AssertionError("".join(["the server did not start\n", *lines]))
        reading.start()
        with httpx.Client(base_url=found[1], timeout=60, verify=False) as client:
            while True:
                with contextlib.suppress(httpx.TransportError):
                    client.get("/api/health")
                    break
                time.sleep(0.02)
            yield client, process
    finally:
        process.terminate()
        process.wait(60)
        if reading.ident is not None:
            reading.join(60)
        process.stderr.close()


def _read(stream: IO[str], lines: list[str]) -> None:
    for line in stream:
        lines.append(line)  # noqa: PERF402 - while others read the list


def workers(folder: Path) -> list[int]:
    """Process groups of the running workers, found by their locks."""
    alive = []
    for path in (folder / "work").glob(f"*/{LOCK_FILE}"):
        # the folder may go meanwhile
        with contextlib.suppress(FileNotFoundError), path.open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                alive += [int(group) for group in [lock.read()] if group]
    return alive


@needs_ffmpeg
def test_a_kill_at_any_moment_loses_nothing_and_leaves_nothing(
    tmp_path: Path, clips: list[Path]
) -> None:
    seed = int(os.environ.get("FRAMESTREAM_KILL_SEED", "1"))
    chance = random.Random(seed)
    data = tmp_path / "data"
    names = [f"export{number}" for number in range(KILLS)]

    for number, name in enumerate(names):
        with server(data, MAX_ATTEMPTS=str(KILLS + 1)) as (client, process):
            sent = threading.Thread(target=send, args=(client, clips, name))
            sent.start()
            time.sleep(chance.uniform(0, 1.5))
            if number % 2:
                for group in workers(data):
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(group, signal.SIGKILL)
                join(sent)
                wait_for(client, name, "done")
            process.kill()
            process.wait(60)
            join(sent)

    # folders of uploads that a kill broke off are nobody's, and go when they are old
    wait_until(lambda: not workers(data))
    for path in [*(data / "work").rglob("*"), *(data / "work").iterdir()]:
        os.utime(path, (0, 0))
    with server(data, MAX_ATTEMPTS=str(KILLS + 1)) as (client, _):
        for name in names:
            # a client without a response asks again: the same id is the same export
            assert post(client, clips, headers=ASYNC, export_id=name, project_id="1").is_success
            told = wait_for(client, name, "done")["result"]
            video = tmp_path / "video.mp4"
            video.write_bytes(client.get(told["presigned_url"]).content)
            numbers = [read_number(luma) for luma in luma_frames(video)]
            assert numbers == [*range(24), *range(18)]
        # the last one is cleared after its end is published
        wait_until(lambda: not any((data / "work").iterdir()))

    assert workers(data) == []
    files = [path for path in (data / "store").rglob("*") if path.is_file()]
    videos = [path for path in files if INCOMING not in path.parts]
    assert len(videos) == KILLS
    assert {path.name for path in set(files) - set(videos)} <= {"lock"}
    with contextlib.closing(sqlite3.connect(data / "framestream.db")) as database:
        rows = database.execute("SELECT filename, version FROM working_videos").fetchall()
        ends = database.execute("SELECT status, leftovers FROM export_jobs").fetchall()
        newest = database.execute("SELECT working_video_id FROM projects").fetchall()
    assert sorted(name for name, _ in rows) == sorted(path.name for path in videos)
    assert sorted(version for _, version in rows) == list(range(1, KILLS + 1))
    assert ends == [("done", 0)] * KILLS and len(newest) == 1


def send(client: httpx.Client, clips: list[Path], name: str) -> None:
    with contextlib.suppress(httpx.TransportError):
        post(client, clips, headers=ASYNC, export_id=name, project_id="1")


def test_a_worker_dies_with_its_server(tmp_path: Path, clips: list[Path]) -> None:
    data = tmp_path / "data"
    edit = {
        "clips": [{"segmentsData": {"segments": [{"start": 0, "end": 0.8, "speed": 0.05}]}}],
    }
    with server(data) as (client, process):
        post(
            client, clips[:1], headers=ASYNC, multi_clip_data_json=json.dumps(edit),
            export_id="long", target_width="720", target_height="1280",
        )  # fmt: skip
        wait_until(lambda: workers(data))
        process.kill()
        process.wait(60)
    wait_until(lambda: not workers(data), within_s=10)
    with server(data) as (client, _):
        wait_for(client, "long", "running")
        assert client.delete("/api/exports/long").json()["status"] == "cancelled"
        assert workers(data) == [], "a cancelled worker has ended before the response"
        assert client.get("/api/export/progress/long").json()["status"] == "error"
        assert client.post("/api/exports/long/retry").status_code == 202
        wait_for(client, "long", "running")
        assert client.delete("/api/exports/long").json()["can_retry"]

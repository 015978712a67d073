"""Which job runs when, and what happens if a worker dies or the queue is full."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from backend.models import Job, utc_now
from backend.scheduler import next_job
from tests.backend.conftest import Serve, post, wait_for
from tests.backend.test_kill import workers
from tests.waiting import join

ASYNC = {"Prefer": "respond-async"}
LONG: Any = {"target_width": "1080", "target_height": "1920", "target_fps": "240"}
START = utc_now()


def a_job(user: str, name: str, age_s: float = 0) -> Job:
    return Job(user_id=user, id=name, created_at=START - timedelta(seconds=age_s))


def test_users_take_turns() -> None:
    queued = [a_job("anna", f"a{n}", 99 - n) for n in range(4)]
    queued += [a_job("ben", "b0", 50), a_job("carl", "c0", 40), a_job("ben", "b1", 30)]
    turns: dict[str, int] = {}
    order: list[str] = []
    while queued:
        job = next_job(queued, {}, turns)
        queued.remove(job)
        turns[job.user_id] = len(order) + 1
        order.append(job.id)
    assert order == ["a0", "b0", "c0", "a1", "b1", "a2", "a3"]


def test_a_user_with_a_running_job_waits_for_others() -> None:
    queued = [a_job("anna", "a", 99), a_job("ben", "b")]
    assert next_job(queued, {"anna": 1}, {"ben": 7}).id == "b"
    assert next_job(queued[:1], {"anna": 1}, {}).id == "a"


def test_a_worker_s_crash_costs_an_attempt_and_never_the_server(
    serve: Serve, clips: list[Path]
) -> None:
    client = serve(max_attempts=2)
    data = Path(client.headers["X-Data-Dir"])
    post(client, clips, headers=ASYNC, export_id="crash", **LONG)
    ended = threading.Event()

    def kill_workers() -> None:
        while not ended.is_set():
            for group in workers(data):
                with contextlib.suppress(ProcessLookupError):  # it died meanwhile
                    os.killpg(group, signal.SIGSEGV)
            time.sleep(0.02)

    killing = threading.Thread(target=kill_workers)
    killing.start()
    try:
        told = wait_for(client, "crash", "failed")
    finally:
        ended.set()
        join(killing)
    assert told["attempts"] == 2 and "the worker died (SIGSEGV), 2 times" in told["error"]
    waiting = post(client, clips, export_id="crash", **LONG)
    assert waiting.status_code == 500 and waiting.json()["detail"] == told["error"]
    assert client.post("/api/exports/crash/retry").status_code == 202
    assert client.delete("/api/exports/crash").json()["status"] == "cancelled"


def test_too_many_exports_are_refused_before_they_are_read(serve: Serve, clips: list[Path]) -> None:
    client = serve(queue_limit_per_user=1)
    post(client, clips, headers=ASYNC, export_id="one", **LONG)
    refused = post(client, clips, headers=ASYNC, export_id="two")
    assert refused.status_code == 429 and refused.headers["retry-after"]
    assert client.delete("/api/exports/one").json()["status"] == "cancelled"
    assert post(client, clips[1:], export_id="two").status_code == 200


@pytest.mark.parametrize(("fallback", "status"), [("none", 502), ("local", 200)])
def test_modal_cannot_be_reached(
    serve: Serve,
    clips: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    fallback: str,
    status: int,
) -> None:
    monkeypatch.setenv("MODAL_CONFIG_PATH", str(tmp_path / "none"))
    for name in ("MODAL_TOKEN_ID", "MODAL_TOKEN_SECRET"):
        monkeypatch.delenv(name, raising=False)
    client = serve(modal_enabled=True, modal_fallback=fallback)
    answer = post(client, clips[1:], export_id="far")
    assert answer.status_code == status, answer.text
    if status == 200:
        assert answer.json()["modal_used"] is False
    else:
        assert "Modal" in answer.json()["detail"]
        assert client.get("/api/exports/far").json()["status"] == "failed"


def test_the_fork_server_loads_the_engine_and_starts_no_thread() -> None:
    """It ignores a module that it cannot import, and may only fork while it has one thread."""
    code = (
        "import sys, threading, importlib\n"
        "from backend.worker_pool import PRELOADED\n"
        "importlib.import_module(PRELOADED)\n"
        "names = ('torch', 'numba', 'av', 'engine.timeline.document', 'llvmlite')\n"
        "print(threading.active_count(), *(name in sys.modules for name in names))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "False", "False", *["True"] * 3]

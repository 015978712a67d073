"""The exports of a round: sends them, and holds the server to each that it accepted."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import httpx

from bench.drill.round import Round
from bench.drill.server import Server
from bench.drill.tally import Finding
from tests.clips import numbered_clip

LENGTHS = (18, 24, 30, 42)
"""Frames of the clips. No two sequences of clips give the same film."""

ENDED_WITHIN_S = 150
FINISHED = ("done", "failed", "cancelled")
UNREADABLE = re.compile(r"Traceback|Error\(|<class|0x[0-9a-f]{6}")
BLOCK_BYTES = 4096


@cache
def clips_in(folder: Path) -> tuple[Path, ...]:
    """Small clips of numbered frames; one has sound. They are made once."""
    folder.mkdir(parents=True, exist_ok=True)
    return tuple(
        numbered_clip(
            folder / f"{frames}.mp4", frames, size=(96, 96), sound=None if number else "bursts"
        )
        for number, frames in enumerate(LENGTHS)
    )


@dataclass(frozen=True, slots=True)
class Export:
    """What was asked for."""

    name: str
    project: str
    clips: tuple[Path, ...]
    side: int
    """Width and height of the film, in pixels."""

    @property
    def numbers(self) -> list[int]:
        """The numbers of the film's frames."""
        return [number for clip in self.clips for number in range(int(clip.stem))]

    @property
    def edit(self) -> dict[str, Any]:
        """The edit document."""
        clips = [
            {"clipIndex": number, "fileName": f"{number}.mp4"} for number in range(len(self.clips))
        ]
        return {"clips": clips, "targetWidth": self.side, "targetHeight": self.side}


class Exports:
    """Exports that one server is asked for."""

    def __init__(self, drill: Round, server: Server, may_fail: str | None = None) -> None:
        """`may_fail`: what an error says where the fault makes a failure right."""
        self._drill = drill
        self._server = server
        self._may_fail = re.compile(may_fail) if may_fail else None
        self._sent: list[Export] = []
        self._accepted: set[str] = set()
        self._cancelled: set[str] = set()
        self._sending: list[threading.Thread] = []

    @property
    def sent(self) -> list[Export]:
        """Every export so far, accepted or not."""
        return list(self._sent)

    def new(self) -> Export:
        """Another export, of one to three clips by chance."""
        chance = self._drill.chance
        export = Export(
            name=f"export-{len(self._sent)}",
            project=str(chance.randint(1, 2)),
            clips=tuple(chance.choices(self._drill.clips, k=chance.randint(1, 3))),
            side=chance.choice((64, 64, 256)),
        )
        self._sent.append(export)
        return export

    def begin(self, most_pause_s: float = 0.05) -> Export:
        """Sends another export in a thread, with pauses by chance. Nothing is waited for."""
        export = self.new()
        pause_s = self._drill.chance.uniform(0, most_pause_s)
        thread = threading.Thread(target=self.send, args=(export, pause_s))
        self._sending.append(thread)
        thread.start()
        return export

    def send(self, export: Export, pause_s: float = 0) -> bool:
        """Sends an export once. True if the server says that it has accepted it."""
        files = {
            f"video_{number}": (f"{number}.mp4", clip.read_bytes(), "video/mp4")
            for number, clip in enumerate(export.clips)
        }
        fields = {
            "export_id": export.name,
            "project_id": export.project,
            "multi_clip_data_json": json.dumps(export.edit),
        }
        form = httpx.Request("POST", "http://form", data=fields, files=files)
        body = form.read()
        headers = {
            "Content-Type": form.headers["Content-Type"],
            "Content-Length": str(len(body)),
            "Prefer": "respond-async",
        }
        try:
            answer = self._server.client.post(
                "/api/export/multi-clip", content=_slowly(body, pause_s), headers=headers
            )
        except httpx.TransportError:
            return False
        if answer.is_success:
            self._accepted.add(export.name)
        return answer.is_success

    def cancel(self, export: Export) -> None:
        """Asks for the end of an export. It is retried later."""
        self._drill.tally.injected("export cancelled")
        self._cancelled.add(export.name)
        with suppress(httpx.TransportError):
            self._server.client.delete(f"/api/exports/{export.name}")

    def wait_for_answers(self) -> None:
        """Returns once nothing is being sent any more."""
        for thread in self._sending:
            thread.join()
        self._sending.clear()

    def wait_for_end(self) -> None:
        """Returns once all that was accepted has ended, well or not."""
        for export in self._sent:
            if export.name in self._accepted:
                self._end_of(export)

    def settle(self) -> None:
        """Waits for the end of all exports, after the faults.

        What was accepted is still known, and ends done; or failed where that is right, and is done
        when it is retried. What was not accepted is sent again.
        """
        self.wait_for_answers()
        for export in self._sent:
            if export.name not in self._accepted:
                self._within(ENDED_WITHIN_S, partial(self.send, export))
            if export.name in self._accepted:
                self._drill.tally.accepted += 1
                self._settle(export)
            else:
                self._drill.tally.find(
                    Finding.BROKEN, f"{self._where(export)}: is not accepted after the faults"
                )

    def _settle(self, export: Export) -> None:
        tally, where = self._drill.tally, self._where(export)
        state = self._end_of(export)
        failed_rightly = state["status"] == "failed" and self._is_right(state["error"])
        was_cancelled = state["status"] == "cancelled" and export.name in self._cancelled
        if failed_rightly:
            tally.failed += 1
            tally.reasons[state["error"]] += 1
        if failed_rightly or was_cancelled:
            retried = self._server.client.post(f"/api/exports/{export.name}/retry")
            if retried.is_success:
                state = self._end_of(export)
        if state["status"] == "done":
            tally.done += 1
        else:
            tally.find(Finding.LOST, f"{where}: {state['status']}: {state.get('error')}")

    def _end_of(self, export: Export) -> dict[str, Any]:
        """The export as the server tells of it, once it has ended or the time is up."""
        state: dict[str, Any] = {"status": "unknown"}

        def ended() -> bool:
            nonlocal state
            answer = self._server.client.get(f"/api/exports/{export.name}")
            if answer.is_success:
                state = answer.json()
            elif answer.status_code == 404:
                state = {"status": "not known any more"}
                return True
            return state["status"] in FINISHED

        self._within(ENDED_WITHIN_S, ended)
        return state

    def _is_right(self, error: str | None) -> bool:
        """Whether a failure has a reason that a user can read, and that may be."""
        return bool(
            error
            and self._may_fail
            and self._may_fail.search(error)
            and not UNREADABLE.search(error)
        )

    def _within(self, seconds: float, condition: Callable[[], bool]) -> bool:
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            try:
                if condition():
                    return True
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        return False

    def _where(self, export: Export) -> str:
        return f"round {self._drill.tally.rounds - 1}, {export.name}"


def _slowly(body: bytes, pause_s: float) -> Iterator[bytes]:
    """The body in blocks, with a pause after each."""
    for start in range(0, len(body), BLOCK_BYTES):
        yield body[start : start + BLOCK_BYTES]
        if pause_s:
            time.sleep(pause_s)

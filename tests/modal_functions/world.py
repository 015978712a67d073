"""A bucket on loopback with footage in it, and the app deployed to the control plane."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from backend.modal_client import ExportJob
from engine.errors import ObjectChangedError, ObjectMissingError
from engine.storage import S3Settings, S3Store
from modal_functions import video_processing as functions
from modal_functions.app import APP_NAME
from modal_functions.protocol import Ledger
from tests.clips import numbered_clip
from tests.modal_functions.control_plane import Body, ControlPlane
from tests.s3 import new_bucket

USER = "7"
GATE_S = 120
"""How long a gated renderer waits. A test that forgets to open the gate fails, and goes on."""
SIZE = (96, 128)


def environment(settings: S3Settings) -> dict[str, str]:
    """The secret `r2-credentials`, as a container sees it."""
    return {
        "R2_ENDPOINT_URL": settings.endpoint_url,
        "R2_BUCKET_NAME": settings.bucket,
        "R2_ACCESS_KEY_ID": settings.access_key_id,
        "R2_SECRET_ACCESS_KEY": settings.secret_access_key,
    }


@cache
def painted(frames: int) -> bytes:
    """An MP4 of numbered frames with a burst of sound in every second."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "match.mp4"
        return numbered_clip(path, frames, size=(128, 96), sound="bursts").read_bytes()


@dataclass(frozen=True, slots=True)
class World:
    """A bucket and a control plane, for one test."""

    store: S3Store
    plane: ControlPlane
    monkeypatch: pytest.MonkeyPatch

    @classmethod
    def made(cls, address: str, plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> World:
        """An empty bucket that functions find, and the whole app deployed. Polling is fast."""
        settings = new_bucket(address)
        for name, value in environment(settings).items():
            monkeypatch.setenv(name, value)
        world = cls(S3Store(settings), plane, monkeypatch)
        world.deploy()
        monkeypatch.setattr("modal_functions.executor.POLL_S", 0.1)
        monkeypatch.setattr("modal_functions.ledger.PAUSE_S", 0.1)
        monkeypatch.setattr("modal_functions.progress_dict.INTERVAL_S", 0.1)
        monkeypatch.setattr("backend.modal_client.POLL_S", 0.1)
        return world

    def deploy(
        self,
        functions_instead: Mapping[str, Body] | None = None,
        renderer_instead: Mapping[str, Body] | None = None,
    ) -> None:
        """Deploys the app. A test may replace functions, and methods of the renderer."""
        deployed: dict[str, Body] = {
            "process_multi_clip_item": functions.process_multi_clip_item.local,
            "concatenate_clips_modal": functions.concatenate_clips_modal.local,
            "export_multi_clip": functions.export_multi_clip.local,
        }
        renderer: dict[str, Body] = {
            "choose": functions.Renderer().choose.local,
            "render_chunks": functions.Renderer().render_chunks.local,
        }
        self.plane.deploy(
            APP_NAME,
            deployed | dict(functions_instead or {}),
            {"Renderer": renderer | dict(renderer_instead or {})},
        )

    def check_fences_often(self) -> None:
        """Calls notice soon that they are not wanted.

        Not for tests that cancel calls by their ids: that is raised anywhere in their threads, and
        could leave a connection to the bucket open.
        """
        self.monkeypatch.setattr("modal_functions.fence.CHECK_S", 0.1)

    def deploy_gated(self) -> threading.Event:
        """Deploys everything, with renderers that wait for the event before they begin."""
        gate = threading.Event()
        render = functions.Renderer().render_chunks.local

        def render_when_open(*args: Any, **kwargs: Any) -> Any:
            assert gate.wait(GATE_S), "the gate was never opened"
            return render(*args, **kwargs)

        self.deploy(renderer_instead={"render_chunks": render_when_open})
        return gate

    def noted_renderers(self) -> list[str]:
        """The ids of the renderers in all ledgers. From then on their orchestrators only wait."""
        noted: list[str] = []
        for key in self.keys():
            if key.endswith("/calls.json"):
                with contextlib.suppress(ObjectMissingError, ObjectChangedError):
                    calls = Ledger.from_document(self.store.get_bytes(key)).calls
                    noted += [call_id for call_id, digests in calls.items() if digests]
        return noted

    def deploy_stalled(self) -> None:
        """Deploys a renderer whose first call gets nothing done."""
        came: list[int] = []

        def stall_first(**arguments: Any) -> Any:
            is_first = not came
            came.append(1)
            while is_first:  # until it is cancelled
                time.sleep(0.01)
            return functions.Renderer().render_chunks.local(**arguments)

        self.monkeypatch.setattr("modal_functions.executor.QUEUED_S", 0.3)
        self.deploy(renderer_instead={"render_chunks": stall_first})

    def footage(self, name: str = "match.mp4", frames: int = 60) -> str:
        """Stores footage of numbered frames. Returns its key."""
        key = f"{USER}/raw/{name}"
        self.store.put_bytes(key, painted(frames))
        return key

    def keys(self, prefix: str = "") -> list[str]:
        """The keys of all objects below a folder."""
        return [each.key for each in self.store.list(prefix)]


def job_of(source_key: str, **changes: Any) -> ExportJob:
    """Two clips of the footage and a dissolve: three chunks, in libx264 without B-frames."""
    clips = [
        {"fileName": "match.mp4", "segmentsData": {"trimRange": {"start": 0, "end": 0.8}}},
        {"fileName": "match.mp4", "segmentsData": {"trimRange": {"start": 1, "end": 1.8}}},
    ]
    edit = {
        "clips": clips,
        "transition": {"type": "dissolve", "duration": 0.2},
        "targetWidth": SIZE[0],
        "targetHeight": SIZE[1],
    }
    fields: dict[str, Any] = {
        "job_id": "job-1",
        "user_id": USER,
        "edit": edit,
        "source_keys": {"match.mp4": source_key},
        "output_key": f"{USER}/working_videos/reel.mp4",
        "preset": "ultrafast",
    }
    return ExportJob(**fields | changes)

"""What both sides agree on: names that are deployed, and documents that come back as written."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from typing import Any

import modal
import pytest

from engine.version import VERSION
from modal_functions import protocol
from modal_functions import video_processing as functions
from modal_functions.protocol import (
    ChunkEntry,
    ExportJob,
    Ledger,
    PhaseEntry,
    VersionError,
    VideoResponse,
    check_version,
    manifest_document,
    stored_response,
)

HEAVY = {"av", "boto3", "modal", "numba", "numpy", "torch"}
RESPONSE: VideoResponse = {
    "status": "success",
    "output_key": "7/out.mp4",
    "duration": 1.5,
    "frames": 45,
    "warnings": ["Müller.mp4: a frame is damaged"],
    "report": {"frames": 45},
}


def test_importing_it_loads_nothing_heavy() -> None:
    code = "import sys, modal_functions.protocol; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not HEAVY & set(done.stdout.split())


def test_the_names_are_those_that_are_deployed() -> None:
    module = vars(functions).items()
    deployed = {name for name, value in module if isinstance(value, modal.Function)}
    assert deployed == {protocol.PROCESS_CLIP, protocol.CONCATENATE_CLIPS, protocol.EXPORT_EDIT}
    assert {name for name, value in module if isinstance(value, modal.Cls)} == {protocol.RENDERER}
    assert f"modal deploy -m {functions.__name__}" == protocol.DEPLOY_COMMAND


def test_the_app_is_named_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODAL_APP_NAME", "another-app")
    assert protocol.app_name() == "another-app"
    monkeypatch.delenv("MODAL_APP_NAME")
    assert protocol.app_name() == "reel-ballers-video"


def test_a_job_comes_back_as_written() -> None:
    job = ExportJob(
        job_id="job-1",
        user_id="7",
        edit={"clips": [{"fileName": "Müller.mp4"}]},
        source_keys={"Müller.mp4": "7/raw/Müller.mp4"},
        output_key="7/out.mp4",
        upscaler="none",
        encoder="auto",
        quality=21.5,
        preset="fast",
        key_interval_s=0.5,
        max_containers=3,
        strict=True,
    )
    assert ExportJob.from_document(job.document()) == job
    assert job.job_key == "7/temp/modal_job-1/job.json"
    assert job.ledger_key == "7/temp/modal_job-1/calls.json"
    with pytest.raises(LookupError):
        ExportJob.from_document(b"{}")
    with pytest.raises(ValueError):
        ExportJob.from_document(b"not JSON")


def test_a_job_of_a_caller_that_knows_no_key_interval() -> None:
    job = ExportJob("job-1", "7", {}, {}, "7/out.mp4", max_containers=3, call_token="a")
    written = json.loads(job.document())
    del written["key_interval_s"]
    assert ExportJob.from_document(json.dumps(written).encode()) == job
    del written["output_key"]
    with pytest.raises(LookupError):
        ExportJob.from_document(json.dumps(written).encode())


def test_a_ledger_comes_back_as_written() -> None:
    ledger = Ledger({"fc-1": ["a", "b"]}, {"a": 2}, {"a": ["its container was lost"]})
    assert Ledger.from_document(ledger.document()) == ledger


def test_a_manifest_gives_its_response_to_its_own_job() -> None:
    manifest = manifest_document("job-1", RESPONSE)
    assert stored_response(manifest, "job-1") == RESPONSE
    assert stored_response(manifest, "job-2") is None


@pytest.mark.parametrize(
    "manifest",
    [b"", b"[]", b'{"job_id": "job-1"}', b'{"job_id', b"[" * 100_000],
    ids=["empty", "a list", "no result", "torn", "nested"],
)
def test_a_manifest_that_cannot_be_read(manifest: bytes) -> None:
    assert stored_response(manifest, "job-1") is None


@pytest.mark.parametrize(
    "entry",
    [
        PhaseEntry("download", 0.25, "Reading the clip"),
        PhaseEntry("frames", 0.5, "Frame 15 of 30", frames_done=15, frames_total=30),
    ],
)
def test_how_far_a_function_is_comes_back_as_written(entry: PhaseEntry) -> None:
    assert PhaseEntry.from_dict(entry.to_dict()) == entry


@pytest.mark.parametrize("entry", [None, 3, {}, {"phase": "nonsense", "share": 1}])
def test_a_phase_that_cannot_be_read(entry: Any) -> None:
    assert PhaseEntry.from_dict(entry) is None


def test_percent_stays_within_its_phase() -> None:
    percents = [PhaseEntry("frames", share, "").percent for share in (-1.0, 0.0, 0.5, 1.0, 2.0)]
    assert percents == [15, 15, 50, 85, 85]
    bounds = list(protocol.PHASES.values())
    assert bounds[0][0] == 0 and bounds[-1][1] == 100
    assert all(before[1] == after[0] for before, after in pairwise(bounds))


def test_how_far_a_chunk_is_comes_back_as_written() -> None:
    entry = ChunkEntry(frames=12, starts=2, call="fc-1", stored=True)
    assert ChunkEntry.from_dict(entry.to_dict()) == entry
    assert ChunkEntry.from_dict(None) is None


def test_another_version_of_the_engine() -> None:
    check_version(None)
    check_version(VERSION)
    with pytest.raises(VersionError, match="deploy again"):
        check_version("0.0.1")

"""Every peer is asked for the same film."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from bench.footage import Footage
from bench.machine import ROOT
from bench.measured import usage_of
from bench.peers import ffmpeg, framestream, moviepy, stepwise
from bench.peers.edits import Cut, PeerEdit, edits
from engine import Edit, Size, build_plan
from tests.clips import numbered_clip, read_number
from tests.media import needs_ffmpeg
from tests.sources import a_source
from tests.witness import luma_frames

WHOLE = Size(160, 96)
DISSOLVE = 4
CUTS = (Cut(10, 25, 0, 0), Cut(40, 50, 0, 0, slowed=2), Cut(60, 75, 0, 0))


class NoFootage(Footage):
    """Names of films that are not made."""

    def path(self, name: str) -> Path:
        return self.folder / f"{name}.mp4"


@pytest.fixture(scope="module")
def edit(tmp_path_factory: pytest.TempPathFactory) -> PeerEdit:
    film = numbered_clip(
        tmp_path_factory.mktemp("film") / "film.mp4", 90, size=(WHOLE.width, WHOLE.height)
    )
    return PeerEdit("numbers", film, CUTS, WHOLE, WHOLE, dissolve_frames=DISSOLVE)


@pytest.mark.parametrize("quick", [True, False])
def test_framestream_plans_what_the_others_make(quick: bool, tmp_path: Path) -> None:
    for edit in edits(NoFootage(tmp_path), quick, "realesr-general-x4v3", "weights.pth"):
        document = Edit.parse(framestream.document(edit))
        plan = build_plan(document, [a_source(frames=600)] * len(edit.cuts))
        assert plan.frame_count == edit.frame_count
        assert not plan.warnings
        assert PeerEdit.read(edit.write(tmp_path / "edit.json")) == edit
        for dissolve in edit.dissolves:
            assert {dissolve.start, dissolve.stop} <= set(plan.borders)


@needs_ffmpeg
@pytest.mark.parametrize("peer", [framestream, ffmpeg, moviepy, stepwise], ids=lambda m: m.__name__)
def test_peers_show_the_same_frames(edit: PeerEdit, tmp_path: Path, peer: ModuleType) -> None:
    if lack := peer.lack(edit):
        pytest.skip(lack)
    output = tmp_path / "out.mp4"
    usage_of(*peer.command(edit, tmp_path, output), cwd=ROOT)
    shown = luma_frames(output)
    assert len(shown) == edit.frame_count == 15 + 20 + 15 - 2 * DISSOLVE
    blended = {frame for dissolve in edit.dissolves for frame in dissolve}
    for cut, start in zip(edit.cuts, edit.starts, strict=False):
        for frame in range(start, start + cut.frame_count):
            if frame not in blended:
                number = cut.start_frame + (frame - start) // cut.slowed
                assert read_number(shown[frame]) == number, f"frame {frame}"
    encodes = 2 if peer is stepwise else 1
    assert peer.frames_encoded(tmp_path, output) >= encodes * edit.frame_count
    if peer is not stepwise:
        assert peer.frames_encoded(tmp_path, output) == edit.frame_count


def test_a_peer_without_a_network_says_so(edit: PeerEdit) -> None:
    assert ffmpeg.lack(replace(edit, network="realesr-general-x4v3")) == "has no such network"

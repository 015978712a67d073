"""One frame rate, however it is written: on the command line, over HTTP, in a form, on the page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import httpx
import pytest

from backend.export_form import multi_clip
from backend.tasks import RenderTask
from backend.uploads import Form
from engine.timeline.edit import Edit
from tests.backend.conftest import SIZE, edit_of, post
from tests.backend.page_modules import CHROMIUM, NODE, Ask, page_modules
from tests.engine.cli.program import framestream
from tests.media import needs_ffmpeg
from tests.witness import ffprobe

pytestmark = needs_ffmpeg

SPELLINGS: dict[str, list[Any]] = {
    "24000/1001": [23.976, "23.98", "23.980", 24000 / 1001, "24000/1001"],
    "24": [24.0, "24.0", "24/1"],
    "30000/1001": [29.97, str(30000 / 1001), 30 * 0.999, "30000/1001"],
    "30": [30, " 30 ", "30/1"],
    "48000/1001": [47.95],
    "60000/1001": [59.94, "59.940", 60000 / 1001],
    "120000/1001": [119.88, "120000/1001"],
    "240000/1001": [239.76],
    "25/2": [12.5],
    "299/10": ["29.9"],
    "959/40": [23.975],
    "2997/100": ["2997/100"],
}
"""Rates, and how people and their programs write each."""


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Asks the page's modules, see `page_modules.js`."""
    if NODE is None and CHROMIUM is None:
        pytest.skip("neither node nor chromium is installed, to run the page's JavaScript")
    with page_modules(tmp_path_factory.mktemp("page")) as asking:
        yield asking


@pytest.fixture(scope="module")
def stocked(client: httpx.Client, clips: list[Path]) -> httpx.Client:
    """A server whose store has `rates.mp4`."""
    assert client.put("/api/clips/rates.mp4", content=clips[0].read_bytes()).status_code == 201
    return client


@pytest.mark.parametrize("rate", SPELLINGS)
def test_a_rate_is_one_whichever_way_it_is_written_and_comes(
    ask: Ask, stocked: httpx.Client, clips: list[Path], tmp_path: Path, rate: str
) -> None:
    spellings = SPELLINGS[rate]
    for spelling in spellings:
        document = {"clips": [{"fileName": str(clips[0])}], **SIZE, "targetFps": spelling}
        path = tmp_path / "edit.json"
        path.write_text(json.dumps(document))
        assert json.loads(framestream("plan", path, "--json").stdout)["fps"] == rate

        order = {"clips": [{"key": "rates.mp4"}], **SIZE, "targetFps": spelling}
        answer = stocked.post("/api/estimate", json={"edit": order})
        assert answer.json()["plan"]["fps"] == rate

        fields = {"multi_clip_data_json": edit_of(1, targetFps=50), "target_fps": str(spelling)}
        assert rate_of_form(fields) == Fraction(rate)
    read = ask("read", {"rates": spellings, "speeds": [], "seconds": []})["rates"]
    assert [Fraction(exact) for exact, _ in read] == [Fraction(rate)] * len(spellings)


def rate_of_form(fields: dict[str, str]) -> Fraction:
    """What a form's order asks for, its clip being a stored one."""
    order = json.loads(fields["multi_clip_data_json"])
    order["clips"][0]["key"] = "rates.mp4"
    form = Form(fields={**fields, "multi_clip_data_json": json.dumps(order)})
    task = multi_clip(form, "local", 1).task
    assert isinstance(task, RenderTask)
    return Edit.parse(task.edit).target_fps


def test_a_form_s_rate_is_that_of_the_film(
    client: httpx.Client, clips: list[Path], tmp_path: Path
) -> None:
    answer = post(client, clips[:1], target_fps=" 29.97002997002997 ", export_id="ntsc")
    assert answer.status_code == 200, answer.text
    film = tmp_path / "film.mp4"
    film.write_bytes(client.get("/api/exports/ntsc/download", follow_redirects=True).content)
    assert ffprobe(film)["streams"][0]["avg_frame_rate"] == "30000/1001"

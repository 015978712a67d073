"""Edits on the page: a turned part of a file, the ways of crops, and one that cannot be read."""

from __future__ import annotations

import base64
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Page, expect

from tests.backend.page_in_chromium import CHROMIUM, document, opened, paste, planned, shown_time_s
from tests.clips import numbered_clip, read_number
from tests.media import needs_ffmpeg
from tests.waiting import wait_until
from tests.witness import run

pytestmark = [
    needs_ffmpeg,
    pytest.mark.skipif(CHROMIUM is None, reason="the chromium program is not installed"),
]

OUTPUT_FRAME = "import('/page/app.js').then(({ app }) => app.outputFrame)"


def test_a_turned_part_of_a_file_is_shown_and_kept(
    page: Page, client: httpx.Client, tmp_path: Path
) -> None:
    """Frame 15 is the first one of a clip that starts at 0.5 s of its file."""
    key = "half.mp4"
    clip = numbered_clip(tmp_path / key, 45, size=(160, 96))
    client.put(f"/api/clips/{key}", content=clip.read_bytes())
    whole = {"time": 0, "x": 0, "y": 0, "width": 160, "height": 96}
    keyframes = [whole, {**whole, "time": 0.4, "x": 20, "width": 120, "height": 72}]
    part = {"fileName": key, "sourceRange": [0.5, 1.2], "cropKeyframes": keyframes}
    kept = {"keyInterval": 1, "targetWidth": 160, "targetHeight": 96}
    opened(page, client)
    paste(page, {"clips": [part], **kept})
    expect(page.locator("#plays")).to_have_text(
        "plays 0.70 s of 0.70 s, from 0:00.50 of the file on"
    )
    expect(page.locator("#video")).to_have_js_property("currentTime", 0.501)

    wait_until(lambda: number_shown(page, tmp_path) == 15)
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    expect(page.locator("#time")).to_have_text("0:00.10 / 0:00.70")
    wait_until(lambda: number_shown(page, tmp_path) == 18)
    edit = document(page)
    plan = planned(edit, [clip])
    assert plan.clips[0].retiming.pieces[0].start_s == Fraction(1, 2)
    assert shown_time_s(plan.clips[0], page.evaluate(OUTPUT_FRAME)) == pytest.approx(0.6)

    # a turn: what the page shows live is what the engine makes of it
    page.get_by_label("Turn, °").fill("12")
    page.get_by_label("Turn, °").press("Enter")
    expect(page.locator("#video")).to_have_css("rotate", "-12deg")
    (turned,) = document(page)["clips"]
    assert turned["rotation"] == 12
    made = [exact_frame(client, document(page), rotation, tmp_path) for rotation in (12, -12, 0)]

    def off(picture: NDArray[np.float64]) -> float:
        return float(np.abs(preview(page, tmp_path) - picture).mean())

    wait_until(lambda: off(made[0]) < 10)
    assert min(off(each) for each in made[1:]) > 10

    # it stays when something else is changed, and that is undone
    page.locator("#trim-out").click()
    (trimmed,) = document(page)["clips"]
    assert trimmed == turned | {
        "segmentsData": {"segments": [], "trimRange": {"start": 0, "end": 0.1}}
    }
    assert document(page)["keyInterval"] == 1 and document(page)["ease"] == "spline"
    page.keyboard.press("Control+z")
    assert document(page)["clips"] == [turned]
    assert turned["sourceRange"] == {"start": 0.5, "end": 1.2}

    # the way of all crops, and of one
    page.get_by_role("button", name="Keyframe at 0:00.00").click()
    page.get_by_label("Crops move").select_option("linear")
    way = page.get_by_label("Way to the next")
    expect(way.locator("option:checked")).to_have_text("like all (steady)")
    way.select_option("spline")
    assert document(page)["ease"] == "linear"
    eases = [each.get("ease") for each in document(page)["clips"][0]["cropKeyframes"]]
    assert eases == ["spline", None]
    way.select_option("")
    assert "ease" not in document(page)["clips"][0]["cropKeyframes"][0]


def test_the_picture_is_drawn_where_the_browser_does_not_tell_of_it(
    page: Page, client: httpx.Client, tmp_path: Path
) -> None:
    """As it does not of one that it has shown before, though nothing could be drawn then."""
    clip = numbered_clip(tmp_path / "clip.mp4", 30, size=(160, 96))
    client.put("/api/clips/clip.mp4", content=clip.read_bytes())
    page.add_init_script("HTMLVideoElement.prototype.requestVideoFrameCallback = () => 0")
    opened(page, client)
    paste(page, {"clips": [{"fileName": "clip.mp4"}], "targetWidth": 160, "targetHeight": 96})
    expect(page.locator("#plays")).to_have_text("plays 1.00 s of 1.00 s")
    page.keyboard.press("ArrowRight")
    wait_until(lambda: number_shown(page, tmp_path) == 1)


def number_shown(page: Page, folder: Path) -> int | None:
    """The number of the frame in the live preview, None where nothing is drawn yet."""
    try:
        return read_number(preview(page, folder))
    except ValueError:
        return None


def preview(page: Page, folder: Path) -> NDArray[np.float64]:
    """The live preview's luma, 160x96."""
    shown = page.locator("#preview").evaluate("canvas => canvas.toDataURL()")
    return luma(base64.b64decode(shown.partition(",")[2]), folder)


def exact_frame(
    client: httpx.Client, edit: dict[str, Any], rotation: float, folder: Path
) -> NDArray[np.float64]:
    """The fourth output frame's luma, 160x96, with the first clip turned by so much."""
    (clip,) = edit["clips"]
    turned = {**clip, "key": clip["fileName"], "rotation": rotation}
    asked = {"edit": {**edit, "clips": [turned]}, "frame": 3, "through": "plain"}
    answer = client.post("/api/preview", json=asked)
    assert answer.status_code == 200, answer.text
    return luma(answer.content, folder)


def luma(picture: bytes, folder: Path) -> NDArray[np.float64]:
    path = folder / "picture.png"
    path.write_bytes(picture)
    small = run(
        "ffmpeg",
        "-v",
        "error",
        "-i",
        path,
        "-vf",
        "scale=160:96,format=gray",
        "-f",
        "rawvideo",
        "-",
    )
    return np.frombuffer(small, np.uint8).reshape(96, 160).astype(float)


def test_an_edit_of_the_last_visit_that_cannot_be_read_is_shown(
    page: Page, client: httpx.Client
) -> None:
    opened(page, client)
    unreadable = json.dumps({"clips": [{"fileName": "a.mp4", "trimRange": {"from": 1}}]})
    page.evaluate("text => localStorage.setItem('framestream edit', text)", unreadable)
    opened(page, client)
    expect(page.locator("#paste-error")).to_contain_text("clips[0].trimRange.from: unknown key")
    assert page.locator("#pasted").input_value() == unreadable

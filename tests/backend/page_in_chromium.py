"""What tests of the page do in chromium, and read there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import FloatRect, Locator, Page, Position, expect

from engine.pipeline.exporter import probe_sources
from engine.timeline.edit import Edit
from engine.timeline.plan import Plan, PlannedClip, build_plan

CHROMIUM = shutil.which("chromium")
PATIENCE_MS = 60_000

expect.set_options(timeout=PATIENCE_MS)


def opened(page: Page, client: httpx.Client) -> None:
    page.goto(str(client.base_url))
    page.locator("body[data-ready]").wait_for()


def paste(page: Page, edit: dict[str, Any]) -> None:
    page.get_by_role("button", name="Paste an edit").click()
    page.locator("#pasted").fill(json.dumps(edit))
    page.get_by_role("button", name="Use it").click()


def with_clips(page: Page, clips: list[Path]) -> None:
    """A reel of a small size, so that it is rendered in a moment."""
    paste(page, {"clips": [], "targetWidth": 90, "targetHeight": 160})
    page.locator("#files").set_input_files(clips)
    expect(page.locator("#sum")).to_contain_text("frames")


def drag(page: Page, place: Locator, at: tuple[float, float], by: tuple[int, int]) -> None:
    """From a place in an element, in shares of its size, so many pixels on."""
    box = box_of(page, place)
    inside = Position(x=at[0] * box["width"], y=at[1] * box["height"])
    place.hover(position=inside)  # waits until it has come to rest
    box = box_of(page, place)
    x, y = box["x"] + inside["x"], box["y"] + inside["y"]
    page.mouse.down()
    page.mouse.move(x + by[0], y + by[1], steps=4)
    page.mouse.up()


def box_of(page: Page, place: Locator) -> FloatRect:
    """Where an element is. The page may be drawing it anew at the moment."""
    for _ in range(200):
        box = place.bounding_box()
        if box is not None:
            return box
        page.wait_for_timeout(50)
    raise AssertionError(f"{place} is not shown")


def document(page: Page) -> dict[str, Any]:
    """The edit as the page keeps it, which is what it copies."""
    kept: dict[str, Any] = json.loads(page.evaluate("localStorage.getItem('framestream edit')"))
    return kept


def planned(edit: dict[str, Any], clips: list[Path]) -> Plan:
    """The plan of the page's edit, by the command line's way: its document and its files."""
    files = dict(zip([clip["fileName"] for clip in edit["clips"]], clips, strict=True))
    for clip in edit["clips"]:
        clip["fileName"] = str(files[clip["fileName"]])
    parsed = Edit.parse(edit, unknown="error")
    return build_plan(parsed, probe_sources(parsed))


def serious_faults(page: Page) -> list[str]:
    """What axe-core finds on the page that hinders people seriously."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [
        f"{each['id']}: {each['help']}: {node['html'][:120]}"
        for each in found
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]


def shown_time_s(clip: PlannedClip, frame: int) -> float:
    """When the source frame that a clip shows in an output frame starts."""
    return float(clip.source.time_of(clip.pts[frame - clip.frames.start]))

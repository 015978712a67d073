"""The page as a person uses it: Debian's chromium, driven by Playwright, against a real server."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import xxhash
from playwright.sync_api import Page, Route, expect

from backend.api_keys import ApiKeys
from backend.database import Database
from backend.settings import Settings
from engine.media.image import png
from engine.pipeline.exporter import probe_sources
from engine.pipeline.still import render_still
from engine.timeline.edit import Clip, Edit
from engine.timeline.plan import Plan
from engine.upscale.stage import PlainResampler
from tests.backend.conftest import Serve
from tests.backend.page_in_chromium import (
    CHROMIUM,
    document,
    drag,
    opened,
    planned,
    serious_faults,
    shown_time_s,
    with_clips,
)
from tests.clips import numbered_clip
from tests.media import needs_ffmpeg
from tests.witness import complaints, ffprobe, luma_frames

PLAIN = PlainResampler("test")

pytestmark = [
    needs_ffmpeg,
    pytest.mark.skipif(CHROMIUM is None, reason="the chromium program is not installed"),
]


@pytest.fixture(scope="module")
def two_clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("two clips")
    return [
        numbered_clip(folder / "First goal.mp4", 45, size=(160, 96), sound="bursts"),
        numbered_clip(folder / "Save.mp4", 30, size=(160, 96)),
    ]


def test_a_reel_is_made_by_hand(
    page: Page, client: httpx.Client, two_clips: list[Path], tmp_path: Path
) -> None:
    stills: list[tuple[Any, bytes]] = []

    def pass_on(route: Route) -> None:
        asked = json.loads(route.request.post_data or "")
        if asked["through"] == "network":  # whose weights are not here
            route.fulfill(body=stills[0][1], headers={"X-Preview": '{"upscaler": "stand-in"}'})
            return
        answer = route.fetch()
        stills.append((asked, answer.body()))
        route.fulfill(response=answer)

    page.route("**/api/preview", pass_on)
    opened(page, client)
    assert serious_faults(page) == []
    with_clips(page, two_clips)
    crop, strip = page.locator("#crop"), page.locator("#strip")

    # a crop at the start, another one later, and a smooth way between them
    drag(page, crop, (0.5, 0.5), (-150, 0))
    drag(page, strip, (0.6, 0.3), (0, 0))
    drag(page, crop, (0.35, 0.5), (260, 0))
    page.get_by_role("button", name="Keyframe at 0:00.00").click()
    page.get_by_label("Way to the next").select_option("smooth")
    first, second = document(page)["clips"][0]["cropKeyframes"]
    assert (first["time"], first["ease"]) == (0, "smooth") and 0.8 < second["time"] < 1.0
    assert second["x"] > first["x"] + 20
    assert first["width"] / first["height"] == pytest.approx(90 / 160, rel=0.01)

    # half speed for a while, trim by keys, a dissolve, a chapter's title
    drag(page, strip, (0.2, 0.3), (0, 0))
    page.get_by_role("button", name="Speed", exact=True).click()
    drag(page, strip, (0.9, 0.3), (0, 0))
    page.keyboard.press("o")
    page.get_by_label("Chapter title").fill("Opening goal")
    page.get_by_label("Transition 1", exact=True).select_option("dissolve")
    page.get_by_label("Length of transition 1").fill("0.2")
    page.get_by_label("Length of transition 1").press("Enter")
    page.keyboard.press("Tab")
    assert serious_faults(page) == []

    # what the page says an export will take is what the plan says
    plan = planned(document(page), two_clips)
    facts = page.locator("#estimate")
    expect(facts.locator("[data-fact=frames]")).to_have_text(str(plan.frame_count))
    expect(facts.locator("[data-fact=source-frames]")).to_have_text(str(plan.source_frame_count()))
    expect(page.locator("#sum")).to_contain_text(f"{plan.frame_count} frames")

    # the exact frame, in the dissolve
    page.get_by_role("button", name="First goal, clip 1").or_(
        page.get_by_role("button", name="Opening goal, clip 1")
    ).click()
    drag(page, strip, (0.88, 0.3), (0, 0))
    page.keyboard.press("e")
    expect(page.locator("#still-note")).to_contain_text("Exactly what the encoder will be given")
    asked, picture = stills[0]
    assert plan.clips[1].frames.start <= asked["frame"] < plan.clips[0].frames.stop
    stage_s = page.evaluate("import('/page/app.js').then(({ app }) => app.time)")
    assert shown_time_s(plan.clips[0], asked["frame"]) == pytest.approx(stage_s, abs=1 / 30)
    assert shown_time_s(plan.clips[0], asked["frame"]) <= stage_s + 0.001
    assert picture == png(render_still(plan, asked["frame"], PLAIN))
    expect(page.locator("#split")).to_be_enabled()
    page.locator("#split").fill("30")
    expect(page.locator("#compare")).to_have_class("compare both")
    shown = page.locator("#with").evaluate("image => getComputedStyle(image).clipPath")
    assert shown == "inset(0px 0px 0px 30%)"
    page.keyboard.press("Escape")

    # the export, to its end
    page.get_by_role("button", name="Export the reel").click()
    expect(page.locator("#job h3")).to_have_text("Done")
    film = page.locator("#film")
    film.evaluate("film => { film.muted = true; return film.play() }")
    expect(film).to_have_js_property("ended", True)
    assert film.evaluate("film => [film.videoWidth, film.videoHeight]") == [90, 160]
    page.get_by_text("Proof", exact=True).click()
    held = f"{plan.frame_count} frames of 90x160 at 30 frames/s, {plan.sample_count} samples"
    expect(page.locator("#proof")).to_contain_text(held)
    expect(page.locator("#proof")).to_contain_text("tagged ITU709, BT709, BT709, MPEG range")
    assert serious_faults(page) == []
    check_film(client, plan, tmp_path)
    expect(page.locator("#exports li")).to_have_count(1)

    # at a phone's width nothing sticks out
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.emulate_media(color_scheme="dark")
    assert serious_faults(page) == []


def check_film(client: httpx.Client, plan: Plan, folder: Path) -> None:
    """The finished file by ffprobe, and the frames its encoder was given by their stills."""
    (job,) = client.get("/api/exports").json()["exports"]
    path = folder / "film.mp4"
    path.write_bytes(client.get(job["result"]["presigned_url"]).content)
    assert complaints(path) == "" and len(luma_frames(path)) == plan.frame_count
    chapters = [each["tags"]["title"] for each in ffprobe(path)["chapters"]]
    assert chapters == ["Opening goal", "Save"]
    report = client.get(f"/api/exports/{job['export_id']}/report").json()
    assert report["frames"] == plan.frame_count
    assert report["source_frames"] == plan.source_frame_count()
    (dissolve,) = (
        each for each in report["chunks"] if each["start_frame"] == plan.clips[1].frames.start
    )
    frames = xxhash.xxh3_128()
    for frame in range(dissolve["start_frame"], dissolve["stop_frame"]):
        frames.update(render_still(plan, frame, PLAIN).buffer.data)
    assert frames.hexdigest() == dissolve["frame_hash"]


def test_order_undo_and_the_document(
    page: Page, client: httpx.Client, two_clips: list[Path]
) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    opened(page, client)
    with_clips(page, two_clips)
    first, second = [clip["fileName"] for clip in document(page)["clips"]]
    cards = page.locator("#clips .face")
    drag(page, cards.nth(0), (0.5, 0.5), (260, 0))
    assert [clip["fileName"] for clip in document(page)["clips"]] == [second, first]
    page.keyboard.press("Alt+ArrowLeft")
    assert [clip["fileName"] for clip in document(page)["clips"]] == [first, second]
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    assert [clip["fileName"] for clip in document(page)["clips"]] == [first, second]

    (source, _) = probe_sources(Edit([Clip(path) for path in two_clips]))
    told = client.get(f"/api/clips/{first}/glance").json()["timing"]
    assert told.items() <= source.to_document().items() and len(told) == 3
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    expect(page.locator("#time")).to_contain_text("0:00.10 /")
    page.keyboard.press("i")
    page.keyboard.press("k")
    page.keyboard.press(" ")
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    page.keyboard.press(" ")
    page.get_by_role("button", name="Copy the edit as JSON").click()
    expect(page.locator("#toast")).to_contain_text("Copied")
    copied = json.loads(page.evaluate("navigator.clipboard.readText()"))
    assert copied == document(page)
    assert copied["clips"][0]["segmentsData"]["trimRange"]["start"] == 0.1
    assert [each["time"] for each in copied["clips"][0]["cropKeyframes"]] == [0.1]
    assert Edit.parse(copied, unknown="error").clips[0].trim_start_s == Fraction(1, 10)

    app_spelling = {
        "clips": [
            {
                "clipIndex": 0,
                "fileName": first,
                "cropKeyframes": [],
                "segments": {"boundaries": [0, 0.5, 1], "segmentSpeeds": {"1": 2}},
                "trimRange": None,
            }
        ],
        "globalAspectRatio": "1:1",
    }
    page.get_by_role("button", name="Paste an edit").click()
    page.locator("#pasted").fill("{")
    page.get_by_role("button", name="Use it").click()
    expect(page.locator("#paste-error")).not_to_be_empty()
    page.locator("#pasted").fill(json.dumps(app_spelling | {"targetFps": 300}))
    page.get_by_role("button", name="Use it").click()
    expect(page.locator("#paste-error")).to_have_text("targetFps: must be from 1 to 240, not 300")
    page.locator("#pasted").fill(json.dumps(app_spelling))
    page.get_by_role("button", name="Use it").click()
    assert document(page)["clips"][0]["segmentsData"]["segments"] == [
        {"start": 0.5, "end": 1, "speed": 2}
    ]
    expect(page.locator("#plays")).to_have_text("plays 1.25 s of 1.50 s")
    expect(page.get_by_label("Shape")).to_have_value("1080x1080")


def test_a_key_is_asked_for_where_there_are_keys(page: Page, serve: Serve, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    settings = Settings(data_dir=folder)
    database = Database(settings.database)
    database.migrate()
    key = ApiKeys(database).make("coach")
    database.close()
    client = serve(data_dir=folder)
    page.goto(str(client.base_url))
    dialog = page.locator("#login")
    for entered in ("wrong", key):
        page.locator("#api-key").fill(entered)
        page.get_by_role("button", name="Enter").click()
        if entered == "wrong":
            expect(dialog).to_contain_text("no key of this server")
    page.locator("body[data-ready]").wait_for()
    assert not dialog.is_visible()
    assert page.evaluate("document.cookie") == ""  # scripts cannot read it

    leave = page.get_by_role("button", name="Log out")
    for width in (1360, 390):
        page.set_viewport_size({"width": width, "height": 800})
        expect(leave).to_be_in_viewport(ratio=1)
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert serious_faults(page) == []
    leave.focus()
    page.keyboard.press("Enter")
    expect(dialog).to_be_visible()
    page.reload()
    expect(dialog).to_be_visible()


def test_there_is_no_logout_without_a_login(page: Page, client: httpx.Client) -> None:
    opened(page, client)
    expect(page.locator("#leave")).to_be_hidden()


def test_the_documentation_is_whole_and_comes_from_here(page: Page, client: httpx.Client) -> None:
    hosts: set[str] = set()
    page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
    page.goto(f"{client.base_url}/docs")
    page.locator("#operations-session-who_api_session_get").click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    expect(page.locator(".live-responses-table")).to_contain_text('"user_id": "local"')
    page.get_by_role("button", name="Authorize").click()
    expect(page.get_by_role("heading", name="Available authorizations")).to_be_visible()
    assert hosts == {client.base_url.netloc.decode()}
    assert client.get("/redoc").status_code == 404


def test_a_clip_that_the_browser_does_not_play_is_shown_by_its_filmstrip(
    page: Page, client: httpx.Client, tmp_path: Path
) -> None:
    clip = numbered_clip(tmp_path / "old.mp4", 24, size=(96, 96), codec="mpeg4")
    opened(page, client)
    with_clips(page, [clip])
    expect(page.locator("#screen-note")).to_contain_text("does not play MPEG4")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("k")
    assert len(document(page)["clips"][0]["cropKeyframes"]) == 1

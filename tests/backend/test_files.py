"""What a user uploaded is served as what it is, and no browser runs it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, expect, sync_playwright
from playwright.sync_api import Error as BrowserError

from tests.backend.conftest import post
from tests.clips import numbered_clip

CHROMIUM = shutil.which("chromium")
ARGUMENTS = ["--no-sandbox", "--disable-features=LocalNetworkAccessChecks"]
"""Pages that a test makes up may ask servers on this machine."""
PATIENCE_MS = 60_000
SCRIPT = b"<!doctype html><script>document.title = 'it ran'</script>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("the chromium program is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


def store_by_hand(client: httpx.Client, name: str, data: bytes) -> str:
    """Puts a clip beside all checks, as an older version may have. Gives its signed address."""
    path = Path(client.headers["X-Data-Dir"]) / "store" / "local" / "clips" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return client.get(f"/api/clips/{name}/file").headers["Location"]


def film_with_script(folder: Path) -> bytes:
    """A valid film. It has a script in a box at its end, which players skip."""
    film = numbered_clip(folder / "evil.mov", 6, size=(96, 96)).read_bytes()
    return film + (8 + len(SCRIPT)).to_bytes(4, "big") + b"free" + SCRIPT


@pytest.mark.parametrize(
    ("name", "media_type", "disposition"),
    [
        ("a.mp4", "video/mp4", "inline"),
        ("A.MOV", "video/quicktime", "inline"),
        ("a.gif", "image/gif", "inline"),
        ("a.html", "application/octet-stream", "attachment"),
        ("a.svg", "application/octet-stream", "attachment"),
        ("a.mp4.xhtml", "application/octet-stream", "attachment"),
        ("a", "application/octet-stream", "attachment"),
    ],
)
def test_a_file_is_served_as_what_it_is(
    client: httpx.Client, name: str, media_type: str, disposition: str
) -> None:
    address = store_by_hand(client, name, SCRIPT)
    for span, status in ((None, 200), ("bytes=2-8", 206), ("bytes=999-", 416)):
        answer = client.get(address, headers={"Range": span} if span else {})
        assert answer.status_code == status
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert "allow-scripts" not in answer.headers["Content-Security-Policy"]
        if status != 416:
            assert answer.headers["Content-Type"] == media_type
            assert answer.headers["Content-Disposition"] == disposition
            assert answer.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    several = client.get(address, headers={"Range": "bytes=0-1,4-5"})
    assert "text/html" not in several.text and several.status_code == 206
    assert client.get(address.replace("name=", "name=b.html")).status_code == 403


def test_a_film_is_played_at_its_address_and_saved_by_a_download(
    client: httpx.Client, clips: list[Path]
) -> None:
    made = post(client, clips[1:], export_id="reel", project_id="7").json()
    played = client.get(made["presigned_url"], headers={"Range": "bytes=4-7"})
    assert (played.status_code, played.content) == (206, b"ftyp")
    assert played.headers["Content-Disposition"] == "inline"
    saved = client.get("/api/exports/reel/download", follow_redirects=True)
    name = made["filename"]
    assert saved.headers["Content-Disposition"] == f"attachment; filename*=UTF-8''{name}"
    assert saved.headers["Content-Type"] == played.headers["Content-Type"] == "video/mp4"


def test_a_browser_plays_films_and_runs_nothing_of_them(
    client: httpx.Client, browser: Browser, tmp_path: Path
) -> None:
    film = film_with_script(tmp_path)
    refused = client.put("/api/clips/evil.html", content=film)
    assert refused.status_code == 422 and "evil.html must end in" in refused.json()["detail"]
    page = browser.new_page()
    page.set_default_timeout(PATIENCE_MS)
    for name, content in (("evil.html", film), ("evil.svg", SCRIPT), ("evil", SCRIPT)):
        address = store_by_hand(client, name, content)
        with page.expect_download() as download, pytest.raises(BrowserError, match="Download"):
            page.goto(address)
        assert Path(download.value.path()).read_bytes() == content

    # a film that is opened by itself: Chromium makes a document around it
    page.goto(store_by_hand(client, "evil.mp4", film))
    video = page.locator("video")
    expect(video).to_have_js_property("readyState", 4, timeout=PATIENCE_MS)
    video.press("Space")  # nothing in a sandbox starts by itself
    expect(video).to_have_js_property("ended", True, timeout=PATIENCE_MS)
    handler = "<img src=x: onerror=\"document.title = 'it ran'\">"
    with page.expect_console_message(lambda line: "Blocked script" in line.text):
        video.evaluate("(film, html) => film.insertAdjacentHTML('afterend', html)", handler)
    assert page.title() != "it ran"

    # a page of another origin that embeds it
    elsewhere = f"http://localhost:{client.base_url.port}/embedded"
    film_element = f"<video src='{page.url}'></video>"
    page.route(elsewhere, lambda route: route.fulfill(content_type="text/html", body=film_element))
    page.goto(elsewhere)
    expect(video).to_have_js_property("readyState", 4, timeout=PATIENCE_MS)
    page.close()

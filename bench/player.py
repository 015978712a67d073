"""Chromium as a player of films: how long it takes until the frame of a seek is on the screen.

Films are served over HTTP on loopback, with ranges, as a web server does. Knows no engine.
"""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import uvicorn
from playwright.sync_api import Page, sync_playwright
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

CHROMIUM = shutil.which("chromium")
PATIENCE_MS = 60_000
FILM_HEIGHT_PX = 640
"""On the screen, so that films beside each other are all in sight: else Chromium may not draw."""

_SEEK = """([film, time, patience]) => new Promise((resolve, reject) => {
  const video = document.querySelectorAll("video")[film];
  const seeked = new Promise((done) => video.addEventListener("seeked", done, { once: true }));
  const start = performance.now();
  const before = video.shown ?? 0;
  const wait = () => video.requestVideoFrameCallback(async (_, frame) => {
    const taken = performance.now() - start;
    if (frame.mediaTime === before) return wait();  // the frame before may not be drawn yet
    video.shown = frame.mediaTime;
    await seeked;
    resolve([taken, frame.mediaTime]);
  });
  wait();
  setTimeout(() => reject(new Error(`no frame for ${time} s in film ${film}`)), patience);
  video.currentTime = time;
})"""
_ALL_READY = "[...document.querySelectorAll('video')].every((video) => video.readyState >= 2)"


@dataclass(frozen=True, slots=True)
class Player:
    """Films that are open side by side."""

    page: Page
    fps: Fraction
    version: str
    """Chromium's."""

    def seek(self, film: int, frame: int) -> float:
        """Milliseconds from `currentTime = ...` until the page is told that the frame is shown.

        It must be another frame than the one before. Raises RuntimeError where another frame is
        shown, by its time in the film.
        """
        time_s = float((frame + Fraction(1, 2)) / self.fps)
        taken_ms, shown_s = self.page.evaluate(_SEEK, [film, time_s, PATIENCE_MS])
        if abs(shown_s * self.fps - frame) > 0.01:
            raise RuntimeError(f"film {film} shows {shown_s:.6f} s, which is not frame {frame}")
        return float(taken_ms)


@contextmanager
def player(folder: Path, films: Sequence[str], fps: Fraction) -> Iterator[Player]:
    """Films of a folder by their names, all of that frame rate, open in one page."""
    with _served(folder) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1920, "height": FILM_HEIGHT_PX})
        page.set_default_timeout(PATIENCE_MS)
        style = f"height: {FILM_HEIGHT_PX}px; max-width: {100 // len(films)}%"
        videos = (f'<video src="{url}/{name}" style="{style}" muted></video>' for name in films)
        page.set_content(f'<body style="margin: 0; display: flex">{"".join(videos)}')
        page.wait_for_function(_ALL_READY)
        yield Player(page, fps, browser.version)
        browser.close()


@contextmanager
def _served(folder: Path) -> Iterator[str]:
    """A web server of the folder's files, in a thread; gives its address."""
    files = Starlette(routes=[Mount("/", StaticFiles(directory=folder))])
    server = uvicorn.Server(uvicorn.Config(files, log_level="warning"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()

"""Runs the page's own JavaScript modules: in node where it is installed, else in chromium."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Route, sync_playwright

from backend.page_constants import page_constants_module
from backend.routes.page import FOLDER

NODE = shutil.which("node")
CHROMIUM = shutil.which("chromium")

Ask = Callable[[str, Any], Any]
"""Calls an exported function of `page_modules.js` by its name, with one argument."""

_FUNCTIONS = Path(__file__).with_suffix(".js")

_SERVE_LINES = """
import { createInterface } from "node:readline";
import * as functions from "./page_modules.js";

for await (const line of createInterface({ input: process.stdin })) {
  const [name, argument] = JSON.parse(line);
  try {
    console.log(JSON.stringify({ result: functions[name](argument) }));
  } catch (error) {
    console.log(JSON.stringify({ error: String(error.stack) }));
  }
}
"""


@contextmanager
def page_modules(folder: Path) -> Iterator[Ask]:
    """The page's modules, copied into an empty folder and running. One of the two must be there."""
    for path in [*FOLDER.glob("*.js"), _FUNCTIONS]:
        shutil.copy(path, folder)
    (folder / "constants.js").write_text(page_constants_module())
    with _in_node(folder) if NODE else _in_chromium(folder) as ask:
        yield ask


@contextmanager
def _in_node(folder: Path) -> Iterator[Ask]:
    """A node process that answers each line of JSON with a line of JSON."""
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "serve_lines.js").write_text(_SERVE_LINES)
    command = [str(NODE), str(folder / "serve_lines.js")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        requests, responses = process.stdin, process.stdout

        def ask(name: str, argument: Any) -> Any:
            requests.write(json.dumps([name, argument]) + "\n")
            requests.flush()
            response = json.loads(responses.readline())
            assert "error" not in response, response["error"]
            return response["result"]

        yield ask
        requests.close()
        assert process.wait(60) == 0


@contextmanager
def _in_chromium(folder: Path) -> Iterator[Ask]:
    """A chromium tab whose only server is the folder."""

    def fulfil(route: Route) -> None:
        name = route.request.url.rpartition("/")[2]
        if name:
            route.fulfill(path=folder / name, content_type="text/javascript")
        else:
            route.fulfill(body="<!doctype html>", content_type="text/html")

    call = """async ([name, argument]) => {
        const functions = await import("/page_modules.js");
        return JSON.stringify(functions[name](JSON.parse(argument)));
    }"""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.route("http://page.test/**", fulfil)
        page.goto("http://page.test/")
        yield lambda name, argument: json.loads(page.evaluate(call, [name, json.dumps(argument)]))
        browser.close()

"""A page in Chromium, served from a folder: what test modules of the page share."""

from __future__ import annotations

import functools
import http.server
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import wavenet.web

PATIENCE = 300_000  # milliseconds: of waiting for a condition, however busy the machine is
ARGUMENTS = [
    "--no-sandbox",
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-device-for-media-stream",  # a microphone that beeps
    "--use-fake-ui-for-media-stream",
]


def wasm() -> Path:
    """`wavenet.wasm`. Skips the test where it was not built, unless WAVENET_WASM says that it must be."""
    try:
        return wavenet.web.file("wavenet.wasm")
    except FileNotFoundError as error:
        if os.environ.get("WAVENET_WASM"):
            raise
        pytest.skip(str(error))


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The address of a web server for a folder."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser, of Playwright's synchronous interface. Skips the test where it or Playwright is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium is installed: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=ARGUMENTS, timeout=120_000)
        yield browser
        browser.close()


@contextmanager
def open_page(address: str, **options: Any) -> Iterator[Any]:
    """A page in Chromium. `page.errors` are the errors in its console. options: of Playwright's `new_page`."""
    with chromium() as browser:
        page = browser.new_page(**options)
        page.set_default_timeout(PATIENCE)
        page.errors = []
        page.on("console", lambda message: page.errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.goto(address)
        yield page

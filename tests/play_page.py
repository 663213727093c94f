"""What the tests of the page's Play section share: a page with small models of every kind, and ways to use it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from browser import PATIENCE, serving, wasm
from commands import SAMPLE_RATE, save_model, save_vocoder
from two_tier_data import two_tiers

from wavenet import checkpoint
from wavenet.web import site

Opener = Callable[..., Any]
MODELS = ("plain", "trio", "copier", "tiers")
PLAYING = "() => engine.playing && engine.position > 800"


def build_page(root: Path) -> Path:
    """Builds the page in a folder below `root`, with a clip and a file that is no model beside it."""
    wasm()
    models = [root / f"{name}.safetensors" for name in MODELS]
    save_model(models[0])
    save_model(models[1], speakers=("ann", "bob", "cleo"))
    save_vocoder(models[2])
    checkpoint.save_model(models[3], two_tiers())
    seconds = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    soundfile.write(root / "hum.wav", 0.3 * np.sin(2 * np.pi * 220 * seconds), SAMPLE_RATE)
    (root / "broken.safetensors").write_bytes(b"no model at all")
    site.build(models, root / "deep" / "page", clip=root / "hum.wav")
    return root


@contextmanager
def opener(browser: Any, root: Path) -> Iterator[Opener]:
    """A function that opens the page, until its models can be played if `ready`, after running the JavaScript `before`.

    Afterwards: no errors in the console but those that match `expected`, no requests to other hosts.
    options: of Playwright's `new_context`.
    """
    contexts = []

    def opened(before: str = "", ready: bool = True, expected: str = "^$", path: str = "", **options: Any) -> Any:
        context = browser.new_context(**{"viewport": {"width": 1100, "height": 900}, **options})
        errors: list[str] = []
        requests: list[str] = []
        contexts.append((context, expected, errors, requests))
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.add_init_script(before)
        page.goto(f"{address}deep/page/{path}")
        if ready:
            page.wait_for_selector("[data-part=play]:enabled")
        return page

    with serving(root) as address:
        yield opened
        for context, expected, errors, requests in contexts:
            context.close()
            assert not [error for error in errors if not re.search(expected, error)]
            assert all(url.startswith((address, "blob:", "data:")) for url in requests)


def play(page: Any) -> None:
    page.locator("[data-part=play]").click()
    page.wait_for_function(PLAYING)


def choose_model(page: Any, name: str) -> None:
    page.get_by_label("Model", exact=True).select_option(index=MODELS.index(name))
    page.wait_for_function(f"() => engine.model.name === '{name}' && !engine.loading")


def settings_after(page: Any, condition: str) -> Any:
    """The take's settings, once the condition on them is fulfilled."""
    page.wait_for_function(f"() => {{ const settings = engine.take.settings; return {condition}; }}")
    return page.evaluate("() => engine.take.settings")


def drop(page: Any, file: Path) -> None:
    """Drops a file onto the page."""
    page.evaluate(
        """([name, bytes]) => {
          const transfer = new DataTransfer();
          transfer.items.add(new File([Uint8Array.from(bytes)], name));
          const options = { dataTransfer: transfer, bubbles: true, cancelable: true };
          document.body.dispatchEvent(new DragEvent("drop", options));
        }""",
        [file.name, list(file.read_bytes())],
    )

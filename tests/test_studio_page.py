"""The studio's page in Chromium: a model that the server plays, and a training run."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import open_page, wasm
from studio_client import Client, client_of, write_run

from wavenet.generate import Generator
from wavenet.web import studio

MODEL = Path(__file__).parents[1] / "samples" / "made" / "speech.safetensors"
HEARD = "(samples) => engine.position >= samples"
TAKE = "() => { const { samples, settings } = engine.take; return { samples: Array.from(samples), settings }; }"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("studio")
    shutil.copy(MODEL, path / "speech.safetensors")
    (path / "broken.safetensors").touch()
    write_run(path / "mine", "clip: <b>murmurs</b>")
    return path


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[Client]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(studio, "TOO_MANY_BYTES", 1_000)
        with client_of(folder) as opened:
            yield opened


@pytest.fixture(scope="module")
def page(client: Client) -> Iterator[Any]:
    with open_page(f"http://127.0.0.1:{client.port}/") as opened:
        opened.wait_for_function("() => globalThis.engine?.info && !engine.loading")
        yield opened
        assert opened.errors == []


def generated(settings: Any) -> np.ndarray:
    """The samples of a take, from its settings."""
    generator = Generator.load(MODEL, precision=settings["precision"])
    session = generator.session(seed=settings["seed"], temperature=settings["controls"].get("temperature"))
    parts = []
    names = {"topK": "top_k", "topP": "top_p"}
    for event in settings["events"]:
        if event["position"] > session.position:
            parts.append(session.next(event["position"] - session.position))
        if "seed" in event:
            session = session.copy(seed=event["seed"])
        for name, value in event.get("set", {}).items():
            setattr(session, names.get(name, name), value)
    return np.concatenate([*parts, session.next(settings["samples"] - session.position)])


def test_the_server_plays_a_model_with_the_same_controls(page: Any) -> None:
    assert page.evaluate("() => [engine.model.source, engine.canWatch]") == ["server", False]
    page.evaluate("async () => { await engine.restart({ seed: 7 }); await engine.play(); }")
    page.wait_for_function(HEARD, arg=4_000)
    page.evaluate("() => engine.set({ temperature: 0.7, mute: [3, 4] })")
    page.wait_for_function(HEARD, arg=8_000)
    page.evaluate("async () => { globalThis.kept = await engine.branch(); engine.set({ topK: 50 }); }")
    kept = page.evaluate("() => engine.position")
    page.wait_for_function(HEARD, arg=kept + 4_000)
    page.evaluate("async () => { engine.pause(); await engine.returnTo(kept, { seed: 11 }); await engine.play(); }")
    page.wait_for_function(HEARD, arg=kept + 4_000)
    page.evaluate("() => engine.pause()")
    take = page.evaluate(TAKE)
    events = take["settings"]["events"]
    assert {"temperature": 0.7, "mute": [3, 4]} in [event.get("set") for event in events]
    assert [event["seed"] for event in events if "seed" in event] == [11]
    assert events == sorted(events, key=lambda event: event["position"])
    samples = np.array(take["samples"], np.float32)
    assert len(samples) == take["settings"]["samples"] > kept
    np.testing.assert_array_equal(samples, generated(take["settings"]))
    assert len(np.unique(samples)) > 50


def test_a_past_is_continued_and_what_is_wrong_is_said(page: Any) -> None:
    past = (0.5 * np.sin(np.arange(2_000) / 10)).round(4)
    page.evaluate("async (past) => { await engine.prime(Float32Array.from(past), 'tone'); }", past.tolist())
    page.evaluate("() => engine.set({ temperature: 1, mute: [], topK: 256 })")
    page.evaluate("async () => { await engine.restart({ seed: 1 }); await engine.play(); }")
    page.wait_for_function(HEARD, arg=3_000)
    page.evaluate("() => engine.pause()")
    take = page.evaluate(TAKE)
    clip = np.frombuffer(base64.b64decode(take["settings"]["clip"]["pcm"]), "<i2") / np.float32(32_768)
    generator = Generator.load(MODEL, precision="int8")
    expected = generator.session(seed=1, prime=clip.astype(np.float32)).next(len(take["samples"]))
    np.testing.assert_array_equal(np.array(take["samples"], np.float32), expected)
    page.evaluate("() => engine.prime(new Float32Array(61 * 16000), 'long')")
    page.wait_for_function("() => document.querySelector('[data-part=error]').textContent.includes('60 s are used')")
    page.evaluate("() => engine.prime(null)")


def test_the_browser_computes_it_instead(page: Any) -> None:
    wasm()
    assert page.locator("#origin").input_value() == "server"
    page.locator("#origin").select_option("browser")
    page.wait_for_function("() => engine.model.source === 'browser' && !engine.loading")
    assert page.evaluate("() => engine.canWatch") is True
    page.locator("#origin").select_option("server")
    page.wait_for_function("() => engine.model.source === 'server' && !engine.loading")


def test_runs_are_shown_and_followed(page: Any, folder: Path) -> None:
    runs = page.locator("#runs")
    runs.get_by_role("button", name="mine").wait_for()
    runs.get_by_text("step 10, after 1.0 minutes: 5.000 bits per sample held out, the best so far").first.wait_for()
    assert "training · 61 s left · step 12 after 61 s · 5.000 bits per sample" in runs.inner_text().replace("\n", " ")
    assert runs.get_by_text("clip: <b>murmurs</b>").first.is_visible()
    assert runs.get_by_role("img", name="bits per sample against minutes").is_visible()
    runs.get_by_role("img", name="spectrograms of the clip").scroll_into_view_if_needed()
    page.wait_for_function("() => document.querySelector('#runs .entries img').complete")
    fetched = "async () => (await fetch(document.querySelector('#runs audio').src)).headers.get('content-type')"
    assert page.evaluate(fetched) == "audio/wav"
    page.evaluate("() => document.querySelector('#runs audio').dataset.mark = 'the same'")
    page.get_by_text("Files that cannot be played").click()
    assert page.get_by_text("broken: the file is empty").is_visible()
    write_run(folder / "mine", "another")
    runs.get_by_text("another").first.wait_for()
    assert page.locator("#runs audio").first.get_attribute("data-mark") == "the same"
    write_run(folder / "second")
    runs.get_by_role("button", name="second").click()
    runs.locator("h3", has_text="second").wait_for()


def test_nothing_is_loaded_from_elsewhere(page: Any, client: Client) -> None:
    loaded = page.evaluate("() => performance.getEntriesByType('resource').map(({ name }) => name)")
    own = (f"http://127.0.0.1:{client.port}/", "data:", "blob:")
    assert len(loaded) > 20 and all(name.startswith(own) for name in loaded)

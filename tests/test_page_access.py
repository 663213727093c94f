"""The page for everyone: accessibility, screen widths, light and dark, and what it says when something is missing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from browser import chromium
from play_page import PLAYING, Opener, build_page, choose_model, drop, opener, play

DENIED = 'navigator.mediaDevices.getUserMedia = async () => { throw new DOMException("denied", "NotAllowedError"); }'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_page(tmp_path_factory.mktemp("access"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


@pytest.fixture
def open_page(browser: Any, folder: Path) -> Iterator[Opener]:
    with opener(browser, folder) as opened:
        yield opened


@pytest.mark.parametrize(("scheme", "width"), [("light", 1100), ("dark", 1100), ("light", 360)])
def test_axe_finds_nothing(open_page: Opener, scheme: str, width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="pip install axe-playwright-python").Axe()
    page = open_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.get_by_text("Keys", exact=True).click()
    for name in ("trio", "copier", "tiers"):
        choose_model(page, name)
        if name == "trio":
            play(page)
            page.get_by_role("button", name="Keep this moment").click()
            page.wait_for_selector(".branches li")
        found = axe.run(page, context="#play").response["violations"]
        assert found == [], [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in found]


@pytest.mark.parametrize("width", [360, 800, 1400])
def test_the_page_fits_the_screen(open_page: Opener, width: int, tmp_path: Path) -> None:
    page = open_page(viewport={"width": width, "height": 800})
    choose_model(page, "trio")
    play(page)
    page.get_by_role("button", name="Keep this moment").click()
    page.wait_for_selector(".branches li")
    wide = page.evaluate(
        """() => Array.from(document.querySelectorAll("#play *"))
          .filter((it) => !it.closest("code, .spoken, svg") && it.getBoundingClientRect().right > innerWidth)
          .map((it) => it.outerHTML.slice(0, 80))"""
    )
    assert wide == []
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width
    page.wait_for_function(
        """() => {
          const canvas = document.querySelector("[data-part=spectrogram]");
          const [x, width] = [canvas.width - 40, 30];
          const { data } = canvas.getContext("2d").getImageData(x, 20, width, canvas.height / 2);
          return new Set(new Uint32Array(data.buffer)).size > 20; // colours, where the newest columns are
        }"""
    )
    screenshot = tmp_path / f"page-{width}.png"
    page.screenshot(path=screenshot, full_page=True)
    assert screenshot.stat().st_size > 20_000
    play_button = page.locator("[data-part=play]").bounding_box()
    assert play_button["y"] + play_button["height"] < 800  # above the fold


def test_with_less_motion_the_spectrogram_stands_still(open_page: Opener) -> None:
    page = open_page(reduced_motion="reduce")
    drawn = page.evaluate(
        """async () => {
          const { Spectrogram } = await import("./spectrogram.js");
          const canvas = document.querySelector("[data-part=spectrogram]");
          const spectrogram = new Spectrogram(canvas);
          spectrogram.setRate(8000);
          const tone = Float32Array.from({ length: 4000 }, (_, i) => 0.5 * Math.sin(i));
          const ends = [];
          for (let i = 0; i < 2; ++i) {
            spectrogram.push(tone);
            spectrogram.step(0.5);
            ends.push(spectrogram.newest / spectrogram.columns);
          }
          return ends;
        }"""
    )
    assert drawn[1] == pytest.approx(2 * drawn[0], rel=0.05)
    assert drawn[0] == pytest.approx(0.5 / 8, rel=0.05)


def test_spectrum_of_a_sine(open_page: Opener) -> None:
    decibels = open_page(ready=False).evaluate(
        """async () => {
          const { Spectrum } = await import("./fft.js");
          const sine = Float32Array.from({ length: 256 }, (_, i) => 0.1 * Math.sin((2 * Math.PI * 20 * i) / 256));
          return Array.from(new Spectrum(256).of(sine));
        }"""
    )
    assert decibels[20] == pytest.approx(-20, abs=0.01)
    assert decibels[19] == decibels[21] == pytest.approx(-26.02, abs=0.01)  # the Hann window: half
    assert max(decibels[:18] + decibels[23:]) < -100


def test_wav_files(open_page: Opener, tmp_path: Path) -> None:
    content = open_page(ready=False).evaluate(
        """async () => {
          const { wavFile } = await import("./wav.js");
          const samples = Float32Array.from([0, 0.5, -0.5, 1, -1, 1.5, -2, 0.6 / 32768, -0.6 / 32768]);
          return Array.from(new Uint8Array(wavFile(samples, 22050, { INAM: "näme", ICMT: "odd" })));
        }"""
    )
    file = tmp_path / "file.wav"
    file.write_bytes(bytes(content))
    samples, rate = soundfile.read(file, dtype="int16")
    assert (samples.tolist(), rate) == ([0, 16384, -16384, 32767, -32768, 32767, -32768, 1, -1], 22050)
    with soundfile.SoundFile(file) as opened:
        assert (opened.title, opened.comment, opened.subtype) == ("näme", "odd", "PCM_16")


@pytest.mark.parametrize(
    ("before", "message"),
    [
        ("Object.defineProperty(globalThis, 'isSecureContext', { value: false })", "open this page by https"),
        ("delete globalThis.WebAssembly", "no WebAssembly"),
        ("WebAssembly.validate = () => false", "no SIMD instructions"),
        ("delete globalThis.AudioWorkletNode", "no AudioWorklet"),
        ("globalThis.fetch = async () => new Response('', { status: 404, statusText: 'gone' })", "404 gone"),
        ("globalThis.fetch = async () => new Response('{\"models\": []}')", "names no models"),
        ("globalThis.fetch = async () => { throw new TypeError('Failed to fetch'); }", "serve this folder"),
    ],
)
def test_what_is_missing_is_said(open_page: Opener, before: str, message: str) -> None:
    page = open_page(before, ready=False)
    alert = page.get_by_role("alert").filter(has_text=message)
    alert.wait_for()
    assert "\n" not in alert.inner_text()


def missing(name: str) -> str:
    """JavaScript that makes requests of a file fail."""
    return (
        "const real = globalThis.fetch; globalThis.fetch = async (url, options) => String(url).endsWith("
        f"{name!r}) ? new Response('', {{ status: 404, statusText: 'gone' }}) : real(url, options)"
    )


@pytest.mark.parametrize("name", ["plain.safetensors", "wavenet.wasm"])
def test_a_missing_file_is_said(open_page: Opener, name: str) -> None:
    page = open_page(missing(name), ready=False)
    page.get_by_role("alert").filter(has_text=f"{name}: 404 gone").wait_for()


def test_a_page_that_is_opened_as_a_file_says_so(browser: Any, folder: Path) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        page.goto((folder / "deep" / "page" / "index.html").as_uri())  # browsers refuse it the modules
        page.get_by_text("open the page from a web server").wait_for()


def test_a_clip_with_nan_leaves_what_plays(open_page: Opener, folder: Path) -> None:
    soundfile.write(folder / "nan.wav", np.full(8_000, np.nan), 8_000, "FLOAT")
    page = open_page()
    play(page)
    drop(page, folder / "nan.wav")
    page.get_by_role("alert").filter(has_text="nan.wav contains values that are no numbers").wait_for()
    page.wait_for_function(PLAYING)
    assert page.evaluate("() => engine.take.settings.clip") is None


def test_a_broken_model_leaves_the_one_that_plays(open_page: Opener, folder: Path) -> None:
    page = open_page()
    play(page)
    drop(page, folder / "broken.safetensors")
    alert = page.get_by_role("alert")
    alert.filter(has_text="broken").wait_for()
    assert page.evaluate("() => engine.model.name") == "plain"
    assert page.get_by_label("Model", exact=True).input_value() == "plain (voice)"
    page.wait_for_function(PLAYING)
    drop(page, folder / "trio.safetensors")
    page.wait_for_function("() => engine.model.name === 'trio'")
    assert alert.is_hidden()
    assert page.get_by_label("Model", exact=True).input_value() == "trio (opened here)"


def test_a_microphone_that_is_refused_is_said(open_page: Opener) -> None:
    page = open_page(DENIED)
    page.get_by_role("button", name="Record").click()
    page.get_by_role("alert").filter(has_text="microphone").wait_for()
    choose_model(page, "copier")
    page.get_by_role("button", name="Live microphone").click()
    page.get_by_role("alert").filter(has_text="microphone").wait_for()
    assert page.get_by_role("button", name="Live microphone").get_attribute("aria-pressed") == "false"


def test_a_slow_browser_is_said(open_page: Opener) -> None:
    page = open_page()
    page.evaluate(
        """() => {
          const detail = { playing: true, loading: false, waiting: true, ahead: 1.25 };
          engine.speed = 0.5;
          engine.dispatchEvent(new CustomEvent("state", { detail }));
        }"""
    )
    page.get_by_text("slower than real time (0.50 x)").wait_for()
    page.get_by_text("1.3 s are ready").wait_for()
    page.evaluate('() => engine.dispatchEvent(new CustomEvent("state", { detail: { playing: true, waiting: false } }))')
    assert page.get_by_text("slower than real time (0.50 x)").is_hidden()


def test_rms_on_the_level_meter(open_page: Opener) -> None:
    shown = open_page().evaluate(
        """async () => {
          const { LevelMeter } = await import("./level_meter.js");
          const meter = new LevelMeter(document.querySelector("[data-part=level]"));
          meter.push(new Float32Array(100).fill(0.1));
          const before = [meter.rms, meter.peak];
          meter.step(0.5);
          return [...before, meter.rms, meter.peak];
        }"""
    )
    np.testing.assert_allclose(shown, [-20, -20, -44, -32], atol=1e-4)

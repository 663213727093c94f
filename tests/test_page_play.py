"""The Play section of the page, in Chromium: every control, keys, clips, branches, downloads."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from browser import chromium
from commands import SAMPLE_RATE, run
from play_page import PLAYING, Opener, build_page, choose_model, drop, opener, play, settings_after


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_page(tmp_path_factory.mktemp("play"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


@pytest.fixture
def open_page(browser: Any, folder: Path) -> Iterator[Opener]:
    with opener(browser, folder) as opened:
        yield opened


def controls_in(settings: Any) -> Any:
    """The controls at the end of a take."""
    return {**settings["controls"], **{k: v for event in settings["events"] for k, v in event.get("set", {}).items()}}


def reaches(page: Any, name: str, value: Any) -> None:
    """Waits until a control is in the engine and in the settings of the take."""
    given = json.dumps(value)
    same = f"JSON.stringify(engine.controls.{name}) === JSON.stringify({given})"
    events = (
        f"settings.events.some((event) => event.set && JSON.stringify(event.set.{name}) === JSON.stringify({given}))"
    )
    settings = settings_after(
        page, f"{same} && ({events} || JSON.stringify(settings.controls.{name}) === JSON.stringify({given}))"
    )
    assert controls_in(settings)[name] == value


def test_sampling_controls_reach_the_engine_and_the_settings(open_page: Opener) -> None:
    page = open_page()
    play(page)
    for label, position, name, value in (
        ("Temperature", "0.5", "temperature", 0.5),
        ("Top-k", "5", "topK", 32),
        ("Top-p", "0.8", "topP", 0.8),
    ):
        page.get_by_label(label, exact=True).fill(position)
        reaches(page, name, value)
    assert page.get_by_label("Top-k").get_attribute("aria-valuetext") == "32"
    page.get_by_role("button", name="The model's own").click()
    for name, value in (("temperature", 1), ("topK", 256), ("topP", 1)):
        reaches(page, name, value)
    assert page.get_by_label("Top-k").get_attribute("aria-valuetext") == "all 256"


def test_seed_precision_and_model_reach_the_settings(open_page: Opener) -> None:
    page = open_page()
    play(page)
    page.get_by_label("Seed", exact=True).fill("12")
    page.keyboard.press("Enter")
    settings_after(page, "settings.seed === 12")
    page.get_by_role("button", name="New seed").click()
    seed = int(page.get_by_label("Seed", exact=True).input_value())
    settings_after(page, f"settings.seed === {seed} && {seed} !== 12")
    page.get_by_label("Temperature").fill("0.4")
    page.get_by_label("Precision").select_option("f32")
    settings = settings_after(page, "settings.precision === 'f32'")
    reaches(page, "temperature", 0.4)  # it stays
    assert page.get_by_label("Temperature").input_value() == "0.4"
    assert settings["seed"] == seed
    assert settings["model"] == "plain"
    page.wait_for_function(PLAYING)  # and it plays on
    choose_model(page, "trio")
    settings_after(page, "settings.model === 'trio'")
    position = page.evaluate("() => engine.position")
    page.wait_for_function(f"() => engine.position > {position}")
    page.locator("[data-part=play]").click()
    page.wait_for_function("() => !engine.playing")
    page.locator("[data-part=restart]").click()
    page.wait_for_function("() => engine.position === 0")
    assert page.locator("[data-part=play]").is_visible()


def test_the_last_of_several_quick_choices_is_what_plays(open_page: Opener) -> None:
    page = open_page()
    choose_model(page, "trio")
    play(page)
    page.evaluate("() => engine.set({ speakers: [0, 1, 0] })")
    page.evaluate(
        """() => {
          const choose = (part, index) => {
            const box = document.querySelector(`[data-part=${part}]`);
            box.selectedIndex = index;
            box.dispatchEvent(new Event("change"));
          };
          for (const [part, index] of [["precision", 1], ["model", 3], ["precision", 0], ["model", 2], ["model", 0]])
            choose(part, index);
        }"""
    )
    page.wait_for_function("() => engine.model.name === 'plain' && !engine.loading && engine.position > 800")
    page.wait_for_timeout(500)  # in which the others would come, or their controls
    assert page.evaluate("() => [engine.model.name, engine.controls, engine.playing]") == ["plain", {}, True]
    assert page.get_by_label("Model", exact=True).input_value().startswith("plain")
    assert page.locator("[data-part=error]").is_hidden()


def test_voices_blend_by_sliders_and_by_the_pad(open_page: Opener) -> None:
    page = open_page()
    choose_model(page, "trio")
    play(page)
    page.get_by_label("bob", exact=True).fill("0.25")
    reaches(page, "speakers", [0.75, 0.25, 0])
    pad = page.get_by_role("slider", name="Blend of the voices")
    assert pad.get_attribute("aria-valuetext") == "ann 75 %, bob 25 %, cleo 0 %"
    pad.scroll_into_view_if_needed()
    page.evaluate("() => { for (const input of document.querySelectorAll('.voices input')) input.value = 0; }")
    box = page.locator(".pad polygon").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"], box["y"] + box["height"] + 40, steps=3)  # beyond cleo's corner
    page.mouse.up()
    reaches(page, "speakers", [0, 0, 1])
    assert page.get_by_label("cleo", exact=True).get_attribute("aria-valuetext") == "100 %"
    pad.focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Shift+ArrowLeft")
    page.wait_for_function("() => Math.abs(engine.controls.speakers[1] - 0.06) < 1e-9")
    assert pad.get_attribute("aria-valuetext") == "ann 0 %, bob 6 %, cleo 94 %"


def test_shares_on_a_pad(open_page: Opener) -> None:
    page = open_page(ready=False)
    for names, at, expected in (
        ("ab", [0.25, 0.9], [0.75, 0.25]),
        ("abc", [0.5, 0.5], [0.5, 0.25, 0.25]),
        ("abc", [-1, 2], [0, 1, 0]),
        ("abcd", [0.25, 0.5], [0.375, 0.125, 0.375, 0.125]),
    ):
        moved, point = page.evaluate(
            """async ([names, [x, y]]) => {
              const { Pad } = await import("./pad.js");
              const pad = new Pad(names, () => {});
              pad.move(x, y);
              const moved = pad.shares;
              pad.shares = moved; // the point stays where it is
              return [moved, pad.at];
            }""",
            [list(names), at],
        )
        assert moved == pytest.approx(expected)
        assert point[0] == pytest.approx(min(1, max(0, at[0])))


def test_controls_of_other_kinds_of_models(open_page: Opener) -> None:
    page = open_page()
    play(page)
    choose_model(page, "copier")
    assert page.get_by_label("Top-k").count() == 0  # a 16-bit output
    page.get_by_label("Temperature of voiced sounds").fill("0.6")
    reaches(page, "voicedTemperature", 0.6)
    choose_model(page, "tiers")
    for label, name in (("Pitch", "pitch"), ("Loudness", "loudness")):
        slider = page.get_by_label(label, exact=True)
        assert slider.get_attribute("aria-valuetext") == "free"
        slider.press("ArrowRight")
        value = page.evaluate(f"() => engine.controls.{name}")
        reaches(page, name, value)
        assert str(abs(value)) in slider.get_attribute("aria-valuetext")
        page.get_by_label(f"The model chooses the {label.lower()}").check()
        reaches(page, name, None)


def test_by_keyboard_alone(open_page: Opener) -> None:
    page = open_page()
    page.keyboard.press(" ")
    page.wait_for_function(PLAYING)
    page.keyboard.press("b")
    page.wait_for_selector(".branches li")
    page.keyboard.press("n")
    page.wait_for_function("() => engine.seed !== 0")
    page.keyboard.press("r")
    page.keyboard.press(" ")
    page.wait_for_function("() => !engine.playing")
    seen = []
    for _ in range(60):
        page.keyboard.press("Tab")
        focused = page.evaluate(
            """() => {
              const it = document.activeElement;
              const style = getComputedStyle(it.matches(".spoken") ? it.parentElement : it);
              return [it.id || it.dataset.part || it.textContent.trim(), style.outlineStyle, it === document.body];
            }"""
        )
        if focused[2]:
            break
        assert focused[1] != "none", focused
        seen.append(focused[0])
    order = ["play", "restart", "seed", "newSeed", "model", "precision", "modelFile"]
    assert [name for name in seen if name in order] == order
    later = ["clipFile", "record", "keep", "saveAudio", "saveSettings", "copy", "Keys"]
    assert [name for name in seen if name in later] == later
    page.get_by_label("Seed", exact=True).focus()
    page.keyboard.press("n")  # a control has the focus
    assert page.evaluate("() => !engine.playing")


def test_clips_are_continued(open_page: Opener, folder: Path) -> None:
    page = open_page()
    play(page)
    page.get_by_label("Choose a clip").set_input_files(folder / "hum.wav")
    settings = settings_after(page, "settings.clip?.name === 'hum.wav'")
    assert settings["clip"]["use"] == "prime"
    page.get_by_text("hum.wav, 1.0 s").wait_for()
    page.get_by_role("button", name="Forget it").click()
    settings_after(page, "!settings.clip")
    drop(page, folder / "hum.wav")
    settings_after(page, "settings.clip?.name === 'hum.wav'")
    page.get_by_role("button", name="Record").click()
    page.get_by_role("button", name="Stop recording (1 s)").click()
    settings = settings_after(page, "settings.clip?.name === 'recording'")
    assert len(settings["clip"]["pcm"]) > 8_000
    page.get_by_label("Choose a clip").set_input_files(folder / "broken.safetensors")
    page.get_by_text("broken.safetensors is no audio").wait_for()
    assert page.get_by_role("alert").is_visible()


def test_vocoders_resynthesise_a_clip_or_the_microphone(open_page: Opener, folder: Path) -> None:
    page = open_page()
    choose_model(page, "copier")
    assert settings_after(page, "settings.clip")["clip"]["name"].startswith("clip-")  # the page's own
    page.get_by_label("Choose a clip").set_input_files(folder / "hum.wav")
    settings = settings_after(page, "settings.clip?.name === 'hum.wav'")
    assert settings["clip"]["use"] == "features"
    original = "() => document.querySelector('[data-part=original]')"  # plays the clip itself
    page.wait_for_function(f"async () => (await fetch(({original})().src)).headers.get('content-length') > 10_000")
    play(page)
    page.get_by_role("button", name="Example").click()
    settings_after(page, "settings.clip.name.startsWith('clip-')")
    microphone = page.get_by_role("button", name="Live microphone")
    microphone.click()
    settings_after(page, "settings.clip.name === 'microphone'")
    page.wait_for_selector("[data-part=microphone][aria-pressed=true]")
    page.wait_for_function("() => engine.position > 0")
    assert page.evaluate(f"() => ({original})().hidden")
    microphone.click()
    page.wait_for_selector("[data-part=microphone][aria-pressed=false]")


def test_branches(open_page: Opener) -> None:
    page = open_page()
    play(page)
    page.get_by_role("button", name="Keep this moment").click()
    back = page.get_by_role("button", name="Return to A")
    back.wait_for()
    kept = page.evaluate("() => engine.position")
    first = samples_after(page, kept + 4_000)
    back.click()
    assert page.evaluate("() => engine.take.samples.length") <= kept
    again = samples_after(page, len(first))
    assert again[: len(first)] == first  # the same random numbers
    page.get_by_role("button", name="From A another way").click()
    settings = settings_after(page, "settings.events.some((event) => event.seed !== undefined)")
    position = next(event["position"] for event in settings["events"] if "seed" in event)
    other = samples_after(page, position + 4_000)
    assert other[:position] == first[:position]
    assert other[position : position + 4_000] != again[position : position + 4_000]
    page.locator("[data-part=restart]").click()
    page.wait_for_selector(".branches li", state="detached")


def samples_after(page: Any, count: int) -> Any:
    """The samples of the take, once it has that many."""
    page.wait_for_function(f"() => engine.take.samples.length >= {count}")
    return page.evaluate("() => Array.from(engine.take.samples)")


def test_downloads_reproduce_the_take(open_page: Opener, folder: Path, tmp_path: Path) -> None:
    page = open_page()
    page.get_by_label("Seed", exact=True).fill("5")
    page.get_by_label("Seed", exact=True).press("Enter")
    play(page)
    page.get_by_label("Temperature").fill("0.7")
    settings_after(page, "settings.events.length && settings.samples > 8000")
    page.locator("[data-part=play]").click()
    page.wait_for_function("() => !engine.playing")
    page.wait_for_timeout(300)  # the last report of what was heard
    files = {}
    for name in ("Audio (WAV)", "Settings (JSON)"):
        with page.expect_download() as download:
            page.get_by_role("button", name=name).click()
        files[name] = tmp_path / download.value.suggested_filename
        download.value.save_as(files[name])
    audio, sample_rate = soundfile.read(files["Audio (WAV)"], dtype="int16")
    samples, settings = page.evaluate("() => [Array.from(engine.take.samples), engine.take.settings]")
    np.testing.assert_array_equal(audio, np.clip(np.rint(np.array(samples) * 32768), -32768, 32767))
    assert sample_rate == SAMPLE_RATE
    assert files["Audio (WAV)"].name == "plain-seed-5.wav"
    assert json.loads(files["Settings (JSON)"].read_text()) == settings
    with soundfile.SoundFile(files["Audio (WAV)"]) as file:
        assert file.title == "plain-seed-5"
        assert json.loads(file.comment)["seed"] == 5
    words = shlex.split(page.locator("[data-part=command]").inner_text())
    given = {
        "plain.safetensors": folder / "plain.safetensors",
        "plain-seed-5.json": files["Settings (JSON)"],
        "plain-seed-5.wav": tmp_path / "again.wav",
    }
    assert run(*(given.get(word, word) for word in words[1:])) == 0
    again, _ = soundfile.read(tmp_path / "again.wav", dtype="int16")
    np.testing.assert_array_equal(again, audio)

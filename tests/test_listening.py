"""The listening test: files with neutral names and equal levels, every pair once, a page that needs nothing else."""

from __future__ import annotations

import base64
import json
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from commands import SAMPLE_RATE, Capture, error_of, run
from numpy.typing import NDArray

from wavenet.data import audio
from wavenet.evaluation.copy_synthesis import METHODS, MODEL, RECORDING, Copy
from wavenet.evaluation.listening import ListeningPage, levelled
from wavenet.evaluation.metrics import Comparison

NAMES = [f"söund {index}.wav" for index in range(6)]
COMPARISON = Comparison(*[1.0] * 7)


def noise(seed: int, level: float = 0.01, samples: int = 800) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, level, samples).astype(np.float32)


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """The page of six recordings, each louder than the one before."""
    writer = ListeningPage(tmp_path / "page")
    for index, name in enumerate(NAMES):
        for offset, method in enumerate(METHODS):
            writer.add(Copy(name, 0.1, method, 0, COMPARISON, noise(10 * index + offset, 0.01 * 2**index)), SAMPLE_RATE)
    return writer.finish()


def trials_of(page: Path) -> list[dict[str, Any]]:
    """The trials that the script of the page reads."""
    encoded = re.search(r'<script id="trials" type="text/plain">([^<]*)</script>', page.read_text("utf-8"))
    assert encoded
    return json.loads(base64.b64decode(encoded[1]))


def test_the_model_meets_every_other_method_once_and_some_recordings_themselves(page: Path) -> None:
    trials = trials_of(page)
    assert Counter(trial["recording"] for trial in trials if MODEL in trial["methods"]) == dict.fromkeys(NAMES, 4)
    pairs = Counter(tuple(trial["methods"]) for trial in trials)
    assert pairs == {(MODEL, method): 6 for method in METHODS if method != MODEL} | {(RECORDING, RECORDING): 2}
    catches = [trial for trial in trials if trial["methods"] == [RECORDING, RECORDING]]
    assert [trial["recording"] for trial in catches] == [NAMES[0], NAMES[5]]
    for trial in catches:
        first, second = (soundfile.read(page.parent / file)[0] for file in trial["files"])
        assert trial["files"][0] != trial["files"][1] and np.array_equal(first, second)


def test_files_exist_with_neutral_names_and_equal_sizes_and_levels(page: Path) -> None:
    named = {file for trial in trials_of(page) for file in trial["files"]}
    written = {f"audio/{path.name}" for path in (page.parent / "audio").iterdir()}
    assert named == written and len(named) == 6 * len(METHODS) + 2
    assert all(re.fullmatch(r"audio/[0-9a-f]{16}\.wav", file) for file in named)
    assert len({(page.parent / file).stat().st_size for file in named}) == 1
    for file in named:
        samples, sample_rate = soundfile.read(page.parent / file)
        assert sample_rate == SAMPLE_RATE and len(samples) == 800
        assert 10 * np.log10(np.square(samples).mean()) == pytest.approx(-26, abs=0.01)


def test_the_method_is_nowhere_in_plain_text(page: Path) -> None:
    text = page.read_text("utf-8")
    hidden = {*METHODS, *NAMES} - {RECORDING}  # a word of the instructions
    assert not [name for name in hidden if name in text]


class Parsed(HTMLParser):
    """Elements by id, with their attributes and texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []  # of the buttons
        self.inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        if tag == "button":
            self.texts.append("")
            self.inside = True

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag != "button"

    def handle_data(self, text: str) -> None:
        if self.inside:
            self.texts[-1] += text


def test_the_page_needs_no_network_and_has_labels(page: Path) -> None:
    text = page.read_text("utf-8")
    parsed = Parsed(text)
    assert ("html", {"lang": "en"}) in parsed.elements
    assert "://" not in text and "fetch(" not in text and "import " not in text
    for tag, attributes in parsed.elements:
        assert tag != "script" or "src" not in attributes
        assert tag != "link" or attributes["href"] == "data:,"
    assert all(label.strip() for label in parsed.texts) and len(parsed.texts) == 9
    assert {"Play A 1", "Play B 2", "A is better A", "No difference N", "B is better B"} <= set(parsed.texts)
    groups = [attributes for _, attributes in parsed.elements if attributes.get("role") == "group"]
    assert len(groups) == 2 and all(attributes["aria-label"] for attributes in groups)
    identifiers = [attributes["id"] for _, attributes in parsed.elements if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    assert set(re.findall(r'element\("(\w+)"\)', text)) <= set(identifiers)


def test_a_page_is_replaced_and_does_not_change(page: Path) -> None:
    before = page.read_bytes()
    writer = ListeningPage(page.parent)
    for index, name in enumerate(NAMES):
        for offset, method in enumerate(METHODS):
            writer.add(Copy(name, 0.1, method, 0, COMPARISON, noise(10 * index + offset, 0.01 * 2**index)), SAMPLE_RATE)
    assert writer.finish() == page and page.read_bytes() == before
    assert len(list((page.parent / "audio").iterdir())) == 6 * len(METHODS) + 2


def test_audio_of_the_page_before_is_removed_and_no_other(page: Path) -> None:
    folder = page.parent / "audio"
    for name in ("mine.wav", "0123456789abcdef.wav"):
        (folder / name).touch()
    writer = ListeningPage(page.parent)
    for offset, method in enumerate(METHODS):
        writer.add(Copy("a.wav", 0.1, method, 0, COMPARISON, noise(offset)), SAMPLE_RATE)
    writer.finish()
    named = {file for trial in trials_of(page) for file in trial["files"]}
    kept = {f"audio/{path.name}" for path in folder.iterdir()}
    assert kept == named | {"audio/mine.wav", "audio/0123456789abcdef.wav"}


@pytest.mark.parametrize("content", [b"\xff", b"<html>", b'<script id="trials" type="text/plain">abc</script>'])
def test_another_page_is_replaced_without_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "index.html").write_bytes(content)
    assert trials_of(ListeningPage(tmp_path).finish()) == []


def test_levels_stay_below_full_scale() -> None:
    click = np.zeros(16_000, np.float32)
    click[100] = 0.5
    assert np.abs(levelled(click)).max() == pytest.approx(1)
    assert np.array_equal(levelled(0 * click), 0 * click)


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    (tmp_path / "recordings").mkdir()
    audio.write(tmp_path / "recordings" / "a.wav", noise(0, 0.1, 3 * SAMPLE_RATE // 2), SAMPLE_RATE)
    return tmp_path / "recordings"


def test_evaluate_writes_the_page(vocoder: Path, recordings: Path, tmp_path: Path, capsys: Capture) -> None:
    assert run("evaluate", vocoder, recordings, "--page", tmp_path / "new" / "page") == 0
    page = tmp_path / "new" / "page" / "index.html"
    assert f"listening test: {page}" in capsys.readouterr().err.splitlines()
    assert {trial["recording"] for trial in trials_of(page)} == {"a.wav"}
    assert all((page.parent / file).is_file() for trial in trials_of(page) for file in trial["files"])


def test_a_page_that_cannot_be_written_is_refused_first(
    vocoder: Path, voices: Path, recordings: Path, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "other").mkdir()
    for file in ("file", "other/audio"):
        (tmp_path / file).touch()
    for folder in ("file", "file/page", "other"):
        message = error_of(capsys, "evaluate", vocoder, recordings, "--page", tmp_path / folder)
        assert "--page" in message and "not a folder" in message
    assert "--page: " in error_of(capsys, "evaluate", voices, recordings, "--page", tmp_path / "page")
    assert not (tmp_path / "page").exists()

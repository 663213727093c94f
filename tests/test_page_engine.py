"""The audio that a page plays: that of `Generator` for the same seed and settings, sample for sample."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from builders import random_model
from c_library import ROOT
from page_engine import EnginePage, engine_page

from wavenet import checkpoint
from wavenet.config import ModelConfig
from wavenet.generate import Generator

SPEECH = ROOT / "samples" / "made" / "speech.safetensors"
VOICES = ModelConfig(2, 3, 2, 8, skip_channels=12, sample_rate=8_000, speakers=("ann", "bob", "eve"))
SAMPLES = 6_000


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    voices = tmp_path_factory.mktemp("models") / "three voices.safetensors"
    checkpoint.save_model(voices, random_model(VOICES))
    return [SPEECH, voices]


@pytest.fixture(scope="module")
def page(models: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[EnginePage]:
    with engine_page(tmp_path_factory.mktemp("site") / "page", models) as opened:
        yield opened


def generator(path: Path, precision: str = "int8") -> Generator:
    return Generator.load(path, engine="native", precision=precision, threads=1)


@pytest.mark.parametrize("precision", ["int8", "f32"])
def test_a_seed_gives_the_audio_of_python(page: EnginePage, precision: str) -> None:
    page.load(0, precision)
    take = page.take("await engine.restart({ seed: 7 }); await heard(argument)", SAMPLES)
    assert take.failures == []
    assert len(take.audio) >= SAMPLES
    expected = generator(SPEECH, precision).session(seed=7).next(len(take.audio))
    np.testing.assert_array_equal(take.audio, expected)
    assert len(np.unique(take.audio)) > 20
    assert take.settings["seed"] == 7 and take.settings["precision"] == precision
    assert take.settings["samples"] == len(take.audio)

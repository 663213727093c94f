"""Level, pauses and pitch of sounds whose figures follow from arithmetic, and of speech."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from wavenet.data.audio import read
from wavenet.evaluation.voice_figures import voice_figures

SAMPLES = Path(__file__).parents[1] / "samples"
SAMPLE_RATE = 16_000


def tone(hertz: float, seconds: float = 1.0, sample_rate: int = SAMPLE_RATE) -> NDArray[np.float64]:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * sample_rate)) / sample_rate)


@pytest.mark.parametrize(("hertz", "sample_rate"), [(110, 8_000), (220, 16_000), (440, 44_100)])
def test_a_sine_is_voiced_throughout_and_has_its_pitch(hertz: float, sample_rate: int) -> None:
    found = voice_figures(tone(hertz, sample_rate=sample_rate), sample_rate)
    assert found.voiced == 1
    assert found.pitch == pytest.approx(hertz, rel=0.01)
    assert found.pitch_change < 0.05
    assert found.silent == 0
    assert found.level == pytest.approx(20 * math.log10(0.5 / math.sqrt(2)), abs=0.01)  # of a sine with the peak 0.5
    assert found.seconds == 1
    assert found.tonal and not found.like_speech


def test_noise_is_not_voiced() -> None:
    found = voice_figures(0.1 * np.random.default_rng(0).standard_normal(2 * SAMPLE_RATE), SAMPLE_RATE)
    assert found.voiced < 0.05
    assert math.isnan(found.pitch) and math.isnan(found.pitch_change)
    assert found.level == pytest.approx(-20, abs=0.1)
    assert not found.tonal


def test_silence_has_neither_level_nor_pitch() -> None:
    found = voice_figures(np.zeros(SAMPLE_RATE), SAMPLE_RATE)
    assert (found.level, found.silent, found.voiced) == (-math.inf, 1, 0)
    assert math.isnan(found.pitch)


def test_pauses_are_silent_and_not_voiced() -> None:
    found = voice_figures(np.concatenate([tone(200, 0.75), np.zeros(SAMPLE_RATE // 4)]), SAMPLE_RATE)
    assert found.silent == pytest.approx(0.25, abs=0.03)
    assert found.voiced == pytest.approx(0.75, abs=0.05)


def test_the_pitch_of_speech_moves_and_that_of_instruments_holds() -> None:
    names = ("conf-full", "conf-kicked", "conf-now-muted", "if-correct-press")
    speech = np.concatenate([read(SAMPLES / "speech" / f"{name}.flac", SAMPLE_RATE) for name in names])
    found = voice_figures(speech, SAMPLE_RATE)
    assert found.like_speech
    assert 150 < found.pitch < 250
    music = np.concatenate([read(path, SAMPLE_RATE) for path in sorted((SAMPLES / "instruments").glob("*.flac"))])
    assert voice_figures(music, SAMPLE_RATE).tonal
    assert not voice_figures(music, SAMPLE_RATE).like_speech


def test_audio_too_short_for_a_pitch_has_a_level() -> None:
    found = voice_figures(tone(200, 0.02), SAMPLE_RATE)
    assert math.isfinite(found.level)
    assert found.voiced == 0
    with pytest.raises(ValueError, match="empty"):
        voice_figures(np.zeros(0), SAMPLE_RATE)

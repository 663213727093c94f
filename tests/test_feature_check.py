"""Features of the wrong scale are refused or cause a warning; those of recordings and of silence pass."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import random_model
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from wavenet.config import MelConfig, ModelConfig
from wavenet.data import audio
from wavenet.engine.feature_check import OVERSHOOT, check_features, largest_feature, warn_unusual
from wavenet.features import mel_spectrogram
from wavenet.generate import Generator

MEL = MelConfig()
SAMPLES = Path(__file__).parents[1] / "samples"
Array = NDArray[np.float32]
MELS = {
    "default": MEL,
    "htk, not normalised": MelConfig(scale="htk", area=False, bands=40),
    "energy": MelConfig(power=2.0),
    "energy of few bands": MelConfig(power=2.0, bands=12, window=1_024),
    "power 3": MelConfig(power=3.0),
    "narrow": MelConfig(sample_rate=8_000, high=4_000.0, window=20, fft=81, hop=3, bands=5),
}


@pytest.fixture(scope="module")
def speech() -> Array:
    clips = sorted((SAMPLES / "speech").glob("*.flac"))[:3]
    return np.concatenate([audio.read(clip, MEL.sample_rate) for clip in clips])


def check(features: Array) -> list[str]:
    """The warnings that features [bands, N] cause. Raises `ValueError` where they are refused."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        check_features(features[None], MEL)
        warn_unusual(features[None], MEL)
    return [str(warning.message) for warning in found]


@pytest.mark.parametrize("mel", MELS.values(), ids=MELS.keys())
@settings(derandomize=True, deadline=None, max_examples=30)
@given(seed=st.integers(0, 10_000))
def test_no_audio_exceeds_the_largest_feature(mel: MelConfig, seed: int) -> None:
    generator = np.random.default_rng(seed)
    time = np.arange(4 * mel.fft) / mel.sample_rate
    sine = np.sin(2 * np.pi * (generator.uniform(mel.low, mel.high) * time + generator.random()))
    noise = generator.uniform(-1, 1, len(time))
    pulses = (np.arange(len(time)) % generator.integers(2, 100) == 0) * 2.0 - 1
    for samples in (sine, noise, np.sign(sine), np.sign(noise), pulses, np.sign(sine) * np.abs(noise) ** 0.1):
        assert mel_spectrogram(samples, mel).max() <= largest_feature(mel) + 1e-5


@pytest.mark.parametrize("mel", MELS.values(), ids=MELS.keys())
def test_the_largest_feature_is_not_far_above_that_of_a_square_wave(mel: MelConfig) -> None:
    time = np.arange(4 * mel.fft) / mel.sample_rate
    waves = [np.sign(np.sin(2 * np.pi * hertz * time)) for hertz in np.geomspace(mel.sample_rate / 500, mel.high, 300)]
    reached = max(float(mel_spectrogram(wave, mel).max()) for wave in waves)
    assert largest_feature(mel) - 1.3 * max(mel.power, 1) < reached


def test_recordings_and_silence_pass(speech: Array) -> None:
    features = mel_spectrogram(speech, MEL)
    assert check(features) == []
    assert check(features.astype(np.float16).astype(np.float32)) == []  # rounded below the floor
    for level in (1.4, 0.1, 0.01, 0.001, 0.0):  # 1.4: decoding can overshoot
        assert check(mel_spectrogram(level * speech, MEL)) == []
    assert check(np.full((80, 500), MEL.silence, np.float32)) == []
    assert check(features[:, :1]) == []
    mixed = np.concatenate([np.full((80, 3_000), MEL.silence, np.float32), features], axis=1)
    assert check(mixed) == []  # statistics are those of the frames that are not silent
    for clip in (SAMPLES / "instruments").glob("*.flac"):
        assert check(mel_spectrogram(audio.read(clip, MEL.sample_rate), MEL)) == []


def magnitudes(features: Array) -> Array:
    return np.exp(features)


SCALES: dict[str, tuple[Callable[[Array], Array], str]] = {
    "decibels": (lambda x: 20 * np.log10(magnitudes(x)), "they may be decibels: multiply by 0.1151"),
    "decibels below the maximum": (
        lambda x: np.maximum(20 * np.log10(magnitudes(x) / magnitudes(x).max()), -80),
        "they may be decibels: multiply by 0.1151",
    ),
    "16-bit samples": (
        lambda x: x + np.log(np.float32(32_768)),
        "they may be features of audio scaled to 16-bit integers: divide the samples by 32,768 first",
    ),
    "no floor": (
        lambda x: np.where(x <= MEL.silence + 0.5, np.float32(np.log(1e-10)), x),
        "they may be values without the floor: clip them to at least -11.51",
    ),
    "magnitudes": (
        magnitudes,
        "they may be magnitudes without a logarithm: take the natural logarithm",
    ),
}


@pytest.mark.parametrize(("convert", "explanation"), SCALES.values(), ids=SCALES.keys())
def test_features_that_no_audio_has_are_refused_in_one_line(
    speech: Array, convert: Callable[[Array], Array], explanation: str
) -> None:
    features = convert(mel_spectrogram(speech, MEL)).astype(np.float32)
    with pytest.raises(ValueError, match=f"^features: they range from .* to .*; {explanation}$") as error:
        check_features(features[None], MEL)
    assert "but audio in [-1, 1] has natural-log mel values from -11.51 to 3.204;" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("convert", "explanation"),
    [
        (lambda x: x / np.log(10), "they may be log10 values: multiply by ln(10)"),
        (lambda x: (x + 5) / 2.5, "they may be normalised values: undo that"),
        (lambda x: 0.5 * magnitudes(x), "they may be magnitudes without a logarithm: take the natural logarithm"),
    ],
    ids=["log10", "normalised", "magnitudes"],
)
def test_features_unlike_the_training_data_cause_one_warning(
    speech: Array, convert: Callable[[Array], Array], explanation: str
) -> None:
    features = np.asarray(convert(mel_spectrogram(speech, MEL)), np.float32)[None]
    check_features(features, MEL)
    with pytest.warns(UserWarning, match="^features: mean .* differ strongly from the training data") as found:
        warn_unusual(features, MEL)
    assert len(found) == 1
    assert str(found[0].message).endswith(explanation)
    assert "\n" not in str(found[0].message)


def test_steady_noise_is_unlike_speech() -> None:
    noise = 0.2 * np.random.default_rng(0).standard_normal(16_000)
    with pytest.warns(UserWarning, match="mean -1.8 and standard deviation 0.4 differ strongly from the training data"):
        warn_unusual(mel_spectrogram(noise, MEL)[None], MEL)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_features_that_are_not_finite_are_refused(value: float) -> None:
    features = np.full((1, 80, 30), -6, np.float32)
    features[0, 3, 4] = value
    with pytest.raises(ValueError, match="features: they contain NaN, infinity or numbers beyond 1e38") as error:
        check_features(features, MEL)
    assert ("clip the mel spectrogram to 1e-05" in str(error.value)) == (value == -np.inf)


def test_other_parameters_have_other_limits() -> None:
    loud = np.full((1, 80, 30), 6, np.float32)
    check_features(loud, dataclasses.replace(MEL, power=2.0))
    check_features(loud, dataclasses.replace(MEL, area=False))
    with pytest.raises(ValueError, match="they range from 6 to 6"):
        check_features(loud, MEL)
    check_features(np.full((1, 80, 30), -20, np.float32), dataclasses.replace(MEL, floor=1e-9))
    assert largest_feature(dataclasses.replace(MEL, power=2.0)) > largest_feature(MEL) + np.log(OVERSHOOT)


def test_every_way_of_giving_features_is_checked(speech: Array) -> None:
    model = random_model(ModelConfig(1, 2, 2, 4, skip_channels=8, features=MEL))
    generator = Generator.from_model(model)
    features = mel_spectrogram(speech[:16_000], MEL)
    asks: list[Callable[..., Any]] = [
        generator.session,
        lambda **options: next(generator.stream(block=160, **options)),
        lambda **options: generator.render(0.01, **options),
    ]
    for ask in asks:
        with pytest.raises(ValueError, match="they may be decibels"):
            ask(features=8.7 * features)
        with pytest.warns(UserWarning, match="they may be log10 values"):
            ask(features=features / np.log(10))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            ask(features=features)
            ask(features=np.stack([features, features - 0.1]).clip(MEL.silence), count=2)

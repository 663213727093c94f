"""Refinement of audio towards log-mel features, of whole audio and of blocks."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from wavenet import consistency
from wavenet.config import MelConfig
from wavenet.consistency import StreamingRefiner, refine
from wavenet.features import mel_spectrogram

MEL = MelConfig()
CONFIGS = {
    "defaults": MEL,
    "energy": replace(MEL, power=2.0, floor=1e-10),
    "HiFi-GAN": MelConfig(sample_rate=22_050, window=1_024, fft=1_024, hop=256, high=8_000.0),
    "hop does not divide window": replace(MEL, hop=150, window=610),
    "half overlap, odd": replace(MEL, hop=161, window=333, bands=40),
}


def voice(seconds: float, sample_rate: int = 16_000, seed: int = 0) -> NDArray[np.float32]:
    """A harmonic tone of varying pitch and level, and noise: float32 [T] in [-1, 1]."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    phase = 2 * np.pi * np.cumsum(150 + 30 * np.sin(2 * np.pi * 1.5 * time)) / sample_rate
    tone = sum(np.sin(k * phase + k * k) / k for k in range(1, 20))
    level = 0.05 + 0.1 * np.sin(2 * np.pi * 2 * time) ** 2
    return (level * tone + 0.01 * rng.standard_normal(len(time))).astype(np.float32)


def drifted(audio: NDArray[np.float32]) -> NDArray[np.float32]:
    """The audio with a level that drifts by 12 dB, and with noise."""
    drift = 10 ** (0.3 * np.sin(np.linspace(0, 20, len(audio))))
    noise = 0.02 * np.random.default_rng(1).standard_normal(len(audio))
    return (audio * drift + noise).astype(np.float32)


def distance(audio: NDArray[np.float32], features: NDArray[np.float32], mel: MelConfig) -> float:
    """Mean absolute difference from features [bands, N], in natural logarithms of magnitude."""
    return float(np.abs(mel_spectrogram(audio, mel) - features).mean()) / mel.power


@pytest.mark.parametrize("mel", CONFIGS.values(), ids=CONFIGS.keys())
def test_iterations_bring_audio_closer_to_its_features(mel: MelConfig) -> None:
    original = voice(0.73, mel.sample_rate)
    features, audio = mel_spectrogram(original, mel), drifted(original)
    distances = [distance(refine(audio, features, mel, n), features, mel) for n in (0, 1, 4, 16, 64)]
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 0.12 * distances[0]


@pytest.mark.parametrize("mel", CONFIGS.values(), ids=CONFIGS.keys())
def test_audio_that_agrees_with_its_features_is_not_changed(mel: MelConfig) -> None:
    audio = voice(0.31, mel.sample_rate)
    features = mel_spectrogram(audio, mel)
    np.testing.assert_allclose(refine(audio, features, mel, 10), audio, atol=1e-5)
    refiner = StreamingRefiner(features, mel, 10)
    np.testing.assert_allclose(np.concatenate([refiner.push(audio), refiner.finish()]), audio, atol=1e-5)


def test_no_iteration_returns_a_copy_and_long_features_are_accepted() -> None:
    audio = voice(0.1)
    features = mel_spectrogram(voice(0.2), MEL)
    same = refine(audio, features, MEL, 0)
    assert np.array_equal(same, audio) and same is not audio
    assert refine(audio, features, MEL, 3).shape == audio.shape
    assert refine(audio[:1], features, MEL, 3).shape == (1,)
    assert refine(audio[:0], features, MEL, 3).shape == (0,)


def test_the_result_does_not_depend_on_how_many_frames_are_transformed_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original = voice(0.5)
    features, audio = mel_spectrogram(original, MEL), drifted(original)
    whole = refine(audio, features, MEL, 8)
    monkeypatch.setattr(consistency, "CHUNK", 7)
    np.testing.assert_allclose(refine(audio, features, MEL, 8), whole, atol=1e-5)


def test_frequencies_outside_the_bands_are_not_changed() -> None:
    mel = replace(MEL, high=4_000.0)
    time = np.arange(8_000) / 16_000
    low, high = (0.1 * np.sin(2 * np.pi * f * time).astype(np.float32) for f in (500, 6_000))
    features = mel_spectrogram(2 * low, mel)
    refined = refine(low + high, features, mel, 20)
    spectrum = np.abs(np.fft.rfft(refined[2_000:6_000])) / np.abs(np.fft.rfft((low + high)[2_000:6_000]))
    assert spectrum[125] == pytest.approx(2, rel=0.02)
    assert spectrum[1_500] == pytest.approx(1, rel=0.02)


def test_silent_features_make_silence_and_silent_audio_stays_finite() -> None:
    original = voice(0.3)
    features = mel_spectrogram(original, MEL)
    silence = np.full_like(features, MEL.silence)
    assert np.abs(refine(original, silence, MEL, 40)).max() < 1e-3
    assert np.array_equal(refine(np.zeros_like(original), features, MEL, 4), np.zeros_like(original))


def test_refined_audio_is_clipped() -> None:
    original = np.clip(20 * voice(0.2), -1, 1)
    refined = refine(0.5 * original, mel_spectrogram(original, MEL) + 3, MEL, 4)
    assert np.abs(refined).max() == 1


@pytest.mark.parametrize("mel", CONFIGS.values(), ids=CONFIGS.keys())
def test_blocks_of_every_size_give_the_same_audio(mel: MelConfig) -> None:
    original = voice(0.4, mel.sample_rate)
    features, audio = mel_spectrogram(original, mel), drifted(original)
    results = []
    for block in (1, 7, mel.hop, 1_000, len(audio)):
        refiner = StreamingRefiner(features, mel, 12)
        parts = [refiner.push(audio[start : start + block]) for start in range(0, len(audio), block)]
        results.append(np.concatenate([*parts, refiner.finish()]))
    assert all(np.array_equal(result, results[0]) for result in results)
    assert results[0].shape == audio.shape
    assert distance(results[0], features, mel) < 0.5 * distance(audio, features, mel)


def test_a_sample_leaves_after_the_look_ahead() -> None:
    audio = drifted(voice(0.5))
    features = mel_spectrogram(voice(0.5), MEL)
    refiner = StreamingRefiner(features, MEL, 20, lookahead=0.05)
    assert refiner.lookahead == 800
    received = 0
    for start in range(0, len(audio), MEL.hop):
        received += len(refiner.push(audio[start : start + MEL.hop]))
        assert received == max(0, start + MEL.hop - 800)
    assert len(refiner.finish()) == 800
    changed = audio.copy()
    changed[2_000:] = 0
    first, second = (StreamingRefiner(features, MEL, 20) for _ in range(2))
    np.testing.assert_array_equal(first.push(audio)[:1_120], second.push(changed)[:1_120])


def test_samples_that_have_left_do_not_disturb_those_that_follow() -> None:
    original = voice(1.0)
    features, audio = mel_spectrogram(original, MEL), drifted(original)
    refiner = StreamingRefiner(features, MEL, 40)
    result = np.concatenate([refiner.push(audio), refiner.finish()])
    # 0.062; if the momentum went on moving samples that have left, it would be 0.094
    assert distance(result, features, MEL) < 0.075 * distance(audio, features, MEL)


def test_a_longer_look_ahead_refines_better() -> None:
    original = voice(1.0)
    features, audio = mel_spectrogram(original, MEL), drifted(original)
    distances = []
    for lookahead in (0.01, 0.03, 0.06):
        refiner = StreamingRefiner(features, MEL, 24, lookahead)
        distances.append(distance(np.concatenate([refiner.push(audio), refiner.finish()]), features, MEL))
    assert distances == sorted(distances, reverse=True)


def test_invalid_input_is_refused_in_one_line() -> None:
    audio = voice(0.1)
    features = mel_spectrogram(audio, MEL)
    broken, infinite = audio.copy(), features.copy()
    broken[5], infinite[3, 2] = np.nan, np.inf
    wide = replace(MEL, hop=400)
    wrong: list[tuple[Any, Any, MelConfig, Any, str]] = [
        (audio, features[:40], MEL, 1, r"features must be \[80, frames\], not \[40, 10\]"),
        (np.concatenate([audio, audio]), features, MEL, 1, "end with the features"),
        (np.stack([audio, audio]), features, MEL, 1, "end with the features"),
        (audio, features, MEL, -1, "iterations = -1: must be a whole number"),
        (audio, features, MEL, 2.5, "iterations = 2.5: must be a whole number"),
        (audio, mel_spectrogram(audio, wide), wide, 1, "overlap by half"),
        (broken, features, MEL, 1, "audio: contains NaN"),
        (np.zeros(1_600, np.int16), features, MEL, 1, "audio: must be floating-point samples.*int16"),
        (audio, infinite, MEL, 1, "features: contain NaN or infinite"),
    ]
    for samples, frames, mel, iterations, message in wrong:
        with pytest.raises(ValueError, match=message) as error:
            refine(samples, frames, mel, iterations)
        assert "\n" not in str(error.value)


def test_a_streaming_refiner_refuses_what_does_not_fit() -> None:
    audio = voice(0.1)
    features = mel_spectrogram(audio, MEL)
    for lookahead in (-0.1, math.nan, math.inf):
        with pytest.raises(ValueError, match=r"lookahead = .*: must be finite seconds from 0"):
            StreamingRefiner(features, MEL, 4, lookahead)
    assert StreamingRefiner(features, MEL, 4, 1e12).lookahead == 1_600  # all of the features
    refiner = StreamingRefiner(features, MEL, 4)
    with pytest.raises(ValueError, match="audio: contains NaN"):
        refiner.push(audio * np.nan)
    refiner.push(audio)
    with pytest.raises(ValueError, match="more audio than features, which last for 1,600 samples"):
        refiner.push(audio[:1])
    refiner.finish()
    for call in (refiner.finish, lambda: refiner.push(audio[:1])):
        with pytest.raises(ValueError, match="the refiner is finished"):
            call()


def test_a_copy_of_a_refiner_is_independent() -> None:
    audio = voice(0.2)
    refiner = StreamingRefiner(mel_spectrogram(audio, MEL), MEL, 4)
    refiner.push(audio[:1_700])
    other = refiner.copy()
    expected = np.concatenate([refiner.push(audio[1_700:]), refiner.finish()])
    np.testing.assert_array_equal(np.concatenate([other.push(audio[1_700:]), other.finish()]), expected)


@pytest.mark.parametrize("change", [{"power": 0.1}, {"power": 0.5}, {"floor": 1e-30}, {"power": 2.0}])
def test_silent_audio_is_raised_without_overflow(change: dict[str, float]) -> None:
    mel = replace(MEL, **change)  # type: ignore[arg-type]
    tone = 0.3 * np.sin(np.arange(4_000) * 0.07)
    refined = refine(np.zeros(4_000), mel_spectrogram(tone, mel), mel, 10)
    assert np.isfinite(refined).all()

"""libwavenet's streaming analysis and refinement against `wavenet.features` and `wavenet.consistency`."""

from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from wavenet.config import MelConfig
from wavenet.consistency import StreamingRefiner
from wavenet.data import audio
from wavenet.engine import _native
from wavenet.features import mel_spectrogram

VOCODED = Path(__file__).parents[1] / "samples" / "made" / "vocoder"
Floats = NDArray[np.float32]

MEL = MelConfig()
OVERLAPPING = {
    "defaults": MEL,
    "energy": replace(MEL, power=2.0, floor=1e-10),
    "power and scale": replace(MEL, power=0.5, fft=900, scale="htk", area=False, low=60.0, high=7_000.0),
    "HiFi-GAN": MelConfig(sample_rate=22_050, window=1_024, fft=1_024, hop=256, high=8_000.0),
    "hop does not divide window": replace(MEL, hop=150, window=610),
    "half overlap, odd": replace(MEL, hop=161, window=333, bands=40),
    "odd length": replace(MEL, fft=675, window=601, hop=77),
    "prime length": replace(MEL, fft=1_021),
    "twice a prime": replace(MEL, fft=2 * 499),
}
CONFIGS = {
    **OVERLAPPING,
    "windows apart": replace(MEL, window=100, hop=1_000),
    "shortest": MelConfig(fft=16, window=4, hop=1, bands=3),
}
by_name = {"argvalues": CONFIGS.values(), "ids": CONFIGS.keys()}


def voice(seconds: float, sample_rate: int) -> Floats:
    """A harmonic tone of varying pitch, and noise, with silence in between: float32 [T]."""
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    phase = 2 * np.pi * np.cumsum(150 + 30 * np.sin(2 * np.pi * 1.5 * time)) / sample_rate
    tone = sum(np.sin(k * phase + k * k) / k for k in range(1, 20))
    samples = 0.1 * tone + 0.01 * np.random.default_rng(0).standard_normal(len(time))
    samples[len(time) // 4 : len(time) // 2] = 0
    return samples.astype(np.float32)


def drifted(samples: Floats) -> Floats:
    """The audio with a level that drifts by 12 dB, and with noise."""
    noise = 0.02 * np.random.default_rng(1).standard_normal(len(samples))
    return (samples * 10 ** (0.3 * np.sin(np.linspace(0, 20, len(samples)))) + noise).astype(np.float32)


def blocks(samples: Floats, size: int) -> list[Floats]:
    return [samples[start : start + size] for start in range(0, len(samples), size)]


def analysed(analysis: _native.MelAnalysis, samples: Floats, block: int, mel: MelConfig) -> Floats:
    """All frames [bands, N]."""
    frames, parts = np.empty((analysis.room, mel.bands), np.float32), []
    for part in blocks(samples, block):
        parts.append(frames[: analysis.process(part, frames)].copy())
    parts.append(frames[: analysis.end(frames)].copy())
    return np.concatenate(parts).T


def refined(refiner: _native.Refinement, samples: Floats, block: int) -> Floats:
    """All refined samples [T], without the zeros before them."""
    parts = []
    for part in blocks(samples, block):
        parts.append(np.empty_like(part))
        refiner.process(part, parts[-1])
    rest = np.empty(refiner.delay, np.float32)
    delayed = np.concatenate([*parts, rest[: refiner.end(rest)]])
    before = len(delayed) - len(samples)
    assert before == min(refiner.delay, len(samples))
    assert not delayed[:before].any()
    return delayed[before:]


def new_refiner(mel: MelConfig, iterations: int, features: Floats) -> _native.Refinement:
    refiner = _native.Refinement(asdict(mel), iterations, features.shape[1])
    assert refiner.push(np.ascontiguousarray(features.T)) == features.shape[1]
    return refiner


def refined_by_python(samples: Floats, features: Floats, mel: MelConfig, iterations: int) -> Floats:
    refiner = StreamingRefiner(np.empty((mel.bands, 0), np.float32), mel, iterations, more=True)
    refiner.extend(features)
    return np.concatenate([refiner.push(samples), refiner.finish()])


@pytest.mark.parametrize("mel", **by_name)
def test_frames_are_those_of_the_toolkit(mel: MelConfig) -> None:
    samples = voice(0.3, mel.sample_rate)
    expected = mel_spectrogram(samples, mel)
    if mel.hop > 1:  # otherwise no band is silent: its noise is in every one
        assert (expected == np.float32(mel.silence)).any()
    for block in (1, 113, 5_000):
        analysis = _native.MelAnalysis(asdict(mel), block)
        for _ in range(2):  # after the end it begins anew
            frames = analysed(analysis, samples, block, mel)
            assert frames.shape == expected.shape
            np.testing.assert_allclose(frames, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mel", **by_name)
def test_a_frame_is_complete_after_the_delay_and_end_writes_the_rest(mel: MelConfig) -> None:
    analysis = _native.MelAnalysis(asdict(mel), 1)
    frames = np.empty((analysis.room, mel.bands), np.float32)
    sample = np.ones(1, np.float32)
    written = [analysis.process(sample, frames) for _ in range(3 * mel.hop + analysis.delay)]
    complete = [n * mel.hop + analysis.delay - 1 for n in range(4)]
    assert [t for t, count in enumerate(written) if count] == complete
    assert analysis.end(frames) == -(-len(written) // mel.hop) - 4
    assert analysis.end(frames) == 0  # of nothing


def test_every_length_of_the_recording_has_the_frames_of_the_toolkit() -> None:
    mel = replace(MEL, hop=70, window=200, fft=256, bands=20)
    analysis = _native.MelAnalysis(asdict(mel), 64)
    for length in range(1, 300):
        samples = voice(0.1, mel.sample_rate)[:length]
        frames = analysed(analysis, samples, 64, mel)
        np.testing.assert_allclose(frames, mel_spectrogram(samples, mel), rtol=1e-5, atol=1e-6)


def test_samples_that_are_not_finite_count_as_silence() -> None:
    samples = voice(0.2, MEL.sample_rate)
    zeros, bad = samples.copy(), samples.copy()
    zeros[1_000:1_003] = 0
    bad[1_000:1_003] = np.nan, np.inf, -np.inf
    first, second = (analysed(_native.MelAnalysis(asdict(MEL), 100), part, 100, MEL) for part in (zeros, bad))
    assert np.array_equal(first, second)
    features = mel_spectrogram(samples, MEL)
    first, second = (refined(new_refiner(MEL, 8, features), part, 100) for part in (zeros, bad))
    assert np.array_equal(first, second)


@pytest.mark.parametrize("mel", OVERLAPPING.values(), ids=OVERLAPPING.keys())
def test_refined_audio_is_that_of_the_toolkit_for_blocks_of_every_size(mel: MelConfig) -> None:
    original = voice(0.4, mel.sample_rate)
    features, samples = mel_spectrogram(original, mel), drifted(original)
    expected = refined_by_python(samples, features, mel, 12)
    results = [refined(new_refiner(mel, 12, features), samples, block) for block in (1, 113, mel.hop, len(samples))]
    assert all(np.array_equal(result, results[0]) for result in results)
    np.testing.assert_allclose(results[0], expected, atol=1e-4)
    assert np.abs(expected - samples).max() > 0.05


@pytest.mark.parametrize("name", ["agent-pass", "queue-callswaiting"])
def test_vocoded_speech_is_refined_as_by_the_toolkit(name: str) -> None:
    original, copy = (audio.read(VOCODED / f"{name}-{kind}.flac", MEL.sample_rate) for kind in ("original", "copy"))
    length = min(len(original), len(copy), 2 * MEL.sample_rate)
    features, samples = mel_spectrogram(original[:length], MEL), copy[:length]
    expected = refined_by_python(samples, features, MEL, 40)
    np.testing.assert_allclose(refined(new_refiner(MEL, 40, features), samples, 128), expected, atol=1e-4)


def test_short_recordings_and_the_next_one_are_refined_as_by_the_toolkit() -> None:
    original = voice(0.4, MEL.sample_rate)
    refiner = _native.Refinement(asdict(MEL), 10, 100)
    for length in (1, 159, 160, 161, 958, 959, 960, 3_000, 2):
        part = original[-length:]
        features, samples = mel_spectrogram(part, MEL), drifted(part)
        assert refiner.push(np.ascontiguousarray(features.T)) == features.shape[1]
        expected = refined_by_python(samples, features, MEL, 10)
        np.testing.assert_allclose(refined(refiner, samples, 64), expected, atol=1e-4)


def test_features_may_arrive_with_the_audio_and_wait_up_to_the_capacity() -> None:
    original = voice(0.4, MEL.sample_rate)
    features, samples = mel_spectrogram(original, MEL), drifted(original)
    frames = np.ascontiguousarray(features.T)
    refiner, output = _native.Refinement(asdict(MEL), 12, 3), np.empty_like(samples)
    assert refiner.push(frames) == 3
    for first, last in pairwise(range(0, len(samples) + 1, MEL.hop)):
        refiner.process(samples[first:last], output[first:last])
        left = frames[3 + first // MEL.hop :]
        assert refiner.push(left) == min(1, len(left))
    expected = refined_by_python(samples, features, MEL, 12)
    np.testing.assert_allclose(output[refiner.delay :], expected[: -refiner.delay], atol=1e-4)


def test_a_copy_continues_from_the_same_sample() -> None:
    original = voice(0.4, MEL.sample_rate)
    features, samples = mel_spectrogram(original, MEL), drifted(original)
    refiner = new_refiner(MEL, 12, features)
    outputs = [np.empty_like(samples) for _ in range(3)]
    refiner.process(samples[:3_333], outputs[0][:3_333])
    copy = refiner.copy()
    refiner.process(samples[3_333:], outputs[0][3_333:])
    copy.process(samples[3_333:], outputs[1][3_333:])
    assert np.array_equal(outputs[0][3_333:], outputs[1][3_333:])
    new_refiner(MEL, 12, features).process(samples, outputs[2])
    assert np.array_equal(outputs[0], outputs[2])


def test_features_and_samples_out_of_range_give_finite_audio_within_full_scale() -> None:
    features = np.full((MEL.bands, 60), 3e38, np.float32)
    features[:, ::3] = np.nan
    features[:, 1::3] = np.inf
    output = refined(new_refiner(MEL, 40, features), np.full(9_600, 3e38, np.float32), 500)
    assert np.abs(output).max() <= 1  # also false for NaN


def test_windows_that_overlap_by_less_than_half_are_refused() -> None:
    with pytest.raises(ValueError, match="overlap by half; these have 300 samples and begin every 160"):
        _native.Refinement(asdict(replace(MEL, window=300)), 10, 10)


def test_iterations_that_take_too_long_are_refused() -> None:
    _native.Refinement(asdict(MEL), 1_000, 10)
    with pytest.raises(ValueError, match="1000 iterations of refinement take too long with frames of 5 samples"):
        _native.Refinement(asdict(replace(MEL, hop=5)), 1_000, 10)

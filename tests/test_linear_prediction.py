"""Linear prediction from mel features: against SciPy, and on processes whose predictor is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import linalg, signal

from wavenet.config import MelConfig, ModelConfig
from wavenet.features import mel_spectrogram
from wavenet.nn.linear_prediction import (
    CHUNK,
    MAX_INPUT,
    MIN_GAIN,
    LinearPredictor,
    levinson,
    predict,
    predictor_rows,
    unpack_rows,
    voiced,
)
from wavenet.nn.predicted_samples import PredictedSamples

MEL = MelConfig()  # 16 kHz, 80 bands
SMALL = MelConfig(sample_rate=8_000, window=48, fft=64, hop=16, bands=12, high=4_000.0)
ENERGY, HTK = MelConfig(power=2.0), MelConfig(scale="htk", area=False)
FORMS = pytest.mark.parametrize("mel", [MEL, ENERGY, HTK], ids=["plain", "energy", "htk"])

Array = NDArray[np.float64]


def config_of(mel: MelConfig, order: int, taps: int, output: str = "gaussian") -> ModelConfig:
    return ModelConfig(
        1, 3, residual_channels=2, skip_channels=2, sample_rate=mel.sample_rate, features=mel, output=output,
        mixtures=2, linear_prediction=order, pitch_taps=taps,
    )  # fmt: skip


# ---- from features to predictors -------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [1, 2, 7, 16])
def test_levinson_solves_the_normal_equations(order: int) -> None:
    audio = np.random.default_rng(order).standard_normal((3, 2, 200))
    audio[..., 1:] += 0.9 * audio[..., :-1]
    lagged = [(audio[..., : 200 - lag] * audio[..., lag:]).sum(-1) for lag in range(order + 1)]
    correlation = np.stack(lagged, axis=-1)  # [3, 2, order + 1]
    coefficients, power = levinson(correlation)
    assert coefficients.shape == (3, 2, order)
    for row in np.ndindex(3, 2):
        expected = linalg.solve_toeplitz(correlation[row][:-1], correlation[row][1:])
        np.testing.assert_allclose(coefficients[row], expected, atol=1e-10)
        assert power[row] == pytest.approx(correlation[row][0] - expected @ correlation[row][1:])


def test_levinson_of_a_known_process() -> None:
    # s_t = 0.5 s_(t-1) + e with a unit e: variance 1 / (1 - 0.25) = 4/3, each lag half of the one before
    coefficients, power = levinson(4 / 3 * np.array([1, 0.5, 0.25, 0.125]))
    np.testing.assert_allclose(coefficients, [0.5, 0, 0], atol=1e-12)
    assert power == pytest.approx(1)


def autoregressive(seconds: float, a: tuple[float, ...], deviation: float, seed: int = 0) -> tuple[Array, Array]:
    innovation = np.random.default_rng(seed).normal(scale=deviation, size=round(16_000 * seconds))
    return signal.lfilter([1.0], [1.0, *(-value for value in a)], innovation), innovation


@FORMS
@pytest.mark.parametrize(
    ("a", "decibels"),
    # poles at radius r and angle w: a = (2 r cos w, -r^2). Broad: r = 0.8, 2 kHz; sharper: r = 0.9, 1 kHz
    [((2 * 0.8 * np.cos(np.pi / 4), -0.64), 1.0), ((2 * 0.9 * np.cos(np.pi / 8), -0.81), 2.0)],
    ids=["broad", "sharper"],
)
def test_the_residual_of_a_known_process_is_its_innovation(
    mel: MelConfig, a: tuple[float, float], decibels: float
) -> None:
    deviation = 0.01
    audio, innovation = autoregressive(2.0, a, deviation)
    rows = predictor_rows(mel_spectrogram(audio.astype(np.float32), mel).T, mel, 8)[5:-5]  # [frames, order + 3]
    coefficients, gain, rms, _ = unpack_rows(rows)
    actual = np.sqrt(np.square(audio).mean())
    assert actual > 1.5 * deviation  # so that there is something to predict
    assert 20 * np.log10(np.exp(np.log(gain).mean()) / deviation) == pytest.approx(0, abs=decibels)
    assert 20 * np.log10(np.exp(np.log(rms).mean()) / actual) == pytest.approx(0, abs=decibels)
    predictor = np.repeat(coefficients, 160, axis=0)  # of each sample of frames 5 to N - 5
    first = 5 * 160
    past = np.stack([audio[first - 1 - k :][: len(predictor)] for k in range(8)], axis=1)
    residual = audio[first:][: len(predictor)] - (past * predictor).sum(1)
    ratio = np.sqrt(np.square(residual).mean() / np.square(innovation).mean())
    assert 20 * np.log10(ratio) == pytest.approx(0, abs=decibels)
    assert ratio < 0.9 * actual / deviation  # better than no prediction


def test_louder_audio_has_the_same_coefficients_and_a_larger_gain() -> None:
    quiet = np.random.default_rng(0).normal(-3, 1, (5, 80)).astype(np.float32)
    one, other = (unpack_rows(predictor_rows(quiet + np.float32(np.log(ratio)), MEL, 10)) for ratio in (1, 4))
    np.testing.assert_allclose(other.coefficients, one.coefficients, atol=1e-5)
    np.testing.assert_allclose(other.gain - MIN_GAIN, 4 * (one.gain - MIN_GAIN), rtol=1e-5)
    np.testing.assert_allclose(other.rms - MIN_GAIN, 4 * (one.rms - MIN_GAIN), rtol=1e-5)


@pytest.mark.parametrize("mel", [MEL, SMALL, MelConfig(floor=1e-30), MelConfig(power=2.0, floor=1e-30)])
@pytest.mark.parametrize("order", [1, 16, 64])
def test_digital_silence_has_finite_parameters(mel: MelConfig, order: int) -> None:
    silence = mel_spectrogram(np.zeros(3 * mel.hop), mel).T
    rows = predictor_rows(silence, mel, order)
    assert rows.shape == (3, order + 3)
    assert np.isfinite(rows).all()
    coefficients, gain, rms, _ = unpack_rows(rows)
    assert min(gain.min(), rms.min()) >= MIN_GAIN
    assert abs(coefficients).max() < 1  # close to white: hardly anything is predicted
    samples = np.array([[0.0], [1.0], [-1.0]])
    inputs = LinearPredictor(config_of(mel, order, 3), 3).advance(samples, rows[:, None]).inputs
    assert np.isfinite(inputs).all()
    assert abs(inputs).max() <= MAX_INPUT


def test_loud_frames_have_finite_parameters() -> None:
    rows = predictor_rows(np.full((1, 80), 12.0, np.float32), MEL, 16)  # far above full scale
    assert np.isfinite(rows).all()


def test_leading_dimensions_are_independent() -> None:
    features = np.random.default_rng(0).normal(-4, 1, (2, 3, 80)).astype(np.float32)
    rows = predictor_rows(features, MEL, 6)
    assert rows.shape == (2, 3, 9)
    np.testing.assert_allclose(rows[1, 2], predictor_rows(features[1, 2], MEL, 6), atol=1e-12)


# ---- the predictor ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("taps", [0, 1, 5])
@pytest.mark.parametrize("order", [1, 5, 16])
def test_one_by_one_and_many_at_once_are_the_same(order: int, taps: int) -> None:
    config = config_of(SMALL, order, taps)
    rng = np.random.default_rng(order)
    samples = rng.normal(0, 0.3, (2, 300))
    frames = predictor_rows(rng.normal(-4, 1, (2, 20, 12)).astype(np.float32), SMALL, order)
    rows = frames[:, np.arange(1, 301) // 16]  # of the predicted samples
    whole = LinearPredictor(config, 2).advance(samples, rows)
    assert whole.prediction.shape == whole.gain.shape == (2, 300)
    assert whole.inputs.shape == (2, 300, 3 + taps)
    for step in (1, 7, 299):
        predictor = LinearPredictor(config, 2)
        steps = [(t, min(t + step, 300)) for t in range(0, 300, step)]
        parts = [predictor.advance(samples[:, t:end], rows[:, t:end]) for t, end in steps]
        for pieces, expected in zip(zip(*parts, strict=True), whole, strict=True):
            np.testing.assert_allclose(np.concatenate(pieces, axis=1), expected, atol=1e-12)


@pytest.mark.parametrize("taps", [0, 3])
def test_the_prediction_of_a_crop_begins_without_a_residual(taps: int) -> None:
    config = config_of(SMALL, 5, taps)
    rng = np.random.default_rng(0)
    features = rng.normal(-4, 1, (2, 12, 5)).astype(np.float32)  # from sample 80 on there is silence
    padded = np.concatenate([features, np.full((2, 12, 3), SMALL.silence, np.float32)], axis=2).swapaxes(1, 2)
    rows = predictor_rows(padded, SMALL, 5)
    codes = rng.integers(-9_000, 9_000, (2, 70))
    for first in (0, 37):
        crop = predict(config, codes, features, first)
        plain = LinearPredictor(config, 2).advance(codes / 32_768, rows[:, np.arange(first, first + 70) // 16])
        np.testing.assert_allclose(crop.prediction, plain.prediction, atol=1e-12)
        np.testing.assert_allclose(crop.gain, plain.gain, rtol=1e-12)
        np.testing.assert_allclose(crop.inputs[:, 1:, :3], plain.inputs[:, 1:, :3], atol=1e-12)
        np.testing.assert_array_equal(crop.inputs[:, 0, 2], 0)
        assert np.all(plain.inputs[:, 0, 2] != 0)  # this one was preceded by silence


def test_a_prediction_by_hand() -> None:
    predictor = LinearPredictor(config_of(SMALL, 2, 0), 1)
    rows = np.array([[[0.5, -0.25, 0.1, 2.0, 16]]])  # a_1, a_2, gain, RMS, period
    first = predictor.advance(np.array([[0.4]]), rows)  # past 0.4, 0: 0.5 x 0.4 = 0.2
    np.testing.assert_allclose(first.inputs, [[[0.2, 0.1, 4.0]]])  # divided by the RMS, the RMS, the gain
    second = predictor.advance(np.array([[-0.2]]), rows)  # 0.5 x -0.2 - 0.25 x 0.4 = -0.2; residual: -0.2 - 0.2
    np.testing.assert_allclose(second.inputs, [[[-0.1, -0.1, -4.0]]])
    third = predictor.advance(np.array([[1.9]]), rows)
    assert third.inputs[0, 0, 2] == MAX_INPUT  # 2.1 / 0.1 = 21
    assert third.prediction == pytest.approx(0.5 * 1.9 - 0.25 * -0.2)
    assert third.gain == 0.1


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_output_parameters_of_the_samples_by_hand(kind: type[np.floating]) -> None:
    predictor = LinearPredictor(config_of(SMALL, 2, 0), 1)
    prediction = predictor.advance(np.array([[-0.2, 1.9]]), np.array([[[0.5, -0.25, 0.1, 2.0, 16]] * 2]))
    sample = 0.5 * 1.9 - 0.25 * -0.2
    # two mixture components: logits unchanged, means scaled and moved, ln 0.1 added to log scales
    factors, offsets = prediction.transform(config_of(SMALL, 2, 0, "logistic"), kind)
    assert factors.shape == offsets.shape == (1, 2, 6)
    assert factors.dtype == offsets.dtype == kind
    moved = np.array([1.0, 2.0, 0.5, -0.5, 0.0, -1.0]) * factors[0, 1] + offsets[0, 1]
    expected = [1.0, 2.0, sample + 0.05, sample - 0.05, np.log(0.1), np.log(0.1) - 1]
    np.testing.assert_allclose(moved, expected, rtol=1e-6)
    factors, offsets = prediction.transform(config_of(SMALL, 2, 0, "gaussian"), kind)
    np.testing.assert_allclose([0.5, -1] * factors[0, 1] + offsets[0, 1], [sample + 0.05, np.log(0.1) - 1], rtol=1e-6)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("output", ["gaussian", "logistic"])
def test_output_parameters_are_those_of_the_engines_bit_for_bit(output: str, kind: torch.dtype) -> None:
    config, rng = config_of(SMALL, 2, 3, output), np.random.default_rng(2)
    features = rng.normal(-3, 2, (2, SMALL.bands, 9)).astype(np.float32)
    prediction = predict(config, rng.integers(-9_000, 9_000, (2, 8 * SMALL.hop)), features, 0)
    parameters = torch.randn(2, 8 * SMALL.hop, config.output_channels, dtype=kind)
    factors, offsets = prediction.transform(config, np.float64 if kind == torch.float64 else np.float32)
    predicted = PredictedSamples.of(prediction, kind)
    assert {tensor.dtype for tensor in predicted} == {kind}
    expected = parameters * torch.from_numpy(factors) + torch.from_numpy(offsets)
    assert torch.equal(predicted.to_samples(parameters, config), expected)


def test_a_copy_is_independent() -> None:
    rng = np.random.default_rng(0)
    config = config_of(SMALL, 4, 3)
    rows = np.concatenate([np.abs(rng.normal(size=(2, 6))), [[16], [17]]], axis=1)[:, None]  # [2, 1, 7]
    predictor, alone = LinearPredictor(config, 2), LinearPredictor(config, 2)
    for t in range(30):  # until there is something a period ago
        inputs = [one.advance(np.full((2, 1), t + 1.0), rows).inputs for one in (predictor, alone)]
    assert np.all(inputs[0][..., 3:] != 0)
    samples = rng.normal(size=(9, 2, 1))
    for t in range(4):
        predictor.advance(samples[t], rows)
        alone.advance(samples[t], rows)
    branch = predictor.copy()
    for t in range(3):
        branch.advance(-3 * samples[t], rows)
    for t in range(4, 9):
        given, expected = (one.advance(samples[t], rows).inputs for one in (predictor, alone))
        np.testing.assert_array_equal(given, expected)
    assert not np.allclose(branch.state.samples, predictor.state.samples)


# ---- the pitch period ------------------------------------------------------------------------------------------------


def voice(period: float, seconds: float = 0.5, sample_rate: int = 16_000, seed: int = 0) -> Array:
    """Pulses [samples] through a resonance at 700 Hz, with a little noise."""
    pulses = np.zeros(round(sample_rate * seconds))
    pulses[np.arange(0, len(pulses), period).astype(int)] = 0.2
    pole = 0.95 * np.exp(2j * np.pi * 700 / sample_rate)
    noise = np.random.default_rng(seed).normal(scale=1e-4, size=len(pulses))
    return signal.lfilter([1.0], [1.0, -2 * pole.real, abs(pole) ** 2], pulses) + noise


@pytest.mark.parametrize("period", [45, 64, 80, 101.5, 133])  # 356 to 120 Hz
@FORMS
def test_the_period_of_a_voice_is_found(mel: MelConfig, period: float) -> None:
    found = unpack_rows(predictor_rows(mel_spectrogram(voice(period), mel).T, mel, 8)[5:-5]).period
    assert abs(np.median(found) - period) <= 2
    assert (abs(found - period) <= 3).mean() > 0.9


BROAD = [  # 24 and 22.05 kHz: hop 300 and 256
    MelConfig(sample_rate=24_000, window=1_200, fft=2_048, hop=300, high=12_000.0),
    MelConfig(sample_rate=24_000, window=1_024, fft=1_024, hop=256, high=12_000.0),
    MelConfig(sample_rate=22_050, window=1_024, fft=1_024, hop=256),
]


@pytest.mark.parametrize("hertz", [105, 115, 150, 220, 300, 400])
@pytest.mark.parametrize("mel", [MEL, *BROAD], ids=["16", "24, hop 300", "24, hop 256", "22.05"])
def test_low_and_high_voices_have_a_pitch(mel: MelConfig, hertz: float) -> None:
    period = mel.sample_rate / hertz
    frames = mel_spectrogram(voice(period, sample_rate=mel.sample_rate), mel).T[5:-5]
    found = unpack_rows(predictor_rows(frames, mel, 8)).period
    assert (abs(found - period) <= 0.03 * period).mean() > 0.9
    assert voiced(frames, mel).mean() > 0.9


@pytest.mark.parametrize(
    "mel", [MEL, SMALL, MelConfig(sample_rate=44_100, window=1_764, fft=2_048, hop=441, high=16_000.0)]
)
def test_periods_are_within_their_range(mel: MelConfig) -> None:
    features = np.random.default_rng(0).normal(-5, 3, (50, mel.bands)).astype(np.float32)
    shortest, longest = mel.pitch_periods
    periods = unpack_rows(predictor_rows(features, mel, 4)).period
    assert 5 <= shortest < longest <= mel.fft // 2
    assert periods.min() >= shortest
    assert periods.max() <= longest
    assert len(set(periods)) > 5


@pytest.mark.parametrize("mel", [MEL, ENERGY], ids=["magnitude", "energy"])
def test_a_voice_has_a_pitch_and_noise_has_none(mel: MelConfig) -> None:
    hiss = np.random.default_rng(0).normal(scale=0.1, size=16_000)
    assert voiced(mel_spectrogram(voice(80), mel).T, mel)[5:-5].mean() > 0.95
    assert not voiced(mel_spectrogram(hiss, mel).T, mel)[5:-5].any()
    assert not voiced(mel_spectrogram(np.zeros(1_600), mel).T, mel).any()


def test_voicing_of_many_frames_is_that_of_each() -> None:
    frames = np.concatenate([mel_spectrogram(voice(80, 0.2), MEL).T, np.full((4, 80), MEL.silence, np.float32)])
    many = np.tile(frames, (CHUNK // 8, 1)).reshape(2, -1, 80)  # [2, n, bands]
    expected = np.tile(voiced(frames, MEL), CHUNK // 8).reshape(2, -1)
    assert 0.5 < expected.mean() < 1
    np.testing.assert_array_equal(voiced(many, MEL), expected)
    assert voiced(frames[:0], MEL).shape == (0,)


def test_the_period_of_a_frame_does_not_depend_on_the_others() -> None:
    flat = np.full((40, 80), MEL.silence, np.float32)  # whose cepstrum is zero, but for rounding
    one_by_one = [predictor_rows(frame, MEL, 4)[-1] for frame in flat]
    assert set(predictor_rows(flat, MEL, 4)[:, -1]) == set(one_by_one)


def test_residuals_a_period_ago_by_hand() -> None:
    predictor = LinearPredictor(config_of(SMALL, 1, 3), 1)
    shortest, longest = SMALL.pitch_periods
    rng = np.random.default_rng(0)
    samples = rng.normal(size=2 * longest)
    residuals = samples - 0.5 * np.concatenate([[0], samples[:-1]])  # with a_1 = 0.5
    for t, (sample, period) in enumerate(zip(samples, rng.integers(shortest, longest + 1, len(samples)), strict=True)):
        inputs = predictor.advance(np.array([[sample]]), np.array([[[0.5, 2.0, 4.0, period]]])).inputs[0, 0]
        # sample t + 1 is predicted; gain 2
        expected = [residuals[n] / 2 if (n := t + 1 - period + tap) >= 0 else 0 for tap in (-1, 0, 1)]
        np.testing.assert_allclose(inputs[3:], expected, rtol=1e-9)

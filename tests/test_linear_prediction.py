"""Linear prediction from mel features: against SciPy and torchaudio, and on processes whose predictor is known."""

import numpy as np
import pytest
import torch
import torchaudio
from scipy import linalg, signal

from wavenet.config import MelConfig, ModelConfig
from wavenet.features import mel_spectrogram
from wavenet.model import predict
from wavenet.nn.linear_prediction import LEAST_GAIN, MOST_INPUT, Predictor, levinson, mel_filters, rows_of, voiced

MEL = MelConfig()  # 16 kHz, 80 bands
SMALL = MelConfig(sample_rate=8_000, window=48, fft=64, hop=16, bands=12, high=4_000.0)


def config_of(mel, order, taps):
    return ModelConfig(
        1, 3, residual_channels=2, skip_channels=2, sample_rate=mel.sample_rate, features=mel, output="gaussian",
        linear_prediction=order, pitch_taps=taps,
    )  # fmt: skip


@pytest.mark.parametrize("order", [1, 2, 7, 16])
def test_levinson_solves_the_normal_equations(order):
    sound = np.random.default_rng(order).standard_normal((3, 2, 200))
    sound[..., 1:] += 0.9 * sound[..., :-1]
    lagged = [(sound[..., : 200 - lag] * sound[..., lag:]).sum(-1) for lag in range(order + 1)]
    correlation = np.stack(lagged, axis=-1)  # [3, 2, order + 1]
    coefficients, power = levinson(correlation)
    assert coefficients.shape == (3, 2, order)
    for row in np.ndindex(3, 2):
        expected = linalg.solve_toeplitz(correlation[row][:-1], correlation[row][1:])
        np.testing.assert_allclose(coefficients[row], expected, atol=1e-10)
        assert power[row] == pytest.approx(correlation[row][0] - expected @ correlation[row][1:])


def test_levinson_of_a_known_process():
    # s_t = 0.5 s_(t-1) + e with a unit e: variance 1 / (1 - 0.25) = 4/3, each lag half of the one before
    coefficients, power = levinson(4 / 3 * np.array([1, 0.5, 0.25, 0.125]))
    np.testing.assert_allclose(coefficients, [0.5, 0, 0], atol=1e-12)
    assert power == pytest.approx(1)


@pytest.mark.parametrize("scale", ["slaney", "htk"])
@pytest.mark.parametrize("area", [True, False])
@pytest.mark.parametrize(("rate", "fft", "bands"), [(16_000, 1_024, 80), (22_050, 1_024, 40), (8_000, 65, 4)])
def test_mel_filters_are_torchaudios(scale, area, rate, fft, bands):
    mel = MelConfig(rate, fft, fft, fft // 2 * 2 - 62 + fft % 2, bands, 50.0, rate / 2 - 500, scale, area)
    expected = torchaudio.functional.melscale_fbanks(
        fft // 2 + 1, mel.low, mel.high, bands, rate, "slaney" if area else None, scale
    )
    peak = expected.max().item()
    assert peak > 1e-3
    np.testing.assert_allclose(mel_filters(mel), expected.numpy().T, atol=1e-5 * peak)  # torchaudio's are float32


def autoregressive(seconds, a, deviation, seed=0):
    innovation = np.random.default_rng(seed).normal(scale=deviation, size=round(16_000 * seconds))
    return signal.lfilter([1.0], [1.0, *(-value for value in a)], innovation), innovation


@pytest.mark.parametrize(
    "mel", [MEL, MelConfig(power=2.0), MelConfig(scale="htk", area=False)], ids=["plain", "energy", "htk"]
)
@pytest.mark.parametrize(
    ("a", "decibels"),
    # poles at radius r and angle w: a = (2 r cos w, -r^2). Broad: r = 0.8, 2 kHz; sharper: r = 0.9, 1 kHz
    [((2 * 0.8 * np.cos(np.pi / 4), -0.64), 1.0), ((2 * 0.9 * np.cos(np.pi / 8), -0.81), 2.0)],
    ids=["broad", "sharper"],
)
def test_a_process_is_predicted_down_to_its_innovation(mel, a, decibels):
    deviation = 0.01
    sound, innovation = autoregressive(2.0, a, deviation)
    rows = rows_of(mel_spectrogram(sound.astype(np.float32), mel).T, mel, 8)[5:-5]  # [frames, order + 3]
    gain, level = rows[:, 8], rows[:, 9]
    loudness = np.sqrt(np.square(sound).mean())
    assert loudness > 1.5 * deviation  # so that there is something to predict
    assert 20 * np.log10(np.exp(np.log(gain).mean()) / deviation) == pytest.approx(0, abs=decibels)
    assert 20 * np.log10(np.exp(np.log(level).mean()) / loudness) == pytest.approx(0, abs=decibels)
    predictor = np.repeat(rows[:, :8], 160, axis=0)  # of each sample of frames 5 to N - 5
    first = 5 * 160
    past = np.stack([sound[first - 1 - k :][: len(predictor)] for k in range(8)], axis=1)
    left = sound[first:][: len(predictor)] - (past * predictor).sum(1)
    rest = np.sqrt(np.square(left).mean() / np.square(innovation).mean())
    assert 20 * np.log10(rest) == pytest.approx(0, abs=decibels)
    assert rest < 0.9 * loudness / deviation  # better than no prediction


def test_louder_sound_has_the_same_predictor_and_a_larger_gain():
    quiet = np.random.default_rng(0).normal(-3, 1, (5, 80)).astype(np.float32)
    one, other = rows_of(quiet, MEL, 10), rows_of(quiet + np.float32(np.log(4)), MEL, 10)
    np.testing.assert_allclose(other[:, :10], one[:, :10], atol=1e-5)
    np.testing.assert_allclose(other[:, 10:12] - LEAST_GAIN, 4 * (one[:, 10:12] - LEAST_GAIN), rtol=1e-5)


@pytest.mark.parametrize("mel", [MEL, SMALL, MelConfig(floor=1e-30), MelConfig(power=2.0, floor=1e-30)])
@pytest.mark.parametrize("order", [1, 16, 64])
def test_digital_silence_has_finite_rows(mel, order):
    silence = mel_spectrogram(np.zeros(3 * mel.hop), mel).T
    rows = rows_of(silence, mel, order)
    assert rows.shape == (3, order + 3)
    assert np.isfinite(rows).all()
    assert (rows[:, order : order + 2] >= LEAST_GAIN).all()
    assert abs(rows[:, :order]).max() < 1  # next to white: nothing is predicted
    inputs = Predictor(config_of(mel, order, 3), 3).next(np.array([0.0, 1.0, -1.0]), rows)
    assert np.isfinite(inputs).all()
    assert abs(inputs).max() <= MOST_INPUT


def test_loud_frames_have_finite_rows():
    rows = rows_of(np.full((1, 80), 12.0, np.float32), MEL, 16)  # far above full scale
    assert np.isfinite(rows).all()


@pytest.mark.parametrize("taps", [0, 1, 5])
@pytest.mark.parametrize("order", [1, 5, 16])
def test_sample_by_sample_is_the_models_own_prediction(order, taps):
    config = config_of(SMALL, order, taps)
    streams, samples = 2, 70
    rng = np.random.default_rng(order)
    features = rng.normal(-4, 1, (streams, 12, 5)).astype(np.float32)  # ends: from sample 80 on there is silence
    for first in (0, 37):
        codes = rng.integers(-9_000, 9_000, (streams, samples))
        expected = predict(config, torch.from_numpy(codes), torch.from_numpy(features), first)
        predictor = Predictor(config, streams)
        silence = np.full((streams, 12), SMALL.silence, np.float32)
        for t in range(samples):
            frame = (first + t) // 16
            row = rows_of(features[:, :, frame] if frame < 5 else silence, SMALL, order)
            inputs = predictor.next(codes[:, t] / 32_768, row)
            if t == 0:  # a crop's first sample counts as predicted; this predictor knows that it was not
                np.testing.assert_allclose(inputs[:, 2], np.clip(codes[:, 0] / 32_768 / predictor.gain, -16, 16), 1e-6)
                inputs[:, 2] = predictor.lefts[:, :1] = 0
            np.testing.assert_allclose(inputs, expected.inputs[:, t], rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(predictor.sample, expected.sample[:, t], rtol=1e-5, atol=1e-7)
            np.testing.assert_allclose(predictor.gain, expected.gain[:, t], rtol=1e-6)


def test_a_prediction_by_hand():
    predictor = Predictor(config_of(SMALL, 2, 0), 1)
    rows = np.array([[0.5, -0.25, 0.1, 2.0, 16]])  # a_1, a_2, gain, level, period
    first = predictor.next(np.array([0.4]), rows)  # past 0.4, 0: 0.5 x 0.4 = 0.2
    np.testing.assert_allclose(first, [[0.2, 0.1, 4.0]], rtol=1e-6)  # over the level, over the level, over the gain
    second = predictor.next(np.array([-0.2]), rows)  # 0.5 x -0.2 - 0.25 x 0.4 = -0.2; left over: -0.2 - 0.2
    np.testing.assert_allclose(second, [[-0.1, -0.1, -4.0]], rtol=1e-6)
    third = predictor.next(np.array([1.9]), rows)
    assert third[0, 2] == MOST_INPUT  # 2.1 / 0.1 = 21
    # numbers of a mixture of two: logits as they are, means moved and scaled, ln 0.1 added to log scales
    moved = predictor.shifted(np.array([[1.0, 2.0, 0.5, -0.5, 0.0, -1.0]], np.float32), 2)
    sample = 0.5 * 1.9 - 0.25 * -0.2
    expected = [[1.0, 2.0, sample + 0.05, sample - 0.05, np.log(0.1), np.log(0.1) - 1]]
    np.testing.assert_allclose(moved, expected, rtol=1e-5)


def test_a_copy_goes_its_own_way():
    rng = np.random.default_rng(0)
    config = config_of(SMALL, 4, 3)
    rows = np.concatenate([np.abs(rng.normal(size=(2, 6))), [[16], [17]]], axis=1)
    predictor, alone = Predictor(config, 2), Predictor(config, 2)
    for t in range(30):  # until there is something a period ago
        given = [one.next(np.full(2, t + 1.0), rows) for one in (predictor, alone)]
    assert np.all(given[0][:, 3:] != 0)
    sound = rng.normal(size=(9, 2))
    for t in range(4):
        predictor.next(sound[t], rows)
        alone.next(sound[t], rows)
    branch = predictor.copy()
    for t in range(3):
        branch.next(-3 * sound[t], rows)
    for t in range(4, 9):
        np.testing.assert_array_equal(predictor.next(sound[t], rows), alone.next(sound[t], rows))
    assert not np.allclose(branch.past, predictor.past)


# ---- the pitch period ------------------------------------------------------------------------------------------------


def voice(period, seconds=0.5, rate=16_000, seed=0):
    """Pulses [samples] through a resonance at 700 Hz, with a little noise."""
    pulses = np.zeros(round(rate * seconds))
    pulses[np.arange(0, len(pulses), period).astype(int)] = 0.2
    pole = 0.95 * np.exp(2j * np.pi * 700 / rate)
    noise = np.random.default_rng(seed).normal(scale=1e-4, size=len(pulses))
    return signal.lfilter([1.0], [1.0, -2 * pole.real, abs(pole) ** 2], pulses) + noise


@pytest.mark.parametrize("period", [45, 64, 80, 101.5, 133])  # 356 to 120 Hz
@pytest.mark.parametrize(
    "mel", [MEL, MelConfig(power=2.0), MelConfig(scale="htk", area=False)], ids=["plain", "energy", "htk"]
)
def test_the_period_of_a_voice_is_found(mel, period):
    rows = rows_of(mel_spectrogram(voice(period), mel).T, mel, 8)[5:-5]
    assert abs(np.median(rows[:, -1]) - period) <= 2
    assert (abs(rows[:, -1] - period) <= 3).mean() > 0.9


@pytest.mark.parametrize(
    "mel", [MEL, SMALL, MelConfig(sample_rate=44_100, window=1_764, fft=2_048, hop=441, high=16_000.0)]
)
def test_periods_lie_within_their_range(mel):
    features = np.random.default_rng(0).normal(-5, 3, (50, mel.bands)).astype(np.float32)
    shortest, longest = mel.pitch_periods
    periods = rows_of(features, mel, 4)[:, -1]
    assert 5 <= shortest < longest <= mel.fft // 2
    assert periods.min() >= shortest
    assert periods.max() <= longest
    assert len(set(periods)) > 5


@pytest.mark.parametrize("mel", [MEL, MelConfig(power=2.0)], ids=["magnitude", "energy"])
def test_a_voice_has_a_pitch_and_noise_has_none(mel):
    hiss = np.random.default_rng(0).normal(scale=0.1, size=16_000)
    assert voiced(mel_spectrogram(voice(80), mel).T, mel)[5:-5].mean() > 0.95
    assert voiced(mel_spectrogram(hiss, mel).T, mel)[5:-5].mean() < 0.05
    assert not voiced(mel_spectrogram(np.zeros(1_600), mel).T, mel).any()


def test_a_frame_has_the_same_period_in_any_company():
    flat = np.full((40, 80), MEL.silence, np.float32)  # whose cepstrum is zero, but for rounding
    one_by_one = [rows_of(frame, MEL, 4)[-1] for frame in flat]
    assert set(rows_of(flat, MEL, 4)[:, -1]) == set(one_by_one)


def test_what_was_left_over_a_period_ago_is_given_by_hand():
    config = config_of(SMALL, 1, 3)
    predictor = Predictor(config, 1)
    shortest, longest = SMALL.pitch_periods
    rng = np.random.default_rng(0)
    sound = rng.normal(size=2 * longest)
    left = sound - 0.5 * np.concatenate([[0], sound[:-1]])  # with a_1 = 0.5
    for t, (last, period) in enumerate(zip(sound, rng.integers(shortest, longest + 1, len(sound)), strict=True)):
        inputs = predictor.next(np.array([last]), np.array([[0.5, 2.0, 4.0, period]]))[0]
        # sample t + 1 is predicted; gain 2
        expected = [left[n] / 2 if (n := t + 1 - period + tap) >= 0 else 0 for tap in (-1, 0, 1)]
        np.testing.assert_allclose(inputs[3:], expected, rtol=1e-5)

"""Linear prediction of encoded frames, and the reference levels."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from wavenet.frame_prediction import FramePrediction, reference_levels

COEFFICIENTS = np.array([1.5, -0.7])  # of a stable process
NOISE = 0.3


def autoregressive(count: int, seed: int, dimensions: int = 5) -> NDArray[np.float64]:
    """Frames [count, 3 + dimensions] of a known process; voiced in runs, with a pitch that changes by steps of 0.1."""
    rng = np.random.default_rng(seed)
    frames = np.zeros((count, 3 + dimensions))
    noise = NOISE * rng.standard_normal(frames.shape)
    for t in range(2, count):
        frames[t] = COEFFICIENTS[0] * frames[t - 1] + COEFFICIENTS[1] * frames[t - 2] + noise[t]
    frames[:, 1] = (np.arange(count) // 20) % 2
    frames[:, 2] = frames[:, 1] * (np.cumsum(0.1 * rng.standard_normal(count)) % 1)
    return frames


def test_the_coefficients_of_a_known_process_are_found() -> None:
    prediction = FramePrediction.fit([autoregressive(4_000, seed) for seed in range(2)], 2)
    for dimension in (0, 3, 7):
        np.testing.assert_allclose(prediction.coefficients[:, dimension], COEFFICIENTS, atol=0.03)
        assert prediction.deviation[dimension] == pytest.approx(NOISE, rel=0.03)
    np.testing.assert_array_equal(prediction.coefficients[:, 1:3], [[0, 1], [0, 0]])
    np.testing.assert_allclose(prediction.voicing, [0.05, 0.95], atol=0.01)  # runs of 20 frames


def test_predictions_of_a_short_example() -> None:
    prediction = FramePrediction(np.array([[1.0] * 4, [0.5] * 4]), np.ones(4), np.array([0.5, 0.5]))
    frames = np.arange(12.0).reshape(3, 4)
    expected = frames + 0.5 * np.concatenate([np.zeros((1, 4)), frames[:-1]])
    np.testing.assert_array_equal(prediction.predict(frames), expected)


def test_the_likelihood_is_that_of_the_distributions() -> None:
    frames = autoregressive(60, 3)
    prediction = FramePrediction.fit([autoregressive(500, 4)], 2)
    source, shape = prediction.nats(frames)
    assert source.shape == shape.shape == (59,)
    mean = prediction.predict(frames)
    for t in (5, 19, 20, 25, 39, 40):  # frame t + 1: unvoiced, onset, voiced, voiced, end, unvoiced
        expected = -stats.norm.logpdf(frames[t + 1, 3:], mean[t, 3:], prediction.deviation[3:]).sum()
        assert shape[t] == pytest.approx(expected)
        before, now = int(frames[t, 1]), int(frames[t + 1, 1])
        expected = -stats.norm.logpdf(frames[t + 1, 0], mean[t, 0], prediction.deviation[0])
        expected -= math.log(prediction.voicing[before] if now else 1 - prediction.voicing[before])
        if now:
            where = (mean[t, 2], prediction.deviation[2]) if before else (0, 1)
            expected -= stats.norm.logpdf(frames[t + 1, 2], *where)
        assert source[t] == pytest.approx(expected)


def test_linear_prediction_is_better_than_repeating_the_last_frame() -> None:
    levels = reference_levels([autoregressive(2_000, 5)], [autoregressive(300, 6), autoregressive(300, 7)], 2)
    assert levels.linear < levels.repeat - 1
    entropy = 6 * (0.5 * math.log(2 * math.pi * math.e) + math.log(NOISE))  # of loudness and shape
    assert levels.linear == pytest.approx(entropy, abs=2)


def test_nothing_to_fit_gives_a_standard_normal_distribution() -> None:
    for recordings in ([np.zeros((1, 5))], [np.zeros((2, 5)), np.zeros((1, 5))]):
        prediction = FramePrediction.fit(recordings, 2)
        np.testing.assert_array_equal(prediction.coefficients[:, 3:], 0)
        np.testing.assert_array_equal(prediction.deviation, 1)
        np.testing.assert_array_equal(prediction.voicing, 0.5)
    constant = FramePrediction.repeat([np.ones((9, 5))])
    assert np.isfinite(np.sum(constant.nats(np.ones((4, 5))))).all()

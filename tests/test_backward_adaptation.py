"""Linear prediction from the stream's own past: by hand, against SciPy, and at fixed positions of the stream."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import linalg, signal

from wavenet.config import ModelConfig
from wavenet.engine import create
from wavenet.engine.sampling import Sampling
from wavenet.nn.linear_prediction import (
    ADAPTATION_NOISE,
    MIN_GAIN,
    LinearPredictor,
    adaptation_weights,
    adapted_rows,
    predict,
    unpack_rows,
)

# at 2 kHz from 40 samples, updated every 5
CONFIG = ModelConfig(
    1, 3, residual_channels=4, skip_channels=4, sample_rate=2_000, output="gaussian", linear_prediction=6
)
Array = NDArray[np.float64]


def noisy_tone(samples: int, seed: int = 0) -> NDArray[np.int64]:
    rng = np.random.default_rng(seed)
    return np.rint(6_000 * np.sin(np.arange(samples) / 3) + rng.normal(0, 900, samples)).astype(np.int64)


def test_the_window_weighs_the_recent_past_most_but_not_its_edge() -> None:
    weights = adaptation_weights(CONFIG)
    assert len(weights) == CONFIG.adaptation_window == 40
    assert weights.argmax() in (36, 37)  # the fall takes a twelfth of the window, 3 samples
    assert np.all(np.diff(weights[:37]) > 0)
    assert np.all(np.diff(weights[37:]) < 0)
    assert 0 < weights[0] < 0.05
    assert 0 < weights[-1] < 0.5


def test_rows_solve_the_normal_equations_of_the_samples_before_a_position() -> None:
    history = noisy_tone(200).reshape(2, 100) / 32_768
    rows = adapted_rows(history, np.array([40, 63, 100]), CONFIG)
    assert rows.shape == (2, 3, 9)
    for stream in range(2):
        for row, end in zip(rows[stream], (40, 63, 100), strict=True):
            weighted = history[stream, end - 40 : end] * adaptation_weights(CONFIG)
            lagged = np.array([weighted[: 40 - lag] @ weighted[lag:] for lag in range(7)])
            lagged /= np.square(adaptation_weights(CONFIG)).sum()
            assert row[7] == pytest.approx(np.sqrt(lagged[0]) + MIN_GAIN)
            lagged[0] = lagged[0] * (1 + ADAPTATION_NOISE) + MIN_GAIN**2
            expected = linalg.solve_toeplitz(lagged[:-1], lagged[1:])
            np.testing.assert_allclose(row[:6], expected, atol=1e-8)
            assert row[6] == pytest.approx(np.sqrt(lagged[0] - expected @ lagged[1:]) + MIN_GAIN)


def test_a_known_process_is_predicted_to_its_innovation() -> None:
    innovation = np.random.default_rng(0).normal(scale=0.01, size=16_000)
    pole = 0.95 * np.exp(0.3j)
    audio = signal.lfilter([1.0], [1.0, -2 * pole.real, abs(pole) ** 2], innovation)
    config = dataclasses.replace(CONFIG, sample_rate=16_000, linear_prediction=4)
    predictor = LinearPredictor(config, 1)
    prediction = predictor.advance(audio[None], None)
    residual = audio[1:] - prediction.prediction[0, :-1]
    assert np.sqrt(np.square(residual).mean()) == pytest.approx(0.01, rel=0.15)  # estimated from 20 ms
    assert np.exp(np.log(prediction.gain[0, 400:]).mean()) == pytest.approx(0.01, rel=0.1)
    assert np.sqrt(np.square(audio).mean()) > 0.05


def test_digital_silence_is_finite_and_quiet() -> None:
    prediction = LinearPredictor(CONFIG, 2).advance(np.zeros((2, 30)), None)
    assert np.all(prediction.prediction == 0)
    np.testing.assert_allclose(prediction.gain, 2 * MIN_GAIN)
    assert np.isfinite(prediction.inputs).all()


def test_inputs_by_hand() -> None:
    audio = noisy_tone(61)[None] / 32_768
    predictor = LinearPredictor(CONFIG, 1)
    inputs = predictor.advance(audio, None).inputs[0]
    # sample 61 is predicted with the update before sample 60, 20 samples after the first sample of its window
    coefficients, gain, rms, _ = unpack_rows(adapted_rows(audio[:, 20:60], np.array([40]), CONFIG)[0, 0])
    ahead = coefficients @ audio[0, 60:54:-1]
    behind = audio[0, 60] - coefficients @ audio[0, 59:53:-1]  # sample 60 has the same update
    expected = [audio[0, 60] / rms, ahead / rms, behind / gain, (np.log(rms) + 4) / 2, (np.log(gain) + 6) / 2]
    # the samples here are numbered from 0; in a stream the first input precedes them
    np.testing.assert_allclose(LinearPredictor(CONFIG, 1).advance(audio, None, 1).inputs[0, 60], expected, rtol=1e-9)
    assert not np.allclose(inputs[60], expected)  # with updates at other positions


@pytest.mark.parametrize("position", [0, 1, 4, 1_003])
def test_one_by_one_and_many_at_once_are_the_same(position: int) -> None:
    samples = noisy_tone(600).reshape(2, 300) / 32_768
    whole = LinearPredictor(CONFIG, 2).advance(samples, None, position)
    assert whole.inputs.shape == (2, 300, 5)
    for step in (1, 7, 299):
        predictor = LinearPredictor(CONFIG, 2)
        parts = [predictor.advance(samples[:, t : t + step], None, position + t) for t in range(0, 300, step)]
        for pieces, expected in zip(zip(*parts, strict=True), whole, strict=True):
            np.testing.assert_allclose(np.concatenate(pieces, axis=1), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("first", [1, 37, 100])
def test_a_crop_is_predicted_like_the_recording_after_its_history(first: int) -> None:
    codes = noisy_tone(300)[None]
    whole, crop = predict(CONFIG, codes, None, 0), predict(CONFIG, codes[:, first:], None, first)
    reach = CONFIG.prediction_reach
    assert reach == 45
    for part, expected in zip(crop, whole, strict=True):
        np.testing.assert_allclose(part[:, reach:], expected[:, first + reach :], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("engine", ["native", "torch"])
def test_primed_streams_keep_the_positions_of_updates(engine: str) -> None:
    from wavenet.model import WaveNet

    network = WaveNet(CONFIG)
    player = create(engine, CONFIG, network.state_dict())
    clip = noisy_tone(333)[None]  # longer than the context, so that its begin is left out
    assert CONFIG.context < 333
    primed, fed = player.new_state(1), player.new_state(1)
    player.prime(primed, clip)
    player.logits(fed, clip)
    following = noisy_tone(100, seed=1)[None]
    np.testing.assert_allclose(player.logits(primed, following), player.logits(fed, following), atol=1e-5)
    uniforms = np.random.default_rng(0).random((1, 200))
    copy = primed.copy()
    whole = player.generate(primed, uniforms, Sampling())
    parts = [player.generate(copy, uniforms[:, t : t + 33], Sampling()) for t in range(0, 200, 33)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)

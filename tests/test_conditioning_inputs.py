"""Conditioning inputs: names and mixtures of speakers, shapes of features, and the chunks they are computed in."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from wavenet.config import ModelConfig
from wavenet.engine.conditioning import (
    CHUNK,
    Conditioner,
    ConditioningInputs,
    NumpyConditioningState,
    Speaker,
    conditioning_inputs,
    placeholder_inputs,
)
from wavenet.model import WaveNet

HOP, BANDS = 4, 3
MEL: dict[str, Any] = {"fft": 16, "window": 16, "hop": HOP, "bands": BANDS}
SHAPE: dict[str, Any] = {
    "cycles": 1,
    "layers_per_cycle": 2,
    "residual_channels": 2,
    "skip_channels": 2,
    "frame_channels": 4,
}
SPEAKERS = ModelConfig(**SHAPE, speakers=("anna", "bob", "cid"))
FRAMES = ModelConfig(**SHAPE, features=MEL)
BOTH = ModelConfig(**SHAPE, speakers=("anna", "bob"), features=MEL)
PREDICTED = ModelConfig(**SHAPE, features=MEL, output="gaussian", linear_prediction=4)


def conditioner_of(config: ModelConfig) -> Conditioner:
    return Conditioner(config, {name: tensor.numpy() for name, tensor in WaveNet(config).state_dict().items()})


def frames_of(count: int, *streams: int) -> NDArray[np.float32]:
    frames = np.random.default_rng(count).normal(-7, 1.5, (*streams, BANDS, count)).astype(np.float32)
    return frames.clip(-11, -5)  # within what audio in [-1, 1] can have


def inputs_of(config: ModelConfig, streams: int = 1, speaker: Speaker | None = None, features: Any = None) -> Any:
    return conditioning_inputs(config, streams, speaker, features)


def state_of(config: ModelConfig, streams: int = 1, speaker: Speaker | None = None, features: Any = None) -> Any:
    return NumpyConditioningState(conditioner_of(config), inputs_of(config, streams, speaker, features))


def test_a_name_is_one_share_and_the_same_for_all_streams() -> None:
    assert inputs_of(SPEAKERS, 2, "bob").speaker.tolist() == [[0, 1, 0], [0, 1, 0]]
    assert inputs_of(SPEAKERS, 2, "bob").features is None


@pytest.mark.parametrize(
    ("mixture", "shares"),
    [
        ({"anna": 0.3, "cid": 0.7}, [0.3, 0, 0.7]),
        ({"anna": 3, "bob": 1}, [0.75, 0.25, 0]),  # made to add up to 1
        ({"cid": 1e-3}, [0, 0, 1]),
        ({"anna": 0, "bob": 2}, [0, 1, 0]),
        ({"anna": 1e308, "bob": 1e308}, [0.5, 0.5, 0]),  # whose sum is infinite
        ({"anna": 5e-324, "bob": 5e-324}, [0.5, 0.5, 0]),  # the smallest numbers above 0
    ],
)
def test_shares_of_a_mixture_are_normalised(mixture: Speaker, shares: list[float]) -> None:
    given = inputs_of(SPEAKERS, 1, mixture).speaker
    assert given.dtype == np.float32
    np.testing.assert_allclose(given, [shares], rtol=1e-6)


@pytest.mark.parametrize(
    ("config", "speaker", "features", "message"),
    [
        (SPEAKERS, None, None, "speaker: required; this model has the speakers anna, bob, cid"),
        (SPEAKERS, "ana", None, "speaker = 'ana': unknown, did you mean 'anna'?; known: anna, bob, cid"),
        (SPEAKERS, "zoe", None, "speaker = 'zoe': unknown; known: anna, bob, cid"),
        (SPEAKERS, {"anna": 1, "bop": 1}, None, "speaker = 'bop': unknown, did you mean 'bob'?; known: anna, bob, cid"),
        (SPEAKERS, {"anna": -1, "bob": 2}, None, "shares must be finite numbers from 0, and not all of them 0"),
        (SPEAKERS, {"anna": 0.0}, None, "shares must be finite numbers from 0, and not all of them 0"),
        (SPEAKERS, {"anna": float("nan")}, None, "shares must be finite numbers from 0"),
        (SPEAKERS, {"anna": float("inf")}, None, "shares must be finite numbers from 0"),
        (SPEAKERS, {"anna": 10**400}, None, "shares must be numbers from 0"),
        (SPEAKERS, {}, None, "shares must be finite numbers from 0, and not all of them 0"),
        (SPEAKERS, "bob", frames_of(3), "features: this model is not conditioned on features; leave them out"),
        (FRAMES, "bob", frames_of(3), "speaker = 'bob': this model has no speakers; leave it out"),
        (FRAMES, None, None, "features: this model is conditioned on a mel spectrogram"),
        (FRAMES, None, frames_of(4).T, "must be [3, frames], as the model has bands = 3, not [4, 3]; they look tran"),
        (FRAMES, None, frames_of(4, 3), "not [3, 3, 4]"),
        (FRAMES, None, frames_of(4)[0], "not [4]"),
        (FRAMES, None, frames_of(4)[:2], "not [2, 4]"),
        (FRAMES, None, frames_of(4)[:, :0], "features: there are no frames in them"),
        (FRAMES, None, np.zeros((3, 4), int), "must be floating-point log-mel values, not int64"),
        (FRAMES, None, np.where(frames_of(4) > -7, np.nan, 0), "they contain NaN, infinity"),
    ],
)
def test_wrong_inputs_are_one_line(config: ModelConfig, speaker: Any, features: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        inputs_of(config, 2, speaker, features)
    assert "\n" not in str(error.value)


def test_features_are_for_all_streams_or_for_each() -> None:
    shared, own = frames_of(5), frames_of(6, 2)
    given = inputs_of(BOTH, 2, "bob", shared.astype(np.float64)).features
    assert given.dtype == np.float32
    np.testing.assert_array_equal(given, [shared, shared])
    assert given.flags.c_contiguous  # whatever lay in memory before: [B, bands, N]
    assert inputs_of(BOTH, 2, "bob", np.asfortranarray(shared)).features.flags.c_contiguous
    np.testing.assert_array_equal(inputs_of(BOTH, 2, "bob", own).features, own)


def test_the_features_are_a_copy() -> None:
    for given in (frames_of(5), frames_of(5, 1)):
        copied = inputs_of(FRAMES, features=given).features
        before = copied.copy()
        given += 1
        np.testing.assert_array_equal(copied, before)


def test_placeholder_inputs() -> None:
    inputs = placeholder_inputs(BOTH, 2, samples=9)
    assert inputs.speaker.tolist() == [[1, 0], [1, 0]]
    assert inputs.features.shape == (2, BANDS, 3)  # ceil(9 / 4) frames
    assert np.all(inputs.features == np.float32(np.log(1e-5)))
    assert placeholder_inputs(ModelConfig(**SHAPE)) == ConditioningInputs(None, None)


@pytest.mark.parametrize(
    ("offset", "row", "weight"),
    # hop 4: the middle of a chunk's first frame, row 1, is at sample 1.5
    [(0, 0, 0.625), (1, 0, 0.875), (2, 1, 0.125), (5, 1, 0.875), (6, 2, 0.125), (127, 32, 0.375)],
)
def test_a_sample_is_interpolated_between_two_frames(offset: int, row: int, weight: float) -> None:
    conditioning = state_of(FRAMES, features=frames_of(300))
    for chunk in (0, 2):
        assert conditioning.neighbours(chunk * CHUNK * HOP + offset) == (row, pytest.approx(weight))


def test_a_sample_in_the_middle_of_an_odd_hop_has_its_frame_alone() -> None:
    config = ModelConfig(**SHAPE, features={**MEL, "hop": 5})
    conditioning = state_of(config, features=frames_of(3))
    assert conditioning.neighbours(2) == (1, 0.0)
    assert conditioning.neighbours(7) == (2, 0.0)


# ---- in time --------------------------------------------------------------------------------------------------------

LENGTH = CHUNK * HOP  # 128 samples of a chunk


@pytest.mark.parametrize(
    ("position", "samples", "pieces"),
    [
        (0, 10, [(0, 10, 0)]),
        (0, 128, [(0, 128, 0)]),
        (0, 129, [(0, 128, 0), (128, 129, 0)]),
        (127, 2, [(0, 1, 127), (1, 2, 0)]),
        (128, 5, [(0, 5, 0)]),
        (300, 300, [(0, 84, 44), (84, 212, 0), (212, 300, 0)]),  # chunks end at 384 and 512
        (5, 0, []),
    ],
)
def test_pieces_end_where_chunks_do(position: int, samples: int, pieces: list[tuple[int, int, int]]) -> None:
    conditioning = state_of(FRAMES, features=frames_of(300))
    assert conditioning.pieces(position, samples) == pieces


def test_speakers_alone_are_one_piece_and_one_row() -> None:
    conditioning = state_of(SPEAKERS, 3, "bob")
    assert conditioning.pieces(1_000, 77) == [(0, 77, 0)]
    assert conditioning.frames(0) is conditioning.frames(10**9)
    assert conditioning.frames(0).gate_bias.shape == (3, 1, 2, 4)  # [B, 1, L, 2G]
    conditioning.check(10**9, 10**9)  # never ends


def test_a_chunk_is_computed_once_and_again_after_a_change() -> None:
    conditioner = conditioner_of(BOTH)
    features = frames_of(70, 2)
    conditioning = NumpyConditioningState(conditioner, inputs_of(BOTH, 2, "anna", features))
    first = conditioning.frames(0)
    assert first.gate_bias.shape == (2, CHUNK + 2, 2, 4)
    assert first.predictors is None
    assert conditioning.frames(LENGTH - 1) is first
    assert conditioning.frames(LENGTH) is not first
    np.testing.assert_array_equal(
        conditioning.frames(LENGTH).gate_bias[:, :2], first.gate_bias[:, -2:]
    )  # the border is in both
    twin = conditioning.copy()
    conditioning.change(inputs_of(BOTH, 2, "bob", features))
    assert not np.allclose(conditioning.frames(0).gate_bias, first.gate_bias, atol=1e-3)
    np.testing.assert_array_equal(twin.frames(0).gate_bias, first.gate_bias)
    conditioning.change(inputs_of(BOTH, 2, "anna", features))
    np.testing.assert_array_equal(conditioning.frames(0).gate_bias, first.gate_bias)


def test_a_stream_is_independent_of_the_others() -> None:
    conditioner, features = conditioner_of(BOTH), frames_of(70, 3)
    inputs = inputs_of(BOTH, 3, {"anna": 1, "bob": 2}, features)
    together = conditioner.frames(inputs, 1).gate_bias
    for stream in range(3):
        alone = ConditioningInputs(inputs.speaker[stream : stream + 1], features[stream : stream + 1])
        np.testing.assert_array_equal(conditioner.frames(alone, 1).gate_bias[0], together[stream])


def test_predictors_are_those_of_the_frames_of_the_chunk() -> None:
    from wavenet.nn.linear_prediction import predictor_rows

    features = frames_of(40, 2)
    frames = conditioner_of(PREDICTED).frames(inputs_of(PREDICTED, 2, features=features), 1)
    assert frames.predictors.shape == (2, CHUNK, 4 + 3)
    inside = predictor_rows(features[:, :, CHUNK:].transpose(0, 2, 1), PREDICTED.features, 4)  # the last 8 frames
    np.testing.assert_allclose(frames.predictors[:, :8], inside, rtol=1e-12)
    silence = predictor_rows(np.full(BANDS, PREDICTED.features.silence, np.float32), PREDICTED.features, 4)
    np.testing.assert_allclose(frames.predictors[:, 8:], np.broadcast_to(silence, (2, CHUNK - 8, 7)), rtol=1e-12)


def test_features_end_with_their_last_frame() -> None:
    conditioning = state_of(FRAMES, features=frames_of(25))
    conditioning.check(0, 100)  # 25 frames of 4 samples
    conditioning.check(99, 1)
    for position, samples, left in ((0, 101, 100), (99, 2, 1), (100, 1, 0), (130, 1, 0)):
        with pytest.raises(ValueError, match=rf"end after 100 samples \(25 frames\).* are {left} left, not {samples}"):
            conditioning.check(position, samples)

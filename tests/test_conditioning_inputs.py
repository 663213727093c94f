"""What streams are told: names and blends, shapes of features, and where they lie in time."""

import re

import numpy as np
import pytest

from wavenet.config import ModelConfig
from wavenet.engine.conditioning import (
    CHUNK,
    Conditioner,
    ConditioningInputs,
    ConditioningState,
    conditioning_inputs,
    interpolation_position,
    placeholder_inputs,
)
from wavenet.model import WaveNet

HOP, BANDS = 4, 3
MEL = {"fft": 16, "window": 16, "hop": HOP, "bands": BANDS}
SHAPE = {"cycles": 1, "layers_per_cycle": 2, "residual_channels": 2, "skip_channels": 2, "frame_channels": 4}
SPEAKERS = ModelConfig(**SHAPE, speakers=("anna", "bob", "cid"))
FRAMES = ModelConfig(**SHAPE, features=MEL)
BOTH = ModelConfig(**SHAPE, speakers=("anna", "bob"), features=MEL)
PREDICTED = ModelConfig(**SHAPE, features=MEL, output="gaussian", linear_prediction=4)


def conditioner_of(config):
    return Conditioner(config, {name: tensor.numpy() for name, tensor in WaveNet(config).state_dict().items()})


def frames_of(count, *streams):
    return np.random.default_rng(count).normal(-4, 2, (*streams, BANDS, count)).astype(np.float32)


def test_a_name_is_one_share_and_the_same_for_all_streams():
    assert conditioning_inputs(SPEAKERS, 2, "bob").speaker.tolist() == [[0, 1, 0], [0, 1, 0]]
    assert conditioning_inputs(SPEAKERS, 2, "bob").features is None


@pytest.mark.parametrize(
    ("blended", "shares"),
    [
        ({"anna": 0.3, "cid": 0.7}, [0.3, 0, 0.7]),
        ({"anna": 3, "bob": 1}, [0.75, 0.25, 0]),  # made to add up to 1
        ({"cid": 1e-3}, [0, 0, 1]),
        ({"anna": 0, "bob": 2}, [0, 1, 0]),
    ],
)
def test_blends_add_up_to_one(blended, shares):
    given = conditioning_inputs(SPEAKERS, 1, blended).speaker
    assert given.dtype == np.float32
    np.testing.assert_allclose(given, [shares], rtol=1e-6)


@pytest.mark.parametrize(
    ("config", "speaker", "features", "message"),
    [
        (SPEAKERS, None, None, "speaker: name one of those that this model knows: anna, bob, cid"),
        (SPEAKERS, "ana", None, "speaker = 'ana': unknown, did you mean 'anna'?; known: anna, bob, cid"),
        (SPEAKERS, "zoe", None, "speaker = 'zoe': unknown; known: anna, bob, cid"),
        (SPEAKERS, {"anna": 1, "bop": 1}, None, "speaker = 'bop': unknown, did you mean 'bob'?; known: anna, bob, cid"),
        (SPEAKERS, {"anna": -1, "bob": 2}, None, "shares must be numbers from 0, and not all of them 0"),
        (SPEAKERS, {"anna": 0.0}, None, "shares must be numbers from 0, and not all of them 0"),
        (SPEAKERS, {"anna": float("nan")}, None, "shares must be numbers from 0"),
        (SPEAKERS, {"anna": float("inf")}, None, "shares must be numbers from 0"),
        (SPEAKERS, {}, None, "shares must be numbers from 0, and not all of them 0"),
        (SPEAKERS, "bob", frames_of(3), "features: this model is driven by none; leave them out"),
        (FRAMES, "bob", frames_of(3), "speaker = 'bob': this model knows no speakers; leave it out"),
        (FRAMES, None, None, "features: this model is driven by a mel spectrogram"),
        (FRAMES, None, frames_of(4).T, "must be [3, frames], as the model's bands = 3 say, not [4, 3]; they look tran"),
        (FRAMES, None, frames_of(4, 3), "not [3, 3, 4]"),
        (FRAMES, None, frames_of(4)[0], "not [4]"),
        (FRAMES, None, frames_of(4)[:2], "not [2, 4]"),
        (FRAMES, None, frames_of(4)[:, :0], "features: there is no frame in them"),
        (FRAMES, None, np.zeros((3, 4), int), "must be floating-point log-mel values, not int64"),
        (FRAMES, None, np.where(frames_of(4) > -4, np.nan, 0), "they hold NaN, infinity"),
    ],
)
def test_what_cannot_be_is_one_line(config, speaker, features, message):
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        conditioning_inputs(config, 2, speaker, features)
    assert "\n" not in str(error.value)


def test_features_are_for_all_streams_or_for_each():
    shared, own = frames_of(5), frames_of(6, 2)
    given = conditioning_inputs(BOTH, 2, "bob", shared.astype(np.float64)).features
    assert given.dtype == np.float32
    np.testing.assert_array_equal(given, [shared, shared])
    assert given.flags.c_contiguous  # whatever lay in memory before: [B, bands, N]
    assert conditioning_inputs(BOTH, 2, "bob", np.asfortranarray(shared)).features.flags.c_contiguous
    np.testing.assert_array_equal(conditioning_inputs(BOTH, 2, "bob", own).features, own)


def test_the_features_are_a_copy():
    for given in (frames_of(5), frames_of(5, 1)):
        told = conditioning_inputs(FRAMES, 1, features=given).features
        before = told.copy()
        given += 1
        np.testing.assert_array_equal(told, before)


def test_something_to_measure_with():
    told = placeholder_inputs(BOTH, 2, samples=9)
    assert told.speaker.tolist() == [[1, 0], [1, 0]]
    assert told.features.shape == (2, BANDS, 3)  # ceil(9 / 4) frames
    assert np.all(told.features == np.float32(np.log(1e-5)))
    assert placeholder_inputs(ModelConfig(**SHAPE)) == ConditioningInputs(None, None)


@pytest.mark.parametrize(
    ("offset", "row", "along"),
    # hop 4: the middle of a chunk's first frame, row 1, lies at sample 1.5
    [(0, 0, 0.625), (1, 0, 0.875), (2, 1, 0.125), (5, 1, 0.875), (6, 2, 0.125), (127, 32, 0.375)],
)
def test_where_a_sample_lies_between_frames(offset, row, along):
    assert interpolation_position(offset, HOP) == (row, pytest.approx(along))


def test_a_sample_in_the_middle_of_an_odd_hop_is_its_frame_alone():
    assert interpolation_position(2, 5) == (1, 0.0)
    assert interpolation_position(7, 5) == (2, 0.0)


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
def test_pieces_end_where_chunks_do(position, samples, pieces):
    conditioning = ConditioningState(conditioner_of(FRAMES), conditioning_inputs(FRAMES, 1, features=frames_of(300)))
    assert conditioning.pieces(position, samples) == pieces


def test_speakers_alone_are_one_piece_and_one_row():
    conditioning = ConditioningState(conditioner_of(SPEAKERS), conditioning_inputs(SPEAKERS, 3, "bob"))
    assert conditioning.pieces(1_000, 77) == [(0, 77, 0)]
    assert conditioning.told(0) is conditioning.told(10**9)
    assert conditioning.told(0).rows.shape == (3, 1, 2, 4)  # [B, 1, L, 2G]
    conditioning.check(10**9, 10**9)  # never ends


def test_what_a_chunk_says_is_made_once_and_again_after_a_change():
    conditioner = conditioner_of(BOTH)
    features = frames_of(70, 2)
    conditioning = ConditioningState(conditioner, conditioning_inputs(BOTH, 2, "anna", features))
    first = conditioning.told(0)
    assert first.rows.shape == (2, CHUNK + 2, 2, 4)
    assert first.predictors is None
    assert conditioning.told(LENGTH - 1) is first
    assert conditioning.told(LENGTH) is not first
    np.testing.assert_array_equal(conditioning.told(LENGTH).rows[:, :2], first.rows[:, -2:])  # the border is in both
    twin = conditioning.copy()
    conditioning.change(conditioning_inputs(BOTH, 2, "bob", features))
    assert not np.allclose(conditioning.told(0).rows, first.rows, atol=1e-3)
    np.testing.assert_array_equal(twin.told(0).rows, first.rows)
    conditioning.change(conditioning_inputs(BOTH, 2, "anna", features))
    np.testing.assert_array_equal(conditioning.told(0).rows, first.rows)


def test_streams_are_told_the_same_whoever_is_beside_them():
    conditioner, features = conditioner_of(BOTH), frames_of(70, 3)
    told = conditioning_inputs(BOTH, 3, {"anna": 1, "bob": 2}, features)
    together = conditioner.told(told, 1).rows
    for stream in range(3):
        alone = ConditioningInputs(told.speaker[stream : stream + 1], features[stream : stream + 1])
        np.testing.assert_array_equal(conditioner.told(alone, 1).rows[0], together[stream])


def test_predictors_are_those_of_the_chunks_frames():
    from wavenet.nn.linear_prediction import predictor_rows

    features = frames_of(40, 2)
    told = conditioner_of(PREDICTED).told(conditioning_inputs(PREDICTED, 2, features=features), 1)
    assert told.predictors.shape == (2, CHUNK, 4 + 3)
    inside = predictor_rows(features[:, :, CHUNK:].transpose(0, 2, 1), PREDICTED.features, 4)  # the last 8 frames
    np.testing.assert_allclose(told.predictors[:, :8], inside, rtol=1e-12)
    silence = predictor_rows(np.full(BANDS, PREDICTED.features.silence, np.float32), PREDICTED.features, 4)
    np.testing.assert_allclose(told.predictors[:, 8:], np.broadcast_to(silence, (2, CHUNK - 8, 7)), rtol=1e-12)


def test_features_end_with_their_last_frame():
    conditioning = ConditioningState(conditioner_of(FRAMES), conditioning_inputs(FRAMES, 1, features=frames_of(25)))
    conditioning.check(0, 100)  # 25 frames of 4 samples
    conditioning.check(99, 1)
    for position, samples, left in ((0, 101, 100), (99, 2, 1), (100, 1, 0), (130, 1, 0)):
        with pytest.raises(ValueError, match=rf"end after 100 samples \(25 frames\).* are {left} left, not {samples}"):
            conditioning.check(position, samples)

"""libwavenet's conditioning: against NumPy's, and frame by frame as in chunks, to the last bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from builders import CONDITIONED, conditioned_config, random_model
from numpy.typing import NDArray

from wavenet.config import MelConfig, ModelConfig
from wavenet.engine import _native
from wavenet.engine.conditioning import CHUNK, Conditioner, ConditioningInputs
from wavenet.engine.feature_check import largest_feature
from wavenet.engine.native import KERNELS_VARIABLE, NativeConditioner, kernels
from wavenet.nn.linear_prediction import predictor_rows, voiced

WITH_FEATURES = {
    **{name: config for name, config in CONDITIONED.items() if config.features},
    "causal": conditioned_config(order=3, taps=1, frame_network="causal", gate_channels=17),
    "one sample per frame": conditioned_config(hop=1, speakers=False),
}
whole = pytest.mark.parametrize("config", WITH_FEATURES.values(), ids=WITH_FEATURES.keys())
Floats = NDArray[np.float32]


def weights_of(config: ModelConfig) -> dict[str, Floats]:
    return {name: tensor.numpy() for name, tensor in random_model(config).state_dict().items()}


def native_of(config: ModelConfig) -> NativeConditioner:
    return NativeConditioner(config, weights_of(config))


def features_of(config: ModelConfig, frames: int, streams: int = 1, seed: int = 0) -> Floats:
    mel = config.features
    assert mel is not None
    low, high = mel.silence, largest_feature(mel)
    values = np.random.default_rng(seed).normal(mel.mean, mel.deviation, (streams, mel.bands, frames))
    return values.clip(low, high).astype(np.float32)


def shares_of(config: ModelConfig, streams: int = 1) -> Floats | None:
    return np.tile(np.array([0.25, 0, 0.75], np.float32), (streams, 1)) if config.speakers else None


def width(config: ModelConfig) -> tuple[int, int]:
    """Halves of all layers' gates, and their padded width."""
    return 2 * config.layers, -(-config.gate // 16) * 16


def biases_at(conditioning: _native.Conditioning, config: ModelConfig, offset: int, stream: int = 0) -> Floats:
    """[L, 2G], without padding."""
    halves, padded = width(config)
    biases = np.empty(halves * padded, np.float32)
    conditioning.biases(stream, offset, biases)
    return biases.reshape(halves, padded)[:, : config.gate].reshape(config.layers, -1)


def predictor_at(conditioning: _native.Conditioning, config: ModelConfig, offset: int, stream: int = 0) -> Any:
    row = np.zeros(config.linear_prediction + 3)
    if config.linear_prediction:
        conditioning.predictor(stream, offset, row)
    return row


@whole
def test_chunks_are_those_of_numpy(config: ModelConfig) -> None:
    inputs = ConditioningInputs(shares_of(config, 2), features_of(config, 50, 2))  # ends in chunk 1
    state = Conditioner(config, weights_of(config)).state(inputs)
    native = native_of(config)
    for chunk in (0, 1, 2):
        frames, start = native.frames(inputs, chunk), chunk * CHUNK * config.hop
        samples = CHUNK * config.hop
        expected = state.gate_biases(start, samples)  # [L, B, samples, 2G]
        own = state.conditioner.bias
        for offset in (0, 1, config.hop // 2, 5 * config.hop - 1, samples - 1):
            for stream in (0, 1):
                biases = biases_at(frames, config, offset, stream) - own
                np.testing.assert_allclose(biases, expected[:, stream, offset], atol=2e-5)
        if config.linear_prediction:
            rows = state.predictors(start, samples)
            for offset in range(0, samples, config.hop):
                for stream in (0, 1):
                    row = predictor_at(frames, config, offset, stream)
                    period = slice(None, None if config.pitch_taps else -1)  # otherwise not computed
                    np.testing.assert_allclose(row[period], rows[stream, offset][period], rtol=1e-7, atol=1e-9)


def test_speakers_alone_are_those_of_numpy() -> None:
    config = conditioned_config(hop=None)
    inputs = ConditioningInputs(shares_of(config, 2))
    expected = Conditioner(config, weights_of(config)).frames(inputs, 0).gate_bias  # [B, 1, L, 2G]
    frames = native_of(config).frames(inputs, 0)
    for row in (0, 1):
        np.testing.assert_allclose(biases_at(frames, config, 7, row), expected[row, 0], atol=1e-5)
    stream = _native.ConditioningStream(native_of(config).native, 1)
    assert (stream.ready(0) > 10**6, stream.voiced(), stream.push(np.zeros((1, 1), np.float32))) == (True, False, 0)
    alone = native_of(config).frames(ConditioningInputs(np.array([[1, 0, 0]], np.float32)), 0)
    np.testing.assert_array_equal(biases_at(stream, config, 5), biases_at(alone, config, 5))
    shares = shares_of(config)
    assert shares is not None
    stream.speak(shares[0])
    np.testing.assert_array_equal(biases_at(stream, config, 5), biases_at(frames, config, 5))


def test_all_instruction_sets_give_the_same_numbers() -> None:
    config, made = conditioned_config(gate_channels=17), {}
    inputs = ConditioningInputs(shares_of(config), features_of(config, 40))
    for name in kernels():
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(KERNELS_VARIABLE, name)
            frames = native_of(config).frames(inputs, 0)
        made[name] = np.stack([biases_at(frames, config, offset) for offset in range(0, 90, 7)])
    for biases in made.values():
        np.testing.assert_array_equal(biases, made["portable"])


@whole
@pytest.mark.parametrize(("capacity", "block"), [(1, 1), (3, 5), (200, 64)])
def test_a_stream_is_the_same_as_chunks_to_the_last_bit(config: ModelConfig, capacity: int, block: int) -> None:
    count, hop = 45, config.hop
    features, native = features_of(config, count), native_of(config)
    inputs = ConditioningInputs(shares_of(config), features)
    stream = _native.ConditioningStream(native.native, capacity)
    if config.speakers:
        assert inputs.speaker is not None
        stream.speak(inputs.speaker[0])
    frames = np.ascontiguousarray(features[0].T)
    position = pushed = 0
    chunks = [native.frames(inputs, chunk) for chunk in range(2)]
    while position < count * hop:
        pushed += stream.push(frames[pushed : pushed + block])
        if pushed == count:
            stream.end()
        ready = min(stream.ready(position), block)
        assert ready <= stream.available(position)
        for offset in range(ready):
            chunk, sample = divmod(position + offset, CHUNK * hop)
            np.testing.assert_array_equal(
                biases_at(stream, config, offset), biases_at(chunks[chunk], config, sample), strict=True
            )
            np.testing.assert_array_equal(
                predictor_at(stream, config, offset), predictor_at(chunks[chunk], config, sample)
            )
        position += ready
    assert (position, stream.ready(position), stream.available(position)) == (count * hop, 0, 0)
    assert stream.push(frames) == 0  # after the end


@pytest.mark.parametrize(("kind", "ahead"), [("plain", 3), ("parallel", 65), ("causal", 1)])
def test_the_look_ahead_is_as_stated(kind: str, ahead: int) -> None:
    config = conditioned_config(hop=4, speakers=False, frame_network=kind)
    native = native_of(config).native
    assert native.look_ahead == ahead
    stream = _native.ConditioningStream(native, 100)
    frames = np.ascontiguousarray(features_of(config, 100)[0].T)
    assert stream.push(frames[: ahead - 1]) == ahead - 1
    assert (stream.available(0), stream.ready(0)) == (0, 0)
    stream.push(frames[ahead - 1 : ahead])  # enough to the centre of the first frame
    assert (stream.available(0), stream.ready(0), stream.ready(2)) == (2, 2, 0)
    stream.push(frames[ahead : ahead + 1])  # the first frame, and those that follow it
    assert (stream.available(0), stream.ready(2), stream.ready(5)) == (6, 2, 1)
    stream.push(frames[:98])
    assert stream.available(5) == 1 + 4 * 98
    assert stream.ready(4 * 50 + 1) == 1  # positions may skip frames


def test_copies_and_restarts() -> None:
    config = conditioned_config(hop=4, order=2, taps=3)
    native = native_of(config).native
    frames = np.ascontiguousarray(features_of(config, 30)[0].T)
    stream = _native.ConditioningStream(native, 32)
    stream.push(frames)
    stream.end()
    assert stream.ready(9) == 1
    copy = stream.copy()
    for position in (9, 10, 40, 119):
        assert (stream.ready(position), copy.ready(position)) == (
            position == 9 or 2 - position % 2,
            stream.ready(position),
        )
        np.testing.assert_array_equal(biases_at(stream, config, 0), biases_at(copy, config, 0))
        np.testing.assert_array_equal(predictor_at(stream, config, 0), predictor_at(copy, config, 0))
    last = biases_at(copy, config, 0)
    stream.reset()
    assert (stream.available(0), stream.ready(0)) == (0, 0)
    stream.push(frames)
    stream.end()
    assert stream.ready(119) == 1
    np.testing.assert_array_equal(biases_at(stream, config, 0), last)


def test_values_that_no_audio_has_are_limited() -> None:
    config = conditioned_config(hop=4, order=3, taps=3, speakers=False)
    mel = config.features
    assert mel is not None
    native = native_of(config).native
    frames = np.ascontiguousarray(features_of(config, 30)[0].T)
    assert native.possible(frames)
    for value in (np.nan, np.inf, -np.inf, 3e38, mel.silence - 0.03, largest_feature(mel) + 0.7 * mel.power):
        frames[3, 2] = value
        assert not native.possible(frames)
        stream = _native.ConditioningStream(native, 30)
        stream.push(frames)
        for position in range(50):
            assert stream.ready(position) > 0
            assert np.isfinite(biases_at(stream, config, 0)).all()
            assert np.isfinite(predictor_at(stream, config, 0)).all()


@pytest.mark.parametrize(
    "mel",
    [
        MelConfig(),
        MelConfig(sample_rate=24_000, window=1_200, fft=2_048, hop=300, bands=100, high=12_000.0, mean=-4.0),
        MelConfig(scale="htk", area=False, power=2.0, bands=40, low=50.0, fft=1_023, floor=1e-10),
    ],
    ids=["default", "24 kHz", "htk"],
)
def test_prediction_pitch_and_voicing_of_usual_features(mel: MelConfig) -> None:
    """Frames with harmonics: their pitch periods are the same integers, and so is whether they are voiced."""
    config = ModelConfig(
        **{"cycles": 1, "layers_per_cycle": 1, "residual_channels": 2, "skip_channels": 2, "frame_channels": 4},
        sample_rate=mel.sample_rate,
        features=mel,
        output="gaussian",
        linear_prediction=20,
        pitch_taps=3,
        frame_network="causal",
    )
    random = np.random.default_rng(0)
    bands = np.arange(mel.bands)
    ripples = random.uniform(0, 2, (60, 1)) * np.cos(bands * random.uniform(0.5, 3, (60, 1)))
    frames = (-4 - bands / 40 + ripples + random.normal(0, 0.1, (60, mel.bands))).astype(np.float32)
    stream = _native.ConditioningStream(native_of(config).native, 60)
    stream.push(frames)
    stream.end()
    expected, voicing = predictor_rows(frames, mel, 20), voiced(frames, mel)
    for frame in range(60):
        stream.ready(frame * mel.hop)
        np.testing.assert_allclose(predictor_at(stream, config, 0), expected[frame], rtol=1e-7, atol=1e-9)
        assert stream.voiced() == voicing[frame]
    assert len(set(voicing.tolist())) == 2
    for found, own in zip(native_of(config).pitches(frames), (voicing, expected[:, -1]), strict=True):
        np.testing.assert_array_equal(found, own)


def test_inputs_of_another_network_are_refused() -> None:
    config = conditioned_config()
    native = native_of(config).native
    shares, features = shares_of(config), features_of(config, 40)
    for wrong in ((None, features), (shares, None), (shares, features[:, 1:]), (shares, np.tile(features, (2, 1, 1)))):
        with pytest.raises(ValueError, match="for another network"):
            native.frames(*wrong)
    with pytest.raises(ValueError, match="at least, and its context"):
        native.frames(shares, np.ascontiguousarray(features[..., :6]))
    rows, voiced, periods = np.ascontiguousarray(features[0].T), np.empty(40, np.bool_), np.empty(40, np.int64)
    for frames, out in ((rows[:, 1:].copy(), voiced), (rows, voiced[:39])):
        with pytest.raises(ValueError, match=r"frames must be \[n, bands\]"):
            native.pitches(frames, out, periods)

"""The native engine with conditioned networks and 16-bit outputs: kernels, int8, threads, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from builders import (
    CONDITIONED,
    conditioned_config,
    conditioned_configs,
    engine_for,
    random_codes,
    random_conditioning,
    random_model,
)
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from wavenet.config import ModelConfig
from wavenet.engine.conditioning import CHUNK, ConditioningInputs
from wavenet.engine.native import KERNELS_VARIABLE, NativeEngine, kernels
from wavenet.engine.sampling import Sampling, draw_uniforms, uniform_generator

PRECISIONS = ("f32", "int8")
BANDS = 5
properties = settings(derandomize=True, deadline=None, max_examples=20)
whole = pytest.mark.parametrize("config", CONDITIONED.values(), ids=CONDITIONED.keys())


def of_stream(inputs: ConditioningInputs | None, stream: int) -> ConditioningInputs | None:
    """The inputs of one of the streams."""
    if inputs is None:
        return None
    rows = slice(stream, stream + 1)
    return ConditioningInputs(*(a if a is None else a[rows] for a in (inputs.speaker, inputs.features)))


def in_blocks(
    call: Callable[..., NDArray[Any]], state: Any, given: NDArray[Any], block: int, *more: Any
) -> NDArray[Any]:
    """The calls of an engine with what is given for samples [B, n], a block at a time."""
    return np.concatenate([call(state, given[:, at : at + block], *more) for at in range(0, given.shape[1], block)], 1)


@properties
@given(config=conditioned_configs, streams=st.integers(1, 9))
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", kernels())
def test_every_instruction_set_agrees_with_the_portable_one(
    name: str, precision: str, config: ModelConfig, streams: int
) -> None:
    model, codes, outputs = random_model(config), random_codes(config, streams, 40), {}
    for kernel in (name, "portable"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(KERNELS_VARIABLE, kernel)
            engine = engine_for("native", model, precision)
        outputs[kernel] = engine.logits(engine.new_state(streams, random_conditioning(config, streams, 40)), codes)
    tolerance = 2e-5 * max(1, np.abs(outputs["portable"]).max()) if precision == "f32" else 0
    np.testing.assert_allclose(outputs[name], outputs["portable"], atol=tolerance, rtol=0)


@properties
@given(config=conditioned_configs, seed=st.integers(0, 100))
def test_int8_stays_near_float32(config: ModelConfig, seed: int) -> None:
    model, codes, inputs = random_model(config, seed), random_codes(config, 1, 100), random_conditioning(config, 1, 100)
    exact, rounded = (
        engine.logits(engine.new_state(1, inputs), codes)
        for engine in (engine_for("native", model, precision) for precision in PRECISIONS)
    )
    assume(exact.std() > 0.05)
    assert 0 < (rounded - exact).std() / exact.std() < 0.06


@whole
@pytest.mark.parametrize("precision", PRECISIONS)
def test_bit_for_bit_the_same_for_any_threads_blocks_and_batch(precision: str, config: ModelConfig) -> None:
    model, samples, streams = random_model(config), 300, 11
    inputs, generators = (
        random_conditioning(config, streams, samples),
        [uniform_generator(5 + stream) for stream in range(streams)],
    )
    uniform = draw_uniforms(generators, samples)
    weights = model.state_dict()
    alone = NativeEngine(config, weights, precision, threads=1)
    together = alone.generate(alone.new_state(streams, inputs), uniform, Sampling())
    expected = alone.logits(alone.new_state(streams, inputs), together)
    for threads in (1, 2, 3):
        engine = NativeEngine(config, weights, precision, threads)
        for stream in (0, 7, 8, 10):
            for block in (300, CHUNK * 3, 50, 7):
                state = engine.new_state(1, of_stream(inputs, stream))
                own = uniform[stream : stream + 1]
                made = in_blocks(engine.generate, state, own, block, Sampling())
                np.testing.assert_array_equal(made[0], together[stream])
        state = engine.new_state(streams, inputs)
        outputs = in_blocks(engine.logits, state, together, 70)
        np.testing.assert_array_equal(outputs, expected)
    assert not np.array_equal(together[0], together[1])


def test_huge_features_never_reach_the_kernels() -> None:
    codes = random_codes(conditioned_config(), 1, 30)
    for precision in PRECISIONS:
        config = conditioned_config(speakers=False)
        engine = engine_for("native", random_model(config), precision)
        for feature in (1e30, -1e30, 3e38):
            inputs = ConditioningInputs(features=np.full((1, BANDS, 10), feature, np.float32))
            assert np.isfinite(engine.logits(engine.new_state(1, inputs), codes)).all()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_features_that_no_audio_has_are_refused() -> None:
    config = conditioned_config(speakers=False, order=4)
    engine = NativeEngine(config, random_model(config).state_dict())
    state = engine.new_state(1, ConditioningInputs(features=np.full((1, BANDS, 10), 400.0, np.float32)))  # e^800
    with pytest.raises(ValueError, match="the features are too large"):
        engine.generate(state, np.full((1, 5), 0.5), Sampling())
    assert state.position == 0


def test_weights_of_the_conditioning_must_be_finite() -> None:
    model = random_model(conditioned_config())
    for name in ("conditioning.from_speaker.weight", "conditioning.frames.first.bias"):
        weights = {key: tensor.clone() for key, tensor in model.state_dict().items()}
        weights[name].view(-1)[1] = torch.nan
        with pytest.raises(ValueError, match=f"{name} contain NaN or infinity"):
            NativeEngine(model.config, weights)


def test_conditioning_of_other_streams_is_refused() -> None:
    """Whatever Python threads do to one state, the extension reads only what is there."""
    config = conditioned_config()
    engine = NativeEngine(config, random_model(config).state_dict())
    state, other = (
        engine.new_state(2, random_conditioning(config, 2, 300)),
        engine.new_state(3, random_conditioning(config, 3, 300)),
    )
    codes = random_codes(config, 2, 200)
    ((_, last, mine, _), *_), ((_, _, others, _), *_) = state.pieces(0, 200), other.pieces(0, 200)
    assert last == 3 * CHUNK
    for wrong, first, offset in ((others, 0, 0), (None, 0, 0), (mine, 0, 1), (mine, 10, 20)):
        with pytest.raises(ValueError, match="the conditioning frames are for another network"):
            engine.native.feed(state.native, first, first + last, wrong, offset, None, codes, True)
    with pytest.raises(ValueError, match="not in the arrays"):
        engine.native.feed(state.native, 150, 201, mine, 0, None, codes, True)
    engine.native.feed(state.native, 0, last, mine, 0, None, codes, True)

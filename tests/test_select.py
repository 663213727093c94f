"""`Engine.select`: a stream continues as an exact copy of another one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from builders import CONDITIONED, conditioned_configs, draw, engine_for, random_conditioning, random_model
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from wavenet.config import ModelConfig
from wavenet.engine import Engine
from wavenet.engine.conditioning import ConditioningInputs
from wavenet.engine.native import NativeEngine
from wavenet.engine.sampling import Sampling

NAMES = ("native", "torch", "naive")
ENGINES = (("native", "f32"), ("native", "int8"), ("torch", "f32"), ("naive", "f32"))
SAMPLES = 20  # generated after the selection
properties = settings(derandomize=True, deadline=None, max_examples=15)
engines = pytest.mark.parametrize(("name", "precision"), ENGINES)
whole = pytest.mark.parametrize("config", CONDITIONED.values(), ids=CONDITIONED.keys())


def same_conditioning(config: ModelConfig, streams: int, samples: int) -> ConditioningInputs | None:
    """The same features and speakers for every stream."""
    inputs = random_conditioning(config, 1, samples)
    if inputs is None:
        return None
    return ConditioningInputs(
        *(None if array is None else array.repeat(streams, axis=0) for array in (inputs.speaker, inputs.features))
    )


def assert_selected(engine: Engine[Any], state: Any, sources: list[int]) -> None:
    """Select, and compare each stream with what its source would have generated with the same uniform numbers."""
    uniforms = np.random.default_rng(1).random((state.streams, SAMPLES))
    expected: list[NDArray[np.int64]] = []
    for stream, source in enumerate(sources):
        same = np.tile(uniforms[stream], (state.streams, 1))
        expected.append(engine.generate(state.copy(), same, Sampling())[source])
    before, position = state.codes.copy(), state.position
    engine.select(state, sources)
    np.testing.assert_array_equal(state.codes, before[sources])
    assert state.position == position
    np.testing.assert_array_equal(engine.generate(state, uniforms, Sampling()), expected)


@engines
@properties
@given(
    config=conditioned_configs,
    streams=st.integers(1, 5),
    position=st.sampled_from([0, 1, 3, 20, 150]),  # before and after queues and pitch history are full
    data=st.data(),
)
def test_a_selected_stream_continues_like_its_source(
    name: str, precision: str, config: ModelConfig, streams: int, position: int, data: st.DataObject
) -> None:
    engine = engine_for(name, random_model(config), precision)
    state = engine.new_state(streams, same_conditioning(config, streams, position + SAMPLES))
    draw(engine, state, position)
    kept = data.draw(st.sets(st.integers(0, streams - 1), min_size=1))
    sources = [s if s in kept else data.draw(st.sampled_from(sorted(kept))) for s in range(streams)]
    assert_selected(engine, state, sources)


@whole
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("precision", ["f32", "int8"])
def test_native_streams_are_copied_between_groups_and_repeatedly(
    precision: str, threads: int, config: ModelConfig
) -> None:
    engine = NativeEngine(config, random_model(config).state_dict(), precision, threads)
    state = engine.new_state(19, same_conditioning(config, 19, 300))  # groups of at most 8, the last one smaller
    draw(engine, state, 60)
    assert_selected(engine, state, [0, 18, 2, 2, 9, 9, 0, 0, 0, 9, 18, 0, 2, 18, 9, 0, 0, 2, 18])
    assert_selected(engine, state, [3] * 19)
    assert_selected(engine, state, list(range(19)))


@whole
@engines
def test_a_primed_state_is_selected_and_others_are_not_changed(name: str, precision: str, config: ModelConfig) -> None:
    engine = engine_for(name, random_model(config), precision)
    state = engine.new_state(3, same_conditioning(config, 3, 300))
    codes = draw(engine, engine.new_state(3, same_conditioning(config, 3, 300)), 150)
    engine.prime(state, codes)
    branch, expected = state.copy(), draw(engine, state.copy(), SAMPLES)
    assert_selected(engine, state, [2, 1, 2])
    np.testing.assert_array_equal(draw(engine, branch, SAMPLES), expected)


@pytest.mark.parametrize("name", NAMES)
def test_conditioning_stays_in_its_place(name: str) -> None:
    config = CONDITIONED["pitch"]
    inputs = random_conditioning(config, 2, 80)  # different for the two streams
    assert inputs is not None
    engine = engine_for(name, random_model(config))
    state = engine.new_state(2, inputs)
    draw(engine, state, 40)
    expected = state.copy()
    expected.conditioning.change(ConditioningInputs(*(a[[0, 0]] for a in (inputs.speaker, inputs.features))))
    engine.select(state, [1, 1])
    uniforms = np.random.default_rng(1).random((1, SAMPLES)).repeat(2, axis=0)
    codes = engine.generate(state, uniforms, Sampling())
    np.testing.assert_array_equal(codes[0], engine.generate(expected, uniforms, Sampling())[1])
    assert not np.array_equal(codes[0], codes[1])


@pytest.mark.parametrize("name", NAMES)
def test_wrong_sources_are_refused(name: str) -> None:
    model = random_model(ModelConfig(1, 2, 2, 4, skip_channels=8))
    engine = engine_for(name, model)
    state = engine.new_state(3)
    draw(engine, state, 5)
    expected = draw(engine, state.copy(), SAMPLES)
    wrong: list[tuple[Any, str]] = [
        ([0, 1], r"3 whole numbers, not \[2\] int64"),
        ([[0, 1, 2]], "3 whole numbers"),
        ([0.0, 1.0, 2.0], "whole numbers.*float64"),
        ([0, 1, 3], "from 0 to 2"),
        ([-1, 1, 2], "from 0 to 2"),
        ([1, 0, 2], "must keep its place"),
        ([1, 2, 2], "must keep its place"),
    ]
    for sources, message in wrong:
        with pytest.raises(ValueError, match=message) as error:
            engine.select(state, sources)
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="belongs to another engine"):
        engine_for(name, model).select(state, [0, 1, 2])
    np.testing.assert_array_equal(draw(engine, state, SAMPLES), expected)


def test_a_native_state_that_is_in_use_is_not_selected() -> None:
    engine = engine_for("native", random_model(ModelConfig(1, 2, 2, 4, skip_channels=8)))
    state = engine.new_state(2)
    state.lock._owner["thread"] = -1  # as if another thread were advancing it
    with pytest.raises(RuntimeError, match="another thread is advancing this state"):
        engine.select(state, [0, 0])


def test_the_extension_checks_sources_itself() -> None:
    engine = engine_for("native", random_model(ModelConfig(1, 2, 2, 4, skip_channels=8)))
    state = engine.new_state(2)
    for sources in ([0, 2], [-1, 1], [1, 0]):
        with pytest.raises(ValueError, match="keeps its place"):
            state.native.select(np.array(sources))

"""`State.assign`: a state continues from the same sample as another one."""

from __future__ import annotations

import numpy as np
import pytest
from builders import CONDITIONED, conditioned_configs, draw, engine_for, random_conditioning, random_model
from hypothesis import given, settings
from hypothesis import strategies as st

from wavenet.config import ModelConfig
from wavenet.engine.native import NativeEngine

NAMES = ("native", "torch", "naive")
ENGINES = (("native", "f32"), ("native", "int8"), ("torch", "f32"), ("naive", "f32"))
SAMPLES = 20  # generated after the assignment
CONFIG = ModelConfig(1, 2, 2, 4, skip_channels=8)


@pytest.mark.parametrize(("name", "precision"), ENGINES)
@settings(derandomize=True, deadline=None, max_examples=15)
@given(
    config=conditioned_configs,
    streams=st.integers(1, 3),
    positions=st.tuples(*[st.sampled_from([0, 1, 3, 20, 150])] * 2),  # before and after the queues are full
)
def test_an_assigned_state_continues_like_the_other(
    name: str, precision: str, config: ModelConfig, streams: int, positions: tuple[int, int]
) -> None:
    engine = engine_for(name, random_model(config), precision)
    inputs = random_conditioning(config, streams, 150 + 2 * SAMPLES)
    state, other = engine.new_state(streams, inputs), engine.new_state(streams, inputs)
    draw(engine, state, positions[0])
    draw(engine, other, positions[1])
    state.assign(other)
    assert state.position == positions[1]
    np.testing.assert_array_equal(state.codes, other.codes)
    expected = draw(engine, other.copy(), 2 * SAMPLES)
    np.testing.assert_array_equal(draw(engine, state, SAMPLES), expected[:, :SAMPLES])
    np.testing.assert_array_equal(draw(engine, other, 2 * SAMPLES), expected)  # independent of `state`, and the reverse
    state.assign(state)
    assert state.position == positions[1] + SAMPLES


@pytest.mark.parametrize("precision", ["f32", "int8"])
@pytest.mark.parametrize("threads", [1, 3])
def test_native_groups_of_streams_and_primed_samples_are_assigned(precision: str, threads: int) -> None:
    config = CONDITIONED["pitch"]
    engine = NativeEngine(config, random_model(config).state_dict(), precision, threads)
    inputs = random_conditioning(config, 19, 300)  # groups of at most 8 streams, the last one smaller
    state, other = engine.new_state(19, inputs), engine.new_state(19, inputs)
    engine.prime(other, np.random.default_rng(0).integers(-9_000, 9_000, (19, 200)))  # more than the receptive field
    state.assign(other)
    assert state.position == 200
    np.testing.assert_array_equal(draw(engine, state, SAMPLES), draw(engine, other, SAMPLES))


@pytest.mark.parametrize("name", NAMES)
def test_another_engine_or_number_of_streams_is_refused(name: str) -> None:
    engine, other = engine_for(name, random_model(CONFIG)), engine_for(name, random_model(CONFIG))
    state = engine.new_state(2)
    with pytest.raises(ValueError, match="different engines"):
        state.assign(other.new_state(2))
    with pytest.raises(ValueError, match="of 3 streams, not 2"):
        state.assign(engine.new_state(3))
    assert state.position == 0


def test_a_native_state_that_is_in_use_is_refused() -> None:
    engine = engine_for("native", random_model(CONFIG))
    state, other = engine.new_state(2), engine.new_state(2)
    state.lock._owner["thread"] = -1  # as if another thread were advancing it
    for one, two in ((state, other), (other, state)):
        with pytest.raises(RuntimeError, match="another thread is advancing this state"):
            one.assign(two)


def test_the_extension_checks_states_itself() -> None:
    engine = engine_for("native", random_model(CONFIG))
    state = engine.new_state(2)
    for other in (engine.new_state(3), engine_for("native", random_model(CONFIG)).new_state(2)):
        with pytest.raises(ValueError, match="another engine or to another number of streams"):
            state.native.assign(other.native)

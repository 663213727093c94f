"""Engines of conditioned networks and of 16-bit outputs, against the definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from builders import (
    CONDITIONED,
    conditioned_config,
    conditioned_configs,
    definition_outputs,
    engine_for,
    random_codes,
    random_conditioning,
    random_model,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from wavenet.config import ModelConfig
from wavenet.engine.conditioning import ConditioningInputs, conditioning_inputs
from wavenet.engine.sampling import Sampling, sample, sample_continuous

NAMES = ("native", "torch", "naive")
TOLERANCE = 1e-4  # of outputs up to 1, else of the largest of them
stream_counts = st.integers(1, 3)
properties = settings(derandomize=True, deadline=None, max_examples=20)


whole = pytest.mark.parametrize("config", CONDITIONED.values(), ids=CONDITIONED.keys())


def assert_near(outputs: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    np.testing.assert_allclose(outputs, expected, atol=TOLERANCE * max(1, np.abs(expected).max()), rtol=0)


@pytest.mark.parametrize("name", NAMES)
@properties
@given(config=conditioned_configs, streams=stream_counts, seed=st.integers(0, 1_000), split=st.integers(1, 119))
def test_teacher_forced_outputs_equal_the_model(
    name: str, config: ModelConfig, streams: int, seed: int, split: int
) -> None:
    model = random_model(config, seed)
    for bias in (model.skip.bias, model.head.hidden.bias):
        bias.data.add_(2)  # opens rectifiers, all of which may be closed in a narrow network
    codes = random_codes(config, streams, 120, seed)
    inputs = random_conditioning(config, streams, 120, seed)  # with a hop of 3 two chunks
    expected = definition_outputs(model, codes, inputs)
    assert expected.std() > 0.05
    engine = engine_for(name, model)
    state = engine.new_state(streams, inputs)
    halves = [engine.logits(state, codes[:, :split]), engine.logits(state, codes[:, split:])]
    assert_near(np.concatenate(halves, axis=1), expected)
    assert state.position == 120


@pytest.mark.parametrize(
    "config",
    [config for config in CONDITIONED.values() if config.conditioned],
    ids=[name for name, config in CONDITIONED.items() if config.conditioned],
)
@pytest.mark.parametrize("name", NAMES)
def test_conditioning_changes_the_outputs(name: str, config: ModelConfig) -> None:
    engine, codes = engine_for(name, random_model(config)), random_codes(config, 1, 60)
    states = [engine.new_state(1, random_conditioning(config, 1, 60, seed)) for seed in (0, 1)]
    one, other = (engine.logits(state, codes) for state in states)
    assert np.abs(one - other).max() > 0.01


@whole
@pytest.mark.parametrize("sampling", [Sampling(), Sampling(0.7, top_p=0.9), Sampling(0.0)], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_codes_are_drawn_from_the_output_parameters(name: str, sampling: Sampling, config: ModelConfig) -> None:
    engine, inputs = engine_for(name, random_model(config, seed=6)), random_conditioning(config, 2, 130)
    uniform = np.random.default_rng(3).random((2, 130))
    codes = engine.generate(engine.new_state(2, inputs), uniform, sampling)
    parameters = engine.logits(engine.new_state(2, inputs), codes)
    for t in range(130):
        if config.output == "mulaw":
            expected = sample(parameters[:, t], uniform[:, t], sampling)
        else:
            expected = sample_continuous(config.output, parameters[:, t], uniform[:, t], sampling)
        np.testing.assert_array_equal(codes[:, t], expected)
    # what adapts to the silence that it begins with can stay quiet
    assert len(np.unique(codes)) > (1 if sampling.greedy else 20) or config.backward_adaptive


@pytest.mark.parametrize("config", [CONDITIONED["mulaw"], CONDITIONED["pitch"]], ids=["mulaw", "pitch"])
@pytest.mark.parametrize("name", NAMES)
def test_every_sample_may_have_its_own_temperature(name: str, config: ModelConfig) -> None:
    engine, inputs = engine_for(name, random_model(config, seed=6)), random_conditioning(config, 2, 60)
    generator = np.random.default_rng(3)
    uniform, temperatures = generator.random((2, 60)), generator.choice([0.0, 0.5, 1.3], (2, 60))
    codes = engine.generate(engine.new_state(2, inputs), uniform, Sampling(9.0, top_p=0.9), temperatures)
    parameters = engine.logits(engine.new_state(2, inputs), codes)
    for stream, t in np.ndindex(2, 60):
        arguments = parameters[stream : stream + 1, t], uniform[stream : stream + 1, t]
        sampling = Sampling(temperatures[stream, t], top_p=0.9)
        mulaw = config.output == "mulaw"
        drawn = sample(*arguments, sampling) if mulaw else sample_continuous(config.output, *arguments, sampling)
        assert codes[stream, t] == drawn[0]
    state = engine.new_state(2, inputs)
    for wrong in (temperatures[:1], -temperatures, np.full((2, 60), np.nan), np.full((2, 60), np.inf)):
        with pytest.raises(ValueError, match="^temperatures must be "):
            engine.generate(state, uniform, Sampling(), wrong)
    assert state.position == 0


@pytest.mark.parametrize("name", NAMES)
@properties
@given(config=conditioned_configs, streams=stream_counts, lengths=st.lists(st.integers(0, 130), min_size=1, max_size=3))
def test_prime_equals_feeding_sample_by_sample(
    name: str, config: ModelConfig, streams: int, lengths: list[int]
) -> None:
    engine, inputs = engine_for(name, random_model(config)), random_conditioning(config, streams, sum(lengths) + 25)
    primed, fed = engine.new_state(streams, inputs), engine.new_state(streams, inputs)
    for index, length in enumerate(lengths):
        clip = random_codes(config, streams, length, index)
        engine.prime(primed, clip)
        engine.logits(fed, clip)
        assert primed.position == fed.position
        np.testing.assert_array_equal(primed.codes, fed.codes)
    codes = random_codes(config, streams, 20, 99)
    assert_near(engine.logits(primed, codes), engine.logits(fed, codes))


@whole
@pytest.mark.parametrize("name", NAMES)
def test_a_copied_state_branches(name: str, config: ModelConfig) -> None:
    engine, inputs = engine_for(name, random_model(config)), random_conditioning(config, 2, 200)
    state = engine.new_state(2, inputs)
    engine.logits(state, random_codes(config, 2, 70))
    branch, changed = state.copy(), state.copy()
    codes = random_codes(config, 2, 60, seed=1)
    if changed.conditioning is not None:
        changed.conditioning.change(random_conditioning(config, 2, 200, seed=5) or ConditioningInputs())
    diverged = engine.logits(changed, codes)
    engine.logits(changed, codes)
    expected = engine.logits(state, codes)
    np.testing.assert_array_equal(engine.logits(branch, codes), expected)
    assert np.array_equal(diverged, expected) == (not config.conditioned)


@pytest.mark.parametrize("hop", [None, 3])
def test_a_change_of_speaker_applies_from_the_next_sample_on(hop: int | None) -> None:
    """The queues keep the inputs of the first speaker, so the reference is the torch engine."""
    config = conditioned_config(hop=hop)
    model, codes = random_model(config), random_codes(config, 1, 150)
    features = random_conditioning(config, 1, 150)
    outputs = []
    for name in ("native", "torch"):
        engine = engine_for(name, model)
        state = engine.new_state(1, features)
        before = engine.logits(state, codes[:, :50])
        assert state.conditioning is not None
        shares = conditioning_inputs(conditioned_config(hop=None), 1, {"eve": 1.0}).speaker
        state.conditioning.change(ConditioningInputs(shares, state.conditioning.inputs.features))
        outputs.append(np.concatenate([before, engine.logits(state, codes[:, 50:])], axis=1))
    unchanged = engine.logits(engine.new_state(1, features), codes)
    assert_near(outputs[0], outputs[1])
    assert_near(outputs[0][:, :50], unchanged[:, :50])
    assert np.abs(outputs[0][:, 50] - unchanged[:, 50]).max() > 0.01


@pytest.mark.parametrize("name", NAMES)
def test_features_that_end_change_nothing(name: str) -> None:
    config = conditioned_config(output="gaussian", order=4)
    engine = engine_for(name, random_model(config))
    state = engine.new_state(1, random_conditioning(config, 1, 100))  # 34 frames of 3 samples
    engine.prime(state, random_codes(config, 1, 90))
    last = state.codes.copy()
    codes = random_codes(config, 1, 13)
    for call in (
        lambda: engine.prime(state, codes),
        lambda: engine.logits(state, codes),
        lambda: engine.generate(state, np.full((1, 13), 0.5), Sampling()),
    ):
        with pytest.raises(ValueError, match="features end after 102 samples .*at sample 90 there are 12 left, not 13"):
            call()
    assert state.position == 90 and np.array_equal(state.codes, last)
    assert engine.generate(state, np.full((1, 12), 0.5), Sampling()).shape == (1, 12)


@pytest.mark.parametrize("name", NAMES)
def test_wrong_input_of_16_bits_is_refused(name: str) -> None:
    config = conditioned_config(speakers=False, hop=None, output="gaussian")
    engine = engine_for(name, random_model(config))
    state = engine.new_state(1)
    for code in (-32_769, 32_768):
        with pytest.raises(ValueError, match="codes must be between -32768 and 32767"):
            engine.logits(state, np.full((1, 3), code))
    with pytest.raises(ValueError, match="top_k: a 16-bit output"):
        engine.generate(state, np.full((1, 3), 0.5), Sampling(top_k=3))
    with pytest.raises(ValueError, match="not conditioned"):
        engine.new_state(1, ConditioningInputs(speaker=np.ones((1, 1), np.float32)))
    assert state.position == 0
    for code in (-32_768, 32_767):
        assert np.isfinite(engine.logits(state, np.full((1, 3), code))).all()


@pytest.mark.parametrize("name", NAMES)
def test_later_changes_of_the_model_do_not_reach_the_engine(name: str) -> None:
    config = conditioned_config(order=4)
    model = random_model(config)
    engine, codes = engine_for(name, model), random_codes(config, 1, 20)
    before = engine.logits(engine.new_state(1, random_conditioning(config, 1, 20)), codes)
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.zero_()
    np.testing.assert_array_equal(engine.logits(engine.new_state(1, random_conditioning(config, 1, 20)), codes), before)

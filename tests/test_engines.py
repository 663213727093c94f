"""Every engine against the definition, `WaveNet.forward`, over random small shapes."""

from typing import Any

import numpy as np
import pytest
import torch
from builders import definition_outputs, draw, engine_for, random_codes, random_model
from hypothesis import given, settings
from hypothesis import strategies as st

from wavenet.config import ModelConfig
from wavenet.engine import EngineUnavailable, create, torch_step
from wavenet.engine.sampling import Sampling, draw_uniforms, uniform_generator
from wavenet.engine.torch import TorchEngine
from wavenet.model import WaveNet

NAMES = ("native", "torch", "naive")
PYTORCH = ("torch", "naive")
TOLERANCE = 1e-4  # of logits whose spread is a few tenths to several units
FOLDING = {"folded": 2**30, "unfolded": 0}
properties = settings(derandomize=True, deadline=None, max_examples=25)

configs = st.builds(
    ModelConfig,
    cycles=st.integers(1, 3),
    layers_per_cycle=st.integers(1, 4),
    kernel_size=st.integers(2, 4),
    residual_channels=st.sampled_from([1, 5, 8]),
    gate_channels=st.sampled_from([1, 4, 7]),
    skip_channels=st.sampled_from([6, 11]),
    head_channels=st.sampled_from([5, 12]),
)
seeds = st.integers(0, 1_000)
stream_counts = st.integers(1, 3)


@pytest.mark.parametrize("name", NAMES)
@properties
@given(config=configs, seed=seeds, streams=stream_counts)
def test_teacher_forced_logits_equal_the_model(name: str, config: ModelConfig, seed: int, streams: int) -> None:
    model = random_model(config, seed)
    codes = random_codes(config, streams, min(70, config.receptive_field + 20), seed)
    engine = engine_for(name, model)
    state = engine.new_state(streams)
    expected = definition_outputs(model, codes)
    assert expected.std() > 0.1  # otherwise an engine that returns zeros would pass
    halves = [engine.logits(state, codes[:, :9]), engine.logits(state, codes[:, 9:])]
    np.testing.assert_allclose(np.concatenate(halves, axis=1), expected, atol=TOLERANCE, rtol=0)
    assert state.position == codes.shape[1]


@pytest.mark.parametrize("limit", FOLDING.values(), ids=FOLDING.keys())
@properties
@given(config=configs, streams=stream_counts)
def test_folded_and_unfolded_weights_are_the_same_network(limit: int, config: ModelConfig, streams: int) -> None:
    model = random_model(config)
    codes = random_codes(config, streams, 30)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_step, "FOLD_UP_TO", limit)
        engine = engine_for("torch", model)
    logits = engine.logits(engine.new_state(streams), codes)
    np.testing.assert_allclose(logits, definition_outputs(model, codes), atol=TOLERANCE, rtol=0)


@properties
@given(config=configs, streams=stream_counts, split=st.integers(1, 39))
def test_the_same_uniforms_give_the_same_codes_in_every_engine_and_block_size(
    config: ModelConfig, streams: int, split: int
) -> None:
    model = random_model(config)
    drawn = []
    for name in NAMES:
        engine = engine_for(name, model)
        drawn.append(draw(engine, engine.new_state(streams), 40))
        state, generators = engine.new_state(streams), [uniform_generator(7 + stream) for stream in range(streams)]
        blocks = [engine.generate(state, draw_uniforms(generators, n), Sampling()) for n in (split, 40 - split)]
        np.testing.assert_array_equal(np.concatenate(blocks, axis=1), drawn[-1])
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert len(np.unique(drawn[0])) > 5


@pytest.mark.parametrize("name", NAMES)
def test_stream_i_of_a_batch_is_the_single_stream_of_seed_plus_i(name: str) -> None:
    engine = engine_for(name, random_model(ModelConfig(2, 3, 2, 8, skip_channels=16)))
    batch = draw(engine, engine.new_state(3), 50, seed=20)
    for stream in range(3):
        np.testing.assert_array_equal(batch[stream], draw(engine, engine.new_state(1), 50, seed=20 + stream)[0])
    assert not np.array_equal(batch[0], batch[1])


@pytest.mark.parametrize("name", NAMES)
@properties
@given(config=configs, streams=stream_counts, lengths=st.lists(st.integers(0, 60), min_size=1, max_size=3))
def test_prime_equals_feeding_sample_by_sample(
    name: str, config: ModelConfig, streams: int, lengths: list[int]
) -> None:
    """Clips shorter and longer than the receptive field, from a fresh state and from running ones."""
    model = random_model(config)
    engine = engine_for(name, model)
    primed, fed = engine.new_state(streams), engine.new_state(streams)
    for index, length in enumerate(lengths):
        clip = random_codes(config, streams, length, seed=index)
        engine.prime(primed, clip)
        engine.logits(fed, clip)
        np.testing.assert_array_equal(draw(engine, primed, 3), draw(engine, fed, 3))
        assert primed.position == fed.position
    codes = random_codes(config, streams, 20, seed=99)
    np.testing.assert_allclose(engine.logits(primed, codes), engine.logits(fed, codes), atol=TOLERANCE, rtol=0)


def test_prime_of_a_long_clip_agrees_with_the_definition_outputs() -> None:
    model = random_model(ModelConfig(2, 4, 3, 6, skip_channels=12))  # receptive field 61
    codes = random_codes(model.config, 2, 500)
    expected = definition_outputs(model, codes)[:, 480:]
    for name in NAMES:
        engine = engine_for(name, model)
        state = engine.new_state(2)
        engine.prime(state, codes[:, :17])
        engine.prime(state, codes[:, 17:480])
        np.testing.assert_allclose(engine.logits(state, codes[:, 480:]), expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_a_copied_state_branches(name: str) -> None:
    engine = engine_for(name, random_model(ModelConfig(2, 3, 3, 5, skip_channels=12)))
    state = engine.new_state(2)
    draw(engine, state, 30)
    branch, later = state.copy(), state.copy()
    expected = draw(engine, state, 25, seed=1)
    diverged = draw(engine, branch, 25, seed=900)
    np.testing.assert_array_equal(draw(engine, later, 25, seed=1), expected)
    assert not np.array_equal(diverged, expected)
    assert (state.position, branch.position, later.position) == (55, 55, 55)


@pytest.mark.parametrize("name", NAMES)
def test_top_k_1_is_argmax_of_the_logits(name: str) -> None:
    engine = engine_for(name, random_model(ModelConfig(1, 4, 2, 8, skip_channels=12)))
    codes = draw(engine, engine.new_state(2), 30, sampling=Sampling(top_k=1))
    np.testing.assert_array_equal(engine.logits(engine.new_state(2), codes).argmax(axis=2), codes)


def test_the_memory_of_a_state_is_constant() -> None:
    engine = engine_for("torch", random_model(ModelConfig(1, 3, 2, 4, skip_channels=8)))
    state = engine.new_state(2)
    program = state.snapshot.memory.program
    buffers = {name: value for name, value in vars(program).items() if isinstance(value, torch.Tensor)}
    before = {name: (id(value), value.data_ptr(), value.shape) for name, value in buffers.items()}
    # K - 1 = 1 slot per sample of dilation and one more per layer, LEAST_ROWS = 4 streams
    assert before["ring"][2] == (2 + 3 + 5, 4, 4)
    draw(engine, state, 300)
    engine.logits(state, random_codes(engine.config, 2, 5))
    after = {
        name: (id(value), value.data_ptr(), value.shape) for name, value in vars(program).items() if name in before
    }
    assert after == before
    assert state.snapshot.memory.program is program
    engine.prime(state, random_codes(engine.config, 2, 50))  # makes new buffers, of the same size
    primed = state.snapshot.memory.program
    assert len(primed.calls) == len(program.calls)
    assert {name: getattr(primed, name).shape for name in before} == {
        name: shape for name, (*_, shape) in before.items()
    }


def test_a_step_writes_one_slot_per_layer_which_it_does_not_read() -> None:
    engine = engine_for("torch", random_model(ModelConfig(2, 3, 3, 4, skip_channels=8)))
    assert isinstance(engine, TorchEngine)
    state = engine.new_state(1)
    draw(engine, state, 40)
    ring = state.snapshot.memory.program.ring
    before = ring.clone()
    with engine.running():
        outputs = engine.step(state)[0].copy()
        after = ring.clone()
        np.testing.assert_array_equal(engine.step(state)[0], outputs)  # it can be repeated
    assert int((after != before).any(dim=2).sum()) == engine.config.layers
    torch.testing.assert_close(ring, after, rtol=0, atol=0)
    assert state.position == 40


@pytest.mark.parametrize("name", NAMES)
def test_later_changes_of_the_model_do_not_reach_the_engine(name: str) -> None:
    model = random_model(ModelConfig(1, 3, 2, 4, skip_channels=8))
    engine = engine_for(name, model)
    codes = random_codes(model.config, 1, 12)
    before = engine.logits(engine.new_state(), codes)
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.zero_()
    np.testing.assert_array_equal(engine.logits(engine.new_state(), codes), before)


def test_weights_may_be_arrays_and_must_be_complete() -> None:
    model = random_model(ModelConfig(1, 2, 2, 4, skip_channels=8))
    arrays = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    codes = random_codes(model.config, 1, 10)
    for name in NAMES:
        engine = create(name, model.config, arrays)
        logits = engine.logits(engine.new_state(), codes)
        np.testing.assert_allclose(logits, definition_outputs(model, codes), atol=TOLERANCE, rtol=0)
        missing = {key: value for key, value in arrays.items() if key != "layers.1.dilated.bias"}
        with pytest.raises((ValueError, RuntimeError), match=r"layers\.1\.dilated\.bias"):
            create(name, model.config, missing)
        with pytest.raises((ValueError, RuntimeError), match="more"):
            create(name, model.config, {**arrays, "more": np.zeros(3)})
        with pytest.raises((ValueError, RuntimeError), match=r"skip\.bias"):
            create(name, model.config, {**arrays, "skip.bias": np.zeros(9)})


@pytest.mark.parametrize("name", PYTORCH)
def test_threads_apply_inside_calls_only(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model(ModelConfig(1, 2, 2, 4, skip_channels=8))
    before = torch.get_num_threads()
    engine = create(name, model.config, model.state_dict(), threads=before + 1)
    inside = []
    step = type(engine).step  # type: ignore[attr-defined]

    def noting(self: Any, state: Any) -> Any:
        inside.append(torch.get_num_threads())
        return step(self, state)

    monkeypatch.setattr(type(engine), "step", noting)
    draw(engine, engine.new_state(), 3)
    assert inside == [before + 1] * 3
    by_default = create(name, model.config, model.state_dict())
    draw(by_default, by_default.new_state(), 1)
    assert inside[3] == (1 if name == "torch" else before)
    assert torch.get_num_threads() == before
    with pytest.raises(ValueError, match="threads = 0"):
        create(name, model.config, model.state_dict(), threads=0)


def test_engine_names_and_precisions() -> None:
    model = random_model(ModelConfig(1, 2, 2, 4, skip_channels=8))
    weights = model.state_dict()
    for precision, expected in (("auto", "f32"), ("f32", "f32"), ("int8", "int8")):
        engine = create("auto", model.config, weights, precision)
        assert (engine.name, engine.precision) == ("native", expected)
    assert create("naive", model.config, weights, precision="f32").precision == "f32"
    with pytest.raises(EngineUnavailable, match="int8.*not 'torch'"):
        create("torch", model.config, weights, precision="int8")
    with pytest.raises(ValueError, match="'torhc'.*did you mean 'torch'.*auto, native, torch, naive"):
        create("torhc", model.config, weights)
    with pytest.raises(ValueError, match="precision = 'f64'.*auto, f32, int8"):
        create("torch", model.config, weights, precision="f64")
    for threads in (0, 100_000, 1.5, True, "2"):
        with pytest.raises(ValueError, match=f"threads = {threads!r}"):
            create("native", model.config, weights, threads=threads)  # type: ignore[arg-type]
    counted: Any = np.int64(2)
    assert create("native", model.config, weights, threads=counted).threads == 2


@pytest.mark.parametrize("name", ["native", "torch"])
def test_streams_that_do_not_fit_into_memory_are_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # queues of 2 x 1,023 slots of 32 channels: 261,888 bytes for each stream, and some 10,000 for a step
    engine = engine_for(name, WaveNet(ModelConfig()))
    monkeypatch.setattr("wavenet.engine.base.memory", lambda: 50_000_000)  # of which 40 MB may be used
    with pytest.raises(
        ValueError, match=r"65,536 streams .* need 1\d\.\d GB .* has 0\.1: generate at most 1[345]\d at"
    ) as error:
        engine.new_state(65_536)
    assert "\n" not in str(error.value)
    assert engine.new_state(100).streams == 100
    monkeypatch.setattr("wavenet.engine.base.memory", lambda: None)  # a system that does not report it
    assert engine.new_state(200).streams == 200


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("other", NAMES)
def test_a_state_of_another_engine_is_refused(name: str, other: str) -> None:
    model = random_model(ModelConfig(1, 2, 2, 4, skip_channels=8))
    engine, state = engine_for(name, model), engine_for(other, model).new_state(1)
    for call in (
        lambda: engine.generate(state, np.zeros((1, 2)), Sampling()),
        lambda: engine.logits(state, np.zeros((1, 2), dtype=np.int64)),
        lambda: engine.prime(state, np.zeros((1, 2), dtype=np.int64)),
    ):
        with pytest.raises(ValueError, match="this state belongs to another engine"):
            call()
    assert state.position == 0


def test_without_the_extension_auto_is_torch_and_says_how_to_install_the_native_engine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("wavenet.engine.native_installed", lambda: False)
    model = random_model(ModelConfig(1, 2, 2, 4, skip_channels=8))
    weights = model.state_dict()
    monkeypatch.setattr("wavenet.engine.__file__", "/elsewhere/engine/__init__.py")  # installed, not a checkout
    with pytest.warns(UserWarning, match="install a C\\+\\+ compiler") as warned:
        assert create("auto", model.config, weights).name == "torch"
    assert len(warned) == 1 and "\n" not in str(warned[0].message)
    for name, precision in (("native", "auto"), ("auto", "int8"), ("torch", "int8")):
        with pytest.raises(EngineUnavailable, match="not installed.*install a C"):
            create(name, model.config, weights, precision)


@pytest.mark.parametrize("name", NAMES)
def test_wrong_input_is_refused(name: str) -> None:
    engine = engine_for(name, random_model(ModelConfig(1, 2, 2, 4, skip_channels=8)))
    state = engine.new_state(2)
    with pytest.raises(ValueError, match="streams = 0"):
        engine.new_state(0)
    for uniform in (np.zeros((1, 4)), np.zeros(4), np.ones((2, 4)), np.full((2, 4), np.nan)):
        with pytest.raises(ValueError, match="uniforms must"):
            engine.generate(state, uniform, Sampling())
    for codes in (np.zeros((1, 4), int), np.zeros((2, 4)), np.full((2, 4), 256), np.full((2, 4), -1)):
        for feed in (engine.logits, engine.prime):
            with pytest.raises(ValueError, match="codes must"):
                feed(state, codes)
    assert state.position == 0

"""Engines that are told what to play, or make 16-bit sound: all against the oracle, the C++ engine also bit for bit."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from wavenet.config import MelConfig, ModelConfig
from wavenet.data.quantizers import quantizer_for
from wavenet.engine import Engine, create
from wavenet.engine.conditioning import CHUNK, ConditioningInputs, conditioning_inputs
from wavenet.engine.native import KERNELS_VARIABLE, NativeEngine, kernels
from wavenet.engine.sampling import Sampling, draw_uniforms, sample, sample_continuous, uniform_generator
from wavenet.model import WaveNet

NAMES = ("native", "torch", "naive")
PRECISIONS = ("f32", "int8")
TOLERANCE = 1e-4  # of numbers up to 1, else of the largest of them
BANDS = 5
properties = settings(derandomize=True, deadline=None, max_examples=20)


def mel_of(hop: int) -> MelConfig:
    """Features that cost little; a hop of 3 or 7 divides neither blocks nor the receptive field."""
    return MelConfig(window=20, fft=80 + hop % 2, hop=hop, bands=BANDS)  # pitch periods up to half of the fft


def config_of(
    speakers: bool = True, hop: int | None = 3, output: str = "logistic", order: int = 0, taps: int = 0, **others: Any
) -> ModelConfig:
    order = 0 if hop is None or output == "mulaw" else order
    return ModelConfig(
        **{"cycles": 2, "layers_per_cycle": 3, "residual_channels": 8, "skip_channels": 12, **others},
        output=output,
        mixtures=3,
        speakers=("ann", "bob", "eve") if speakers else (),
        features=None if hop is None else mel_of(hop),
        frame_channels=6,
        linear_prediction=order,
        pitch_taps=taps if order else 0,
    )


configs = st.builds(
    config_of,
    speakers=st.booleans(),
    hop=st.sampled_from([None, 3, 4, 7]),
    output=st.sampled_from(["mulaw", "logistic", "gaussian"]),
    order=st.sampled_from([0, 1, 9]),
    taps=st.sampled_from([0, 1, 5]),
    frame_network=st.sampled_from(["plain", "parallel"]),
    cycles=st.integers(1, 2),
    layers_per_cycle=st.integers(1, 3),
    kernel_size=st.integers(2, 3),
    residual_channels=st.sampled_from([1, 5, 8]),
    gate_channels=st.sampled_from([1, 4, 17]),
    skip_channels=st.sampled_from([6, 11]),
)
stream_counts = st.integers(1, 3)
WHOLE = [
    config_of(output="mulaw"),
    config_of(hop=None),
    config_of(speakers=False, hop=None, output="gaussian"),
    config_of(hop=7, output="gaussian", order=4, kernel_size=3),
    config_of(speakers=False, order=9, frame_network="parallel", gate_channels=17),
    config_of(hop=4, order=2, taps=3),
]
whole = pytest.mark.parametrize("config", WHOLE, ids=["mulaw", "speakers", "free", "gaussian", "parallel", "pitch"])


def model_of(config: ModelConfig, seed: int = 0) -> WaveNet:
    """A model that hears what it is told, and says something: a fresh one's numbers are nearly zero."""
    torch.manual_seed(seed)
    model = WaveNet(config)
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.add_(torch.randn_like(tensor) * 0.1)
        model.head.output.weight.mul_(10 if config.output == "mulaw" else 3)
    return model


def engine_of(name: str, model: WaveNet, precision: str = "auto") -> Engine[Any]:
    return create(name, model.config, model.state_dict(), precision, threads=1)


def told(config: ModelConfig, streams: int, samples: int, seed: int = 0) -> ConditioningInputs | None:
    """Other features, and another blend of speakers, for every stream."""
    if not config.conditioned:
        return None
    generator = np.random.default_rng(seed)
    speaker = features = None
    if config.speakers:
        shares = generator.random((streams, len(config.speakers)))
        speaker = (shares / shares.sum(1, keepdims=True)).astype(np.float32)
    if config.features is not None:
        frames = -(-samples // config.hop)
        features = (generator.standard_normal((streams, BANDS, frames)) - 5).astype(np.float32)
    return ConditioningInputs(speaker, features)


def row(conditions: ConditioningInputs | None, stream: int) -> ConditioningInputs | None:
    """What one of the streams is told."""
    return conditions and ConditioningInputs(
        *(a if a is None else a[stream : stream + 1] for a in vars(conditions).values())
    )


def random_codes(config: ModelConfig, streams: int, samples: int, seed: int = 0) -> NDArray[np.int64]:
    generator = np.random.default_rng(seed)
    if config.output == "mulaw":
        return generator.integers(0, 256, (streams, samples))
    return np.clip(3_000 * generator.standard_normal((streams, samples)), -32_768, 32_767).astype(np.int64)


def oracle(model: WaveNet, codes: NDArray[np.int64], conditions: ConditioningInputs | None) -> NDArray[np.float32]:
    """What the model says [B, T, A] before each code, after a start from silence."""
    silence = np.full((len(codes), 1), quantizer_for(model.config.output).silence)
    inputs = np.concatenate([silence, codes[:, :-1]], axis=1)
    arrays = (None, None) if conditions is None else tuple(vars(conditions).values())
    with torch.no_grad():
        return model(torch.from_numpy(inputs), *(a if a is None else torch.from_numpy(a) for a in arrays)).numpy()


def assert_near(numbers: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    np.testing.assert_allclose(numbers, expected, atol=TOLERANCE * max(1, np.abs(expected).max()), rtol=0)


def in_blocks(
    call: Callable[..., NDArray[Any]], state: Any, given: NDArray[Any], block: int, *more: Any
) -> NDArray[Any]:
    """The calls of an engine with what is given for samples [B, n], a block at a time."""
    return np.concatenate([call(state, given[:, at : at + block], *more) for at in range(0, given.shape[1], block)], 1)


@pytest.mark.parametrize("name", NAMES)
@properties
@given(config=configs, streams=stream_counts, seed=st.integers(0, 1_000), split=st.integers(1, 119))
def test_teacher_forced_numbers_equal_the_model(
    name: str, config: ModelConfig, streams: int, seed: int, split: int
) -> None:
    model = model_of(config, seed)
    codes, conditions = random_codes(config, streams, 120, seed), told(config, streams, 120, seed)  # hop 3: two chunks
    expected = oracle(model, codes, conditions)
    assert expected.std() > 0.05
    engine = engine_of(name, model)
    state = engine.new_state(streams, conditions)
    halves = [engine.logits(state, codes[:, :split]), engine.logits(state, codes[:, split:])]
    assert_near(np.concatenate(halves, axis=1), expected)
    assert state.position == 120


@pytest.mark.parametrize(
    "config", [c for c in WHOLE if c.conditioned], ids=["mulaw", "speakers", "gaussian", "parallel", "pitch"]
)
@pytest.mark.parametrize("name", NAMES)
def test_what_is_told_changes_what_is_said(name: str, config: ModelConfig) -> None:
    engine, codes = engine_of(name, model_of(config)), random_codes(config, 1, 60)
    one, other = (engine.logits(engine.new_state(1, told(config, 1, 60, seed)), codes) for seed in (0, 1))
    assert np.abs(one - other).max() > 0.01


@whole
@pytest.mark.parametrize("sampling", [Sampling(), Sampling(0.7, top_p=0.9), Sampling(0.0)], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_codes_are_drawn_from_what_the_network_says(name: str, sampling: Sampling, config: ModelConfig) -> None:
    engine, conditions = engine_of(name, model_of(config, seed=2)), told(config, 2, 130)
    uniform = np.random.default_rng(3).random((2, 130))
    codes = engine.generate(engine.new_state(2, conditions), uniform, sampling)
    numbers = engine.logits(engine.new_state(2, conditions), codes)
    for t in range(130):
        if config.output == "mulaw":
            expected = sample(numbers[:, t], uniform[:, t], sampling)
        else:
            expected = sample_continuous(config.output, numbers[:, t], uniform[:, t], sampling)
        np.testing.assert_array_equal(codes[:, t], expected)
    assert len(np.unique(codes)) > (1 if sampling.greedy else 20)


@pytest.mark.parametrize("name", NAMES)
@properties
@given(config=configs, streams=stream_counts, lengths=st.lists(st.integers(0, 130), min_size=1, max_size=3))
def test_prime_equals_feeding_sample_by_sample(
    name: str, config: ModelConfig, streams: int, lengths: list[int]
) -> None:
    engine, conditions = engine_of(name, model_of(config)), told(config, streams, sum(lengths) + 25)
    primed, fed = engine.new_state(streams, conditions), engine.new_state(streams, conditions)
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
    engine, conditions = engine_of(name, model_of(config)), told(config, 2, 200)
    state = engine.new_state(2, conditions)
    engine.logits(state, random_codes(config, 2, 70))
    branch, changed = state.copy(), state.copy()
    codes = random_codes(config, 2, 60, seed=1)
    if changed.conditioning is not None:
        changed.conditioning.change(told(config, 2, 200, seed=5) or ConditioningInputs())
    diverged = engine.logits(changed, codes)
    engine.logits(changed, codes)
    expected = engine.logits(state, codes)
    np.testing.assert_array_equal(engine.logits(branch, codes), expected)
    assert np.array_equal(diverged, expected) == (not config.conditioned)


@pytest.mark.parametrize("hop", [None, 3])
def test_a_change_of_speaker_counts_from_the_next_sample_on(hop: int | None) -> None:
    """The queues keep what the first speaker left in them, so the oracle is the engine in PyTorch."""
    config = config_of(hop=hop)
    model, codes = model_of(config), random_codes(config, 1, 150)
    features = told(config, 1, 150)
    said = []
    for name in ("native", "torch"):
        engine = engine_of(name, model)
        state = engine.new_state(1, features)
        before = engine.logits(state, codes[:, :50])
        assert state.conditioning is not None
        voice = conditioning_inputs(config_of(hop=None), 1, {"eve": 1.0}).speaker
        state.conditioning.change(ConditioningInputs(voice, state.conditioning.conditions.features))
        said.append(np.concatenate([before, engine.logits(state, codes[:, 50:])], axis=1))
    unchanged = engine.logits(engine.new_state(1, features), codes)
    assert_near(said[0], said[1])
    assert_near(said[0][:, :50], unchanged[:, :50])
    assert np.abs(said[0][:, 50] - unchanged[:, 50]).max() > 0.01


@pytest.mark.parametrize("name", NAMES)
def test_features_that_end_change_nothing(name: str) -> None:
    config = config_of(output="gaussian", order=4)
    engine = engine_of(name, model_of(config))
    state = engine.new_state(1, told(config, 1, 100))  # 34 frames of 3 samples
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
    config = config_of(speakers=False, hop=None, output="gaussian")
    engine = engine_of(name, model_of(config))
    state = engine.new_state(1)
    for code in (-32_769, 32_768):
        with pytest.raises(ValueError, match="codes must lie between -32768 and 32767"):
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
    config = config_of(order=4)
    model = model_of(config)
    engine, codes = engine_of(name, model), random_codes(config, 1, 20)
    before = engine.logits(engine.new_state(1, told(config, 1, 20)), codes)
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.zero_()
    np.testing.assert_array_equal(engine.logits(engine.new_state(1, told(config, 1, 20)), codes), before)


# The C++ engine


@properties
@given(config=configs, streams=st.integers(1, 9))
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", kernels())
def test_every_instruction_set_agrees_with_the_portable_one(
    name: str, precision: str, config: ModelConfig, streams: int
) -> None:
    model, codes, numbers = model_of(config), random_codes(config, streams, 40), {}
    for kernel in (name, "portable"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(KERNELS_VARIABLE, kernel)
            engine = engine_of("native", model, precision)
        numbers[kernel] = engine.logits(engine.new_state(streams, told(config, streams, 40)), codes)
    size = max(1, np.abs(numbers["portable"]).max())
    tolerance = 2e-5 * size if precision == "f32" else 0.02 * size  # see test_native.py
    np.testing.assert_allclose(numbers[name], numbers["portable"], atol=tolerance, rtol=0)


@properties
@given(config=configs, seed=st.integers(0, 100))
def test_int8_stays_near_float32(config: ModelConfig, seed: int) -> None:
    model, codes, conditions = model_of(config, seed), random_codes(config, 1, 100), told(config, 1, 100)
    exact, rounded = (
        engine.logits(engine.new_state(1, conditions), codes)
        for engine in (engine_of("native", model, precision) for precision in PRECISIONS)
    )
    assume(exact.std() > 0.05)
    assert 0 < (rounded - exact).std() / exact.std() < 0.06


@whole
@pytest.mark.parametrize("precision", PRECISIONS)
def test_bit_for_bit_the_same_for_any_threads_blocks_and_batch(precision: str, config: ModelConfig) -> None:
    model, samples, streams = model_of(config), 300, 11
    conditions, generators = (
        told(config, streams, samples),
        [uniform_generator(5 + stream) for stream in range(streams)],
    )
    uniform = draw_uniforms(generators, samples)
    weights = model.state_dict()
    alone = NativeEngine(config, weights, precision, threads=1)
    together = alone.generate(alone.new_state(streams, conditions), uniform, Sampling())
    said = alone.logits(alone.new_state(streams, conditions), together)
    for threads in (1, 2, 3):
        engine = NativeEngine(config, weights, precision, threads)
        for stream in (0, 7, 8, 10):
            for block in (300, CHUNK * 3, 50, 7):
                state = engine.new_state(1, row(conditions, stream))
                own = uniform[stream : stream + 1]
                made = in_blocks(engine.generate, state, own, block, Sampling())
                np.testing.assert_array_equal(made[0], together[stream])
        state = engine.new_state(streams, conditions)
        numbers = in_blocks(engine.logits, state, together, 70)
        np.testing.assert_array_equal(numbers, said)
    assert not np.array_equal(together[0], together[1])


def test_huge_features_never_reach_the_kernels() -> None:
    codes = random_codes(config_of(), 1, 30)
    for precision in PRECISIONS:
        config = config_of(speakers=False)
        engine = engine_of("native", model_of(config), precision)
        for feature in (1e30, -1e30, 3e38):
            told_that = ConditioningInputs(features=np.full((1, BANDS, 10), feature, np.float32))
            assert np.isfinite(engine.logits(engine.new_state(1, told_that), codes)).all()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_features_that_stand_for_no_sound_are_refused() -> None:
    config = config_of(speakers=False, order=4)
    engine = NativeEngine(config, model_of(config).state_dict())
    state = engine.new_state(1, ConditioningInputs(features=np.full((1, BANDS, 10), 400.0, np.float32)))  # e^800
    with pytest.raises(ValueError, match="the features are too large"):
        engine.generate(state, np.full((1, 5), 0.5), Sampling())
    assert state.position == 0
    rows = np.zeros((1, CHUNK + 2, config.layers, 2 * config.gate), np.float32)
    rows[0, 3, 2, 1] = np.nan
    with pytest.raises(ValueError, match="the features are too large"):
        engine.native.told(rows, np.zeros((1, CHUNK, 4 + 2)))


def test_weights_of_the_conditioning_must_be_finite() -> None:
    model = model_of(config_of())
    for name in ("conditioning.from_speaker.weight", "conditioning.frames.first.bias"):
        weights = {key: tensor.clone() for key, tensor in model.state_dict().items()}
        weights[name].view(-1)[1] = torch.nan
        with pytest.raises(ValueError, match=f"{name} hold NaN or infinity"):
            NativeEngine(model.config, weights)


def test_what_others_are_told_is_refused() -> None:
    """Whatever Python threads do to one state, the extension reads only what is there."""
    config = config_of()
    engine = NativeEngine(config, model_of(config).state_dict())
    state, other = engine.new_state(2, told(config, 2, 300)), engine.new_state(3, told(config, 3, 300))
    codes = random_codes(config, 2, 200)
    ((_, last, mine, _), *_), ((_, _, others, _), *_) = state.pieces(0, 200), other.pieces(0, 200)
    assert last == 3 * CHUNK
    for wrong, first, offset in ((others, 0, 0), (None, 0, 0), (mine, 0, 1), (mine, 10, 20)):
        with pytest.raises(ValueError, match="what is told"):
            engine.native.feed(state.native, first, first + last, wrong, offset, codes)
    with pytest.raises(ValueError, match="not in the arrays"):
        engine.native.feed(state.native, 150, 201, mine, 0, codes)
    engine.native.feed(state.native, 0, last, mine, 0, codes)

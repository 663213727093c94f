"""The C++ engine: kernels against each other, int8 against float32, and the same bits for any threads and batches."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import draw, random_codes, random_model
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from wavenet import mulaw
from wavenet.checkpoint import read_model
from wavenet.config import ModelConfig
from wavenet.data import audio
from wavenet.engine import create
from wavenet.engine.native import KERNELS_VARIABLE, NativeEngine, kernels
from wavenet.engine.sampling import Sampling
from wavenet.evaluation.likelihood import sample_bits

SAMPLES = Path(__file__).parents[1] / "samples"
PRECISIONS = ("f32", "int8")
properties = settings(derandomize=True, deadline=None, max_examples=20)
configs = st.builds(
    ModelConfig,
    cycles=st.integers(1, 2),
    layers_per_cycle=st.integers(1, 5),
    kernel_size=st.integers(2, 4),
    residual_channels=st.sampled_from([1, 8, 16, 33, 48, 80]),
    gate_channels=st.sampled_from([1, 7, 16, 40]),
    skip_channels=st.sampled_from([6, 32, 100]),
    head_channels=st.sampled_from([5, 64, 130]),
)


def native_engine(config: ModelConfig, precision: str = "f32", threads: int = 1, seed: int = 0) -> NativeEngine:
    return NativeEngine(config, random_model(config, seed).state_dict(), precision, threads)


def small_engine(threads: int = 1, precision: str = "f32") -> NativeEngine:
    return native_engine(ModelConfig(2, 4, 2, 16, skip_channels=32), precision, threads)


def logits_by_kernels(
    config: ModelConfig, precision: str, streams: int, names: tuple[str, ...]
) -> list[NDArray[np.float32]]:
    """The logits of the same codes with each set of kernels."""
    weights, codes, logits = random_model(config).state_dict(), random_codes(config, streams, 40), []
    for name in names:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(KERNELS_VARIABLE, name)
            engine = NativeEngine(config, weights, precision, threads=1)
        assert engine.kernels == name
        logits.append(engine.logits(engine.new_state(streams), codes))
    return logits


@pytest.mark.parametrize("name", kernels())
@properties
@given(config=configs, streams=st.integers(1, 9))
def test_every_instruction_set_agrees_with_the_portable_one(name: str, config: ModelConfig, streams: int) -> None:
    logits, expected = logits_by_kernels(config, "f32", streams, (name, "portable"))
    np.testing.assert_allclose(logits, expected, atol=2e-5, rtol=0)
    logits, expected = logits_by_kernels(config, "int8", streams, (name, "portable"))
    np.testing.assert_array_equal(logits, expected)


@pytest.mark.parametrize("name", kernels()[:-1])  # without the portable set
@properties
@given(config=configs, streams=st.integers(1, 9))
def test_all_vector_instruction_sets_compute_the_same_float32(name: str, config: ModelConfig, streams: int) -> None:
    logits, expected = logits_by_kernels(config, "f32", streams, (name, kernels()[0]))
    np.testing.assert_array_equal(logits, expected)


def test_int8_draws_the_same_codes_on_every_instruction_set(monkeypatch: pytest.MonkeyPatch) -> None:
    config, codes = ModelConfig(2, 4, 3, 20, gate_channels=9, skip_channels=60), {}
    for name in kernels():
        monkeypatch.setenv(KERNELS_VARIABLE, name)
        engine = native_engine(config, "int8")
        codes[name] = draw(engine, engine.new_state(1), 2_000)
    assert len(np.unique(codes["portable"])) > 50
    for name in kernels():
        np.testing.assert_array_equal(codes[name], codes["portable"])


def test_every_source_file_is_named_in_the_build() -> None:
    source = Path(__file__).parents[1] / "libwavenet"
    build = (source / "CMakeLists.txt").read_text()
    files = [path.relative_to(source).as_posix() for path in source.rglob("*.cpp")]
    assert len(files) > 10
    assert [name for name in files if name not in build] == []


def test_a_forced_instruction_set_must_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kernels()[-1] == "portable"
    monkeypatch.setenv(KERNELS_VARIABLE, "altivec")
    with pytest.raises(ValueError, match="WAVENET_KERNELS = altivec: this machine has .*portable"):
        small_engine()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", kernels())
@pytest.mark.parametrize(
    "config",
    [
        ModelConfig(2, 5, 2, 32, skip_channels=128),
        ModelConfig(2, 4, 3, 20, gate_channels=9, skip_channels=300),
        ModelConfig(1, 1, 2, 8, skip_channels=16),
    ],
    ids=["round", "odd", "one layer"],
)
def test_bit_for_bit_the_same_for_any_threads_and_blocks(
    monkeypatch: pytest.MonkeyPatch, name: str, precision: str, config: ModelConfig
) -> None:
    monkeypatch.setenv(KERNELS_VARIABLE, name)
    engine = native_engine(config, precision)
    expected = draw(engine, engine.new_state(1), 400)
    codes = np.ascontiguousarray(expected)
    logits = engine.logits(engine.new_state(1), codes)
    assert len(np.unique(expected)) > 20
    for threads in (2, 3, 5):
        engine = native_engine(config, precision, threads)
        for block in (400, 150, 7):
            np.testing.assert_array_equal(draw_in_blocks(engine, 400, block), expected)
        np.testing.assert_array_equal(engine.logits(engine.new_state(1), codes), logits)


def draw_in_blocks(engine: NativeEngine, samples: int, block: int) -> NDArray[np.int64]:
    """What `draw` returns for a new state, generated a block at a time."""
    state, uniforms = engine.new_state(1), np.random.Generator(np.random.PCG64(7)).random((1, samples))
    blocks = [engine.generate(state, uniforms[:, i : i + block], Sampling()) for i in range(0, samples, block)]
    return np.concatenate(blocks, axis=1)


@pytest.mark.parametrize("threads", [2, 3])
def test_a_busy_machine_changes_nothing(threads: int) -> None:
    """With more runnable threads than cores, workers are suspended at any moment, left behind and taken back."""
    config = ModelConfig(2, 5, 2, 32, skip_channels=128)
    alone, helped = native_engine(config), native_engine(config, threads=threads)
    codes = random_codes(config, 1, 3_000)
    expected = alone.logits(alone.new_state(1), codes)
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        for _ in range(8):
            state = helped.new_state(1)
            logits = [helped.logits(state, codes[:, start : start + 150]) for start in range(0, 3_000, 150)]
            np.testing.assert_array_equal(np.concatenate(logits, axis=1), expected)
    finally:
        for process in busy:
            process.kill()
            process.wait()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", kernels())
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_stream_is_the_same_to_the_last_bit_in_any_batch(
    monkeypatch: pytest.MonkeyPatch, name: str, precision: str, threads: int
) -> None:
    monkeypatch.setenv(KERNELS_VARIABLE, name)
    config = ModelConfig(2, 4, 2, 24, skip_channels=40)
    engine, codes = native_engine(config, precision, threads), random_codes(config, 19, 60)
    together = engine.logits(engine.new_state(19), codes)
    for stream in (0, 7, 8, 17, 18):
        alone = engine.logits(engine.new_state(1), codes[stream : stream + 1])
        np.testing.assert_array_equal(together[stream], alone[0])


@properties
@given(config=configs, seed=st.integers(0, 100))
def test_int8_stays_near_float32(config: ModelConfig, seed: int) -> None:
    codes = random_codes(config, 1, 60)
    exact, rounded = (
        engine.logits(engine.new_state(1), codes)
        for engine in (native_engine(config, precision, seed=seed) for precision in PRECISIONS)
    )
    error = (rounded - exact).std() / exact.std()
    assert 0 < error < 0.06  # weights of 8 bits: half a step of 1/127 of the largest one, over a few layers


def test_int8_costs_at_most_5_thousandths_of_a_bit_on_real_speech() -> None:
    config, weights = read_model(SAMPLES / "made" / "speech.safetensors")
    clips = sorted((SAMPLES / "speech").glob("*.*"), key=lambda path: path.stat().st_size)[20:24]
    recordings = [mulaw.encode(audio.read(clip, config.sample_rate)) for clip in clips]
    bits = {}
    for precision in PRECISIONS:
        engine = create("native", config, weights, precision)
        bits[precision] = np.concatenate([sample_bits(engine, codes) for codes in recordings])
    assert len(bits["f32"]) > 30_000
    assert 1.5 < bits["f32"].mean() < 4  # the model has learned speech
    assert abs(bits["int8"].mean() - bits["f32"].mean()) <= 0.005


def test_extreme_weights_cannot_overflow_the_integers() -> None:
    """All weights of a row at the largest integer, all activations at their bound."""
    config = ModelConfig(1, 3, 4, 64, skip_channels=256)
    weights = {name: np.full(shape, 0.5, dtype=np.float32) for name, shape in config.shapes.items()}
    codes = np.full((1, 20), 255)
    exact, rounded = (
        engine.logits(engine.new_state(1), codes)
        for engine in (NativeEngine(config, weights, precision, threads=1) for precision in PRECISIONS)
    )
    assert exact.min() > 1_000
    np.testing.assert_allclose(rounded, exact, rtol=1e-3)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", ["embedding.weight", "layers.0.dilated.weight", "skip.bias", "head.output.weight"])
def test_weights_that_could_overflow_are_refused(name: str, precision: str, value: float) -> None:
    config = ModelConfig(1, 2, 2, 4, skip_channels=8)
    weights = {key: tensor.numpy().copy() for key, tensor in random_model(config).state_dict().items()}
    weights[name].flat[1] = value
    with pytest.raises(ValueError, match=r"NaN or infinity|too large|overflow"):
        NativeEngine(config, weights, precision)


def test_a_network_may_have_zero_weights() -> None:
    config = ModelConfig(1, 2, 2, 4, skip_channels=8)
    weights = {name: np.zeros(shape, dtype=np.float32) for name, shape in config.shapes.items()}
    for precision in PRECISIONS:
        engine = NativeEngine(config, weights, precision)
        assert not engine.logits(engine.new_state(1), random_codes(config, 1, 5)).any()


def test_sampling_options_may_be_numpy_scalars() -> None:
    engine, uniforms = small_engine(), np.full((1, 20), 0.7)
    options: Any = (np.float64(0.9), np.int32(40), np.float32(0.5))
    expected = engine.generate(engine.new_state(1), uniforms, Sampling(0.9, 40, 0.5))
    np.testing.assert_array_equal(engine.generate(engine.new_state(1), uniforms, Sampling(*options)), expected)

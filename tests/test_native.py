"""The C++ engine: kernels against each other, int8 against float32, threads, draws, and what Python may do to it."""

import math
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from wavenet import mulaw
from wavenet.checkpoint import read_model
from wavenet.config import ModelConfig
from wavenet.data import audio
from wavenet.engine import _native, create
from wavenet.engine.native import KERNELS_VARIABLE, NativeEngine, kernels
from wavenet.engine.sampling import Sampling, draw_uniforms, sample, sample_continuous, uniform_generator
from wavenet.evaluation.likelihood import bits_of
from wavenet.model import WaveNet

SAMPLES = Path(__file__).parents[1] / "samples"
PRECISIONS = ("f32", "int8")
LAST_COIN = np.nextafter(1.0, 0.0)
properties = settings(derandomize=True, deadline=None, max_examples=20)
configs = st.builds(
    ModelConfig,
    cycles=st.integers(1, 2),
    layers_per_cycle=st.integers(1, 5),
    kernel_size=st.integers(2, 4),
    residual_channels=st.sampled_from([1, 8, 16, 33, 48]),
    gate_channels=st.sampled_from([1, 7, 16, 40]),
    skip_channels=st.sampled_from([6, 32, 100]),
    head_channels=st.sampled_from([5, 64, 130]),
)


def weights_of(config: ModelConfig, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Weights whose logits are far from flat, with biases."""
    torch.manual_seed(seed)
    model = WaveNet(config)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if name.endswith("bias"):
                tensor.normal_(std=0.3)
        model.head.output.weight.mul_(200)
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}


def random_codes(streams: int, samples: int, seed: int = 0) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, 256, (streams, samples))


def drawn(engine: NativeEngine, streams: int = 1, samples: int = 400, block: int = 400) -> NDArray[np.int64]:
    state, generators = engine.new_state(streams), [uniform_generator(5 + stream) for stream in range(streams)]
    blocks = [
        engine.generate(state, draw_uniforms(generators, min(block, samples - done)), Sampling())
        for done in range(0, samples, block)
    ]
    return np.concatenate(blocks, axis=1)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", kernels())
@properties
@given(config=configs, streams=st.integers(1, 9))
def test_every_instruction_set_agrees_with_the_portable_one(
    name: str, precision: str, config: ModelConfig, streams: int
) -> None:
    codes, weights, logits = random_codes(streams, 40), weights_of(config), {}
    for kernel in (name, "portable"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(KERNELS_VARIABLE, kernel)
            engine = NativeEngine(config, weights, precision, threads=1)
        assert engine.kernels == kernel
        logits[kernel] = engine.logits(engine.new_state(streams), codes)
    # int8: the sums are the same integers, but a float that differs in its last bit may be rounded to another one
    tolerance = 2e-5 if precision == "f32" else 0.02 * logits["portable"].std()
    np.testing.assert_allclose(logits[name], logits["portable"], atol=tolerance, rtol=0)


def test_every_source_file_is_named_in_the_build() -> None:
    source = Path(__file__).parents[1] / "wavenet" / "engine" / "src"
    build = (source / "CMakeLists.txt").read_text()
    files = [path.relative_to(source).as_posix() for path in source.rglob("*.cpp")]
    assert len(files) > 10
    assert [name for name in files if name not in build] == []


def test_a_forced_instruction_set_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kernels()[-1] == "portable"
    monkeypatch.setenv(KERNELS_VARIABLE, "altivec")
    config = ModelConfig(1, 2, 2, 4, skip_channels=8)
    with pytest.raises(ValueError, match="WAVENET_KERNELS = altivec: this machine has .*portable"):
        NativeEngine(config, weights_of(config))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(
    "config",
    [
        ModelConfig(2, 5, 2, 32, skip_channels=128),
        ModelConfig(2, 4, 3, 20, gate_channels=9, skip_channels=300),
        ModelConfig(1, 1, 2, 8, skip_channels=16),
    ],
    ids=["round", "odd", "one layer"],
)
def test_bit_for_bit_the_same_for_any_threads_and_blocks(precision: str, config: ModelConfig) -> None:
    weights = weights_of(config)
    expected = drawn(NativeEngine(config, weights, precision, threads=1))
    assert len(np.unique(expected)) > 20
    for threads in (2, 3, 5):
        engine = NativeEngine(config, weights, precision, threads=threads)
        for block in (400, 150, 7):
            np.testing.assert_array_equal(drawn(engine, block=block), expected)


@pytest.mark.parametrize("threads", [2, 3])
def test_busy_neighbours_change_nothing(threads: int) -> None:
    """More runnable threads than cores: helpers are put aside at every moment, left behind and taken back."""
    config = ModelConfig(2, 5, 2, 32, skip_channels=128)
    weights, codes = weights_of(config), random_codes(1, 3_000)
    alone, helped = NativeEngine(config, weights, threads=1), NativeEngine(config, weights, threads=threads)
    expected = alone.logits(alone.new_state(1), codes)
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        for _ in range(8):
            state = helped.new_state(1)
            made = [helped.logits(state, codes[:, start : start + 150]) for start in range(0, 3_000, 150)]
            np.testing.assert_array_equal(np.concatenate(made, axis=1), expected)
    finally:
        for process in busy:
            process.kill()
            process.wait()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_stream_is_the_same_to_the_last_bit_in_any_batch(precision: str, threads: int) -> None:
    config = ModelConfig(2, 4, 2, 24, skip_channels=40)
    engine = NativeEngine(config, weights_of(config), precision, threads=threads)
    codes = random_codes(19, 60)
    together = engine.logits(engine.new_state(19), codes)
    for stream in (0, 7, 8, 17, 18):
        alone = engine.logits(engine.new_state(1), codes[stream : stream + 1])
        np.testing.assert_array_equal(together[stream], alone[0])


@properties
@given(config=configs, seed=st.integers(0, 100))
def test_int8_stays_near_float32(config: ModelConfig, seed: int) -> None:
    weights, codes = weights_of(config, seed), random_codes(1, 60)
    exact, rounded = (
        engine.logits(engine.new_state(1), codes)
        for engine in (NativeEngine(config, weights, precision, threads=1) for precision in PRECISIONS)
    )
    error = (rounded - exact).std() / exact.std()
    assert 0 < error < 0.06  # weights of 8 bits: half a step of 1/127 of the largest one, over a few layers


def test_int8_costs_at_most_5_thousandths_of_a_bit_on_real_speech() -> None:
    config, weights = read_model(SAMPLES / "made" / "speech.safetensors")
    clips = sorted((SAMPLES / "speech").glob("*.*"), key=lambda path: path.stat().st_size)[20:24]
    sounds = [mulaw.encode(audio.read(clip, config.sample_rate)) for clip in clips]
    bits = {}
    for precision in PRECISIONS:
        engine = create("native", config, weights, precision)
        bits[precision] = np.concatenate([bits_of(engine, codes) for codes in sounds])
    assert len(bits["f32"]) > 30_000
    assert 1.5 < bits["f32"].mean() < 4  # the model does know speech
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


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(),
        Sampling(temperature=0.5),
        Sampling(temperature=3.0),
        Sampling(temperature=0.0),
        Sampling(top_k=1),
        Sampling(top_k=7),
        Sampling(top_k=1_000),
        Sampling(top_p=0.9),
        Sampling(top_p=1e-9),
        Sampling(top_p=0.9999),
        Sampling(temperature=0.8, top_k=40, top_p=0.7),
        Sampling(temperature=1e9, top_k=7),
        Sampling(temperature=1e20, top_p=0.3),
        Sampling(temperature=1e300, top_k=40, top_p=0.7),
    ],
    ids=str,
)
@pytest.mark.parametrize(("outputs", "spread"), [(256, 3.0), (256, 0.3), (30, 1.0), (5, 10.0)])
def test_draws_are_those_of_the_reference(sampling: Sampling, outputs: int, spread: float) -> None:
    generator = np.random.default_rng(outputs)
    logits = (spread * generator.standard_normal((3_000, outputs))).astype(np.float32)
    uniform = generator.random(3_000)
    uniform[:2] = 0.0, LAST_COIN
    result = np.empty(3_000, dtype=np.int64)
    top_p = 1.0 if sampling.top_p is None else sampling.top_p
    _native.draw(
        logits, uniform, sampling.temperature, sampling.greedy, min(sampling.top_k or 0, outputs), top_p, result
    )
    np.testing.assert_array_equal(result, sample(logits, uniform, sampling))


@pytest.mark.parametrize("top_p", [1.0, 0.9999])
def test_the_last_coins_draw_no_all_but_impossible_code(top_p: float) -> None:
    logits = np.random.default_rng(0).standard_normal((1_700, 256)).astype(np.float32)
    logits[:, 203:] = -40.0  # e^-40 = 4e-18: no uniform of 53 bits lies as close to 1
    uniform = 1 - np.resize(2.0 ** -np.arange(20, 54), 1_700)  # from 1 - 1e-6 to the last one below 1
    result = np.empty(1_700, dtype=np.int64)
    _native.draw(logits, uniform, 1.0, False, 0, top_p, result)
    assert result.max() < 203
    assert (result[uniform == LAST_COIN] > 195).any()


@pytest.mark.parametrize(
    "sampling",
    [Sampling(), Sampling(0.5), Sampling(3.0), Sampling(0.0), Sampling(top_p=0.8), Sampling(0.7, top_p=1e-3)],
)
@pytest.mark.parametrize(("output", "parts"), [("gaussian", 1), ("logistic", 1), ("logistic", 10)])
def test_16_bit_draws_are_those_of_the_reference(output: str, parts: int, sampling: Sampling) -> None:
    generator = np.random.default_rng(parts)
    uniform = generator.random(3_000)
    uniform[:5] = 0.0, LAST_COIN, 0.075, 0.925, 1e-12
    numbers = generator.standard_normal((3_000, parts, 3))  # logits, means, log scales
    numbers[..., 1] *= 0.3
    numbers[..., 2] = generator.choice([-20, -14, -6, -3, -1, 8, 20], (3_000, parts))
    flat = numbers.transpose(0, 2, 1).reshape(3_000, -1)[:, parts if output == "gaussian" else 0 :].astype(np.float32)
    result = np.empty(3_000, dtype=np.int64)
    top_p = 1.0 if sampling.top_p is None else sampling.top_p
    _native.draw_linear(output, flat, uniform, sampling.temperature, sampling.greedy, top_p, result)
    np.testing.assert_array_equal(result, sample_continuous(output, flat, uniform, sampling))


def test_the_normal_quantile_is_exact() -> None:
    """At the widest scale a step is 1e-8 standard deviations; the mean takes the sample back to where steps are."""
    uniform = np.concatenate(
        [np.linspace(0.001, 0.999, 3_000), 10.0 ** -np.arange(1, 16), 1 - 10.0 ** -np.arange(1, 16)]
    )
    means = [-math.exp(8) * NormalDist().inv_cdf(share) for share in uniform]
    numbers = np.stack([means, np.full(len(uniform), 8.0)], axis=1).astype(np.float32)
    result = np.empty(len(uniform), dtype=np.int64)
    _native.draw_linear("gaussian", numbers, uniform, 1.0, False, 1.0, result)
    expected = sample_continuous("gaussian", numbers, uniform, Sampling())
    assert np.abs(expected).max() < 1_000 and len(np.unique(expected)) > 20
    np.testing.assert_array_equal(result, expected)


def test_equally_probable_codes_rank_by_code() -> None:
    flat, grid = np.zeros((101, 8), dtype=np.float32), np.linspace(0, LAST_COIN, 101)
    result = np.empty(101, dtype=np.int64)
    _native.draw(flat, grid, 1.0, False, 3, 1.0, result)
    assert set(result) == {0, 1, 2}
    _native.draw(flat, grid, 1.0, False, 0, 0.5, result)
    assert set(result) == {0, 1, 2, 3}


def test_knobs_may_be_numpys_numbers() -> None:
    engine, flips = small_engine(), np.full((1, 20), 0.7)
    knobs: Any = (np.float64(0.9), np.int32(40), np.float32(0.5))
    expected = engine.generate(engine.new_state(1), flips, Sampling(0.9, 40, 0.5))
    np.testing.assert_array_equal(engine.generate(engine.new_state(1), flips, Sampling(*knobs)), expected)


def small_engine(threads: int = 1, precision: str = "f32") -> NativeEngine:
    config = ModelConfig(2, 4, 2, 16, skip_channels=32)
    return NativeEngine(config, weights_of(config), precision, threads)


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e30])
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", ["embedding.weight", "layers.0.dilated.weight", "skip.bias", "head.output.weight"])
def test_weights_that_could_overflow_are_refused(name: str, precision: str, value: float) -> None:
    config = ModelConfig(1, 2, 2, 4, skip_channels=8)
    weights = weights_of(config)
    weights[name].flat[1] = value
    with pytest.raises(ValueError, match=r"NaN or infinity|too large|overflow"):
        NativeEngine(config, weights, precision)


def test_zero_weights_are_a_network_too() -> None:
    config = ModelConfig(1, 2, 2, 4, skip_channels=8)
    weights = {name: np.zeros(shape, dtype=np.float32) for name, shape in config.shapes.items()}
    for precision in PRECISIONS:
        engine = NativeEngine(config, weights, precision)
        assert not engine.logits(engine.new_state(1), random_codes(1, 5)).any()


def test_a_state_belongs_to_its_engine_and_keeps_it_alive() -> None:
    first, second = small_engine(), small_engine()
    state = first.new_state(1)
    with pytest.raises(ValueError, match="another engine"):
        second.generate(state, np.zeros((1, 3)), Sampling())
    copied = state.copy()
    del first
    np.testing.assert_array_equal(
        state.engine.generate(state, np.full((1, 50), 0.5), Sampling()),
        copied.engine.generate(copied, np.full((1, 50), 0.5), Sampling()),
    )


@pytest.mark.parametrize("threads", [1, 2])
def test_generators_run_side_by_side_in_python_threads(threads: int) -> None:
    engines = [small_engine(threads), small_engine(threads), small_engine(threads, "int8")]
    engines.append(engines[0])  # and one engine in two threads
    expected = [drawn(engine, samples=3_000) for engine in engines]
    made: list[Any] = [None] * len(engines)

    def make(index: int) -> None:
        made[index] = drawn(engines[index], samples=3_000, block=300)

    workers = [threading.Thread(target=make, args=(index,)) for index in range(len(engines))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for one, other in zip(made, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_two_threads_cannot_advance_or_copy_one_state() -> None:
    engine = small_engine()
    state = engine.new_state(1)
    worker = threading.Thread(target=lambda: engine.generate(state, np.full((1, 300_000), 0.5), Sampling()))
    worker.start()
    while not state.lock.locked() and worker.is_alive():
        pass
    refusals: list[str] = []
    try:
        engine.generate(state, np.full((1, 1), 0.5), Sampling())
    except RuntimeError as error:
        refusals.append(str(error))
    with pytest.raises(RuntimeError, match="another thread"):
        engine.prime(state, random_codes(1, 1_000))  # longer than the receptive field
    with pytest.raises(RuntimeError, match="another thread"):
        state.copy()
    worker.join()
    assert (state.position, state.skipped) == (300_000, 0)
    assert refusals == ["another thread is advancing this state"]


SCRIPT = """
import os, sys
import numpy as np
from wavenet.config import ModelConfig
from wavenet.engine.native import NativeEngine
from wavenet.engine.sampling import Sampling
config = ModelConfig(2, 6, 2, 32, skip_channels=64)
generator = np.random.default_rng(0)
weights = {n: generator.normal(0, 0.1, s).astype(np.float32) for n, s in config.shapes.items()}
engine = NativeEngine(config, weights, threads=2)
state = engine.new_state(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
"""


def script(body: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT + body, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("streams", [1, 4])
def test_ctrl_c_ends_a_call_and_leaves_the_state_usable(streams: int) -> None:
    process = script(
        """
print("started", flush=True)
try:
    engine.generate(state, np.full((state.streams, 20_000_000 // state.streams), 0.5), Sampling())
except KeyboardInterrupt:
    before = state.position
    engine.generate(state, np.full((state.streams, 10), 0.5), Sampling())
    print("stopped", before > 0 and state.position == before + 10)
""",
        "x",
        str(streams),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    threading.Event().wait(0.5)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=20)
    assert output == "stopped True\n", errors


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_goes_on_without_the_threads_of_its_parent() -> None:
    process = script(
        """
first = engine.generate(state, np.full((1, 3000), 0.5), Sampling())
branch = state.copy()
child = os.fork()
later = engine.generate(branch if child else state, np.full((1, 3000), 0.3), Sampling())
many = engine.generate(engine.new_state(5), np.full((5, 100), 0.3), Sampling())
if child:
    assert os.waitpid(child, 0)[1] == 0
print(int(later.sum()), int(many.sum()), flush=True)
"""
    )
    output, errors = process.communicate(timeout=60)
    lines = output.splitlines()
    assert process.returncode == 0 and len(lines) == 2 and lines[0] == lines[1], errors


def test_memory_does_not_grow_with_the_sound() -> None:
    process = script(
        """
import resource
def make(blocks):
    for _ in range(blocks):
        engine.generate(state, np.full((1, 1_600), 0.5), Sampling())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kilobytes; bytes on macOS
before = make(20)
print((make(200) - before) / before)
"""
    )
    output, errors = process.communicate(timeout=60)
    assert float(output) < 0.02, errors

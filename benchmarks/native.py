"""The native engine by itself: instruction sets, a busy machine, batches, conditioning, and long streams.

    python benchmarks/native.py                 # all of it, about five minutes
    python benchmarks/native.py kernels         # one of: kernels, busy, batch, conditioning
    python benchmarks/native.py stream MODEL --seconds 600

kernels: one stream on one thread with each instruction set of this machine, and the share of the multiply-adds that a
core can do at most with it.
busy: one stream at (30 layers, 64 residual, 256 skip channels), with one thread and with one per core, beside 0, 1,
2, ... processes that keep a core busy each; the ratio of the two within one round.
batch: eight parallel streams against one.
conditioning: one stream conditioned on 80-band features at hop 160, against the same network without conditioning.
stream: a stream of many seconds of audio, and the memory of the process meanwhile.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

import numpy as np

from wavenet.config import MelConfig, ModelConfig
from wavenet.engine import Engine, cores
from wavenet.engine.conditioning import placeholder_inputs
from wavenet.engine.native import KERNELS_VARIABLE, NativeEngine, NativeState, kernels
from wavenet.engine.sampling import Sampling
from wavenet.generate import Generator
from wavenet.training import recipe

SHAPES = ((20, 32, 128), (30, 64, 256))
ROUNDS, SECONDS = 5, 1.0
PRECISIONS = ("f32", "int8")


def config_of(shape: tuple[int, int, int], features: MelConfig | None = None) -> ModelConfig:
    layers, residual, skip = shape
    return ModelConfig(layers // 10, 10, residual_channels=residual, skip_channels=skip, features=features)


def engine_of(config: ModelConfig, precision: str, threads: int) -> NativeEngine:
    generator = np.random.default_rng(0)
    weights = {
        name: (generator.standard_normal(size) / np.sqrt(size[-1])).astype(np.float32)
        for name, size in config.shapes.items()
    }
    return NativeEngine(config, weights, precision, threads)


def speed(engine: Engine[NativeState], streams: int = 1, seconds: float = SECONDS) -> float:
    """Samples/s of all streams together."""
    session = Generator(engine).session(count=streams)
    session.next(500)
    samples, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        session.next(500)
        samples += 500 * streams
    return samples / (time.perf_counter() - started)


def ratios_of(rounds: Sequence[tuple[float, float]]) -> str:
    """Second over first of every round: the median, and the smallest and largest."""
    ratios = sorted(second / first for first, second in rounds)
    return f"{statistics.median(ratios):.2f} x ({ratios[0]:.2f} to {ratios[-1]:.2f})"


def medians(rounds: Sequence[tuple[float, float]]) -> tuple[float, float]:
    first, second = zip(*rounds, strict=True)
    return statistics.median(first), statistics.median(second)


def instruction_sets() -> None:
    print(f"one stream, one thread; samples/s, and share of the set's multiply-adds; medians of {ROUNDS} rounds")
    for shape in SHAPES:
        config = config_of(shape)
        for precision in PRECISIONS:
            engines = {}
            for name in kernels():
                os.environ[KERNELS_VARIABLE] = name
                engines[name] = engine_of(config, precision, 1)
            del os.environ[KERNELS_VARIABLE]
            rounds = [{name: (speed(engine), engine.peak()) for name, engine in engines.items()} for _ in range(ROUNDS)]
            for name in engines:
                samples, peak = medians([each[name] for each in rounds])
                share = samples * config.macs_per_sample / peak
                print(
                    f"  {shape} {precision:5} {name:10}: {samples:8,.0f}, {share:4.0%} of {peak / 1e9:6.1f} G/s",
                    flush=True,
                )


def busy_machine() -> None:
    most = cores()
    print(f"one stream at {SHAPES[1]}, beside busy processes on {most} cores; samples/s, medians of {ROUNDS} rounds")
    for precision in PRECISIONS:
        one, all_ = (engine_of(config_of(SHAPES[1]), precision, threads) for threads in (1, most))
        for count in range(most + 1):
            busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
            try:
                rounds = [(speed(one), speed(all_)) for _ in range(ROUNDS)]
            finally:
                for process in busy:
                    process.kill()
                    process.wait()
            first, second = medians(rounds)
            print(
                f"  {precision:5} {count} busy: {first:8,.0f} with 1 thread, {second:8,.0f} with {most}: "
                f"{ratios_of(rounds)}",
                flush=True,
            )


def batch() -> None:
    print(f"eight parallel streams against one; samples/s, medians of {ROUNDS} rounds")
    for shape in SHAPES:
        for precision in PRECISIONS:
            for threads in sorted({1, cores()}):
                engine = engine_of(config_of(shape), precision, threads)
                rounds = [(speed(engine), speed(engine, 8)) for _ in range(ROUNDS)]
                one, eight = medians(rounds)
                print(
                    f"  {shape} {precision:5} {threads} threads: {one:8,.0f} and {eight:8,.0f}: {ratios_of(rounds)}",
                    flush=True,
                )


def one_stream_speed(engine: NativeEngine, seconds: float = SECONDS) -> float:
    """Samples/s of a new stream, conditioning included."""
    block, most = 500, 2**20
    inputs = placeholder_inputs(engine.config, samples=most) if engine.config.conditioned else None
    state, uniforms = engine.new_state(1, inputs), np.random.default_rng(0)
    started = time.perf_counter()
    while time.perf_counter() - started < seconds and state.position + block <= most:
        engine.generate(state, uniforms.random((1, block)), Sampling())
    return state.position / (time.perf_counter() - started)


def conditioning() -> None:
    """Conditioned networks against the same without: both shapes, and the vocoder recipe with linear prediction."""
    print(f"one stream without and with conditioning; one thread, samples/s, medians of {ROUNDS} rounds")
    vocoder = recipe.load("vocoder", []).model
    unconditioned = dataclasses.replace(vocoder, features=None, linear_prediction=0, pitch_taps=0)
    pairs = {str(shape): (config_of(shape), config_of(shape, MelConfig())) for shape in SHAPES}
    for name, pair in (pairs | {"recipe vocoder": (unconditioned, vocoder)}).items():
        for precision in PRECISIONS:
            without, conditioned = (engine_of(config, precision, 1) for config in pair)
            rounds = [(one_stream_speed(without), one_stream_speed(conditioned)) for _ in range(ROUNDS)]
            before, after = medians(rounds)
            print(f"  {name} {precision:5}: {before:8,.0f} and {after:8,.0f}: {ratios_of(rounds)}", flush=True)


def resident_megabytes() -> float:
    """Memory of this process now (Linux)."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def stream(model: str, seconds: float, precision: str) -> None:
    generator = Generator.load(model, engine="native", precision=precision)
    samples, next_report, started = 0, 0.0, time.perf_counter()
    for block in generator.stream(seconds=seconds):
        samples += len(block)
        generated = samples / generator.sample_rate
        if generated >= next_report:
            real_time = generated / max(time.perf_counter() - started, 1e-9)
            print(f"  {generated:7.1f} s: {resident_megabytes():7.2f} MB, {real_time:5.2f} x real time", flush=True)
            next_report += seconds / 10
    print(f"  {samples / generator.sample_rate:7.1f} s: {resident_megabytes():7.2f} MB at the end")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["kernels", "busy", "batch", "conditioning", "stream"])
    parser.add_argument("model", nargs="?", default="samples/made/speech.safetensors")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--precision", default="f32")
    options = parser.parse_args()
    benchmarks = {"kernels": instruction_sets, "busy": busy_machine, "batch": batch, "conditioning": conditioning}
    for name, benchmark in benchmarks.items():
        if options.what in (None, name):
            benchmark()
    if options.what in (None, "stream"):
        stream(options.model, options.seconds, options.precision)


if __name__ == "__main__":
    main()

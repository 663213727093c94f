"""Speed of the native engine beside busy processes, in batches, with conditioning on features, and in a long stream.

    python benchmarks/native.py                 # all of it, about four minutes
    python benchmarks/native.py neighbours      # one of: neighbours, batch, conditioning
    python benchmarks/native.py stream MODEL --seconds 600

neighbours: one stream at (30 layers, 64 residual, 256 skip channels), with one thread and with one per core, beside
0, 1, 2, ... processes that keep a core busy each; the ratio of the two within one round.
batch: a batch of eight streams against one stream.
conditioning: one stream conditioned on 80-band features at hop 160, against the same network without conditioning.
stream: a stream of the given number of seconds, and the memory of the process meanwhile.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import statistics
import subprocess
import sys
import time

import numpy as np

from wavenet.config import MelConfig, ModelConfig
from wavenet.engine import Engine, cores
from wavenet.engine.conditioning import placeholder_inputs
from wavenet.engine.native import NativeEngine
from wavenet.engine.sampling import Sampling
from wavenet.generate import Generator
from wavenet.training import recipe

SHAPES = ((20, 32, 128), (30, 64, 256))
ROUNDS, SECONDS = 5, 1.0


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


def speed(engine: Engine, streams: int = 1, seconds: float = SECONDS) -> float:
    """Samples/s of all streams together."""
    session = Generator(engine).session(count=streams)
    session.next(500)
    samples, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        session.next(500)
        samples += 500 * streams
    return samples / (time.perf_counter() - started)


def neighbours() -> None:
    most = cores()
    print(f"one stream at {SHAPES[1]}, beside busy processes on {most} cores; samples/s, medians of {ROUNDS} rounds")
    for precision in ("f32", "int8"):
        engines = {threads: engine_of(config_of(SHAPES[1]), precision, threads) for threads in (1, most)}
        for count in range(most + 1):
            busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
            try:
                rounds = [{threads: speed(engine) for threads, engine in engines.items()} for _ in range(ROUNDS)]
            finally:
                for process in busy:
                    process.kill()
                    process.wait()
            one, all_ = (statistics.median(each[threads] for each in rounds) for threads in (1, most))
            ratios = sorted(each[most] / each[1] for each in rounds)
            print(
                f"  {precision:5} {count} busy: {one:8,.0f} with 1 thread, {all_:8,.0f} with {most}: "
                f"{statistics.median(ratios):.2f} x ({ratios[0]:.2f} to {ratios[-1]:.2f})",
                flush=True,
            )


def batch() -> None:
    print(f"a batch of eight streams against one stream; samples/s, medians of {ROUNDS} rounds")
    for shape in SHAPES:
        for precision in ("f32", "int8"):
            for threads in sorted({1, cores()}):
                engine = engine_of(config_of(shape), precision, threads)
                rounds = [(speed(engine), speed(engine, 8)) for _ in range(ROUNDS)]
                one, eight = (statistics.median(column) for column in zip(*rounds, strict=True))
                ratios = sorted(after / before for before, after in rounds)
                print(
                    f"  {shape} {precision:5} {threads} threads: {one:8,.0f} and {eight:8,.0f}: "
                    f"{statistics.median(ratios):.2f} x ({ratios[0]:.2f} to {ratios[-1]:.2f})",
                    flush=True,
                )


def one_stream_speed(engine: NativeEngine, seconds: float = SECONDS) -> float:
    """Samples/s of a stream, with all that it is told; from its start on, where features begin."""
    block = 500
    conditions = placeholder_inputs(engine.config, samples=2**20) if engine.config.conditioned else None
    state, uniforms = engine.new_state(1, conditions), np.random.default_rng(0)
    started = time.perf_counter()
    while time.perf_counter() - started < seconds and state.position + block <= 2**20:
        engine.generate(state, uniforms.random((1, block)), Sampling())
    return state.position / (time.perf_counter() - started)


def conditioning() -> None:
    """Networks that are driven by features against the same without: the shapes, and the recipe with its predictors."""
    print(f"one stream driven by features, against none; one thread, samples/s, medians of {ROUNDS} rounds")
    vocoder = recipe.load("vocoder", []).model
    free = dataclasses.replace(vocoder, features=None, linear_prediction=0, pitch_taps=0)
    pairs = {str(shape): (config_of(shape), config_of(shape, MelConfig())) for shape in SHAPES}
    for name, pair in (pairs | {"recipe vocoder": (free, vocoder)}).items():
        for precision in ("f32", "int8"):
            alone, driven = (engine_of(config, precision, 1) for config in pair)
            rounds = [(one_stream_speed(alone), one_stream_speed(driven)) for _ in range(ROUNDS)]
            before, after = (statistics.median(column) for column in zip(*rounds, strict=True))
            ratios = sorted(told / free for free, told in rounds)
            print(
                f"  {name} {precision:5}: {before:8,.0f} and {after:8,.0f}: "
                f"{statistics.median(ratios):.2f} x ({ratios[0]:.2f} to {ratios[-1]:.2f})",
                flush=True,
            )


def resident_megabytes() -> float:
    """Memory of this process now (Linux)."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def stream(model: str, seconds: float, precision: str) -> None:
    generator = Generator.load(model, engine="native", precision=precision)
    rate, made, told, started = generator.sample_rate, 0, 0.0, time.perf_counter()
    for block in generator.stream(seconds=seconds):
        made += len(block)
        if made / rate >= told:
            speed_now = made / rate / max(time.perf_counter() - started, 1e-9)
            print(
                f"  {made / rate:7.1f} s of sound: {resident_megabytes():7.2f} MB, {speed_now:5.2f} x real time",
                flush=True,
            )
            told += seconds / 10
    print(f"  {made / rate:7.1f} s of sound: {resident_megabytes():7.2f} MB at the end")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["neighbours", "batch", "conditioning", "stream"])
    parser.add_argument("model", nargs="?", default="samples/made/speech.safetensors")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--precision", default="f32")
    options = parser.parse_args()
    if options.what in (None, "neighbours"):
        neighbours()
    if options.what in (None, "batch"):
        batch()
    if options.what in (None, "conditioning"):
        conditioning()
    if options.what in (None, "stream"):
        stream(options.model, options.seconds, options.precision)


if __name__ == "__main__":
    main()

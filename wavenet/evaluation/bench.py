"""How fast a network generates on this machine, per engine, precision and thread count."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from wavenet.engine import Engine, EngineUnavailable, cores, create
from wavenet.engine.conditioning import placeholder_conditioning
from wavenet.generate import Generator, Session
from wavenet.model import WaveNet

GENERATION_SECONDS = 1.0  # measured per row, after half as much of warming up
LOOK_SECONDS = 0.05  # between looks at the clock
FEATURE_SECONDS = 20.0  # of features for a network that is driven by some


@dataclass(frozen=True)
class Speed:
    """One engine on this machine."""

    engine: str
    precision: str
    threads: int
    streams: int
    samples_per_second: float  # of all streams together
    times_real_time: float
    macs_per_second: float
    peak_share: float | None  # of the multiply-adds per second of `threads` cores in products that stay in the cache


def generation_speeds(
    model: WaveNet, engines: tuple[str, ...] = ("native", "torch", "naive"), streams: int = 1
) -> Iterator[Speed]:
    """Measure every engine that is installed: each precision, with one thread and with one per core.

    Yields a row as soon as it is known. The native engine's rows say what share they reach of this machine's peak in
    that precision, measured right before by a product of a matrix and a vector that stay in the nearest cache.
    """
    weights = model.state_dict()
    for engine in engines:
        for precision in ("f32", "int8") if engine == "native" else ("f32",):
            for threads in sorted({1, cores()}):
                try:
                    made = create(engine, model.config, weights, precision, threads)
                except EngineUnavailable:
                    break
                yield generation_speed(made, streams)


def generation_speed(engine: Engine[Any], streams: int = 1) -> Speed:
    """Measure an engine."""
    threads = engine.threads or cores()
    peak = engine.peak() if hasattr(engine, "peak") else None
    session = _any_session(engine, streams)
    block, rate, most = 1, 0.0, int(FEATURE_SECONDS * engine.config.sample_rate)
    for seconds in (GENERATION_SECONDS / 2, GENERATION_SECONDS):  # the first one warms up
        samples, started = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - started) < seconds:
            if session.left is not None and session.left < block:  # the features end
                session = _any_session(engine, streams)
            session.next_codes(block)
            samples += block
            block = max(1, min(int(LOOK_SECONDS * samples / (time.perf_counter() - started)), most))
        rate = streams * samples / elapsed
    macs = rate * engine.config.macs_per_sample
    return Speed(
        engine=engine.name,
        precision=engine.precision,
        threads=threads,
        streams=streams,
        samples_per_second=rate,
        times_real_time=rate / engine.config.sample_rate,
        macs_per_second=macs,
        peak_share=macs / (threads * peak) if peak else None,
    )


def _any_session(engine: Engine[Any], streams: int) -> Session:
    """A session told something, where the network has to be told what to play."""
    speaker, features = placeholder_conditioning(engine.config, int((FEATURE_SECONDS + 1) * engine.config.sample_rate))
    return Generator(engine).session(seed=0, count=streams, speaker=speaker, features=features)

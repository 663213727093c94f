"""Speed of generation on this machine, per engine, precision and thread count."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from wavenet.engine import Engine, EngineUnavailable, cores, create
from wavenet.engine.conditioning import placeholder_conditioning
from wavenet.generate import Generator, Session
from wavenet.model import WaveNet

GENERATION_SECONDS = 1.0  # time measured per row, after a warm-up of half that time
BLOCK_SECONDS = 0.05  # time to generate a block, between two readings of the clock
FEATURE_SECONDS = 20.0  # length of the features for a network that is conditioned on features


@dataclass(frozen=True)
class Speed:
    """Speed of one engine on this machine."""

    engine: str
    precision: str
    threads: int
    streams: int
    samples_per_second: float  # of all streams together
    times_real_time: float
    macs_per_second: float
    peak_share: float | None  # share of the peak multiply-adds per second of `threads` cores, for data in the cache


def generation_speeds(
    model: WaveNet, engines: tuple[str, ...] = ("native", "torch", "naive"), streams: int = 1
) -> Iterator[Speed]:
    """Measure every installed engine, in each of its precisions, with one thread and with one per core.

    Yields each row as soon as it is measured. For the native engine, `peak_share` is relative to this machine's peak in
    the same precision, measured immediately before.
    """
    weights = model.state_dict()
    for engine in engines:
        for precision in ("f32", "int8") if engine == "native" else ("f32",):
            for threads in sorted({1, cores()}):
                try:
                    candidate = create(engine, model.config, weights, precision, threads)
                except EngineUnavailable:
                    break
                yield generation_speed(candidate, streams)


def generation_speed(engine: Engine[Any], streams: int = 1) -> Speed:
    """Measure one engine with a batch of `streams` streams."""
    threads = engine.threads or cores()
    peak = engine.peak() if hasattr(engine, "peak") else None
    session = _placeholder_session(engine, streams)
    block, speed, most = 1, 0.0, int(FEATURE_SECONDS * engine.config.sample_rate)
    for seconds in (GENERATION_SECONDS / 2, GENERATION_SECONDS):  # the first one warms up
        samples, started = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - started) < seconds:
            if session.left is not None and session.left < block:  # the features end
                session = _placeholder_session(engine, streams)
            session.next_codes(block)
            samples += block
            block = max(1, min(int(BLOCK_SECONDS * samples / (time.perf_counter() - started)), most))
        speed = streams * samples / elapsed
    macs = speed * engine.config.macs_per_sample
    return Speed(
        engine=engine.name,
        precision=engine.precision,
        threads=threads,
        streams=streams,
        samples_per_second=speed,
        times_real_time=speed / engine.config.sample_rate,
        macs_per_second=macs,
        peak_share=macs / (threads * peak) if peak else None,
    )


def _placeholder_session(engine: Engine[Any], streams: int) -> Session:
    """A session with arbitrary conditioning inputs, if the network is conditioned."""
    speaker, features = placeholder_conditioning(engine.config, int((FEATURE_SECONDS + 1) * engine.config.sample_rate))
    return Generator(engine).session(seed=0, count=streams, speaker=speaker, features=features)

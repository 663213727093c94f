"""Speed of generation on this machine, per engine, precision and thread count."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from wavenet.consistency import refine
from wavenet.engine import Engine, EngineUnavailable, cores, create, native_installed
from wavenet.engine.conditioning import placeholder_conditioning, speaker_shares
from wavenet.features import mel_spectrogram
from wavenet.generate import Generator, Session
from wavenet.model import WaveNet
from wavenet.two_tier_session import FrameTier

GENERATION_SECONDS = 1.0  # time measured per row, after a warm-up of half that time
BLOCK_SECONDS = 0.05  # time to generate a block, between two readings of the clock
FEATURE_SECONDS = 20.0  # length of the features for a network that is conditioned on features
PART_SECONDS = 1.0  # of audio, for which frames are drawn, and which is refined


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


@dataclass(frozen=True)
class OtherParts:
    """What generation computes beside the network, one after the other on one core.

    frames, refinement: seconds of computation per second of audio of one stream; 0: the model does not have it.
    """

    frames: float = 0.0
    refinement: float = 0.0

    def with_network(self, times_real_time: float) -> float:
        """x real time of everything, for a network with this speed."""
        return 1 / (1 / times_real_time + self.frames + self.refinement)


def other_parts(model: WaveNet) -> OtherParts:
    """Measure the frames of a model of two tiers, and the refinement that a model recommends, of a whole file."""
    config = model.config
    mel, iterations, frames, refinement = config.features, config.sampling.refine, 0.0, 0.0
    if mel is None:
        return OtherParts()
    if config.frame_model is not None:
        speaker, _ = placeholder_conditioning(config, 0)
        tier = FrameTier(config, model.state_dict(), "native" if native_installed() else "torch")
        sampler = tier.sampler(speaker_shares(config, 1, speaker))
        count = round(PART_SECONDS * mel.sample_rate / mel.hop)
        frames = _least_seconds(lambda: sampler.next(count)) / PART_SECONDS
    if iterations:
        noise = 0.1 * np.random.default_rng(0).standard_normal(round(PART_SECONDS * mel.sample_rate))
        audio = noise.clip(-1, 1).astype(np.float32)
        features = mel_spectrogram(audio, mel)
        refinement = _least_seconds(lambda: refine(audio, features, mel, iterations)) / PART_SECONDS
    return OtherParts(frames, refinement)


def _least_seconds(call: Callable[[], object]) -> float:
    """The least of two times."""
    times = []
    for _ in range(2):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return min(times)


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

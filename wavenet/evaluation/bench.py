"""How fast a network runs on this machine: generation per engine, precision and thread count, and training."""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from wavenet.engine import Engine, EngineUnavailable, cores, create
from wavenet.engine.base import memory
from wavenet.engine.conditioning import placeholder_conditioning, placeholder_inputs
from wavenet.generate import Generator, Session
from wavenet.model import WaveNet
from wavenet.nn.conditioning import tensors_of
from wavenet.training.recipe import Recipe
from wavenet.training.trainer import masked_loss

GENERATION_SECONDS = 1.0  # measured per row, after half as much of warming up
LOOK_SECONDS = 0.05  # between looks at the clock
FEATURE_SECONDS = 20.0  # of features for a network that is driven by some
TRAINING_STEPS = 3  # the first one, which also allocates, is not timed


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


@dataclass(frozen=True)
class TrainingCost:
    """Training on this machine, from a few real steps on random codes."""

    samples_per_second: float
    seconds_per_step: float
    megabytes: float  # peak resident memory of the process


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


def training_megabytes(recipe: Recipe) -> float:
    """What a training step keeps in memory, by counting: activations, weights and what the optimizer knows of them."""
    model, training = recipe.model, recipe.training
    layers = model.layers * (model.residual_channels + 4 * model.gate)  # rows, two factors, z and its gradient
    head = 4 * (model.skip_channels + model.head + model.output_channels)  # and their gradients
    return 4e-6 * (training.batch * training.crop * (layers + head) + 5 * model.parameters)


def training_cost(recipe: Recipe, device: str = "cpu") -> TrainingCost:
    """Run a few steps of a recipe on random codes. Raises `MemoryError` where they would not fit into the machine."""
    needed, there = training_megabytes(recipe), memory_megabytes()
    if needed > there:
        raise MemoryError(
            f"a step needs about {needed:,.0f} MB and this machine has {there:,.0f}: lower training.batch "
            f"(now {recipe.training.batch}) or training.crop (now {recipe.training.crop})"
        )
    model = WaveNet(recipe.model).to(device)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    shape = (recipe.training.batch, recipe.training.crop)
    codes = torch.randint(0, 256, shape, device=device)  # which are 16-bit codes, too
    mask = torch.ones(shape, dtype=torch.bool, device=device)
    speaker, local = tensors_of(placeholder_inputs(recipe.model, *shape), torch.device(device))
    started = time.perf_counter()
    for step in range(TRAINING_STEPS):
        if step == 1:
            started = time.perf_counter()
        optimizer.zero_grad()
        loss = masked_loss(model(codes, speaker, local), codes, mask, recipe.model.output)
        loss.backward()
        optimizer.step()
        loss.item()  # waits for the device
    seconds = (time.perf_counter() - started) / (TRAINING_STEPS - 1)
    return TrainingCost(codes.numel() / seconds, seconds, peak_megabytes())


def memory_megabytes() -> float:
    """The machine's memory, or its container's."""
    return (memory() or math.inf) / 1e6


def peak_megabytes() -> float:
    """The largest resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3  # bytes there, kilobytes elsewhere

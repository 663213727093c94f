"""How fast a network runs on this machine: generation per engine, precision and thread count, and training."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from wavenet.engine import EngineUnavailable
from wavenet.generate import Generator
from wavenet.model import WaveNet
from wavenet.recipe import Recipe
from wavenet.train import masked_loss

GENERATION_SECONDS = 1.0  # measured per row, after as many samples of warming up as one look at the clock
LOOK = 16  # samples between looks at the clock
TRAINING_STEPS = 3  # the first one, which also allocates, is not timed


@dataclass(frozen=True)
class Speed:
    """One engine on this machine, one stream."""

    engine: str
    precision: str
    threads: int
    samples_per_second: float
    times_real_time: float
    macs_per_second: float


@dataclass(frozen=True)
class TrainingCost:
    """Training on this machine, from a few real steps on random codes."""

    samples_per_second: float
    seconds_per_step: float
    megabytes: float  # peak resident memory of the process


def generation_speeds(model: WaveNet, engines: tuple[str, ...] = ("native", "torch", "naive")) -> Iterator[Speed]:
    """Measure every engine that is installed, with one thread and with all. Yields a row as soon as it is known."""
    for engine in engines:
        for threads in sorted({1, os.cpu_count() or 1}):
            try:
                generator = Generator.from_model(model, engine=engine, threads=threads)
            except EngineUnavailable:
                break
            yield _generation_speed(generator, threads)


def _generation_speed(generator: Generator, threads: int) -> Speed:
    session = generator.session(seed=0)
    session.next(LOOK)
    samples, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < GENERATION_SECONDS:
        session.next(LOOK)
        samples += LOOK
    rate = samples / elapsed
    config = generator.config
    return Speed(
        engine=generator.engine,
        precision=generator.precision,
        threads=threads,
        samples_per_second=rate,
        times_real_time=rate / config.sample_rate,
        macs_per_second=rate * config.macs_per_sample,
    )


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
    codes = torch.randint(0, 256, shape, device=device)
    mask = torch.ones(shape, dtype=torch.bool, device=device)
    started = time.perf_counter()
    for step in range(TRAINING_STEPS):
        if step == 1:
            started = time.perf_counter()
        optimizer.zero_grad()
        loss = masked_loss(model(codes), codes, mask)
        loss.backward()
        optimizer.step()
        loss.item()  # waits for the device
    seconds = (time.perf_counter() - started) / (TRAINING_STEPS - 1)
    return TrainingCost(codes.numel() / seconds, seconds, peak_megabytes())


def memory_megabytes() -> float:
    """The machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e6


def peak_megabytes() -> float:
    """The largest resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3  # bytes there, kilobytes elsewhere

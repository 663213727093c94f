"""Bits per sample against training time, of three sizes and beside wavenet-vocoder 0.1.1 (by r9y9).

    pip install '.[benchmarks]'
    python benchmarks/learning.py compare TRAIN TEST --minutes 30     # the same shape, data and time for both programs
    python benchmarks/learning.py sizes TRAIN TEST                    # three sizes, 2 to 60 minutes
    python benchmarks/learning.py speeds TRAIN TEST -o speeds.json    # samples/s of all these trainings on this CPU
    python benchmarks/learning.py compare TRAIN TEST --device cuda --speeds speeds.json    # as many steps, on a GPU

TRAIN and TEST are folders of recordings. Both programs are trained on the same crops of mu-law codes, and their figure
is the same: bits per sample of whole recordings of TEST, given all samples before. wavenet-vocoder has the network of
the same shape, with its dropout of 0.05 and weight normalisation, twice: with its own training settings (its
hparams.py: two crops of 8,000 samples, Adam at 1e-3 with the Noam schedule over 4,000 steps, averaged weights with a
decay of 0.9999; the better of averaged and last weights counts), and with the learning rate, schedule, clipping and
averaging of the toolkit.

On a CPU every training takes its minutes, one after the other. On a GPU it takes as many steps as the CPU of
`speeds` makes in those minutes, in float32 without TF32, and all trainings run side by side, each as a CUDA graph.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peer import Shape, our_model, peer_model
from torch import Tensor, nn
from torch.nn import functional as F

from wavenet.config import DataConfig, TrainingConfig
from wavenet.data import dataset
from wavenet.data.dataset import Recordings
from wavenet.evaluation import likelihood
from wavenet.model import WaveNet
from wavenet.mulaw import CODES, SILENCE
from wavenet.nn.outputs import negative_log_likelihood
from wavenet.training import schedule
from wavenet.training.batches import Batch, Batches
from wavenet.training.distributed import SINGLE
from wavenet.training.gradients import Gradients
from wavenet.training.recipe import Recipe

SAMPLE_RATE = 16_000
DATA = DataConfig(validation=0.0, join=True)
NOAM_STEPS, OWN_DECAY = 4_000, 0.9999  # of wavenet-vocoder's hparams.py
CHUNK = 100  # steps whose batches are prepared together
WARM_UP_STEPS, SPEED_SECONDS = 3, 20.0
GPU = "cuda"
MINUTES = (2.0, 5.0, 15.0, 30.0, 60.0)


@dataclass(frozen=True)
class Plan:
    """A training: the program, its network, and how it is trained."""

    name: str
    program: str  # "toolkit" or "wavenet-vocoder"
    shape: Shape  # layers, residual channels, skip channels
    batch: int
    crop: int
    learning_rate: float
    own: bool = False  # wavenet-vocoder's own settings

    @property
    def training(self) -> TrainingConfig:
        """The settings, but for the budget."""
        return TrainingConfig(batch=self.batch, crop=self.crop, learning_rate=self.learning_rate)


LARGE: Shape = (30, 64, 256)
COMPARISON = (
    Plan("toolkit", "toolkit", LARGE, 2, 3_072, 4e-3),
    Plan("wavenet-vocoder, its settings", "wavenet-vocoder", LARGE, 2, 8_000, 1e-3, own=True),
    Plan("wavenet-vocoder, the toolkit's settings", "wavenet-vocoder", LARGE, 2, 3_072, 4e-3),
)
SIZES = tuple(
    Plan(str(shape), "toolkit", shape, 2, 3_072, 4e-3) for shape in ((10, 32, 64), (20, 48, 128), (30, 64, 256))
)


class Program:
    """The network of a plan with its optimizer: one step, and the bits per sample of recordings."""

    def __init__(self, plan: Plan, device: str) -> None:
        torch.manual_seed(0)
        self.plan, self.device = plan, device
        self.model: nn.Module = our_model(plan.shape) if plan.program == "toolkit" else peer_model(plan.shape)
        self.model.to(device)
        if isinstance(self.model, WaveNet):
            self.toolkit_gradients = Gradients(self.model, plan.training, SINGLE, torch.device(device))
        self.weights = list(self.model.parameters())
        self.average = [weight.detach().clone() for weight in self.weights]
        on_gpu = device != "cpu"
        first = torch.tensor(plan.learning_rate, device=device) if on_gpu else plan.learning_rate
        self.optimizer = torch.optim.Adam(self.weights, lr=first, fused=True, capturable=on_gpu)
        self.one_hot = torch.eye(CODES, device=device)

    def gradients(self, batch: Batch) -> Tensor:
        """Leave the gradients of a batch in the weights; returns its mean nats per sample."""
        if isinstance(self.model, WaveNet):
            return self.toolkit_gradients(batch)
        logits = self.logits(batch.inputs).flatten(0, 1)
        loss = negative_log_likelihood("mulaw", logits, batch.targets.flatten()).mean()
        loss.backward()
        return loss.detach()

    def logits(self, inputs: Tensor) -> Tensor:
        """Codes [B, T] -> [B, T, 256]."""
        if self.plan.program == "toolkit":
            return self.model(inputs)
        return self.model(self.one_hot[inputs].transpose(1, 2)).transpose(1, 2)

    def step(self, batch: Batch, decay: float | Tensor) -> Tensor:
        """Update the weights and their average; returns the loss in nats per sample."""
        loss = self.gradients(batch)
        if not self.plan.own:  # which does not clip
            nn.utils.clip_grad_norm_(self.weights, self.plan.training.clip_norm)
        self.optimizer.step()
        with torch.no_grad():
            torch._foreach_mul_(self.average, decay)
            torch._foreach_add_(self.average, torch._foreach_mul(self.weights, 1 - decay))
        return loss

    def rate_and_decay(self, step: int, fraction: float) -> tuple[float, float]:
        """The learning rate of a step, and the decay of the average after it."""
        if self.plan.own:
            warm = min((step + 1) * NOAM_STEPS**-1.5, (step + 1) ** -0.5)
            return self.plan.learning_rate * NOAM_STEPS**0.5 * warm, OWN_DECAY
        training = self.plan.training
        decay = min(training.ema, (2 + step) / (11 + step))
        return schedule.learning_rate(training, step, fraction), decay

    def bits(self, test: Recordings, averaged: bool) -> float:
        """Bits per sample of whole recordings."""
        trained = [weight.detach().clone() for weight in self.weights]
        with torch.no_grad():
            for weight, value in zip(self.weights, self.average if averaged else trained, strict=True):
                weight.copy_(value)
            self.model.eval()
            result = self._bits(test)
            self.model.train()
            for weight, value in zip(self.weights, trained, strict=True):
                weight.copy_(value)
        return result

    def _bits(self, test: Recordings) -> float:
        if isinstance(self.model, WaveNet):
            return likelihood.bits_per_sample(self.model, test.train)
        nats, samples = 0.0, 0
        for clip in range(len(test.train)):
            codes = torch.from_numpy(test.train.codes(clip).astype(np.int64)).to(self.device)
            inputs = F.pad(codes[:-1], (1, 0), value=SILENCE)
            losses = negative_log_likelihood("mulaw", self.logits(inputs[None])[0], codes)
            nats, samples = nats + float(losses.double().sum()), samples + len(codes)
        return nats / samples / math.log(2)


@cache
def _batches(train: str, training: TrainingConfig) -> Batches:
    recordings = dataset.open_folder(train, SAMPLE_RATE, DATA)
    return Batches(recordings.train, Recipe(data=DATA, training=training))


def chunk_of(train: str, training: TrainingConfig, first: int, count: int) -> NDArray[np.uint8]:
    """The batches of `count` steps, uint8 [count, 2, B, T]: inputs and targets."""
    torch.set_num_threads(1)
    batches = [_batches(train, training).batch(step) for step in range(first, first + count)]
    assert all(bool(batch.mask.all()) for batch in batches), "crops are joined: nothing is padded"
    return np.stack([np.stack([batch.inputs, batch.targets]).astype(np.uint8) for batch in batches])


def chunks(pool: ProcessPoolExecutor, train: str, training: TrainingConfig, steps: int) -> Iterator[Tensor]:
    """The chunks of a training, prepared ahead by the pool, in pinned memory."""
    waiting: list[Future[NDArray[np.uint8]]] = []
    starts = range(0, steps, CHUNK)
    for index in range(len(starts)):
        while len(waiting) < 4 and index + len(waiting) < len(starts):
            first = starts[index + len(waiting)]
            waiting.append(pool.submit(chunk_of, train, training, first, min(CHUNK, steps - first)))
        yield torch.from_numpy(waiting.pop(0).result()).pin_memory()


def train_on_cpu(plan: Plan, train: str, minutes: float) -> tuple[Program, int]:
    """Train for some minutes; returns the program and its steps."""
    program, batches = Program(plan, "cpu"), _batches(train, plan.training)
    started, step = time.monotonic(), 0
    while (fraction := (time.monotonic() - started) / (60 * minutes)) < 1:
        batch = batches.batch(step)
        rate, decay = program.rate_and_decay(step, fraction)
        program.optimizer.param_groups[0]["lr"] = rate
        program.optimizer.zero_grad()
        program.step(batch, decay)
        step += 1
    return program, step


class GraphedTraining:
    """A training on the GPU, whose step is one CUDA graph on a stream of its own."""

    def __init__(self, plan: Plan, steps: int) -> None:
        self.program, self.steps = Program(plan, GPU), steps
        self.stream = torch.cuda.Stream()
        self.codes = torch.full((2, plan.batch, plan.crop), SILENCE, dtype=torch.uint8, device=GPU)
        self.scalars = torch.zeros(2, device=GPU)  # learning rate and decay
        self.graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        with torch.cuda.stream(self.stream):
            for _ in range(WARM_UP_STEPS):  # with a learning rate of 0: it changes no weight
                self.program.optimizer.zero_grad()
                self._step()
        self.stream.synchronize()
        self.program.optimizer.zero_grad()
        with torch.cuda.graph(self.graph, stream=self.stream, capture_error_mode="thread_local"):
            self.loss = self._step()
        for state in self.program.optimizer.state.values():  # as before the first step
            for value in state.values():
                value.zero_()
        for average, weight in zip(self.program.average, self.program.weights, strict=True):
            average.copy_(weight.detach())
        torch.cuda.synchronize()

    def _step(self) -> Tensor:
        self.program.optimizer.param_groups[0]["lr"].copy_(self.scalars[0])
        inputs, targets = self.codes.long().unbind()
        count = inputs.numel()
        batch = Batch(inputs, targets, torch.ones_like(inputs, dtype=torch.bool), None, None, 0, None, count, count)
        return self.program.step(batch, self.scalars[1])

    def run(self, source: Iterator[Tensor]) -> None:
        """Train."""
        step = 0
        with torch.cuda.stream(self.stream):
            for chunk in source:
                rates = [self.program.rate_and_decay(step + i, (step + i) / self.steps) for i in range(len(chunk))]
                scalars = torch.tensor(rates).pin_memory().cuda(non_blocking=True)
                on_gpu = chunk.cuda(non_blocking=True)
                for batch, both in zip(on_gpu, scalars, strict=True):
                    self.codes.copy_(batch)
                    self.scalars.copy_(both)
                    self.graph.replay()
                self.stream.synchronize()  # before the memory of the chunk is used again
                step += len(chunk)


def train_on_gpu(trainings: list[tuple[Plan, int]], train: str, done: Callable[[int, Program], None]) -> None:
    """Train side by side. done: called with the index of a training and its program when it has ended."""
    _batches(train, trainings[0][0].training)  # decodes the recordings once
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        sources = [chunks(pool, train, plan.training, steps) for plan, steps in trainings]
        graphed = [GraphedTraining(plan, steps) for plan, steps in trainings]

        def run(index: int) -> None:
            graphed[index].run(sources[index])
            done(index, graphed[index].program)

        threads = [threading.Thread(target=run, args=(index,)) for index in range(len(graphed))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def measure_speed(plan: Plan, train: str) -> float:
    """Samples/s of a training on this CPU."""
    program, batches = Program(plan, "cpu"), _batches(train, plan.training)
    started, step = 0.0, 0
    while step < WARM_UP_STEPS + 2 or time.monotonic() - started < SPEED_SECONDS:
        if step == WARM_UP_STEPS:
            started = time.monotonic()
        batch = batches.batch(step)
        program.optimizer.zero_grad()
        program.step(batch, 0.999)
        step += 1
    return plan.batch * plan.crop * (step - WARM_UP_STEPS) / (time.monotonic() - started)


def report(plan: Plan, minutes: float, steps: int, program: Program, test: Recordings) -> dict[str, Any]:
    """Print and return a line of the table."""
    averaged, last = program.bits(test, True), program.bits(test, False)
    bits = min(averaged, last) if plan.own else averaged
    print(f"{plan.name:42} {minutes:5g} min {steps:7,} steps  {bits:.3f} bits per sample", flush=True)
    return {**dataclasses.asdict(plan), "minutes": minutes, "steps": steps, "averaged": averaged, "last": last}


def main() -> None:
    """Train and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["compare", "sizes", "speeds"])
    parser.add_argument("train")
    parser.add_argument("test")
    parser.add_argument("-o", "--output", type=Path, default=Path("learning.json"))
    parser.add_argument("--minutes", type=float, nargs="*")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--speeds", type=Path, help="samples/s of the CPU, for a GPU")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.what == "speeds":
        speeds = {plan.name: measure_speed(plan, options.train) for plan in COMPARISON + SIZES}
        options.output.write_text(json.dumps(speeds, indent=1))
        print(*(f"{name:42} {speed:10,.0f} samples/s" for name, speed in speeds.items()), sep="\n")
        return
    minutes = options.minutes or ([30.0] if options.what == "compare" else MINUTES)
    trainings = [(plan, budget) for plan in (COMPARISON if options.what == "compare" else SIZES) for budget in minutes]
    test, results = dataset.open_folder(options.test, SAMPLE_RATE, DATA), []
    if options.device == "cpu":
        for plan, budget in trainings:
            program, steps = train_on_cpu(plan, options.train, budget)
            results.append(report(plan, budget, steps, program, test))
    else:
        torch.backends.cudnn.allow_tf32 = False
        speeds = json.loads(options.speeds.read_text())
        counted = [(p, max(1, int(60 * budget * speeds[p.name] / (p.batch * p.crop)))) for p, budget in trainings]
        lock = threading.Lock()

        def done(index: int, program: Program) -> None:
            with lock:
                results.append(report(counted[index][0], trainings[index][1], counted[index][1], program, test))

        train_on_gpu(counted, options.train, done)
    options.output.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()

"""Training beside a busy neighbour: the number of threads that is chosen by measurement, beside one and two.

    python benchmarks/threads.py

Samples/s of gradients and optimizer step at (30 layers, 64 residual, 256 skip channels), batch 2 x 8,000 samples, on an
otherwise idle machine of two cores: alone, and beside a process that computes without a pause. One thread, two threads,
and the chosen number take turns in one process; the steps in which the choice is measured (3 with each number, every
300 steps) are counted with their share. Medians of the rounds, and the ratio of the chosen number to the better of one
and two within a round are printed.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from peer import BATCH, SAMPLES, TRAINING_SHAPE, our_model

from wavenet.config import TrainingConfig
from wavenet.training.batches import Batch
from wavenet.training.distributed import SINGLE
from wavenet.training.gradients import Gradients
from wavenet.training.threads import PERIOD, TRIALS, ThreadCount

ROUNDS, STEPS = 5, 6
KINDS = {"1 thread": [1], "2 threads": [2], "chosen": [1, 2]}
NEIGHBOUR = "while True: pass"


def step_of(gradients: Gradients) -> Callable[[], None]:
    """A step on random codes."""
    torch.manual_seed(0)
    codes = torch.randint(0, 256, (BATCH, SAMPLES + 1))
    mask = torch.ones(BATCH, SAMPLES, dtype=torch.bool)
    batch = Batch(codes[:, :-1], codes[:, 1:], mask, None, None, 0, None, mask.numel(), mask.numel())
    optimizer = torch.optim.Adam(gradients.model.parameters(), fused=True)

    def step() -> None:
        gradients(batch)
        optimizer.step()

    return step


def samples_per_second(gradients: Gradients, step: Callable[[], None], candidates: list[int]) -> tuple[float, int]:
    """Samples/s with these numbers of threads to choose from, and the number in the end."""
    gradients.thread_count = ThreadCount(candidates)
    times: list[float] = []
    measured = 0 if len(candidates) == 1 else TRIALS * len(candidates)
    for _ in range(1 + measured + STEPS):
        started = time.perf_counter()
        step()
        times.append(time.perf_counter() - started)
    steady = statistics.median(times[1 + measured :])
    period = sum(times[1 : 1 + measured]) + (PERIOD - measured) * steady
    return PERIOD * BATCH * SAMPLES / period, gradients.thread_count.next


def main() -> None:
    torch.set_num_threads(2)
    gradients = Gradients(
        our_model(TRAINING_SHAPE), TrainingConfig(batch=BATCH, crop=SAMPLES), SINGLE, torch.device("cpu")
    )
    step = step_of(gradients)
    for neighbours in (0, 1):
        others = [subprocess.Popen([sys.executable, "-c", NEIGHBOUR]) for _ in range(neighbours)]
        try:
            rounds = [
                {kind: samples_per_second(gradients, step, candidates) for kind, candidates in KINDS.items()}
                for _ in range(ROUNDS)
            ]
        finally:
            for other in others:
                other.kill()
        print(f"{neighbours} busy neighbours")
        for kind in KINDS:
            print(f"  {kind:10} {statistics.median(one[kind][0] for one in rounds):8,.0f} samples/s")
        ratios = [one["chosen"][0] / max(one["1 thread"][0], one["2 threads"][0]) for one in rounds]
        chosen = [one["chosen"][1] for one in rounds]
        median, lowest, highest = statistics.median(ratios), min(ratios), max(ratios)
        print(f"  chosen to the better: {median:.2f} ({lowest:.2f} to {highest:.2f}); threads chosen: {chosen}")


if __name__ == "__main__":
    main()

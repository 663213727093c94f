"""Training and generation speed beside wavenet-vocoder 0.1.1 (by r9y9), in one run.

    pip install '.[benchmarks]'
    python benchmarks/peer.py                # training and generation
    python benchmarks/peer.py training       # one of them

Training: samples/s and peak memory of an optimizer step at (30 layers, 64 residual, 256 skip channels), batch 2 x 8,000
samples, 2 threads. wavenet-vocoder runs with its defaults (dropout 0.05, weight normalisation) and once more without
dropout.

Generation: samples/s of one stream at (20, 32, 128) and (30, 64, 256): each engine and precision against the
incremental generation of wavenet-vocoder on one thread, which is no slower than on two.

Each measurement is a process of its own, and the programs take turns, so that changes in the machine's speed affect all
of them. Medians of the rounds, and medians and ranges of the ratios within a round, are printed.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from wavenet import WaveNet

Shape = tuple[int, int, int]  # layers, residual channels, skip channels

LAYERS_PER_CYCLE = 10
TRAINING_SHAPE: Shape = (30, 64, 256)
GENERATION_SHAPES: tuple[Shape, ...] = ((20, 32, 128), (30, 64, 256))
BATCH, SAMPLES = 2, 8_000
ROUNDS, STEPS, WARM_UP_STEPS = 3, 5, 2
OURS = {"f32, 1 thread": ("native", "f32", 1), "int8, 1 thread": ("native", "int8", 1)}
OURS |= {"f32, 2 threads": ("native", "f32", 2), "int8, 2 threads": ("native", "int8", 2)}
OURS |= {"torch engine, 1 thread": ("torch", "f32", 1)}
GENERATION_SECONDS = 3.0


def our_model(shape: Shape) -> WaveNet:
    from wavenet import ModelConfig, WaveNet

    layers, residual, skip = shape
    cycles = layers // LAYERS_PER_CYCLE
    return WaveNet(ModelConfig(cycles, LAYERS_PER_CYCLE, residual_channels=residual, skip_channels=skip))


def peer_model(shape: Shape, **options: Any) -> Any:
    warnings.simplefilter("ignore")
    from wavenet_vocoder import WaveNet

    layers, residual, skip = shape
    return WaveNet(
        out_channels=256,
        layers=layers,
        stacks=layers // LAYERS_PER_CYCLE,
        residual_channels=residual,
        gate_channels=2 * residual,  # both halves of the gate
        skip_out_channels=skip,
        kernel_size=2,
        cin_channels=-1,
        gin_channels=-1,
        **options,
    )


def our_gradients(model: WaveNet, inputs: Tensor, targets: Tensor) -> Callable[[], Tensor]:
    """Computes gradients as a training run does, with two threads."""
    import torch

    from wavenet.config import TrainingConfig
    from wavenet.training.batches import Batch
    from wavenet.training.distributed import SINGLE
    from wavenet.training.gradients import Gradients
    from wavenet.training.threads import ThreadCount

    gradients = Gradients(model, TrainingConfig(batch=BATCH, crop=SAMPLES), SINGLE, torch.device("cpu"))
    gradients.thread_count = ThreadCount([2])
    mask = torch.ones(targets.shape, dtype=torch.bool)
    batch = Batch(inputs, targets, mask, None, None, 0, None, targets.numel(), targets.numel())
    return lambda: gradients(batch)


def train(program: str) -> dict[str, float]:
    """Samples/s, the median over the steps, and the peak memory of the process in MB."""
    import torch
    from torch.nn import functional as F

    from wavenet.training.training_cost import peak_megabytes

    torch.set_num_threads(2)
    codes = torch.randint(0, 256, (BATCH, SAMPLES + 1))
    inputs, targets = codes[:, :-1], codes[:, 1:]
    if program == "ours":
        model = our_model(TRAINING_SHAPE)
        gradients = our_gradients(model, inputs, targets)
        optimizer = torch.optim.Adam(model.parameters(), fused=True)
    else:
        model = peer_model(TRAINING_SHAPE, **({"dropout": 0.0} if program == "peer without dropout" else {}))
        optimizer = torch.optim.Adam(model.parameters())

        def gradients() -> Tensor:
            one_hot = F.one_hot(inputs, 256).float().transpose(1, 2)
            loss = F.cross_entropy(model(one_hot), targets)
            loss.backward()
            return loss

    times = []
    for _ in range(WARM_UP_STEPS + STEPS):
        started = time.perf_counter()
        optimizer.zero_grad()
        gradients()
        optimizer.step()
        times.append(time.perf_counter() - started)
    return {"speed": BATCH * SAMPLES / statistics.median(times[WARM_UP_STEPS:]), "megabytes": peak_megabytes()}


def generate(program: str, shape: Shape) -> dict[str, float]:
    """Samples/s of one stream of a model with random weights."""
    import torch

    torch.set_num_threads(1)
    if program in OURS:
        from wavenet import Generator

        engine, precision, threads = OURS[program]
        session = Generator.from_model(our_model(shape), engine, precision, threads).session()
        block = 500
        advance: Callable[[int], Any] = session.next
    else:
        model = peer_model(shape).eval()
        model.make_generation_fast_()
        first = torch.zeros(1, 256, 1)
        first[:, 128] = 1
        block = 50

        def advance(count: int) -> Any:
            with torch.no_grad():
                model.incremental_forward(first, T=count, softmax=True, quantize=True, tqdm=lambda steps: steps)

    for _ in range(4):
        advance(block)
    samples, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < GENERATION_SECONDS:
        advance(block)
        samples += block
    return {"speed": samples / elapsed}


def measured(*arguments: object) -> dict[str, float]:
    """The result of one measurement, made in a process of its own."""
    command = [sys.executable, "-W", "ignore", __file__, "--measure", json.dumps(arguments)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def compare(title: str, ours: list[str], peers: list[str], *arguments: object) -> None:
    """Measure the programs in turn; print medians and the ratios of each of ours to each peer."""
    kind = title.split()[0]
    rounds = [{program: measured(kind, program, *arguments) for program in ours + peers} for _ in range(ROUNDS)]
    print(title)
    for program in ours + peers:
        speed = statistics.median(one[program]["speed"] for one in rounds)
        memory = [one[program]["megabytes"] for one in rounds if "megabytes" in one[program]]
        line = f"  {program:22} {speed:10,.0f} samples/s"
        line += f"  {statistics.median(memory):7,.0f} MB" if memory else f"  {speed / 16_000:6.2f} x real time"
        for peer in peers if program in ours else []:
            ratios = sorted(one[program]["speed"] / one[peer]["speed"] for one in rounds)
            line += f"   {ratios[len(ratios) // 2]:.4g} x {peer} ({ratios[0]:.4g} to {ratios[-1]:.4g})"
        print(line, flush=True)


def main(what: list[str]) -> None:
    if not what or "training" in what:
        title = f"training at {TRAINING_SHAPE}, batch {BATCH} x {SAMPLES:,}, 2 threads"
        compare(title, ["ours"], ["peer", "peer without dropout"])
    if not what or "generation" in what:
        for shape in GENERATION_SHAPES:
            compare(f"generation at {shape}, one stream", list(OURS), ["peer"], shape)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        kind, *rest = json.loads(sys.argv[2])
        print(json.dumps((train if kind == "training" else generate)(*rest)))
    else:
        main(sys.argv[1:])

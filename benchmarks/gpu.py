"""Training speed on a GPU: implementations, precisions and batches, beside wavenet-vocoder 0.1.1 (by r9y9).

    pip install '.[benchmarks]'
    python benchmarks/gpu.py                                       # (30, 64, 256), batches of 2, 16 and 64 crops
    python benchmarks/gpu.py --shape 20 48 128 --batches 2x3072

Samples/s and peak memory of a training step: loss, gradients, clipping, Adam. Each line is a process of its own. The
share of the peak is that of 6 operations per weight and sample (2 in the forward and 4 in the backward pass) in what
the data sheet of an H100 SXM states for the precision of the products: 67, 495 and 989 TFLOP/s. "tf32" are float32
products with operands rounded to 10 bits (`torch.set_float32_matmul_precision("high")`). Before the timing, one step
is computed in which any wait for the device is an error.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from peer import Shape, our_model, peer_model
from torch import Tensor, nn
from torch.nn import functional as F

from wavenet.config import TrainingConfig
from wavenet.mulaw import CODES
from wavenet.training.batches import Batch
from wavenet.training.distributed import SINGLE
from wavenet.training.gradients import Gradients
from wavenet.training.precision import Precision

PEAK = {"float32": 67.0, "tf32": 495.0, "bf16": 989.0}  # TFLOP/s, dense
CUDA = torch.device("cuda")
REPEATS, SECONDS = 3, 0.3

# implementation: as shipped (its choice by precision), the definition, compiled, or another program
VARIANTS = [(name, precision) for name in ("toolkit", "definition", "compiled") for precision in PEAK]
VARIANTS += [("wavenet-vocoder", "float32"), ("wavenet-vocoder without dropout", "float32")]


def random_batch(streams: int, samples: int) -> Batch:
    codes = torch.randint(0, CODES, (streams, samples + 1), device=CUDA)
    mask = torch.ones(streams, samples, dtype=torch.bool, device=CUDA)
    count = streams * samples
    return Batch(codes[:, :-1].contiguous(), codes[:, 1:].contiguous(), mask, None, None, 0, None, count, count)


def gradients_of(variant: str, precision: str, shape: Shape, batch: Batch) -> tuple[nn.Module, Callable[[], Tensor]]:
    """The network, and a function that leaves the gradients of the batch and returns its loss."""
    if variant.startswith("wavenet-vocoder"):
        peer = peer_model(shape, **({"dropout": 0.0} if "without" in variant else {})).to(CUDA)
        one_hot = torch.eye(CODES, device=CUDA)

        def peer_gradients() -> Tensor:
            loss = F.cross_entropy(peer(one_hot[batch.inputs].transpose(1, 2)), batch.targets)
            loss.backward()
            return loss

        return peer, peer_gradients
    model = our_model(shape).to(CUDA)
    model.fused = False if variant == "definition" else None
    name = "float32" if precision == "tf32" else precision
    training = TrainingConfig(batch=len(batch.inputs), precision=name, compile=variant == "compiled")
    gradients = Gradients(model, training, SINGLE, CUDA, Precision(name, CUDA))
    return model, lambda: gradients(batch)


def measure(variant: str, precision: str, shape: Shape, streams: int, samples: int) -> dict[str, float]:
    """Milliseconds of a step, samples/s, share of the peak, and GB."""
    if precision == "tf32":
        torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    network, gradients = gradients_of(variant, precision, shape, random_batch(streams, samples))
    weights = list(network.parameters())
    optimizer = torch.optim.Adam(weights, lr=1e-4, fused=True)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        gradients()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()

    for _ in range(3):
        step()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    step()
    torch.cuda.set_sync_debug_mode("default")
    times = []
    for _ in range(REPEATS):
        torch.cuda.synchronize()
        started, steps = time.perf_counter(), 0
        while steps < 3 or (time.perf_counter() - started < SECONDS and steps < 50):
            step()
            steps += 1
        torch.cuda.synchronize()
        times.append((time.perf_counter() - started) / steps)
    seconds = statistics.median(times)
    speed = streams * samples / seconds
    peak = 6 * sum(weight.numel() for weight in weights) * speed / (1e12 * PEAK[precision])
    memory = torch.cuda.max_memory_allocated() / 1e9
    return {"milliseconds": 1e3 * seconds, "speed": speed, "peak": peak, "gigabytes": memory}


def main() -> None:
    """Measure all variants and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=3, default=[30, 64, 256], metavar=("LAYERS", "RESIDUAL", "SKIP"))
    parser.add_argument("--batches", nargs="+", default=["2x8000", "16x8000", "64x8000"])
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(*json.loads(options.measure))))
        return
    print(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}, {tuple(options.shape)}")
    for batch in options.batches:
        for variant, precision in VARIANTS:
            arguments = json.dumps([variant, precision, options.shape, *map(int, batch.split("x"))])
            command = [sys.executable, "-W", "ignore", __file__, "--measure", arguments]
            result = subprocess.run(command, capture_output=True, text=True)
            if result.returncode:
                figures = result.stderr.strip().splitlines()[-1][:100]
            else:
                ms, speed, peak, memory = json.loads(result.stdout.splitlines()[-1]).values()
                figures = f"{ms:9.2f} ms {speed:12,.0f} samples/s {peak:6.1%} of the peak {memory:6.2f} GB"
            print(f"{batch:>8} {variant:32} {precision:8} {figures}", flush=True)


if __name__ == "__main__":
    main()

"""Memory and time of training: an estimate of the memory, and both measured over a few steps."""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass

import torch

from wavenet.config import ModelConfig, TrainingConfig
from wavenet.engine.base import MOST_MEMORY, memory
from wavenet.engine.conditioning import placeholder_inputs
from wavenet.engine.stepped import conditioning_tensors
from wavenet.model import WaveNet
from wavenet.nn.outputs import masked_loss

try:
    import resource
except ImportError:  # not on Windows
    resource = None  # type: ignore[assignment]

MEASURED_STEPS = 3  # the first one, which also allocates, is not timed


@dataclass(frozen=True)
class TrainingCost:
    """Cost of training on this machine, measured over a few steps on random codes."""

    samples_per_second: float
    seconds_per_step: float
    megabytes: float  # peak resident memory of the process; the estimate if the system does not report it


def training_megabytes(model: ModelConfig, training: TrainingConfig) -> float:
    """Estimate of the memory of a training step, from the number of its float32 values."""
    layers = model.layers * (model.residual_channels + 4 * model.gate)  # x, tanh, sigmoid, z and its gradient
    head = 4 * (model.skip_channels + model.head + model.output_channels)  # and their gradients
    weights = 5 * model.parameters  # weights, gradients, averaged weights, and the two moments of Adam
    return 4e-6 * (training.batch * training.crop * (layers + head) + weights)


def check_training_memory(model: ModelConfig, training: TrainingConfig, device: str = "cpu") -> None:
    """Raises `MemoryError`, with one line on what to lower, if a step would not fit into the device's memory."""
    needed, available = training_megabytes(model, training), memory_megabytes(device)
    if needed > MOST_MEMORY * available:
        what = "this machine" if device == "cpu" else "the CUDA device"
        raise MemoryError(
            f"a training step needs about {needed:,.0f} MB of memory, more than {MOST_MEMORY:.0%} of the "
            f"{available:,.0f} MB of {what}: lower training.batch (now {training.batch:,}) or training.crop (now "
            f"{training.crop:,}), or the model's channels"
        )


def training_cost(model: ModelConfig, training: TrainingConfig, device: str = "cpu") -> TrainingCost:
    """Measure a few training steps on random codes. Raises `MemoryError` if they would not fit into memory."""
    check_training_memory(model, training, device)
    network = WaveNet(model).to(device)
    optimizer = torch.optim.Adam(network.parameters(), fused=True)
    shape = (training.batch, training.crop)
    codes = torch.randint(0, 256, shape, device=device)  # [B, T]; valid for 16-bit outputs, too
    mask = torch.ones(shape, dtype=torch.bool, device=device)
    speaker, local = conditioning_tensors(placeholder_inputs(model, *shape), torch.device(device))
    started = time.perf_counter()
    for step in range(MEASURED_STEPS):
        if step == 1:
            started = time.perf_counter()
        optimizer.zero_grad()
        loss = masked_loss(network(codes, speaker, local), codes, mask, model.output)
        loss.backward()
        optimizer.step()
        loss.item()  # waits for the device
    seconds = (time.perf_counter() - started) / (MEASURED_STEPS - 1)
    megabytes = peak_megabytes()
    return TrainingCost(
        codes.numel() / seconds,
        seconds,
        training_megabytes(model, training) if math.isnan(megabytes) else megabytes,
    )


def memory_megabytes(device: str = "cpu") -> float:
    """Memory of the CUDA device, or of the machine or its container; infinity if the system does not report it."""
    if device == "cpu":
        return (memory() or math.inf) / 1e6
    return torch.cuda.get_device_properties(device).total_memory / 1e6


def peak_megabytes() -> float:
    """Largest resident memory of this process so far; NaN if the system does not report it (Windows)."""
    if resource is None:
        return math.nan
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3  # bytes on macOS, kilobytes elsewhere

"""Memory and time of training: whether the predicted memory is there, and both measured over a few steps."""

from __future__ import annotations

import math
import sys
import time
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch

from wavenet.data.clips import Clips
from wavenet.engine.base import MOST_MEMORY, memory
from wavenet.model import WaveNet
from wavenet.training.batches import Batches
from wavenet.training.distributed import SINGLE, Processes
from wavenet.training.gradients import Gradients
from wavenet.training.precision import Precision
from wavenet.training.recipe import Recipe
from wavenet.training.training_memory import training_memory

try:
    import resource
except ImportError:  # not on Windows
    resource = None  # type: ignore[assignment]

KIBIBYTE = 1_024 / 1e6  # in megabytes
MEASURED_STEPS = 3  # the first one, which also allocates, is not timed
MEASURED_SECONDS = 20.0  # after which no further step is measured
NOISE = 1_000.0  # RMS of the audio that is trained on meanwhile, in 16-bit steps


@dataclass(frozen=True)
class TrainingCost:
    """Cost of training on this machine, measured over a few steps on noise."""

    samples_per_second: float
    seconds_per_step: float
    megabytes: float  # peak memory of the process, or of the CUDA device; the estimate if the system reports none


def check_training_memory(recipe: Recipe, device: str = "cpu", processes: Processes = SINGLE) -> None:
    """Raises `MemoryError`, with one line on what to lower, if the run would not fit into the device's memory."""
    training, available = recipe.training, memory_megabytes(device)
    sharing = processes.local_count if device == "cpu" else 1  # processes that the memory is for
    needed = sharing * training_memory(recipe, device, processes).peak / 1e6
    if needed > MOST_MEMORY * available:
        what = "this machine" if device == "cpu" else "the CUDA device"
        raise MemoryError(
            f"training needs about {needed:,.0f} MB of memory, more than {MOST_MEMORY:.0%} of the "
            f"{available:,.0f} MB of {what}: lower training.batch (now {training.batch:,}) or training.crop (now "
            f"{training.crop:,}), or the model's channels; --memory SIZE makes a recipe fit"
        )


def training_cost(recipe: Recipe, device: str = "cpu", processes: Processes = SINGLE) -> TrainingCost:
    """Measure a few training steps on noise, with this process's rows of each batch; nothing is exchanged.

    The samples of a step are those of all processes. Raises `MemoryError` if the steps would not fit into memory.
    """
    check_training_memory(recipe, device, processes)
    training, target = recipe.training, torch.device(device)
    network = WaveNet(recipe.model).to(target)
    optimizer = torch.optim.Adam(network.parameters(), fused=True)
    gradients = Gradients(network, training, SINGLE, target, Precision(training.precision, target))
    batches = Batches(_noise(recipe), recipe, processes.rows(training.batch))
    times = [time.perf_counter()]
    while len(times) <= MEASURED_STEPS and times[-1] - times[0] < MEASURED_SECONDS:
        optimizer.zero_grad()
        loss = gradients(batches.batch(len(times) - 1).to(target))
        optimizer.step()
        loss.item()  # waits for the device
        times.append(time.perf_counter())
    seconds = float(np.mean(np.diff(times)[1:] if len(times) > 2 else np.diff(times)))
    megabytes = peak_megabytes(device)
    if math.isnan(megabytes):
        megabytes = training_memory(recipe, device, processes).peak / 1e6
    return TrainingCost(training.batch * training.crop / seconds, seconds, megabytes)


def _noise(recipe: Recipe) -> Clips:
    """A clip of noise for each row of a batch, twice as long as its crop."""
    training, model = recipe.training, recipe.model
    samples = 2 * (training.past + training.crop)
    noise = NOISE * np.random.default_rng(0).standard_normal(samples)
    count = training.batch
    speakers = [model.speakers[0]] * count if model.speakers else None
    offsets, lengths = np.zeros(count, np.int64), np.full(count, samples)
    return Clips(noise.astype(np.int16), offsets, lengths, model.sample_rate, speakers)


def memory_megabytes(device: str = "cpu") -> float:
    """Memory of the CUDA device, or of the machine or its container; infinity if the system does not report it."""
    if device == "cpu":
        return (memory() or math.inf) / 1e6
    return torch.cuda.get_device_properties(device).total_memory / 1e6


def available_megabytes(device: str = "cpu") -> float:
    """Memory that is free on the CUDA device, or on the machine and within the limit of its container."""
    if device != "cpu":
        return torch.cuda.mem_get_info(device)[0] / 1e6
    return min(memory_megabytes(), _free_megabytes())


def _free_megabytes() -> float:
    """Memory that programs can still take without swapping; infinity if the system does not report it."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            lines = dict(line.split(":") for line in file)
        return KIBIBYTE * int(lines["MemAvailable"].split()[0])
    except (OSError, ValueError, KeyError):
        return math.inf


def peak_megabytes(device: str = "cpu") -> float:
    """Largest resident memory of this process so far, or of the CUDA device's allocator.

    NaN if the system does not report it (Windows).
    """
    if device != "cpu":
        return torch.cuda.max_memory_allocated(device) / 1e6
    with suppress(OSError, StopIteration), open("/proc/self/status", encoding="ascii") as file:
        return KIBIBYTE * int(next(line for line in file if line.startswith("VmHWM:")).split()[1])
    if resource is None:
        return math.nan
    # On Linux, were it not found above, this would be at least the peak of the process that started this one.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else KIBIBYTE * peak

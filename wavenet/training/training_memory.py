"""Memory of a training run, predicted from its recipe: what holds how many bytes, and the peak of all of it.

    process       the interpreter and the libraries, which are there before the first network
    weights       those of the network, their gradients and average, and the two moments of Adam
    workers       the processes that prepare batches, as many as the run starts
    step          what the crops that are computed at the same time keep for the backward pass, what that needs in
                  addition, and the gradients of each; on the CPU these are as many crops as threads
    frame_step    the same of a step of the frame model
    validation    what the layers keep of one piece of a held-out recording, and the network that generates the clip

The last three follow one another. Those of the frame model and of validations run on the main thread and reuse the same
memory, so that the larger one counts. Crops are computed on threads of their own on the CPU, and what those have freed
stays theirs. Each counts the float32 values that are alive at its worst moment; `HEAP` accounts for what the allocator
cannot use of freed blocks. On a CUDA device the process is left out, and all three reuse the same memory: the peak is
that of the device's allocator.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import NamedTuple

import torch

from wavenet.config import ModelConfig, TrainingConfig
from wavenet.evaluation.likelihood import PIECE
from wavenet.training.distributed import SINGLE, Processes
from wavenet.training.feed import chosen_workers
from wavenet.training.recipe import Recipe
from wavenet.training.threads import most_threads

FLOAT = 4  # bytes
# Resident memory over live memory: glibc keeps freed blocks below 32 MB, whose gaps do not fit the next tensors.
HEAP = 1.2
# A step in bf16 or fp16 on the CPU over one in float32: the fused stack does not compute it, and autograd keeps more.
AUTOGRAD = 1.6
ANALYSIS_BYTES = 220e6  # librosa, SciPy and Numba, which the first clip that is measured loads
FIRST_STEP_BYTES = 25e6  # of libraries that the first step reads from the disk
PROCESS_BYTES = 900e6  # of a process whose memory the system does not report
ASSESSMENT_BYTES = 145e6  # of the figures of a clip and of a minute of recordings, at any sample rate
WORKER_BYTES = 60e6  # that a worker, which begins as a copy of the trainer, does not share with it
# Values per output parameter that the loss keeps or computes at the same time, those of the gradients included: a
# softmax, its logarithm and its gradient; or all terms of a 16-bit distribution, one after the other.
LOSS_VALUES = {"mulaw": 3, "logistic": 7, "gaussian": 68}


class Stack(NamedTuple):
    """The channels of dilated layers and of the skip sum behind them."""

    layers: int
    residual: int
    gate: int
    skip: int

    @property
    def kept(self) -> int:
        """Values per sample that the forward pass keeps: x, sigmoid(b) and z of every layer."""
        return self.layers * (self.residual + self.gate + self.gate)

    @property
    def backward(self) -> int:
        """Values per sample that the backward pass of a layer needs in addition.

        The gradients of the skip sum, of x, and of the gates, these once more for conditioning, or where PyTorch
        computes them.
        """
        return self.skip + self.residual + 2 * 2 * self.gate

    @property
    def forward(self) -> int:
        """Values per sample of a forward pass that keeps nothing: all z; and x twice and the gates, or the skip sum."""
        return self.layers * self.gate + max(self.skip, 2 * self.residual + 3 * self.gate)


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes of one process of a training run, by what holds them; see the text of this module."""

    process: float
    weights: float
    workers: float
    step: float
    frame_step: float
    validation: float

    @property
    def peak(self) -> float:
        """The largest that the process and its workers become, in bytes."""
        if not self.process:  # on a device, whose allocator is that of all threads
            return self.weights + max(self.step, self.frame_step, self.validation)
        return self.process + self.weights + self.workers + self.step + max(self.frame_step, self.validation)


def training_memory(
    recipe: Recipe,
    device: str = "cpu",
    processes: Processes = SINGLE,
    process: float | None = None,
    threads: int | None = None,
) -> TrainingMemory:
    """The memory of each process of a training run, in which `processes` share the rows of a batch.

    process: bytes that are not of the run; None: those of this process, measured.
    threads: that compute crops on the CPU; None: as many as there may be here.
    """
    model, training = recipe.model, recipe.training
    on_cpu = device == "cpu"
    heap = HEAP if on_cpu else 1.0
    if process is None:
        process = process_bytes() if on_cpu else 0.0
    if threads is None:
        threads = most_threads(processes)
    rows = -(-training.batch // processes.count)  # of the process with most of them
    step = heap * step_values(model, training, rows, threads if on_cpu and not training.compile else None)
    if on_cpu and training.precision != "float32":
        step *= AUTOGRAD
    weights = 5 * (model.parameters + frame_parameters(model))  # with gradients, average, and the two moments of Adam
    if processes.count > 1:
        weights += model.parameters  # gradients in the buckets that are exchanged
    return TrainingMemory(
        process=process,
        weights=FLOAT * weights,
        workers=chosen_workers(recipe, torch.device(device), processes) * WORKER_BYTES if on_cpu else 0.0,
        step=FLOAT * step,
        frame_step=heap * FLOAT * frame_step_values(model, training),
        validation=max(heap * FLOAT * validation_values(model), ASSESSMENT_BYTES if on_cpu else 0.0),
    )


def step_values(model: ModelConfig, training: TrainingConfig, rows: int, threads: int | None) -> int:
    """Values that are alive at the worst moment of a training step of so many rows.

    threads: each computes a row, and its gradients of all weights; None: those of a part are computed at once, as on a
        GPU and by a compiled network.
    """
    samples = training.past + training.crop  # of a row
    part = -(-rows // min(training.accumulation, rows))  # rows of the largest part
    together = part if threads is None else min(threads, part)
    gradients = 0 if threads is None else together * model.parameters
    return samples * (together * row_values(model, training) + rows * input_values(model)) + gradients


def row_values(model: ModelConfig, training: TrainingConfig) -> int:
    """Values per sample of a row of a batch that are alive at the worst moment of its backward pass.

    With activation checkpointing only x of each cycle is kept, and the layers of one cycle are computed again, with
    their share of the skip sum.
    """
    channels = model.residual_channels, model.gate, model.skip_channels
    if training.activation_checkpointing:
        cycle = Stack(model.layers_per_cycle, *channels)
        again = cycle.kept + cycle.skip + cycle.backward
        return model.cycles * model.residual_channels + max(again, head_values(model))
    stack = Stack(model.layers, *channels)
    return stack.kept + max(stack.backward, head_values(model))


def head_values(model: ModelConfig) -> int:
    """Values per sample of the inputs of both layers of the head, and of the loss."""
    return model.skip_channels + model.head + LOSS_VALUES[model.output] * model.output_channels


def input_values(model: ModelConfig) -> int:
    """Values per sample of a batch: codes and targets of 64 bits, and what linear prediction adds to them."""
    return 2 * 2 + (model.input_channels + 2 if model.linear_prediction else 0)


def frame_step_values(model: ModelConfig, training: TrainingConfig) -> float:
    """Values that are alive at the worst moment of a step of the frame model; 0 without one."""
    config = model.frame_model
    if config is None or not training.frames.steps:
        return 0
    stack = Stack(config.layers, config.residual_channels, config.residual_channels, config.skip_channels)
    parameters = config.mixtures * (1 + 2 * config.components)  # of the distribution of the shape
    head = 4 * config.skip_channels + LOSS_VALUES["logistic"] * parameters
    return training.frames.batch * training.frames.crop * (stack.kept + max(stack.backward, head))


def validation_values(model: ModelConfig) -> int:
    """Values of a piece of a recording and its context, without gradients, and of the network that makes the clip."""
    stack = Stack(model.layers, model.residual_channels, model.gate, model.skip_channels)
    head = model.skip_channels + model.head + 2 * model.output_channels
    return (PIECE + model.context) * max(stack.forward, head) + 2 * model.parameters


def frame_parameters(model: ModelConfig) -> int:
    """Weights of the frame model; 0 without one."""
    return 0 if model.frame_model is None else model.frame_model.parameters(len(model.speakers))


def process_bytes() -> float:
    """Resident memory of this process once it has loaded all libraries that training uses.

    Those differ by hundreds of megabytes between builds of PyTorch, so that of this process is measured.
    """
    resident = resident_bytes()
    if resident is None:
        return PROCESS_BYTES
    return resident + FIRST_STEP_BYTES + (0 if "numba" in sys.modules else ANALYSIS_BYTES)


def resident_bytes() -> int | None:
    """Resident memory of this process; None where the system does not report it."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError, AttributeError):
        return None

"""Memory of a training run, predicted from its recipe: what holds how many bytes, and the peak of all of it.

    process       the interpreter and the libraries, which are there before the first network
    weights       those of the network, their gradients and average, and the two moments of Adam
    step          what a step keeps for the backward pass, and what that needs in addition
    frame_step    the same of a step of the frame model
    validation    what the layers keep of one piece of a held-out recording, and the network that generates the clip

The last three follow one another and reuse the same memory, so the peak is that of the largest of them. Each counts the
float32 values that are alive at its worst moment; `HEAP` accounts for what the allocator cannot use of freed blocks.
On a CUDA device the process is left out: the peak is that of the device's allocator.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import NamedTuple

from wavenet.config import ModelConfig, TrainingConfig
from wavenet.evaluation.likelihood import PIECE
from wavenet.training.distributed import SINGLE, Processes
from wavenet.training.recipe import Recipe
from wavenet.training.threads import most_threads

FLOAT = 4  # bytes
# Resident memory over live memory: glibc keeps freed blocks below 32 MB, whose gaps do not fit the next tensors.
HEAP = 1.2
ANALYSIS_BYTES = 220e6  # librosa, SciPy and Numba, which the first clip that is measured loads
FIRST_STEP_BYTES = 25e6  # of libraries that the first step reads from the disk
PROCESS_BYTES = 900e6  # of a process whose memory the system does not report


class Stack(NamedTuple):
    """The channels of dilated layers and of the skip sum behind them."""

    layers: int
    residual: int
    gate: int
    skip: int

    @property
    def kept(self) -> int:
        """Values per sample that the forward pass keeps: x, z and sigmoid(b) of every layer."""
        return self.layers * (self.residual + 2 * self.gate)

    @property
    def backward(self) -> int:
        """Values per sample that the backward pass needs in addition.

        The gradients of the skip sum, and of one layer those of x, of z and of the gates.
        """
        return self.skip + self.residual + 3 * self.gate


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes of one process of a training run, by what holds them; see the text of this module."""

    process: float
    weights: float
    step: float
    frame_step: float
    validation: float

    @property
    def peak(self) -> float:
        """The largest that the process becomes, in bytes."""
        return self.process + self.weights + max(self.step, self.frame_step, self.validation)


def training_memory(
    recipe: Recipe, device: str = "cpu", processes: Processes = SINGLE, process: float | None = None
) -> TrainingMemory:
    """The memory of each process of a training run, in which `processes` share the rows of a batch.

    process: bytes that are not of the run; None: those of this process, measured.
    """
    model, training = recipe.model, recipe.training
    heap = HEAP if device == "cpu" else 1.0
    if process is None:
        process = process_bytes() if device == "cpu" else 0.0
    rows = -(-training.batch // processes.count)  # of the process with most of them
    weights = 5 * (model.parameters + frame_parameters(model))  # with gradients, average, and the two moments of Adam
    if processes.count > 1:
        weights += model.parameters  # gradients in the buckets that are exchanged
    return TrainingMemory(
        process=process,
        weights=FLOAT * weights,
        step=heap * FLOAT * step_values(model, training, rows, most_threads(processes) if device == "cpu" else rows),
        frame_step=heap * FLOAT * frame_step_values(model, training),
        validation=heap * FLOAT * validation_values(model),
    )


def step_values(model: ModelConfig, training: TrainingConfig, rows: int, threads: int | None = None) -> int:
    """Values that are alive at the worst moment of a training step of so many rows, of which each thread computes one.

    threads: None for as many as rows.
    """
    stack = Stack(model.layers, model.residual_channels, model.gate, model.skip_channels)
    samples = training.past + training.crop  # of a row
    together = -(-rows // min(training.accumulation, rows))  # rows that are computed at the same time
    together = min(together, threads or together)
    return samples * (together * (stack.kept + max(stack.backward, head_values(model))) + rows * input_values(model))


def head_values(model: ModelConfig) -> int:
    """Values per sample of the head and the loss at the start of the backward pass.

    The inputs of both layers, the output parameters, what the loss keeps of them, and the gradients of both.
    """
    outputs = model.output_channels
    return model.skip_channels + model.head + 4 * outputs


def input_values(model: ModelConfig) -> int:
    """Values per sample of a batch: codes and targets of 64 bits, and what linear prediction adds to them."""
    predicted = model.input_channels + 2 * model.output_channels if model.linear_prediction else 0
    return 2 * 2 + predicted


def frame_step_values(model: ModelConfig, training: TrainingConfig) -> float:
    """Values that are alive at the worst moment of a step of the frame model; 0 without one."""
    config = model.frame_model
    if config is None or not training.frames.steps:
        return 0
    stack = Stack(config.layers, config.residual_channels, config.residual_channels, config.skip_channels)
    parameters = config.mixtures * (1 + 2 * config.components)  # of the distribution of the shape
    head = 4 * config.skip_channels + 6 * parameters
    return training.frames.batch * training.frames.crop * (stack.kept + max(stack.backward, head))


def validation_values(model: ModelConfig) -> int:
    """Values of a piece of a recording and its context in all layers, without gradients, and of the clip's network."""
    stack = Stack(model.layers, model.residual_channels, model.gate, model.skip_channels)
    outputs = model.output_channels
    head = stack.skip + model.head + 3 * outputs
    return (PIECE + model.context) * (max(stack.kept + stack.skip, head)) + 2 * model.parameters


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

"""The gradient of a training step: that of the mean loss of the global batch, the same on every process.

A batch is computed in pieces, whose gradients are added in order: on the CPU a crop is a piece, and several are
computed side by side (`wavenet.training.threads`); on a GPU all crops are one piece. `training.accumulation` divides a
batch into parts that are computed one after the other.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from inspect import signature
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from wavenet.config import TrainingConfig
from wavenet.model import WaveNet
from wavenet.nn.outputs import negative_log_likelihood
from wavenet.training.batches import Batch
from wavenet.training.distributed import Processes
from wavenet.training.precision import Precision, compiled
from wavenet.training.threads import ThreadCount, Threads, candidates, most_threads, sharing
from wavenet.two_tiers import TwoTiers

# Buffers are constant. PyTorch 2.14 has a new name for the option that would exchange them in every step.
NEW_NAME = "forward_sync_buffers"
SYNC_BUFFERS = NEW_NAME if NEW_NAME in signature(DistributedDataParallel).parameters else "broadcast_buffers"


class Gradients:
    """Computes the gradients of batches with the settings of `training`."""

    def __init__(
        self,
        model: WaveNet,
        training: TrainingConfig,
        processes: Processes,
        device: torch.device,
        precision: Precision | None = None,
    ) -> None:
        """precision: with its state; None: that of `training`, at its start."""
        self.model, self.training, self.processes, self.device = model, training, processes, device
        self.precision = precision or Precision(training.precision, device)
        model.recomputed = training.activation_checkpointing
        self.local = compiled(model) if training.compile else model
        self.network = self.local  # exchanges gradients with the other processes
        if processes.count > 1:
            self.network = compiled(_distributed(model)) if training.compile else _distributed(model)
        rows = processes.rows(training.batch)
        at_once = max(1, math.ceil((rows.stop - rows.start) / training.accumulation))
        side_by_side = device.type == "cpu" and not training.compile
        most = min(most_threads(processes), at_once) if side_by_side else 1
        self.threads = Threads(most) if side_by_side else None
        self.thread_count = ThreadCount(candidates(most))

    def __call__(self, batch: Batch) -> Tensor:
        """Leave the gradient of the mean loss of the global batch, nats per sample, in `.grad` of the weights.

        In "fp16" it is scaled: `Precision.clip` undoes that.
        batch: this process's rows of it. Returns their share of that loss, a scalar on the device: the sum over the
        processes is the loss of the global batch. If a share is not finite, no gradient is finite, on no process.
        """
        started = time.perf_counter()
        weights = [weight for weight in self.model.parameters() if weight.requires_grad]
        losses: list[Tensor] = []
        total: list[Tensor | None] = [None] * len(weights)

        def compute(rows: slice) -> tuple[Tensor, Sequence[Tensor | None]]:
            loss, scaled = self._loss(self.local, batch, rows)
            return loss, torch.autograd.grad(scaled, weights, allow_unused=True)

        def add(result: tuple[Tensor, Sequence[Tensor | None]]) -> None:
            losses.append(result[0])
            total[:] = map(_sum, total, result[1])

        parts = self._parts(len(batch.inputs))
        last = parts[-1].pop() if self.processes.count > 1 else None
        for part in parts:
            if self.threads is None:
                for rows in part:
                    add(compute(rows))
            else:
                with sharing(weights):
                    self.threads.map(self.thread_count.next, compute, part, add)
        if last is None:
            _set(weights, total)
        else:
            loss, scaled = self._loss(self.network, batch, last)
            losses.append(loss)
            _set(weights, total)  # after the forward pass, in which DistributedDataParallel may arrange its buckets
            with self.processes.waiting("the gradients"):
                scaled.backward()
        self.thread_count.record(time.perf_counter() - started)
        return torch.stack(losses).sum()

    def _parts(self, rows: int) -> list[list[slice]]:
        """The pieces of each part: on the CPU its crops, on a GPU all of it. Parts are as equal as possible."""
        count = min(self.training.accumulation, rows)
        parts = [slice(*pair) for pair in pairwise(rows * part // count for part in range(count + 1))]
        if self.threads is None:
            return [[part] for part in parts]
        return [[slice(row, row + 1) for row in range(part.start, part.stop)] for part in parts]

    def _loss(self, network: nn.Module, batch: Batch, rows: slice) -> tuple[Tensor, Tensor]:
        """The share of some rows in the loss of the global batch, and what is differentiated."""
        piece = batch.map(lambda tensor: tensor[rows])
        with self.precision.autocast():
            outputs = network(  # [B, T, A]
                piece.inputs, piece.speaker, piece.features, piece.first, prediction=piece.prediction
            )
        losses = negative_log_likelihood(self.model.config.output, outputs.flatten(0, 1), piece.targets.flatten())
        loss = (losses * piece.mask.flatten()).sum() / targets_in_loss(batch)
        # The processes exchange the mean of their gradients, and their sum is wanted.
        factor = torch.where(loss.isfinite(), self.processes.count, math.nan)
        return loss.detach(), self.precision.scaled(loss * factor)


def targets_in_loss(batch: Batch) -> int:
    """The number of targets in the loss of the global batch, at least 1."""
    return max(batch.count, 1)


def _sum(total: Tensor | None, gradient: Tensor | None) -> Tensor | None:
    return total if gradient is None else gradient if total is None else total + gradient


def _set(weights: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> None:
    """Set the gradients, in the memory layout of their weights: fused optimizers pair values as they lie in memory.

    On a GPU they refuse another layout; on a CPU they would use the gradients of other values.
    """
    for weight, gradient in zip(weights, gradients, strict=True):
        if gradient is not None and gradient.stride() != weight.stride():
            gradient = torch.empty_like(weight).copy_(gradient)
        weight.grad = gradient


def _distributed(model: WaveNet) -> nn.Module:
    """The network with an exchange of its gradients in the backward pass; a frame model has an exchange of its own."""
    frame_model = model.frame_model.requires_grad_(False) if isinstance(model, TwoTiers) else None
    # Not as views of the buckets: those lose gradients of earlier pieces that replace a view (PyTorch 2.14).
    options = {SYNC_BUFFERS: False, "gradient_as_bucket_view": False}
    network = DistributedDataParallel(model, **options)  # type: ignore[arg-type]
    if frame_model is not None:
        frame_model.requires_grad_(True)
    return network

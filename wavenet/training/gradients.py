"""The gradient of a training step: that of the mean loss of the global batch, the same on every process."""

from __future__ import annotations

import math
from inspect import signature

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from wavenet.config import TrainingConfig
from wavenet.model import WaveNet
from wavenet.nn.outputs import negative_log_likelihood
from wavenet.training.batches import Batch
from wavenet.training.distributed import Processes
from wavenet.training.precision import Precision, compiled
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
        self.network = model if processes.count == 1 else _distributed(model)
        if training.compile:
            self.network = compiled(self.network)

    def __call__(self, batch: Batch) -> Tensor:
        """Leave the gradient of the mean loss of the global batch, nats per sample, in `.grad` of the weights.

        In "fp16" it is scaled: `Precision.clip` undoes that.
        batch: this process's rows of it. Returns their share of that loss, a scalar on the device: the sum over the
        processes is the loss of the global batch. If a share is not finite, no gradient is finite, on no process.
        """
        with self.precision.autocast():
            outputs = self.network(  # [B, T, A]
                batch.inputs, batch.speaker, batch.features, batch.first, prediction=batch.prediction
            )
        losses = negative_log_likelihood(self.model.config.output, outputs.flatten(0, 1), batch.targets.flatten())
        loss = (losses * batch.mask.flatten()).sum() / targets_in_loss(batch)
        # The processes exchange the mean of their gradients, and their sum is wanted.
        factor = torch.where(loss.isfinite(), self.processes.count, math.nan)
        with self.processes.waiting("the gradients"):
            self.precision.scaled(loss * factor).backward()
        return loss.detach()


def targets_in_loss(batch: Batch) -> int:
    """The number of targets in the loss of the global batch, at least 1."""
    return max(batch.count, 1)


def _distributed(model: WaveNet) -> nn.Module:
    """The network with an exchange of its gradients in the backward pass; a frame model has an exchange of its own."""
    frame_model = model.frame_model.requires_grad_(False) if isinstance(model, TwoTiers) else None
    options = {SYNC_BUFFERS: False, "gradient_as_bucket_view": True}
    network = DistributedDataParallel(model, **options)  # type: ignore[arg-type]
    if frame_model is not None:
        frame_model.requires_grad_(True)
    return network

"""The gradient of a training step: that of the mean loss of the global batch, the same on every process."""

from __future__ import annotations

import torch
from torch import Tensor

from wavenet.config import TrainingConfig
from wavenet.model import WaveNet
from wavenet.nn.outputs import negative_log_likelihood
from wavenet.training.batches import Batch
from wavenet.training.distributed import Processes
from wavenet.training.precision import Precision


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

    def __call__(self, batch: Batch) -> Tensor:
        """Leave the gradient of the mean loss of the global batch, nats per sample, in `.grad` of the weights.

        In "fp16" it is scaled: `Precision.clip` undoes that.
        batch: this process's rows of it. Returns their share of that loss, a scalar on the device: the sum over the
        processes is the loss of the global batch.
        """
        with self.precision.autocast():
            outputs = self.model(  # [B, T, A]
                batch.inputs, batch.speaker, batch.features, batch.first, prediction=batch.prediction
            )
        losses = negative_log_likelihood(self.model.config.output, outputs.flatten(0, 1), batch.targets.flatten())
        loss = (losses * batch.mask.flatten()).sum() / targets_in_loss(batch)
        self.precision.scaled(loss).backward()
        return loss.detach()


def targets_in_loss(batch: Batch) -> int:
    """The number of targets in the loss of the global batch, at least 1."""
    return max(batch.count, 1)

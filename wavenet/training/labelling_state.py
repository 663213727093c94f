"""The state of a labeller's training run: everything that changes with a step. It is saved and restored exactly.

The file has the form of that of a generator's run, see `wavenet.training.state`.
"""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wavenet import checkpoint
from wavenet.checkpoint import CheckpointError
from wavenet.data.errors import printable
from wavenet.labelling_config import LabellerConfig
from wavenet.labelling_model import LabellingNetwork
from wavenet.training.state import METADATA, SMOOTHING, START_AGAIN

COUNTERS = ("step", "seconds", "skipped", "best", "loss", "validated_step", "validated_seconds")
BETAS = 0.9, 0.99  # of Adam (Kingma and Ba 2015)


class LabellingState:
    """Weights, their average, the optimizer, and counters.

    network: it is trained. average: a network with the exponential moving average of its weights; it is validated and
        saved in the model file.
    step, seconds, skipped, validated_step, validated_seconds, first_folder: as of `TrainingState`.
    best: of all validations; minus infinity before the first. loss: smoothed training loss, nats per frame.
    """

    def __init__(self, config: LabellerConfig, seed: int, device: torch.device, folder: str) -> None:
        """The state before the first step; `folder` is that of the recordings."""
        torch.manual_seed(seed)
        self.network = LabellingNetwork(config).to(device)
        self.average = copy.deepcopy(self.network).requires_grad_(False).eval()
        self.optimizer = torch.optim.Adam(self.network.parameters(), betas=BETAS, fused=True)
        self.step, self.seconds, self.skipped = 0, 0.0, 0
        self.best, self.loss = -math.inf, math.nan
        self.validated_step, self.validated_seconds = 0, 0.0
        self.folder = self.first_folder = folder

    def record_loss(self, loss: float | None) -> None:
        """Count a step with its loss; None for a skipped one."""
        self.step += 1
        if loss is None:
            self.skipped += 1
        else:
            self.loss = loss if math.isnan(self.loss) else SMOOTHING * self.loss + (1 - SMOOTHING) * loss

    def update_average(self, decay: float) -> None:
        """Update the averaged weights. The decay grows to `decay` during the first steps: early weights count less."""
        decay = min(decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.network.parameters()), 1 - decay)

    def save(self, path: Path) -> None:
        """Write the state file. Raises `CheckpointError` where it cannot be written."""
        arrays = {name: tensor.detach().cpu().numpy() for name, tensor in self._tensors().items()}
        counters = {name: getattr(self, name) for name in COUNTERS} | {"begun_with": self.first_folder}
        checkpoint.write_tensors(path, arrays, {METADATA: json.dumps(counters)})

    def load(self, path: Path) -> None:
        """Continue from a state file. Raises `CheckpointError` unless it is of this network."""
        arrays, metadata = checkpoint.read_tensors(path)
        counters = _counters(path, metadata)
        if any(name.startswith("optimizer.") for name in arrays):  # none when all steps so far were skipped
            for weight in self.network.parameters():
                moments = {key: torch.zeros_like(weight) for key in ("exp_avg", "exp_avg_sq")}
                self.optimizer.state[weight] = {"step": torch.zeros((), device=weight.device), **moments}
        tensors = self._tensors()
        if {name: tuple(tensor.shape) for name, tensor in tensors.items()} != {
            name: array.shape for name, array in arrays.items()
        }:
            raise CheckpointError(f"{printable(path)}: its tensors are not those of the recipe; {START_AGAIN}")
        for name, array in arrays.items():
            if array.dtype != np.float32 or not np.isfinite(array).all():
                raise CheckpointError(f"{printable(path)}: {name} contains values that are not finite; {START_AGAIN}")
        with torch.no_grad():
            for name, tensor in tensors.items():
                tensor.copy_(torch.from_numpy(arrays[name]))
        for name in COUNTERS:
            setattr(self, name, counters[name])
        self.first_folder = counters["begun_with"]
        if self.first_folder != self.folder:  # other held-out recordings: the figures cannot be compared
            self.best = -math.inf

    def _tensors(self) -> dict[str, Tensor]:
        """All tensors of the state by their names in the file."""
        tensors: dict[str, Tensor] = {}
        for prefix, network in (("model", self.network), ("average", self.average)):
            tensors |= {f"{prefix}.{name}": tensor for name, tensor in network.state_dict().items()}
        for name, weight in self.network.named_parameters():
            tensors |= {f"optimizer.{name}.{key}": value for key, value in self.optimizer.state[weight].items()}
        return tensors


def _counters(path: Path, metadata: dict[str, str]) -> dict[str, Any]:
    """The counters of a state file. Raises `CheckpointError` unless they are complete and valid."""
    try:
        counters: dict[str, Any] = json.loads(metadata[METADATA])
        numbers = [counters[name] for name in COUNTERS]
        if not all(isinstance(value, int | float) for value in numbers) or not isinstance(counters["begun_with"], str):
            raise ValueError("a counter is of another type")
        if not all(math.isfinite(counters[name]) and counters[name] >= 0 for name in ("step", "seconds")):
            raise ValueError("step or seconds are impossible")
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{printable(path)}: cannot be used ({error}); {START_AGAIN}") from None
    return counters

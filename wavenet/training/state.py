"""The state of a training run: everything that changes with a step. It is saved and restored exactly.

In the state file the tensors are named model.NAME, average.NAME and optimizer.NAME.{step, exp_avg, exp_avg_sq}, also
those of a frame model; the counters are JSON in its metadata, under "wavenet.state".
"""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from wavenet import checkpoint
from wavenet.checkpoint import CheckpointError
from wavenet.config import FRAME_MODEL
from wavenet.data.errors import printable
from wavenet.data.tensor_file import Tensors
from wavenet.frame_model import FrameModel
from wavenet.model import WaveNet
from wavenet.training.base_model import BaseModel, initial_weights
from wavenet.training.frame_training import new_optimizer
from wavenet.training.recipe import Recipe
from wavenet.two_tiers import TwoTiers, new_model

START_AGAIN = "--fresh starts the run again"
METADATA = "wavenet.state"
COUNTERS = {
    "step": int,
    "seconds": float,
    "skipped": int,
    "best": float,
    "bits": float,
    "validated": list,
    "begun_with": str,
    "base": str,
    "frames": list,
}
EARLIER = {"base": "", "frames": [math.inf, math.nan]}  # counters that states of earlier versions lack
SMOOTHING = 0.98  # of the training loss that is reported


class TrainingState:
    """Weights, their average, the optimizers, and counters.

    model: the network that is trained. average: a network with the exponential moving average of its weights; it is
        validated, generates the clips, and is saved in the model file.
    optimizer: of the network without its frame model. frame_optimizer: of the frame model, if there is one.
    step: steps so far, skipped ones included. seconds: trained so far, validations included.
    skipped: steps without an update because a value was not finite. bits: smoothed training loss in bits per sample.
    best: bits per sample of the best validation; infinite before the first.
    nats, frame_best: the same of the frame model, in nats per frame.
    validated_step, validated_seconds: `step` and `seconds` at the end of the last validation. A saved state of a later
        step may still lack its validation.
    first_folder: the folder of recordings that the run was started with.
    base: path of the model that the run was started from; empty if it was started from random weights.
    """

    def __init__(self, recipe: Recipe, device: torch.device, folder: str) -> None:
        """The state before the first step; `folder` is that of the recordings."""
        torch.manual_seed(recipe.training.seed)
        self.shapes = recipe.model.shapes | recipe.model.frame_model_shapes
        self.model = new_model(recipe.model).to(device)
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        self.optimizer = torch.optim.Adam(self.weights, lr=recipe.training.learning_rate, fused=True)
        self.frame_optimizer = new_optimizer(self.model.frame_model) if isinstance(self.model, TwoTiers) else None
        self.step = 0
        self.seconds = 0.0
        self.skipped = 0
        self.best = math.inf
        self.bits = math.nan
        self.frame_best, self.nats = math.inf, math.nan
        self.validated_step, self.validated_seconds = 0, 0.0
        self.folder = self.first_folder = folder
        self.base = ""

    @property
    def weights(self) -> list[Tensor]:
        """The weights of the network without those of its frame model."""
        return _network_weights(self.model)

    def start_from(self, base: BaseModel) -> None:
        """Replace the network's weights and their average by those of a trained model, and leave the frame model.

        The optimizer is that of a new run.
        """
        weights = initial_weights(base, self.model)
        for model in (self.model, self.average):
            model.load_state_dict({**model.state_dict(), **weights})
        self.base = base.path

    def start_frames(self, frame_model: FrameModel) -> None:
        """Replace the frame model and its average by a copy of this one. Raises `RuntimeError` for other shapes."""
        for model in (self.model, self.average):
            cast(TwoTiers, model).frame_model.load_state_dict(frame_model.state_dict())

    def record_losses(self, bits: float | None, nats: float | None = math.nan) -> None:
        """Count a step with its losses; None for a skipped one. nats: of the frame model; NaN if there is none."""
        self.step += 1
        self.skipped += bits is None or nats is None
        self.bits, self.nats = _smoothed(self.bits, bits), _smoothed(self.nats, nats)

    def update_average(self, decay: float) -> None:
        """Update the averaged weights. The decay grows to `decay` during the first steps: early weights count less."""
        decay = min(decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(_network_weights(self.average), self.weights, 1 - decay)

    def save(self, path: Path) -> None:
        """Write the state file. Raises `CheckpointError` where it cannot be written."""
        tensors: dict[str, Tensor] = {}
        for prefix, model in (("model", self.model), ("average", self.average)):
            tensors |= {f"{prefix}.{name}": tensor for name, tensor in model.state_dict().items()}
        for name, weight in self.model.named_parameters():
            moments = self._optimizer(name).state[weight]
            tensors |= {f"optimizer.{name}.{key}": value for key, value in moments.items()}
        counters = {
            "step": self.step,
            "seconds": self.seconds,
            "skipped": self.skipped,
            "best": self.best,
            "bits": self.bits,
            "validated": [self.validated_step, self.validated_seconds],
            "begun_with": self.first_folder,
            "base": self.base,
            "frames": [self.frame_best, self.nats],
        }
        arrays = {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}
        checkpoint.write_tensors(path, arrays, {METADATA: json.dumps(counters)})

    def load(self, path: Path) -> None:
        """Continue from a state file. Raises `CheckpointError`, and changes nothing, unless it is of this network."""
        arrays, metadata = checkpoint.read_tensors(path)
        counters = _counters(path, metadata)
        self._check(path, arrays)
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        for prefix, model in (("model", self.model), ("average", self.average)):
            model.load_state_dict({name: tensors[f"{prefix}.{name}"] for name in self.shapes})
        for name, weight in self.model.named_parameters():
            start = f"optimizer.{name}."
            moments = {key.removeprefix(start): tensor for key, tensor in tensors.items() if key.startswith(start)}
            if moments:  # none when all steps so far were skipped
                self._optimizer(name).state[weight] = {key: tensor.to(weight.device) for key, tensor in moments.items()}
        self.step, self.seconds, self.skipped = counters["step"], counters["seconds"], counters["skipped"]
        self.best, self.bits = counters["best"], counters["bits"]
        self.frame_best, self.nats = counters["frames"]
        self.validated_step, self.validated_seconds = counters["validated"]
        self.first_folder, self.base = counters["begun_with"], counters["base"]
        if self.first_folder != self.folder:  # other held-out recordings: the figures cannot be compared
            self.best = self.frame_best = math.inf

    def _optimizer(self, name: str) -> torch.optim.Adam:
        """The optimizer of a weight."""
        return self.frame_optimizer if self.frame_optimizer and name.startswith(FRAME_MODEL) else self.optimizer

    def _check(self, path: Path, arrays: Tensors) -> None:
        """Raises `CheckpointError` unless the tensors are those of this network, all finite float32."""
        expected = {f"{part}.{name}": shape for part in ("model", "average") for name, shape in self.shapes.items()}
        found = {name: array.shape for name, array in arrays.items()}
        for of_frames in (False, True):
            moments: dict[str, tuple[int, ...]] = {}
            for name, weight in self.model.named_parameters():
                if name.startswith(FRAME_MODEL) == of_frames:
                    moments[f"optimizer.{name}.step"] = ()
                    moments |= {f"optimizer.{name}.{part}": tuple(weight.shape) for part in ("exp_avg", "exp_avg_sq")}
            if moments.keys() & found.keys():  # none when all steps so far were skipped
                expected |= moments
        if found != expected:
            raise CheckpointError(f"{printable(path)}: its tensors are not those of the recipe; {START_AGAIN}")
        for name, array in arrays.items():
            if array.dtype != np.float32 or not np.isfinite(array).all():
                raise CheckpointError(f"{printable(path)}: {name} contains values that are not finite; {START_AGAIN}")


def _network_weights(model: WaveNet) -> list[Tensor]:
    return [weight for name, weight in model.named_parameters() if not name.startswith(FRAME_MODEL)]


def _smoothed(before: float, latest: float | None) -> float:
    if latest is None:
        return before
    return latest if math.isnan(before) else SMOOTHING * before + (1 - SMOOTHING) * latest


def base_of(path: Path) -> str:
    """The model that the run of a state file was started from, see `TrainingState.base`. Raises `CheckpointError`."""
    base: str = _counters(path, checkpoint.read_header(path).metadata)["base"]
    return base


def _counters(path: Path, metadata: dict[str, str]) -> dict[str, Any]:
    """The counters of a state file. Raises `CheckpointError` unless they are complete and valid."""
    try:
        counters: dict[str, Any] = {**EARLIER, **json.loads(metadata[METADATA])}
        for name, kind in COUNTERS.items():
            if not isinstance(counters[name], kind):
                raise ValueError(f"{name} is no {kind.__name__}")
        times = [counters["step"], counters["seconds"], *counters["validated"]]
        if len(counters["frames"]) != 2 or not all(isinstance(value, float) for value in counters["frames"]):
            raise ValueError("frames are not two numbers")
        if len(times) != 4 or not all(math.isfinite(time) and time >= 0 for time in times):
            raise ValueError("step or seconds are impossible")
    except (KeyError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise CheckpointError(f"{printable(path)}: cannot be used ({error}); {START_AGAIN}") from None
    return counters

"""The state of a generator's training run: everything that changes with a step. It is saved and restored exactly."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from wavenet import checkpoint
from wavenet.config import FRAME_MODEL
from wavenet.frame_model import FrameModel
from wavenet.model import WaveNet
from wavenet.training.base_model import BaseModel, initial_weights
from wavenet.training.frame_training import new_optimizer
from wavenet.training.precision import Precision, check_scale
from wavenet.training.recipe import Recipe
from wavenet.training.run_state import RunState, smoothed
from wavenet.training.stability import BITS, FRAME_NATS
from wavenet.two_tiers import TwoTiers, new_model

# counters that states of earlier versions lack
EARLIER: dict[str, object] = {"base": "", "frames": [math.inf, math.nan], "loss_scale": []}


class TrainingState(RunState[WaveNet]):
    """Weights, their average, the optimizers, and counters, see `RunState`. The average generates the clips, too.

    optimizer: of the network without its frame model. frame_optimizer: of the frame model, if there is one.
    best: bits per sample. bits: smoothed training loss in bits per sample.
    nats, frame_best: the same of the frame model, in nats per frame.
    precision: of the network's products, with the scale of its loss. That of the frame model is always float32.
    base: path of the model that the run was started from; empty if it was started from random weights.
    """

    WORST = math.inf
    OWN_COUNTERS: ClassVar = {"bits": float, "base": str, "frames": list, "loss_scale": list}
    LOSSES: ClassVar = {"training": BITS, "training.frames": FRAME_NATS}

    def __init__(self, recipe: Recipe, device: torch.device, folder: str) -> None:
        """The state before the first step; `folder` is that of the recordings."""
        torch.manual_seed(recipe.training.seed)
        model = new_model(recipe.model).to(device)
        learning_rate = recipe.training.learning_rate
        super().__init__(model, torch.optim.Adam(self._weights_of(model), lr=learning_rate, fused=True), folder)
        self.frame_optimizer = new_optimizer(model.frame_model) if isinstance(model, TwoTiers) else None
        self.precision = Precision(recipe.training.precision, device)
        self.bits = math.nan
        self.frame_best, self.nats = math.inf, math.nan
        self.base = ""

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
        """Record the losses of a step; None for a skipped one. nats: of the frame model; NaN if there is none."""
        self.skipped += bits is None or nats is None
        self.bits, self.nats = smoothed(self.bits, bits), smoothed(self.nats, nats)
        self.stability.record("training", bits)
        self.stability.record("training.frames", nats)

    def _own_counters(self) -> dict[str, Any]:
        frames, loss_scale = [self.frame_best, self.nats], self.precision.state()
        return {"bits": self.bits, "base": self.base, "frames": frames, "loss_scale": loss_scale}

    def _set_own_counters(self, counters: Mapping[str, Any]) -> None:
        self.bits, self.base = counters["bits"], counters["base"]
        self.frame_best, self.nats = counters["frames"]
        self.precision.restore(counters["loss_scale"])

    @classmethod
    def _completed(cls, counters: dict[str, Any]) -> dict[str, Any]:
        completed = {**EARLIER, **counters}
        if len(completed["frames"]) != 2 or not all(isinstance(value, float) for value in completed["frames"]):
            raise ValueError("frames are not two numbers")
        check_scale(completed["loss_scale"])
        return completed

    def _forget_best(self) -> None:
        self.best = self.frame_best = math.inf

    def _weights_of(self, model: WaveNet) -> list[Tensor]:
        return [weight for name, weight in model.named_parameters() if not name.startswith(FRAME_MODEL)]

    def _optimizer(self, name: str) -> torch.optim.Adam:
        return self.frame_optimizer if self.frame_optimizer and name.startswith(FRAME_MODEL) else self.optimizer


def base_of(path: Path) -> str:
    """The model that the run of a state file was started from, see `TrainingState.base`. Raises `CheckpointError`."""
    base: str = TrainingState.read_counters(path, checkpoint.read_header(path).metadata)["base"]
    return base

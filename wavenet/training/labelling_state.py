"""The state of a labeller's training run: everything that changes with a step. It is saved and restored exactly."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from wavenet.labelling_config import LabellerConfig
from wavenet.labelling_model import LabellingNetwork
from wavenet.training.run_state import RunState, smoothed
from wavenet.training.stability import LABEL_NATS

BETAS = 0.9, 0.99  # of Adam (Kingma and Ba 2015)


class LabellingState(RunState[LabellingNetwork]):
    """Weights, their average, the optimizer, and counters, see `RunState`.

    best: macro F1. loss: smoothed training loss, nats per frame.
    """

    WORST = -math.inf
    OWN_COUNTERS: ClassVar = {"loss": float}
    LOSSES: ClassVar = {"training": LABEL_NATS}

    def __init__(self, config: LabellerConfig, seed: int, device: torch.device, folder: str) -> None:
        """The state before the first step; `folder` is that of the recordings."""
        torch.manual_seed(seed)
        network = LabellingNetwork(config).to(device)
        super().__init__(network, torch.optim.Adam(network.parameters(), betas=BETAS, fused=True), folder)
        self.average.eval()
        self.loss = math.nan

    def record_loss(self, loss: float | None) -> None:
        """Record the loss of a step; None for a skipped one."""
        self.skipped += loss is None
        self.loss = smoothed(self.loss, loss)
        self.stability.record("training", loss)

    def _own_counters(self) -> dict[str, Any]:
        return {"loss": self.loss}

    def _set_own_counters(self, counters: Mapping[str, Any]) -> None:
        self.loss = counters["loss"]

    @classmethod
    def _completed(cls, counters: dict[str, Any]) -> dict[str, Any]:
        if "validated" in counters:
            return counters
        return {**counters, "validated": [counters["validated_step"], counters["validated_seconds"]]}

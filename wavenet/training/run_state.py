"""What changes with a step in every training run, and the file from which it is restored exactly.

In the state file the tensors are named model.NAME, average.NAME and optimizer.NAME.{step, exp_avg, exp_avg_sq}; the
counters are JSON in its metadata, under "wavenet.state".
"""

from __future__ import annotations

import copy
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from wavenet import checkpoint
from wavenet.checkpoint import CheckpointError
from wavenet.data.errors import printable
from wavenet.data.tensor_file import Tensors
from wavenet.training.stability import Loss, Stability
from wavenet.training.update import update_weights

START_AGAIN = "--fresh starts the run again"
METADATA = "wavenet.state"
COUNTERS = {"step": int, "seconds": float, "skipped": int, "best": float, "validated": list, "begun_with": str}
SMOOTHING = 0.98  # of the training loss that is reported

Network = TypeVar("Network", bound=nn.Module)


class Content(NamedTuple):
    """What a state file contains."""

    tensors: Tensors
    counters: dict[str, Any]


class RunState(ABC, Generic[Network]):
    """Weights, their average, the optimizer, and counters.

    model: the network that is trained. average: a network with the exponential moving average of its weights; it is
        validated, and saved in the model file.
    step: steps so far, skipped ones included. seconds: trained so far, validations included.
    skipped: steps without an update because a value was not finite.
    best: of all validations; WORST before the first.
    validated_step, validated_seconds: `step` and `seconds` at the end of the last validation. A saved state of a later
        step may still lack its validation.
    first_folder: the folder of recordings that the run was started with.
    stability: watches the losses.
    """

    WORST: ClassVar[float]
    OWN_COUNTERS: ClassVar[Mapping[str, type]]  # of the subclass, in the file
    LOSSES: ClassVar[Mapping[str, Loss]]  # by table of the recipe

    def __init__(self, model: Network, optimizer: torch.optim.Adam, folder: str) -> None:
        """The state before the first step; `folder` is that of the recordings."""
        self.model, self.optimizer = model, optimizer
        self.average = copy.deepcopy(model).requires_grad_(False)
        self.step, self.seconds, self.skipped = 0, 0.0, 0
        self.best = self.WORST
        self.validated_step, self.validated_seconds = 0, 0.0
        self.folder = self.first_folder = folder
        self.stability = Stability(self.LOSSES)

    @property
    def weights(self) -> list[Tensor]:
        """The weights that `optimizer` updates."""
        return self._weights_of(self.model)

    def update(self, finite: Tensor, decay: float) -> None:
        """Update the weights with their gradients, and the average of the weights; nothing if they are not finite.

        finite: bool scalar on the device, for which this does not wait. The decay of the average grows to `decay`
        during the first steps: early weights count less.
        """
        decay = min(decay, (1 + self.step) / (10 + self.step))
        update_weights(self.optimizer, self.weights, self._weights_of(self.average), finite, decay)

    def save(self, path: Path) -> None:
        """Write the state file. Raises `CheckpointError` where it cannot be written."""
        tensors: dict[str, Tensor] = {}
        for prefix, model in self._models():
            tensors |= {f"{prefix}.{name}": tensor for name, tensor in model.state_dict().items()}
        for name, weight in self.model.named_parameters():
            moments = self._optimizer(name).state[weight]
            tensors |= {f"optimizer.{name}.{key}": value for key, value in moments.items()}
        counters = {
            "step": self.step,
            "seconds": self.seconds,
            "skipped": self.skipped,
            "best": self.best,
            "validated": [self.validated_step, self.validated_seconds],
            "begun_with": self.first_folder,
            "stability": self.stability.counters(),
            **self._own_counters(),
        }
        arrays = {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}
        checkpoint.write_tensors(path, arrays, {METADATA: json.dumps(counters)})

    def load(self, path: Path) -> None:
        """Continue from a state file. Raises `CheckpointError`, and changes nothing, unless it is of this network."""
        self.restore(self.read(path))

    def read(self, path: Path) -> Content:
        """The content of a state file, for `restore`. Raises `CheckpointError` unless it is of this network."""
        arrays, metadata = checkpoint.read_tensors(path)
        counters = self.read_counters(path, metadata)
        self._check(path, arrays)
        return Content(arrays, counters)

    def restore(self, content: Content) -> None:
        """Continue from the content of a state file."""
        counters = content.counters
        tensors = {name: torch.from_numpy(array) for name, array in content.tensors.items()}
        for prefix, model in self._models():
            model.load_state_dict({name: tensors[f"{prefix}.{name}"] for name in model.state_dict()})
        for name, weight in self.model.named_parameters():
            start = f"optimizer.{name}."
            moments = {key.removeprefix(start): tensor for key, tensor in tensors.items() if key.startswith(start)}
            of_optimizer = self._optimizer(name).state
            of_optimizer.pop(weight, None)
            if moments:  # none when all steps so far were skipped
                of_optimizer[weight] = {key: tensor.to(weight.device) for key, tensor in moments.items()}
        self.step, self.seconds, self.skipped = counters["step"], counters["seconds"], counters["skipped"]
        self.best, self.first_folder = counters["best"], counters["begun_with"]
        self.validated_step, self.validated_seconds = counters["validated"]
        self.stability = self.stability.restored(counters["stability"])
        self._set_own_counters(counters)
        if self.first_folder != self.folder:  # other held-out recordings: the figures cannot be compared
            self._forget_best()

    @classmethod
    def read_counters(cls, path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
        """The counters in the metadata of a state file. Raises `CheckpointError` unless they are complete and valid."""
        try:
            counters = cls._completed({"stability": {}, **json.loads(metadata[METADATA])})
            for name, kind in {**COUNTERS, **cls.OWN_COUNTERS}.items():
                if not isinstance(counters[name], kind):
                    raise ValueError(f"{name} is no {kind.__name__}")
            times = [counters["step"], counters["seconds"], *counters["validated"]]
            if len(times) != 4 or not all(math.isfinite(time) and time >= 0 for time in times):
                raise ValueError("step or seconds are impossible")
            Stability(cls.LOSSES).restored(counters["stability"])
        except (KeyError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise CheckpointError(f"{printable(path)}: cannot be used ({error}); {START_AGAIN}") from None
        return counters

    @abstractmethod
    def _own_counters(self) -> dict[str, Any]:
        """The counters of the subclass, for the file."""

    @abstractmethod
    def _set_own_counters(self, counters: Mapping[str, Any]) -> None:
        """Restore them."""

    @classmethod
    @abstractmethod
    def _completed(cls, counters: dict[str, Any]) -> dict[str, Any]:
        """The counters of a file, with those that states of earlier versions lack. Raises `ValueError`."""

    def _forget_best(self) -> None:
        self.best = self.WORST

    def _weights_of(self, model: Network) -> list[Tensor]:
        """Those weights of `model` or `average` that `optimizer` updates."""
        return list(model.parameters())

    def _optimizer(self, name: str) -> torch.optim.Adam:
        """The optimizer of a weight."""
        return self.optimizer

    def _models(self) -> tuple[tuple[str, Network], ...]:
        """The networks by their prefix in the file."""
        return ("model", self.model), ("average", self.average)

    def _check(self, path: Path, arrays: Tensors) -> None:
        """Raises `CheckpointError` unless the tensors are those of this network, all finite float32."""
        expected = {
            f"{prefix}.{name}": tuple(tensor.shape)
            for prefix, model in self._models()
            for name, tensor in model.state_dict().items()
        }
        found = {name: array.shape for name, array in arrays.items()}
        moments: dict[int, dict[str, tuple[int, ...]]] = {}  # of each optimizer
        for name, weight in self.model.named_parameters():
            of_weight = {part: tuple(weight.shape) for part in ("exp_avg", "exp_avg_sq")} | {"step": ()}
            shapes = moments.setdefault(id(self._optimizer(name)), {})
            shapes |= {f"optimizer.{name}.{part}": shape for part, shape in of_weight.items()}
        for shapes in moments.values():
            if shapes.keys() & found.keys():  # none when all steps so far were skipped
                expected |= shapes
        if found != expected:
            raise CheckpointError(f"{printable(path)}: its tensors are not those of the recipe; {START_AGAIN}")
        for name, array in arrays.items():
            if array.dtype != np.float32 or not np.isfinite(array).all():
                raise CheckpointError(f"{printable(path)}: {name} contains values that are not finite; {START_AGAIN}")


def smoothed(before: float, latest: float | None) -> float:
    """The training loss that is reported, after a step with the latest one; None if it was skipped."""
    if latest is None:
        return before
    return latest if math.isnan(before) else SMOOTHING * before + (1 - SMOOTHING) * latest

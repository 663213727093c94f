"""Training batches: random crops of the recordings as tensors, with their conditioning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wavenet.data.clips import Clips
from wavenet.data.crop_features import CropFeatures
from wavenet.data.crops import Crops, Draw, RandomCrops
from wavenet.data.quantizers import quantizer_for
from wavenet.nn.linear_prediction import predict
from wavenet.nn.predicted_samples import PredictedSamples
from wavenet.training.recipe import Recipe


@dataclass(frozen=True)
class Batch:
    """B crops of T samples, of which the first `training.past` are their past: all rows of a global batch, or some."""

    inputs: Tensor  # int64 [B, T]: codes, each one sample before its target
    targets: Tensor  # int64 [B, T]: codes
    mask: Tensor  # bool [B, T]: False where the loss ignores a target
    speaker: Tensor | None  # int64 [B]: index of each crop's speaker
    features: Tensor | None  # float32 [B, bands, N]: features of the crops and of the context around them
    first: int  # position of the crops in their features, in samples
    prediction: PredictedSamples | None  # of a network with linear prediction, float32
    samples: int  # targets of the global batch that are neither padding nor past
    count: int  # targets of the global batch that the loss includes: true values of the masks of all rows

    def map(self, function: Callable[[Any], Any]) -> Batch:
        """The batch with a function applied to all tensors, or to the arrays that one has put in their place."""
        changed = {name: function(part) for name, part in vars(self).items() if isinstance(part, Tensor | np.ndarray)}
        if self.prediction is not None:
            changed["prediction"] = PredictedSamples(*map(function, self.prediction))
        return replace(self, **changed)

    def to(self, device: torch.device) -> Batch:
        """The batch on a device."""
        return self.map(lambda tensor: tensor.to(device))


class Batches:
    """The batch of every step. It depends on the seed and the step only, so that a continued run is exact.

    It does not depend on the number of processes either: in distributed training each process draws all crops of the
    same batch, and reads its own rows.
    """

    def __init__(self, clips: Clips, recipe: Recipe, rows: slice | None = None) -> None:
        """rows: those of the batch that this process reads; None: all."""
        training, model = recipe.training, recipe.model
        self.clips, self.recipe, self.rows = clips, recipe, slice(None) if rows is None else rows
        self.features: CropFeatures | None = None
        if model.features is not None:
            self.features = CropFeatures(model.features, max(model.frame_context), training.past + training.crop)
        margin = 1 if self.features is None else self.features.margin
        self.crops = RandomCrops(clips, training.crop, recipe.data, quantizer_for(model.output), margin, training.past)

    def batch(self, step: int) -> Batch:
        """The batch of a step, counted from 0, on the CPU."""
        training = self.recipe.training
        draws = self.crops.draw(training.batch, np.random.default_rng((training.seed, step)))
        return self.tensors(self.crops.read(draws[self.rows]), draws)

    def tensors(self, crops: Crops, draws: Sequence[Draw]) -> Batch:
        """Crops and their conditioning as tensors. draws: all of the batch, the crops that were not read included."""
        mask = crops.mask & self._predictable(crops)
        inputs, targets, kept = (torch.from_numpy(part) for part in (crops.inputs, crops.targets, mask))
        features, first, prediction = None, 0, None
        if self.features is not None:
            features, first = self.features(crops.samples, crops.bounds), self.features.first
        if self.recipe.model.linear_prediction:
            prediction = PredictedSamples.of(predict(self.recipe.model, crops.inputs, features, first))
        samples = sum(draw.filled for draw in draws)
        unpredictable = sum(self._unpredictable_targets(draw) for draw in draws)
        return Batch(
            inputs,
            targets,
            kept,
            self._speaker(crops),
            None if features is None else torch.from_numpy(features),
            first,
            prediction,
            samples,
            samples - unpredictable,
        )

    def _predictable(self, crops: Crops) -> NDArray[np.bool_]:
        """False [B, T] where the linear predictor lacks history: at the start of rows from the middle of a clip."""
        predictable = np.ones_like(crops.mask)
        predictable[crops.bounds[:, 0] < self.crops.margin, : self.recipe.model.prediction_reach] = False
        return predictable

    def _unpredictable_targets(self, draw: Draw) -> int:
        """The number of targets of a crop for which the linear predictor lacks history, see `_predictable`."""
        if draw.begin == self.crops.margin:
            return 0
        return min(max(self.recipe.model.prediction_reach - draw.past, 0), draw.filled)

    def _speaker(self, crops: Crops) -> Tensor | None:
        names = self.recipe.model.speakers
        if not names or self.clips.speakers is None:
            return None
        return torch.tensor([names.index(self.clips.speakers[clip]) for clip in crops.clips])

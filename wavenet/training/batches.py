"""Training batches: random crops of the recordings as tensors, with their conditioning."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wavenet.data.clips import Clips
from wavenet.data.crop_features import CropFeatures
from wavenet.data.crops import Crops, random_crops
from wavenet.data.quantizers import quantizer_for
from wavenet.training.recipe import Recipe


class Batch(NamedTuple):
    """B crops of T samples, on the training device."""

    inputs: Tensor  # int64 [B, T]: codes, each one sample before its target
    targets: Tensor  # int64 [B, T]: codes
    mask: Tensor  # bool [B, T]: False where the loss ignores a target
    speaker: Tensor | None  # int64 [B]: index of each crop's speaker
    features: Tensor | None  # float32 [B, bands, N]: features of the crops and of the context around them
    first: int  # position of the crops in their features, in samples
    samples: int  # targets that are not padding


class Batches:
    """The batch of every step. It depends on the seed and the step only, so that a continued run is exact.

    It does not depend on the number of processes either: in distributed training each process takes its share of the
    rows of the same batch.
    """

    def __init__(self, clips: Clips, recipe: Recipe, device: torch.device) -> None:
        self.clips, self.recipe, self.device = clips, recipe, device
        self.quantizer = quantizer_for(recipe.model.output)
        self.features: CropFeatures | None = None
        if recipe.model.features is not None:
            self.features = CropFeatures(recipe.model.features, max(recipe.model.frame_context), recipe.training.crop)

    @property
    def margin(self) -> int:
        """Samples of audio that are drawn to each side of a crop."""
        return 1 if self.features is None else self.features.margin

    def batch(self, step: int) -> Batch:
        """The batch of a step, counted from 0."""
        training, data = self.recipe.training, self.recipe.data
        rng = np.random.default_rng((training.seed, step))
        crops = random_crops(self.clips, training.batch, training.crop, rng, data, self.quantizer, self.margin)
        return self.tensors(crops)

    def tensors(self, crops: Crops) -> Batch:
        """The crops and their conditioning as tensors on the device."""
        mask = crops.mask & self._predictable(crops)
        inputs, targets, kept = (torch.from_numpy(part).to(self.device) for part in (crops.inputs, crops.targets, mask))
        features, first = None, 0
        if self.features is not None:
            features = torch.from_numpy(self.features(crops.samples, crops.bounds)).to(self.device)
            first = self.features.first
        return Batch(inputs, targets, kept, self._speaker(crops), features, first, int(crops.mask.sum()))

    def _predictable(self, crops: Crops) -> NDArray[np.bool_]:
        """False [B, T] where the linear predictor lacks history: at the start of crops from the middle of a clip."""
        predictable = np.ones_like(crops.mask)
        predictable[crops.bounds[:, 0] < self.margin, : self.recipe.model.prediction_reach] = False
        return predictable

    def _speaker(self, crops: Crops) -> Tensor | None:
        names = self.recipe.model.speakers
        if not names or self.clips.speakers is None:
            return None
        return torch.tensor([names.index(self.clips.speakers[clip]) for clip in crops.clips], device=self.device)

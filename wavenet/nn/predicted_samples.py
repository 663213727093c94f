"""Linear prediction of samples as tensors: the inputs of the network, and what its outputs are converted with."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from wavenet.config import ModelConfig
from wavenet.nn.linear_prediction import Prediction


class PredictedSamples(NamedTuple):
    """`wavenet.nn.linear_prediction.Prediction` as tensors of one floating-point type, on one device."""

    inputs: Tensor  # [B, T, input channels]: of the network
    prediction: Tensor  # [B, T], in full scale
    gain: Tensor  # [B, T]: RMS of the residual
    log_gain: Tensor  # [B, T]: ln gain

    @staticmethod
    def of(prediction: Prediction, dtype: torch.dtype = torch.float32) -> PredictedSamples:
        """From NumPy, on the CPU. dtype: float64, or float32 for any other."""
        kind = np.float64 if dtype == torch.float64 else np.float32
        gain = prediction.gain.astype(kind)
        arrays = prediction.inputs.astype(kind), prediction.prediction.astype(kind), gain, np.log(gain)
        return PredictedSamples(*map(torch.from_numpy, arrays))

    def to_samples(self, parameters: Tensor, config: ModelConfig) -> Tensor:
        """Output parameters [B, T, A] of the residuals -> those of the samples: logits of mixture components unchanged.

        means: prediction + gain * mean; log scales: log scale + ln gain. `Prediction.transform` is the same in NumPy.
        """
        components = config.components
        logits, means, log_scales = parameters.split(
            [config.output_channels - 2 * components, components, components], dim=-1
        )
        means = means * self.gain[..., None] + self.prediction[..., None]
        return torch.cat([logits, means, log_scales + self.log_gain[..., None]], dim=-1)

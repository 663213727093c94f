"""Pasts like those of generation: what the network reads during training, so that it learns to correct its own errors.

A network that is trained on recordings alone has never seen an error, so it follows its own (exposure bias; Bengio et
al. 2015, "Scheduled sampling for sequence prediction with recurrent neural networks", section 1). Only inputs are
changed, never targets.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

GAIN_SECONDS = 0.03  # between the values of a random gain; in between it is interpolated
GAIN_SHARE = 0.5  # of the crops have one; on the others the network learns from undisturbed pasts


def past_gains(
    shape: tuple[int, ...], sample_rate: int, decibels: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Slowly varying random gains [B, T]; `decibels` is the standard deviation of their values."""
    streams, samples = shape
    step = GAIN_SECONDS * sample_rate  # samples
    values = rng.normal(0, decibels, (streams, int(samples / step) + 2))
    values *= rng.random((streams, 1)) < GAIN_SHARE
    times = np.arange(samples) / step
    levels = np.stack([np.interp(times, np.arange(len(row)), row) for row in values])  # [B, T] in dB
    return (10 ** (levels / 20)).astype(np.float32)

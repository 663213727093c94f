"""16-bit samples: int16, full scale 32,768. NumPy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

FULL_SCALE = 32_768  # int16 steps in 1.0, as in libsndfile
BLOCK = 65_536  # samples converted at a time


def to_float32(codes: ArrayLike) -> NDArray[np.float32]:
    """Convert 16-bit codes, integers of any shape, to samples in [-1, 1): x / 32,768, which is exact."""
    return np.divide(codes, FULL_SCALE, dtype=np.float32)


def to_int16(audio: ArrayLike) -> NDArray[np.int16]:
    """Convert samples in [-1, 1], of any shape, to int16: x * 32,768, rounded and clipped.

    Raises `ValueError` for NaN.
    """
    samples = np.asarray(audio, np.float32)
    converted = np.empty(samples.size, np.int16)
    for start in range(0, samples.size, BLOCK):  # in blocks, which bounds the memory for hours of audio
        scaled = np.rint(samples.reshape(-1)[start : start + BLOCK] * np.float32(FULL_SCALE))
        if np.isnan(scaled).any():
            raise ValueError("the audio has NaN, which has no 16-bit value: replace those samples first")
        converted[start : start + BLOCK] = np.clip(scaled, -FULL_SCALE, FULL_SCALE - 1)
    return converted.reshape(samples.shape)

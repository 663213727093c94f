"""Float samples in [-1, 1] as 16-bit ones: int16 of the same shape, full scale 32,768. NumPy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

FULL_SCALE = 32_768  # int16 steps in 1.0, as libsndfile has it
STEP = 65_536  # samples converted at a time


def to_int16(audio: ArrayLike) -> NDArray[np.int16]:
    """int16 of float samples of any shape, louder ones clipped: the exact inverse of x / 32,768.

    Raises `ValueError` on NaN, which has no value there.
    """
    sound = np.asarray(audio, np.float32)
    steps = np.empty(sound.size, np.int16)
    for start in range(0, sound.size, STEP):  # hours of sound are not held three times
        scaled = np.rint(sound.reshape(-1)[start : start + STEP] * np.float32(FULL_SCALE))
        if np.isnan(scaled).any():
            raise ValueError("the sound holds NaN, which has no 16-bit value; replace those samples first")
        steps[start : start + STEP] = np.clip(scaled, -FULL_SCALE, FULL_SCALE - 1)
    return steps.reshape(sound.shape)

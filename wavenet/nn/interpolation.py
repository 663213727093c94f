"""Linear interpolation of conditioning frames to the sample rate: one formula for training and for every engine.

    frame:      n - 1         n         n + 1        frame n holds the samples n hop ... (n + 1) hop - 1
            |-----+-----|-----+-----|-----+-----|    + : the centre of a frame, where its value holds exactly
                              ^ j = 0 ... hop - 1    between two centres the value is interpolated linearly

So sample j of a frame is a weighted sum of three frames: the previous one, its own and the next one. One of the outer
two weights is always zero. `torch.nn.functional.interpolate(mode="linear", align_corners=False)` does the same.
NumPy only.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def interpolation_weights(hop: int) -> NDArray[np.float64]:
    """Weights [hop, 3] of the previous frame, the frame itself and the next one, for each sample; rows sum to 1."""
    position = (np.arange(hop) - (hop - 1) / 2) / hop  # relative to the centre of the frame, in frames: (-1/2, 1/2)
    return np.stack([np.maximum(-position, 0), 1 - np.abs(position), np.maximum(position, 0)], axis=1)

"""Features of random training crops, computed from the crops' own samples and those around them. NumPy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wavenet.config import MelConfig
from wavenet.data.pcm import to_float32
from wavenet.features import frame_margin, transform


class CropFeatures:
    """Computes the features that the whole recording would have around a crop, with a frame that begins at the crop.

    margin: samples that are needed to each side of a crop.
    first: position of the crop's first sample in its features, in samples: a multiple of the hop.
    """

    def __init__(self, config: MelConfig, context_frames: int, crop: int) -> None:
        """context_frames: frames to each side of one that the frame network reads. crop: samples of a crop."""
        self.config = config
        lead = context_frames + 1  # frames before and after the crop; interpolation reads one more
        self.first = lead * config.hop
        self.frames = -(-crop // config.hop) + 2 * lead
        self.margin = self.first + config.hop + frame_margin(config)

    def __call__(self, samples: NDArray[np.int16], bounds: NDArray[np.int64]) -> NDArray[np.float32]:
        """Features [B, bands, frames] of crops and their margins, int16 [B, margin + crop + margin].

        bounds: where in `samples` the recordings begin and end, [B, 2]. Frames beyond them are silent.
        """
        config, begin = self.config, self.margin - self.first  # of the first frame's own samples
        start = begin - frame_margin(config)  # of its transform
        stop = start + (self.frames - 1) * config.hop + config.fft
        features = transform(to_float32(samples[:, start:stop]), config)
        starts = np.arange(self.frames) * config.hop + begin  # [frames]
        outside = (starts + config.hop <= bounds[:, :1]) | (starts >= bounds[:, 1:])  # [B, frames]
        return np.where(outside[:, None], np.float32(config.silence), features)

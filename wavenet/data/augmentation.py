"""Augmentation of training crops: other pitches and levels of the same recordings. NumPy and soxr only."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wavenet.config import DataConfig
from wavenet.data.clips import Clips
from wavenet.data.pcm import FULL_SCALE

EDGE = 256  # samples resampled beyond each end of a piece; the resampler's filter rings for 140 (-100 dB)


@dataclass(frozen=True)
class Playback:
    """Clips as they sound when played `factor` times as fast, and with a gain: what a crop is read from.

    Pitch and formants are multiplied by the factor and durations are divided by it, as with a tape. The sample rate
    stays the same.
    """

    clips: Clips
    factor: float = 1.0
    gain: float = 1.0

    def length(self, i: int) -> int:
        """Samples of clip i, at least one."""
        return max(1, int(self.clips.lengths[i] / self.factor))

    def read(self, i: int, start: int, stop: int) -> NDArray[np.float32]:
        """Samples `start` to `stop` of clip i, or up to its end, [n], in 16-bit steps and still without the gain."""
        if self.factor == 1:
            return self.clips.clip(i, start, stop).astype(np.float32)
        import soxr  # slow to import, and rarely needed

        count = min(stop, self.length(i)) - start
        begin = round((start - EDGE) * self.factor)  # in the recording; to within half a sample
        end = begin + math.ceil((EDGE + count + EDGE) * self.factor)
        inside = self.clips.clip(i, max(begin, 0), max(end, 0)).astype(np.float32)
        audio = np.pad(inside, (max(-begin, 0), end - max(begin, 0) - len(inside)))  # silence beyond the ends
        return soxr.resample(audio, self.factor, 1.0, quality="HQ")[EDGE : EDGE + count]

    def level(self, samples: NDArray[np.float32]) -> NDArray[np.int16]:
        """Apply the gain to the samples of a crop, [n]. It is limited so that none is clipped."""
        if self.factor == self.gain == 1:
            return samples.astype(np.int16)
        peak = max(1.0, float(np.abs(samples).max()))
        return np.rint(samples * min(self.gain, (FULL_SCALE - 1) / peak)).astype(np.int16)


def draw_playback(clips: Clips, data: DataConfig, rng: np.random.Generator) -> Playback:
    """A random pitch and level for one crop; nothing is drawn for what the configuration leaves unchanged."""
    factor = gain = 1.0
    slowest, fastest = data.pitch_shift
    if (slowest, fastest) != (1, 1) and rng.random() < data.pitch_shift_share:
        factor = math.exp(rng.uniform(math.log(slowest), math.log(fastest)))
    if data.gain_shift != (0, 0):
        gain = 10 ** (rng.uniform(*data.gain_shift) / 20)
    return Playback(clips, factor, gain)

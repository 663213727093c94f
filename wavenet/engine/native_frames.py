"""The slow tier of libwavenet (`libwavenet/src/frame_sampler.h`): frames for the native engine, as from C.

They are those of `wavenet.engine.frame_sampler`, which explains them, to float rounding.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wavenet.config import FRAME_MODEL, ModelConfig
from wavenet.engine import _native
from wavenet.engine.sampling import uniform_generator
from wavenet.sampling_config import checked_temperature

Array = NDArray[np.float32]
Curve = NDArray[np.float64]


class NativeFrameSampler:
    """B streams of frames, each with a sampler of its own in C++; as far as sessions use it, as `FrameSampler`."""

    def __init__(self, config: ModelConfig, weights: Mapping[str, ArrayLike]) -> None:
        """One stream; `another` makes others of the same model. weights: by their names in `FrameModelConfig.shapes`.

        Raises `ValueError` for weights that do not fit the configuration.
        """
        assert config.features is not None
        self._bands, self.temperature = config.features.bands, 1.0
        arrays = {FRAME_MODEL + name: np.ascontiguousarray(array, np.float32) for name, array in weights.items()}
        self._streams = [_native.create_frame_sampler(json.dumps(config.to_dict()), arrays, 0)]

    def another(self, streams: int = 1, seed: int = 0, speaker: Array | None = None) -> NativeFrameSampler:
        """A sampler of other streams, which begin anew; they share the model. speaker: shares of all voices [V]."""
        other = object.__new__(NativeFrameSampler)
        other._bands, other.temperature = self._bands, 1.0
        other._streams = [self._streams[0].copy() for _ in range(streams)]
        other.restart()
        other.reseed(seed)
        if speaker is not None:
            other.speak(speaker)
        return other

    def reseed(self, seed: int) -> None:
        """Draw the next frames with the first random numbers of a seed; stream i with those of seed + i."""
        uniform_generator(seed)  # raises `ValueError` for an invalid one
        for index, stream in enumerate(self._streams):
            stream.reseed((seed + index) % 2**64)  # C has no larger ones

    def restart(self) -> None:
        """Continue as if there had been no frame before, with the next random numbers."""
        for stream in self._streams:
            stream.restart()

    def start(self) -> None:
        """Continue silence, with the next random numbers."""
        for stream in self._streams:
            stream.start()

    def speak(self, speaker: Array) -> None:
        """Continue with a mixture of voices [V]."""
        for stream in self._streams:
            stream.speak(np.ascontiguousarray(speaker, np.float32))

    def next(self, count: int, pitch: Curve | None = None, loudness: Curve | None = None) -> Array:
        """The next log-mel frames of every stream, [B, bands, count]; pitch and loudness as of `FrameSampler.next`."""
        free = np.full(count, np.nan)
        tones, levels = (
            free if curve is None else np.ascontiguousarray(curve, np.float64) for curve in (pitch, loudness)
        )
        frames = np.empty((len(self._streams), count, self._bands), np.float32)
        for stream, rows in zip(self._streams, frames, strict=True):
            stream.set_temperature(checked_temperature(self.temperature))
            stream.next(tones, levels, rows)
        return frames.swapaxes(1, 2)

    def prime(self, frames: NDArray[np.floating]) -> None:
        """Continue after log-mel frames [B, bands, N], or [bands, N] for all streams, as if they had been drawn."""
        rows = np.asarray(frames.swapaxes(-1, -2), np.float32)  # [..., N, bands]
        rows = np.ascontiguousarray(np.broadcast_to(rows, (len(self._streams), *rows.shape[-2:])))
        for stream, given in zip(self._streams, rows, strict=True):
            stream.prime(given)

    def copy(self) -> NativeFrameSampler:
        """An independent sampler whose streams continue exactly as these would."""
        other = object.__new__(NativeFrameSampler)
        other._bands, other.temperature = self._bands, self.temperature
        other._streams = [stream.copy() for stream in self._streams]
        return other

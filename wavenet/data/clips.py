"""Clips: the recordings of a dataset as slices of one array of samples, in memory or in the cache file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wavenet.data.cached_samples import Samples
from wavenet.data.quantizers import MU_LAW, Quantizer
from wavenet.data.shard_samples import ShardSamples

LEAST_PART = 2.0  # seconds


class Clips:
    """Recordings at one sample rate: clip i is samples[offsets[i] : offsets[i] + lengths[i]].

    samples: int16 [all]. offsets, lengths: int64 [n]. sample_rate: Hz.
    speakers: the speaker of each clip, [n] names; None where speakers are not distinguished.
    names: the file of each clip, [n] paths below the folder; empty for clips that are not from files.
    gains: factors by which the samples of each clip are multiplied when they are read, float64 [n]; None: unchanged.
    starts: where each clip begins in its file, in samples, int64 [n]; None: all are whole files.
    """

    def __init__(
        self,
        samples: NDArray[np.int16] | Samples,
        offsets: NDArray[np.int64],
        lengths: NDArray[np.int64],
        sample_rate: int,
        speakers: Sequence[str] | None = None,
        names: Sequence[str] = (),
        gains: NDArray[np.float64] | None = None,
        starts: NDArray[np.int64] | None = None,
    ) -> None:
        self.samples, self.offsets, self.lengths, self.sample_rate = samples, offsets, lengths, sample_rate
        self.speakers, self.names, self.gains = speakers, names, gains
        self.starts = np.zeros_like(offsets) if starts is None else starts
        self._positions: dict[int, NDArray[np.int64]] = {}  # by overhang
        self._of_speaker: dict[str, NDArray[np.int64]] = {}

    def __len__(self) -> int:
        return len(self.offsets)

    def __iter__(self) -> Iterator[NDArray[np.int16]]:
        return (self.clip(i) for i in range(len(self)))

    @property
    def readers(self) -> int:
        """How many clips are best read at a time: more than one where each takes the time of a request to a network."""
        return self.samples.readers if isinstance(self.samples, ShardSamples) else 1

    @property
    def seconds(self) -> float:
        """Duration of all clips together."""
        return int(self.lengths.sum()) / self.sample_rate

    def spread(self, seconds: float) -> Clips:
        """Clips of `seconds` in all, as far as there is so much: the first part of each, or of some at equal distances.

        A part is `LEAST_PART` seconds long at least, so that most of its samples have their whole context.
        """
        count = min(len(self), max(1, int(seconds / LEAST_PART)))
        chosen = np.array([i * len(self) // count for i in range(count)], np.int64)
        return self.parts(chosen, np.zeros_like(chosen), max(1, int(seconds * self.sample_rate / max(count, 1))))

    def parts(self, chosen: NDArray[np.int64], starts: NDArray[np.int64], most: int) -> Clips:
        """The chosen clips [n] from the samples `starts` [n] on, of at most so many samples each."""
        return Clips(
            self.samples,
            self.offsets[chosen] + starts,
            np.minimum(self.lengths[chosen] - starts, most),
            self.sample_rate,
            None if self.speakers is None else [self.speakers[i] for i in chosen],
            [self.names[i] for i in chosen] if self.names else (),
            None if self.gains is None else self.gains[chosen],
            self.starts[chosen] + starts,
        )

    def clip(self, i: int, start: int = 0, stop: int | None = None) -> NDArray[np.int16]:
        """Samples `start` to `stop` of clip i, or up to its end, int16 [n]. Its gain is applied and must not clip them.

        Raises `DatasetError` where the cache file has been truncated since the folder was opened.
        """
        offset, length = int(self.offsets[i]), int(self.lengths[i])
        stop = length if stop is None else min(stop, length)
        samples = self.samples[offset + min(start, stop) : offset + stop]
        return samples if self.gains is None else np.rint(samples * self.gains[i]).astype(np.int16)

    def codes(self, i: int, quantizer: Quantizer = MU_LAW, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Codes of the same samples, [n]: uint8 for mu-law, int16 for 16-bit outputs."""
        return quantizer.encode_int16(self.clip(i, start, stop))

    def of_speaker(self, name: str) -> NDArray[np.int64]:
        """Indices of the clips of one speaker, int64 [n]; cached."""
        if name not in self._of_speaker:
            self._of_speaker[name] = np.flatnonzero([name == speaker for speaker in self.speakers or ()])
        return self._of_speaker[name]

    def cumulative_positions(self, overhang: int) -> NDArray[np.int64]:
        """Cumulative sum of the number of positions at which a crop may begin in each clip, int64 [n]; cached.

        overhang: number of samples by which a crop may begin before its clip. A clip of more than overhang + 1 samples
        has length + overhang positions, a shorter one overhang + 1.
        """
        if overhang not in self._positions:
            self._positions[overhang] = np.cumsum(np.where(self.lengths > overhang + 1, self.lengths, 1) + overhang)
        return self._positions[overhang]

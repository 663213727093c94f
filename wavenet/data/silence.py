"""Silence at both ends of a clip, found in one pass over blocks, so that memory does not grow with its length."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

SILENCE_FRAME_SECONDS = 0.01  # silence at clip ends is measured in frames of this length
SILENCE_DB = 45.0  # a frame this far below the loudest one is silence


def trim(audio: NDArray[np.float32], db: float) -> NDArray[np.float32]:
    """View of `audio` [samples] without the silence at both ends: samples more than `db` dB below the clip's peak.

    db: 0 trims nothing. A clip that is all silence is returned unchanged.
    """
    return audio[slice(*loud_span(lambda: [audio], len(audio), db))]


def loud_span(blocks: Callable[[], Iterable[NDArray[np.float32]]], length: int, db: float) -> tuple[int, int]:
    """First and last + 1 of the samples that `trim` keeps, of a clip of `length` samples; `blocks` reads it again."""
    if db <= 0:
        return 0, length
    peak = max((max(float(block.max()), -float(block.min())) for block in blocks() if len(block)), default=0.0)
    if peak == 0:
        return 0, length
    threshold = peak * 10 ** (-db / 20)
    first, last, position = length, 0, 0
    for block in blocks():
        loud = (block >= threshold) | (block <= -threshold)
        if loud.any():
            first = min(first, position + int(loud.argmax()))
            last = position + len(block) - 1 - int(loud[::-1].argmax())
        position += len(block)
    return first, last + 1


def silent_edges(audio: NDArray[np.float32], sample_rate: int) -> tuple[int, int]:
    """Samples of silence at the start and at the end of a clip [samples]; (0, 0) for a clip that is all silence.

    A frame of 10 ms is silent if its mean power is more than 45 dB below that of the clip's loudest frame.
    """
    edges = SilentEdges(sample_rate)
    edges.add(audio)
    return edges.lengths()


class SilentEdges:
    """`silent_edges` of a clip that arrives block by block.

    Which frames are silent is known only at the end. The first one that is not is louder than all before it, and the
    last one louder than all after it: only such frames are kept, a few.
    """

    def __init__(self, sample_rate: int) -> None:
        self.frame = max(1, round(SILENCE_FRAME_SECONDS * sample_rate))
        self._rest = np.zeros(0, np.float32)  # of a frame that is not complete yet
        self._frames = 0  # complete ones
        self._rising = _Frames.none()  # louder than all before
        self._falling = _Frames.none()  # louder than all after

    def add(self, block: NDArray[np.float32]) -> None:
        """Continue with samples [n]."""
        if len(self._rest):
            block = np.concatenate([self._rest, block])
        whole = len(block) // self.frame * self.frame
        frames = block[:whole].reshape(-1, self.frame)  # [frames, samples]
        self._add(np.einsum("ij,ij->i", frames, frames) / self.frame)
        self._rest = block[whole:].copy()

    def lengths(self) -> tuple[int, int]:
        """Samples of silence at the start and at the end of the clip, which is complete now."""
        length = self._frames * self.frame + len(self._rest)
        if rest := self._rest.tolist():
            self._add(np.array([sum(x * x for x in rest) / len(rest)]))
            self._rest = self._rest[:0]
        if not self._frames:
            return 0, 0
        threshold = self._rising.power.max() * 10 ** (-SILENCE_DB / 10)
        first = self._rising.index[self._rising.power >= threshold][0]
        last = self._falling.index[self._falling.power >= threshold][-1]
        return int(first) * self.frame, max(length - (int(last) + 1) * self.frame, 0)

    def _add(self, power: NDArray[np.floating]) -> None:
        """Continue with the mean power of frames [n]."""
        if not len(power):
            return
        new = _Frames(np.arange(self._frames, self._frames + len(power)), power)
        before = np.maximum.accumulate(np.append(self._rising.power[-1:], power))
        rises = power > before[:-1] if len(self._rising.power) else np.append(True, power[1:] > before[:-1])
        self._rising = self._rising.joined(new.where(rises))
        after = np.maximum.accumulate(power[::-1])[::-1]
        falls = np.append(power[:-1] > after[1:], True)
        self._falling = self._falling.where(self._falling.power > after[0]).joined(new.where(falls))
        self._frames += len(power)


class _Frames:
    """Frames by index and mean power, both [n], in order of time."""

    def __init__(self, index: NDArray[np.int64], power: NDArray[np.floating]) -> None:
        self.index, self.power = index, power

    @classmethod
    def none(cls) -> _Frames:
        return cls(np.zeros(0, np.int64), np.zeros(0, np.float32))

    def where(self, chosen: NDArray[np.bool_]) -> _Frames:
        return _Frames(self.index[chosen], self.power[chosen])

    def joined(self, later: _Frames) -> _Frames:
        return _Frames(np.append(self.index, later.index), np.append(self.power, later.power))

"""From the probabilities of frames to segments, frame by frame in constant memory: smoothing, and minimum duration."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Run(NamedTuple):
    """Consecutive frames, from `start` up to but without `stop`, of one class."""

    label: int
    start: int
    stop: int


class Smoother:
    """Averages the probabilities of each frame and those of up to `reach` frames to each side of it.

    At the ends of the recording these are fewer. The sums are formed in the same order for every block size.
    """

    def __init__(self, reach: int, classes: int) -> None:
        self.reach = reach
        self._kept = np.zeros((0, classes), np.float32)  # those that later frames still need
        self._done = 0  # frames that were returned
        self._total = 0

    def push(self, probabilities: NDArray[np.float32], ended: bool) -> NDArray[np.float32]:
        """The next frames [n, classes] -> those that are complete [m, classes]. ended: no more frames follow."""
        self._total += len(probabilities)
        kept = np.concatenate([self._kept, probabilities])  # up to frame `_total`
        if not self.reach:
            return probabilities
        stop = self._total if ended else max(self._done, self._total - self.reach)
        begin = self._done - self.reach  # the first frame that the returned ones need; negative at the start
        first = self._total - len(kept)  # frame of the first row of `kept`
        padding = first - begin, max(0, stop + self.reach - self._total)
        padded = np.pad(kept, (padding, (0, 0)))  # row i is frame begin + i
        count = stop - self._done
        sums = np.zeros((count, kept.shape[1]), np.float32)
        for offset in range(2 * self.reach + 1):
            sums += padded[offset : offset + count]
        frames = np.arange(self._done, stop)
        sizes = np.minimum(frames + self.reach + 1, self._total) - np.maximum(frames - self.reach, 0)
        self._done = stop
        self._kept = kept[max(0, stop - self.reach - first) :]
        sums /= sizes[:, None].astype(np.float32)
        return sums


class Segmenter:
    """Joins frames of equal class to runs of at least `shortest` frames.

    A run that is shorter becomes part of the one before it, at the start of the recording of the one behind it. If all
    runs of a recording are shorter, it is one run of the most frequent class, of several the first.
    """

    def __init__(self, shortest: int) -> None:
        self.shortest = shortest
        self._counts: dict[int, int] = {}  # frames of each class, until a run is long enough; in the order of time
        self._current: Run | None = None  # its stop is not known yet
        self._latest: Run | None = None  # of equal class, perhaps too short yet
        self._total = 0

    def push(self, classes: NDArray[np.int64], ended: bool) -> list[Run]:
        """The next classes of frames [n] -> the runs that are complete. ended: no more frames follow."""
        complete: list[Run] = []
        edges = [0, *(np.flatnonzero(np.diff(classes)) + 1).tolist(), len(classes)] if len(classes) else []
        for start, stop in itertools.pairwise(edges):
            self._extend(int(classes[start]), self._total + start, self._total + stop, complete)
        self._total += len(classes)
        if ended and self._total:
            most = max(self._counts, key=lambda label: self._counts[label])
            label, start = (most, 0) if self._current is None else self._current[:2]
            complete.append(Run(label, start, self._total))
        return complete

    def _extend(self, label: int, start: int, stop: int, complete: list[Run]) -> None:
        """Count equal classes from `start` to `stop`; the current run ends where they begin, if they are enough."""
        if self._latest is not None and self._latest.label == label:
            start = self._latest.start
        self._latest = Run(label, start, stop)
        if self._current is None:
            self._counts[label] = self._counts.get(label, 0) + stop - max(start, self._total)
        if stop - start < self.shortest or (self._current is not None and self._current.label == label):
            return
        if self._current is not None:
            complete.append(Run(self._current.label, self._current.start, start))
        self._current = Run(label, 0 if self._current is None else start, stop)

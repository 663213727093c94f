"""The samples of a dataset in shards, read on access by byte range."""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from wavenet.data.cached_samples import SAMPLE, CachedSamples, DatasetError
from wavenet.data.errors import printable
from wavenet.data.storage import Storage

READERS = 16  # requests to a network at a time
MAX_OPEN = 128  # shards of a disk that are open at a time
ADVICE = "run the command again, which uses what is left"


class ShardSamples:
    """The samples of all recordings, one after the other, int16. May be shared by threads, and pickled.

    It consists of pieces, runs of samples in one shard. shards: names of the files. numbers, positions, lengths: of
    each piece the number of its shard, where its samples begin there, in bytes, and how many they are; int64 [pieces].
    """

    def __init__(
        self,
        storage: Storage,
        shards: list[str],
        numbers: NDArray[np.int64],
        positions: NDArray[np.int64],
        lengths: NDArray[np.int64],
    ) -> None:
        self.storage, self.shards = storage, shards
        self.numbers, self.positions, self.lengths = numbers, positions, lengths
        self._ends = np.cumsum(lengths)
        self._open: dict[int, CachedSamples] = {}  # of a disk, by number; the one opened last is the last
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[object, ...]:
        return ShardSamples, (self.storage, self.shards, self.numbers, self.positions, self.lengths)

    @property
    def readers(self) -> int:
        """How many spans are best read at a time, in threads: of a disk one."""
        return READERS if self.storage.path is None else 1

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, span: slice) -> NDArray[np.int16]:
        """Samples [start : stop], int16 [n]; both bounds are required, and 0 <= start <= stop <= their number.

        Raises `DatasetError` where a shard was removed or truncated, or cannot be reached.
        """
        found, position = [np.zeros(0, np.int16)], int(span.start)
        piece = int(np.searchsorted(self._ends, position, side="right"))
        while position < span.stop:
            begin = position - (int(self._ends[piece]) - int(self.lengths[piece]))
            count = min(int(span.stop), int(self._ends[piece])) - position
            found.append(self._read(int(self.numbers[piece]), int(self.positions[piece]) + 2 * begin, count))
            position, piece = position + count, piece + 1
        return found[-1] if len(found) < 3 else np.concatenate(found)

    def _read(self, number: int, position: int, count: int) -> NDArray[np.int16]:
        """So many samples of a shard, from a position in bytes on."""
        if self.storage.path is not None:
            return self._opened(number)[position // 2 : position // 2 + count]  # samples are at even positions
        name = self.shards[number]
        try:
            content = self.storage.read(name, position, position + 2 * count)
        except FileNotFoundError as error:
            raise DatasetError(f"the shard {self._printed(name)} was removed while it was in use: {ADVICE}") from error
        except OSError as error:
            raise self._unreadable(name, error) from error
        if len(content) < 2 * count:
            raise DatasetError(f"the shard {self._printed(name)} was truncated while it was in use: {ADVICE}")
        return np.frombuffer(content, SAMPLE).astype(np.int16, copy=False)

    def _opened(self, number: int) -> CachedSamples:
        """An open shard of a disk; it is closed when no thread reads it any more."""
        assert self.storage.path is not None
        with self._lock:
            if number not in self._open:
                try:
                    opened = CachedSamples(self.storage.path / self.shards[number], "the shard", ADVICE)
                except OSError as error:
                    raise self._unreadable(self.shards[number], error) from error
                while len(self._open) >= MAX_OPEN:
                    del self._open[next(iter(self._open))]
                self._open[number] = opened
            return self._open[number]

    def _unreadable(self, name: str, error: OSError) -> DatasetError:
        return DatasetError(f"the shard {self._printed(name)} cannot be read ({error.strerror or error}): {ADVICE}")

    def _printed(self, name: str) -> str:
        return printable(f"{self.storage.address}/{name}")

"""Recordings in columns: about a tenth of the memory of a list of objects."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

HASH_BYTES = 20  # of a content hash
NOT_MEASURED = -1  # as the peak
ROW = np.dtype(
    [
        ("key", f"V{HASH_BYTES}"),  # content hash
        ("offset", np.int64),  # of the first sample; this and the lengths are in samples
        ("length", np.int64),
        ("lead", np.int64),  # silence at the start
        ("trail", np.int64),  # silence at the end
        ("trimmed", np.int64),  # removed by trim_db before it was stored
        ("channels", np.int32),  # of the file
        ("cancelled_db", np.float64),  # how far the average of the channels is below them, see `audio.Downmix`
        ("dbfs", np.float64),  # level and peak, see `wavenet.data.levels`
        ("peak", np.int32),
    ]
)


class Names(Sequence[str]):
    """Names in one array of bytes. ends: where each ends in it. chosen: which of them, in this order; None: all."""

    def __init__(self, encoded: bytes, ends: NDArray[np.int64], chosen: NDArray[np.int64] | None = None) -> None:
        self._encoded, self._ends, self._chosen = encoded, ends, chosen

    @classmethod
    def of(cls, encoded: Iterable[bytes]) -> Names:
        """Names as the file system has them."""
        together, ends = bytearray(), array("q")
        for name in encoded:
            together += name
            ends.append(len(together))
        return cls(bytes(together), np.array(ends, np.int64))

    def __len__(self) -> int:
        return len(self._ends if self._chosen is None else self._chosen)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Names: ...
    def __getitem__(self, index: int | slice) -> str | Names:
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        return os.fsdecode(self.encoded(index))

    def take(self, indices: NDArray[np.int64]) -> Names:
        """Those names, in that order."""
        return Names(self._encoded, self._ends, indices if self._chosen is None else self._chosen[indices])

    def encoded(self, index: int) -> bytes:
        """A name as the file system has it."""
        index = range(len(self))[index]
        place = index if self._chosen is None else int(self._chosen[index])
        return self._encoded[int(self._ends[place - 1]) if place else 0 : int(self._ends[place])]

    def order(self) -> NDArray[np.int64]:
        """The indices of the names in their order."""
        indices = range(len(self))
        if all(self.encoded(i) <= self.encoded(i + 1) for i in indices[:-1]):
            return np.arange(len(self))
        return np.array(sorted(indices, key=self.encoded), np.int64)


@dataclass(frozen=True)
class RecordingTable:
    """Recordings: their names, paths below the folder, and the columns of `ROW`, [n] each."""

    names: Names
    rows: NDArray[Any]

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, indices: NDArray[np.int64]) -> RecordingTable:
        """Those recordings, in that order."""
        return RecordingTable(self.names.take(indices), self.rows[indices])

    @classmethod
    def of(cls, recordings: Iterable[tuple[bytes, tuple[Any, ...]]]) -> RecordingTable:
        """Recordings one after the other: the name as the file system has it, and the columns."""
        rows = bytearray()

        def names() -> Iterator[bytes]:
            for name, row in recordings:
                rows.extend(np.array(row, ROW).tobytes())
                yield name

        return cls(Names.of(names()), np.frombuffer(rows, ROW))

    @classmethod
    def concatenated(cls, tables: Sequence[RecordingTable]) -> RecordingTable:
        """The recordings of some tables, one after the other."""
        names = Names.of(table.names.encoded(i) for table in tables for i in range(len(table)))
        return cls(names, np.concatenate([np.zeros(0, ROW), *(table.rows for table in tables)]))

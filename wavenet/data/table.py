"""Recordings in columns: about a tenth of the memory of a list of objects."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

HASH_BYTES = 20  # of a content hash
NOT_MEASURED = -1  # peak of a recording whose level is not known yet
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


def encode_name(name: str) -> bytes:
    """A name as bytes whose order is that of the names, also where it is not valid text; the same on all systems."""
    return name.encode("utf-8", "surrogatepass")


def decode_name(name: bytes) -> str:
    """The opposite."""
    return name.decode("utf-8", "surrogatepass")


class Names(Sequence[str]):
    """Names in one array of bytes. ends: where each ends in it. chosen: which of them, in this order; None: all."""

    def __init__(
        self, encoded: bytes | bytearray, ends: NDArray[np.int64], chosen: NDArray[np.int64] | None = None
    ) -> None:
        self._encoded, self._ends, self._chosen = encoded, ends, chosen

    def __len__(self) -> int:
        return len(self._ends if self._chosen is None else self._chosen)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Names: ...
    def __getitem__(self, index: int | slice) -> str | Names:
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        return decode_name(self.encoded(index))

    def take(self, indices: NDArray[np.int64]) -> Names:
        """Those names, in that order."""
        return Names(self._encoded, self._ends, indices if self._chosen is None else self._chosen[indices])

    def encoded(self, index: int) -> bytes:
        """A name as bytes, see `encode_name`."""
        index = range(len(self))[index]  # from the end if it is negative
        place = index if self._chosen is None else int(self._chosen[index])
        return bytes(self._encoded[int(self._ends[place - 1]) if place else 0 : int(self._ends[place])])


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

    def order_by_name(self) -> NDArray[np.int64] | None:
        """Indices of the recordings in the order of their names; None if they are in this order."""
        indices, name = range(len(self)), self.names.encoded
        if all(name(i) <= name(i + 1) for i in indices[:-1]):
            return None
        return np.array(sorted(indices, key=name), np.int64)


class TableBuilder:
    """A table of recordings that grows at its end."""

    def __init__(self) -> None:
        self._names, self._ends, self._rows = bytearray(), array("q"), bytearray()

    def add(self, name: bytes, row: tuple[Any, ...]) -> None:
        """Add a recording: its name, see `encode_name`, and the columns."""
        self._names += name
        self._ends.append(len(self._names))
        self._rows += np.array(row, ROW).tobytes()

    def extend(self, table: RecordingTable) -> None:
        """Add the recordings of a table."""
        for index in range(len(table)):
            self._names += table.names.encoded(index)
            self._ends.append(len(self._names))
        self._rows += table.rows.tobytes()

    def table(self) -> RecordingTable:
        """The recordings. Nothing can be added any more."""
        return RecordingTable(Names(self._names, np.frombuffer(self._ends, np.int64)), np.frombuffer(self._rows, ROW))

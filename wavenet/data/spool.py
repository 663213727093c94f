"""Samples that are kept until they are stored: in memory if they are few, otherwise in a temporary file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from wavenet.data.cached_samples import DatasetError
from wavenet.data.errors import printable

BYTES_IN_MEMORY = 2**23  # of one clip: more is written to a temporary file
BLOCK = 2**17  # samples that are read at a time

Sample = TypeVar("Sample", bound=np.generic)


class Spool(Generic[Sample]):
    """A clip that grows at its end. The temporary file has no name, so that a killed process leaves none.

    folder: of the temporary file. Raises `DatasetError` if it is full, or cannot be written.
    """

    def __init__(self, dtype: DTypeLike, folder: Path) -> None:
        self.dtype, self.folder = np.dtype(dtype), folder
        self._file: Any = tempfile.SpooledTemporaryFile(BYTES_IN_MEMORY, dir=str(folder))  # noqa: SIM115
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the memory, or the temporary file."""
        self._file.close()

    def append(self, samples: NDArray[Sample]) -> None:
        """Append samples [n]."""
        with self._errors():
            self._file.seek(0, 2)
            self._file.write(np.ascontiguousarray(samples, self.dtype).data)
        self._length += len(samples)

    def __getitem__(self, span: slice) -> NDArray[Sample]:
        """Samples [start : stop]; both bounds are required, and 0 <= start <= stop."""
        with self._errors():
            self._file.seek(span.start * self.dtype.itemsize)
            content = self._file.read((span.stop - span.start) * self.dtype.itemsize)
        return np.frombuffer(content, self.dtype)

    def blocks(self, start: int = 0, stop: int | None = None) -> Iterator[NDArray[Sample]]:
        """Samples `start` to `stop`, or to the end, in blocks."""
        end = self._length if stop is None else min(stop, self._length)
        for position in range(start, end, BLOCK):
            yield self[position : min(position + BLOCK, end)]

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DatasetError(
                f"{printable(self.folder)} cannot hold a decoded recording ({error.strerror or error}): free some "
                "space there, or set WAVENET_CACHE to another folder"
            ) from error

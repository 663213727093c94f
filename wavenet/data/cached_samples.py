"""Samples in the cache file, read on access."""

from __future__ import annotations

import os
import threading
import weakref
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from wavenet.data.errors import printable

HAS_PREAD = hasattr(os, "pread")  # read from a given position; not on Windows
SAMPLE = np.dtype("<i2")


class DatasetError(ValueError):
    """A folder of recordings or a cache cannot be used. The message is one line with the reason and what to do."""


class Samples(Protocol):
    """int16 samples that are read on access: an array is such a thing, and so is a file."""

    def __len__(self) -> int: ...

    def __getitem__(self, span: slice, /) -> NDArray[np.int16]:
        """Samples [start : stop], int16 [n]; both bounds are required, and 0 <= start <= stop."""


class CachedSamples:
    """The samples of a file of little-endian int16, read on every access. May be shared by threads, and pickled.

    Not a memory map: if a mapped file is truncated, an access ends the process with a bus error. Here it raises
    `DatasetError`. A file that is deleted or replaced remains readable for processes that have opened it.
    content, advice: what the file holds, and what to do when it is truncated, for the message.
    """

    def __init__(
        self,
        path: Path,
        content: str = "the cached audio",
        advice: str = "run the command again, which decodes the missing recordings again",
    ) -> None:
        self.path, self.content, self.advice = path, content, advice
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115
        self._descriptor = self._file.fileno()
        self._lock = threading.Lock()
        weakref.finalize(self, self._file.close)  # without the warning about a file left open

    def __reduce__(self) -> tuple[object, ...]:
        return CachedSamples, (self.path, self.content, self.advice)

    def __len__(self) -> int:
        return os.fstat(self._descriptor).st_size // 2

    def __getitem__(self, span: slice) -> NDArray[np.int16]:
        """Samples [start : stop], int16 [n]; both bounds are required, and 0 <= start <= stop."""
        size = 2 * (span.stop - span.start)
        try:
            content = self._read(size, 2 * span.start)
            while len(content) < size:  # the end of the file, or beyond the 2 GiB of one system call
                more = self._read(size - len(content), 2 * span.start + len(content))
                if not more:
                    path = printable(self.path)
                    raise DatasetError(f"{self.content} {path} was truncated while it was in use: {self.advice}")
                content += more
        except OSError as error:
            path, reason = printable(self.path), error.strerror or error
            raise DatasetError(f"{self.content} {path} cannot be read ({reason}): run the command again") from error
        samples = np.frombuffer(content, SAMPLE)
        return samples if SAMPLE.isnative else samples.astype(np.int16)

    def _read(self, size: int, position: int) -> bytes:
        """Up to `size` bytes from a position in bytes."""
        if HAS_PREAD:
            return os.pread(self._descriptor, size, position)
        with self._lock:
            self._file.seek(position)
            return self._file.read(size)

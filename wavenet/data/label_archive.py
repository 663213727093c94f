"""NumPy archives of labels, .npz, that are written as the labels are found: memory does not grow with the recording."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import ArrayLike, NDArray

from wavenet.data import files
from wavenet.data.segments import Segment

COPIED = 1 << 20  # bytes at a time


class LabelArchive:
    """Collects the arrays of a .npz file: their sizes, which come first in it, are known at the end only."""

    def __init__(self, folder: Path, classes: Sequence[str], frame_seconds: float, opened: ExitStack) -> None:
        """folder: for temporary files, which have no name and end with `opened`."""
        self._values = {"classes": np.array(classes, np.str_), "frame_seconds": np.float64(frame_seconds)}
        kinds = {"probabilities": "<f4", "starts": "<f8", "ends": "<f8", "labels": f"<U{max(1, *map(len, classes))}"}
        self._arrays = {
            name: _GrowingArray(
                opened.enter_context(tempfile.TemporaryFile(dir=folder)),  # noqa: SIM115 - `opened` closes it
                np.dtype(kind),
                (len(classes),) if name == "probabilities" else (),
            )
            for name, kind in kinds.items()
        }

    def add(self, segments: Sequence[Segment], probabilities: NDArray[np.floating[Any]]) -> None:
        """The next segments, whose labels are among the classes, and probabilities [frames, classes]."""
        self._arrays["probabilities"].append(probabilities)
        self._arrays["starts"].append([segment.start for segment in segments])
        self._arrays["ends"].append([segment.end for segment in segments])
        self._arrays["labels"].append([segment.label for segment in segments])

    def write(self, file: BinaryIO) -> None:
        """Write the archive."""
        with zipfile.ZipFile(file, "w") as archive:
            for name, array in self._arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    array.write(member)
            for name, value in self._values.items():
                with archive.open(f"{name}.npy", "w") as member:
                    npy.write_array(member, np.asarray(value), allow_pickle=False)


class _GrowingArray:
    """An array [rows, *shape] in a temporary file."""

    def __init__(self, file: IO[bytes], dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        self.file, self.dtype, self.shape = file, dtype, shape
        self.rows = 0

    def append(self, values: ArrayLike) -> None:
        rows = np.asarray(values, self.dtype)
        self.file.write(rows.tobytes())
        self.rows += len(rows)

    def write(self, file: IO[bytes]) -> None:
        """In the format of .npy files."""
        shape = (self.rows, *self.shape)
        header = {"descr": npy.dtype_to_descr(self.dtype), "fortran_order": False, "shape": shape}
        npy.write_array_header_1_0(file, header)
        self.file.seek(0)
        shutil.copyfileobj(self.file, file, COPIED)


@contextmanager
def label_archive(path: Path, classes: Sequence[str], frame_seconds: float) -> Iterator[LabelArchive]:
    """A .npz file, which is complete when the block ends; it contains what `write_labels` describes.

    classes: their names. frame_seconds: the distance of the frames. The temporary files are in the folder of `path`,
    which is replaced in one piece. Raises `OSError` with `path`.
    """
    with files.replacing(path) as file, ExitStack() as opened:
        archive = LabelArchive(path.parent, classes, frame_seconds, opened)
        yield archive
        archive.write(file)

"""The figures of copies of recordings: of all processes, in a table, and kept to continue an evaluation."""

from __future__ import annotations

import csv
import dataclasses
import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wavenet.batch.manifest import Manifest, agrees, now
from wavenet.batch.workers import Workers
from wavenet.data import files
from wavenet.data.clips import Clips
from wavenet.evaluation.clip_bits import Results
from wavenet.evaluation.metrics import Comparison


@dataclass(frozen=True)
class Copy:
    """One copy of one recording."""

    file: str  # path below the folder
    seconds: float
    method: str  # of `METHODS`
    refine: int  # iterations of `wavenet.consistency.refine` that its audio went through
    comparison: Comparison
    audio: NDArray[np.float32]  # [samples]

    def to_row(self) -> dict[str, Any]:
        """Without the audio, in values that JSON can represent."""
        return {**vars(self), "comparison": vars(self.comparison), "audio": None}

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> Copy:
        """The opposite; the audio is empty. Raises `TypeError` for another row."""
        return cls(**{**row, "comparison": Comparison(**row["comparison"]), "audio": np.empty(0, np.float32)})


class KeptCopies:
    """The figures of copies in a file, see `wavenet.batch.manifest`: they are not made again.

    results: the file, and what determines the copies. usable: called with each copy of a recording; where it returns
    false, those of the recording are made again.
    """

    def __init__(
        self, results: Results, clips: Clips, workers: Workers, usable: Callable[[Copy], bool] = lambda copy: True
    ) -> None:
        self.results, self.clips, self.workers, self.usable = results, clips, workers, usable
        self._manifest = Manifest(results.path, "file", workers.rank)
        self._copies: dict[int, list[Copy]] = {}  # by clip

    def known(self, clips: Iterable[int]) -> list[int]:
        """Which of these clips were copied earlier. Called by one process, before others are added."""
        files.check_writable(self.results.path)
        entries = self._manifest.merge()
        for clip in clips:
            entry = entries.get(self.clips.names[clip])
            if entry is None or not agrees(entry, self.results.described(self.clips, clip)):
                continue
            with suppress(KeyError, TypeError):  # of a line that another version has written
                copies = [Copy.from_row(row) for row in entry["copies"]]
                if all(map(self.usable, copies)):
                    self._copies[clip] = copies
        return list(self._copies)

    def copies(self, clips: Iterable[int]) -> Iterator[Copy]:
        """The copies of clips that `known` returned."""
        return (copy for clip in clips for copy in self._copies[clip])

    def add(self, clip: int, copies: Iterable[Copy]) -> None:
        """Keep the copies of a clip. Raises `OSError`."""
        rows = [copy.to_row() for copy in copies]
        self._manifest.add({**self.results.described(self.clips, clip), "copies": rows, "finished": now()})

    def merge(self) -> None:
        """Put what all processes added into one file. Called by one process."""
        self._manifest.merge()


def everywhere(copies: Sequence[Copy], workers: Workers) -> list[Copy]:
    """The copies of all processes in the order of their files, without their audio; in all processes."""
    rows = [copy.to_row() for copy in copies]
    merged = [Copy.from_row(row) for of_process in workers.exchange(rows) for row in of_process]
    return sorted(merged, key=lambda copy: copy.file)  # stable: the methods of a file stay in their order


def write_csv(path: str | os.PathLike[str], rows: Iterable[Copy]) -> None:
    """Write a line for each copy: file, seconds, method, refinement, and every figure. Raises `OSError`."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["file", "seconds", "method", "refine", *(field.name for field in dataclasses.fields(Comparison))])
    for row in rows:
        figures = dataclasses.astuple(row.comparison)
        described = (row.file, f"{row.seconds:.3f}", row.method, row.refine)
        lines.writerow([*described, *(f"{figure:.6g}" for figure in figures)])
    files.replace(Path(path), text.getvalue().encode())

"""Figures of labels against those of a reference: of the frames, and of the boundaries between labels.

    figures = LabelFigures(classes)
    for clip in clips:
        figures.add(clip.reference, clip.found, clip.seconds)
    figures.accuracy, figures.macro_f1, figures.boundary_f1(0.05)

A frame counts as the class of the label at its centre; frames without a label have a class of their own, `NO_LABEL`.

A boundary is a time at which the label changes, from or to no label, too; the beginning and the end of the recording
are none. Each boundary of the reference is matched with at most one that was found, within the tolerance, such that
there are as many pairs as possible; precision, recall and F1 are those of the pairs (as of segmentation in mir_eval,
Raffel et al. 2014, after Turnbull et al. 2007).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wavenet.data import files
from wavenet.data.segments import TOLERANCE as TIME_ERROR
from wavenet.data.segments import Segment, frame_classes

NO_LABEL = "(none)"  # name of the class of frames without a label, in tables and pictures
FRAME_SECONDS = 0.010
TOLERANCES = (0.02, 0.05)  # seconds, of boundaries


@dataclass
class Boundaries:
    """Numbers of boundaries: in the reference, found, and pairs of one of each."""

    reference: int = 0
    found: int = 0
    pairs: int = 0

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall; 1 if there are no boundaries at all."""
        total = self.reference + self.found
        return 2 * self.pairs / total if total else 1.0


@dataclass
class LabelFigures:
    """Figures of labelled recordings, which are added one by one.

    classes: names of the labels [C - 1]; class 0 is that of the frames without one of them. confusion: numbers of
    frames, int64 [C, C], by the class of the reference and by the class found.
    """

    classes: tuple[str, ...]
    frame_seconds: float = FRAME_SECONDS
    confusion: NDArray[np.int64] = field(init=False)
    boundaries: dict[float, Boundaries] = field(init=False)  # by tolerance in seconds

    def __post_init__(self) -> None:
        count = len(self.classes) + 1
        self.confusion = np.zeros((count, count), np.int64)
        self.boundaries = {tolerance: Boundaries() for tolerance in TOLERANCES}

    def add(self, reference: Sequence[Segment], found: Sequence[Segment], seconds: float) -> None:
        """Add a recording of so many seconds. Both lists are sorted and without overlaps."""
        frames = int(np.ceil(seconds / self.frame_seconds - 1e-6))
        true, given = (frame_classes(part, self.classes, frames, self.frame_seconds) for part in (reference, found))
        np.add.at(self.confusion, (true, given), 1)
        times, found_times = boundaries(reference, seconds), boundaries(found, seconds)
        for tolerance, counts in self.boundaries.items():
            counts.reference += len(times)
            counts.found += len(found_times)
            counts.pairs += matched(times, found_times, tolerance)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all classes [C], `NO_LABEL` first."""
        return (NO_LABEL, *self.classes)

    @property
    def frames(self) -> NDArray[np.int64]:
        """Frames of each class in the reference [C]."""
        return self.confusion.sum(1)

    @property
    def accuracy(self) -> float:
        """Share of the frames whose class was found; NaN without frames."""
        return float(_ratio(np.trace(self.confusion), self.confusion.sum()))

    @property
    def precision(self) -> NDArray[np.float64]:
        """Of each class, the share of the frames found that are of it [C]; NaN where none were found."""
        return _ratio(np.diag(self.confusion), self.confusion.sum(0))

    @property
    def recall(self) -> NDArray[np.float64]:
        """Of each class, the share of its frames that were found [C]; NaN where there are none."""
        return _ratio(np.diag(self.confusion), self.frames)

    @property
    def f1(self) -> NDArray[np.float64]:
        """The harmonic mean of precision and recall of each class [C]; NaN for classes that appear nowhere."""
        return _ratio(2 * np.diag(self.confusion), self.frames + self.confusion.sum(0))

    @property
    def macro_f1(self) -> float:
        """Mean of the F1 of the classes that the reference has; NaN without frames."""
        present = self.frames > 0
        return float(self.f1[present].mean()) if present.any() else float("nan")

    def boundary_f1(self, tolerance: float) -> float:
        """F1 of the boundaries, for one of the `TOLERANCES`."""
        return self.boundaries[tolerance].f1

    def lines(self) -> list[str]:
        """A summary, and a table of the classes that appear in the reference or were found."""
        at = ", ".join(f"{self.boundary_f1(tolerance):.3f} at {tolerance * 1000:.0f} ms" for tolerance in TOLERANCES)
        width = max(len("class"), *map(len, self.names))
        head = [
            f"frame accuracy  {self.accuracy:.2%}",
            f"macro F1        {self.macro_f1:.3f}",
            f"boundary F1     {at}",
            "",
            f"{'class':<{width}}  {'frames':>9}  precision  recall     F1",
        ]
        rows = zip(self.names, self.frames, self.precision, self.recall, self.f1, strict=True)
        return head + [
            f"{name:<{width}}  {frames:>9,}  {_figure(precision):>9}  {_figure(recall):>6}  {_figure(f1):>5}"
            for name, frames, precision, recall, f1 in rows
            if not np.isnan(f1)
        ]

    def write_csv(self, path: Path) -> None:
        """Write a line of figures for each class."""
        rows = zip(self.names, self.frames, self.precision, self.recall, self.f1, strict=True)
        _write(path, [("class", "frames", "precision", "recall", "f1"), *rows])

    def write_confusion(self, path: Path) -> None:
        """Write the numbers of frames: a line for each class of the reference, a column for each class found."""
        rows = [(name, *row) for name, row in zip(self.names, self.confusion.tolist(), strict=True)]
        _write(path, [("reference \\ found", *self.names), *rows])


def boundaries(segments: Sequence[Segment], seconds: float) -> list[float]:
    """Times at which the label changes. segments: sorted, without overlaps."""
    times, before, end = [], "", 0.0
    for start, stop, label in [*segments, Segment(seconds, seconds, "")]:
        if before and start - end > TIME_ERROR:  # a gap
            times.append(end)
            before = ""
        if label != before:
            times.append(start)
        before, end = label, stop
    return [time for time in times if TIME_ERROR < time < seconds - TIME_ERROR]


def matched(reference: Sequence[float], found: Sequence[float], tolerance: float) -> int:
    """The largest number of pairs of one time of each list, both sorted, that differ by the tolerance at most.

    As the tolerance is the same everywhere, pairing the earliest ones first leaves no pair out.
    """
    pairs = i = j = 0
    while i < len(reference) and j < len(found):
        difference = found[j] - reference[i]
        if abs(difference) <= tolerance + 1e-6:
            pairs, i, j = pairs + 1, i + 1, j + 1
        elif difference < 0:
            j += 1
        else:
            i += 1
    return pairs


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    """part / whole, NaN where whole is 0."""
    with np.errstate(invalid="ignore"):
        return np.divide(part, whole, dtype=np.float64)


def _figure(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.3f}"


def _write(path: Path, rows: Sequence[Sequence[object]]) -> None:
    content = io.StringIO(newline="")
    csv.writer(content, lineterminator="\n").writerows(rows)
    files.replace(path, content.getvalue().encode())

"""Write labels: Audacity label tracks, Praat TextGrids, tables, and NumPy archives with probabilities."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wavenet.data import files
from wavenet.data.errors import AnyPath, printable
from wavenet.data.label_archive import label_archive
from wavenet.data.segments import Segment
from wavenet.extras import Unavailable, how_to_install

LABEL_FILES = (".txt", ".TextGrid", ".csv", ".npz")
TIER = "labels"  # name of the tier of a TextGrid


def check_label_file(path: AnyPath) -> None:
    """Check that labels can be written to a file of this name.

    Raises `ValueError` for another extension than `LABEL_FILES`, and `Unavailable` for a TextGrid without `praatio`.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in map(str.lower, LABEL_FILES):
        raise ValueError(f"{printable(path)}: labels are written as {', '.join(LABEL_FILES)}; choose one of them")
    if suffix == ".textgrid":
        _praatio()


def write_labels(
    path: AnyPath,
    segments: Sequence[Segment],
    *,
    recording: AnyPath = "",
    seconds: float | None = None,
    probabilities: NDArray[np.floating[Any]] | None = None,
    classes: Sequence[str] = (),
    frame_seconds: float | None = None,
) -> None:
    """Write the labels of a recording to a file, in the format of its extension: .txt, .TextGrid, .csv or .npz.

    segments: sorted, without overlaps. recording: the path in a .csv. seconds: duration of the recording, in a
    .TextGrid; None: up to the end of the last label.
    probabilities, float32 [frames, classes], with the names of the `classes` and `frame_seconds`, the distance of the
    frames: what a .npz contains besides `starts`, `ends` (float64 [n]) and `labels` (str [n], all among the classes).
    The file is written under a temporary name, then renamed. Raises what `check_label_file` raises, `ValueError` for a
    .npz without probabilities or with labels of other classes, and `OSError`.
    """
    check_label_file(path)
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".csv":
        write_csv(path, {os.fspath(recording): segments})
    elif suffix == ".npz":
        if probabilities is None or frame_seconds is None or probabilities.shape[1:] != (len(classes),):
            raise ValueError(f"{printable(path)}: a .npz contains probabilities [frames, classes]; give them all")
        if strangers := sorted({segment.label for segment in segments} - set(classes)):
            raise ValueError(f"{printable(path)}: a label is not among the classes: {printable(strangers[0])}")
        with label_archive(path, classes, frame_seconds) as archive:
            archive.add(segments, probabilities)
    else:
        text = label_track(segments) if suffix == ".txt" else _text_grid(segments, seconds)
        files.replace(path, text.encode())


def write_csv(path: AnyPath, labels: Mapping[str, Sequence[Segment]]) -> None:
    """Write the labels of several recordings, by their path, as lines of path,start,end,label, with a header."""
    content = io.StringIO(newline="")
    table = csv.writer(content, lineterminator="\n")
    table.writerow(("path", "start", "end", "label"))
    for recording, segments in labels.items():
        table.writerows((recording, f"{start:.6f}", f"{end:.6f}", _line(label)) for start, end, label in segments)
    files.replace(Path(path), content.getvalue().encode())


def label_track(segments: Sequence[Segment]) -> str:
    """The lines of an Audacity label track."""
    return "".join(f"{start:.6f}\t{end:.6f}\t{_line(label)}\n" for start, end, label in segments)


def _text_grid(segments: Sequence[Segment], seconds: float | None) -> str:
    """A TextGrid with one tier; gaps are intervals without text."""
    end = max([segment.end for segment in segments] if seconds is None else [seconds], default=0.0)
    end = max([end, *(segment.end for segment in segments)])
    entries = [(start, stop, _line(label)) for start, stop, label in segments]
    if not entries:
        entries = [(0.0, end, "")]
    tier = {"class": "IntervalTier", "name": TIER, "xmin": 0.0, "xmax": end, "entries": entries}
    grid = {"xmin": 0.0, "xmax": end, "tiers": [tier]}
    return str(_praatio().getTextgridAsStr(grid, "long_textgrid", includeBlankSpaces=True))


def _praatio() -> Any:
    try:
        from praatio.utilities import textgrid_io
    except ImportError as error:
        raise Unavailable(how_to_install("a TextGrid", "praatio", "labels")) from error
    return textgrid_io


def _line(label: str) -> str:
    """A label on one line, without tabs."""
    return " ".join(label.split())

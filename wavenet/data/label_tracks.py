"""Labels of recordings from files beside them: Audacity label tracks, Praat TextGrids, or one table of a folder.

    labelled = read_labels(Path("recordings"), [Recording(Path("clip.wav"), 3.2)])
    labelled.segments[Path("clip.wav")]  # [Segment(start=0.0, end=1.4, label="dog"), ...]

| file | content |
|---|---|
| clip.TextGrid | Praat; of several tiers the first one of intervals; needs the package `praatio` |
| clip.txt | Audacity: start, end, label with tabs between them; lines that begin with a backslash are skipped |
| labels.csv | in the folder: lines of path,start,end,label; the path of a recording is relative to the folder |

Times are in seconds. The first of these files that has labels of a recording counts. Whatever is wrong in them is
reported in one line for each kind, and the rest is used.
"""

from __future__ import annotations

import codecs
import csv
import io
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from wavenet.data.errors import printable, reason_of
from wavenet.data.label_writer import check_label_file as check_label_file
from wavenet.data.label_writer import write_csv as write_csv
from wavenet.data.label_writer import write_labels as write_labels
from wavenet.data.segments import Segment as Segment
from wavenet.data.segments import counted, gaps, in_order
from wavenet.extras import Unavailable, how_to_install

TABLE = "labels.csv"
TEXT_GRIDS = (".TextGrid", ".textgrid", ".Textgrid")


class Recording(NamedTuple):
    """A recording whose labels are read."""

    path: Path  # below the folder, or absolute
    seconds: float  # its duration


@dataclass
class LabelledFolder:
    """The labels of a folder of recordings.

    segments: by the path of the recording as it was given; sorted, without overlaps, within the recording. Recordings
    without labels are not in it. problems: one line each: what is wrong, where, and what was done.
    """

    segments: dict[Path, list[Segment]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def classes(self) -> tuple[str, ...]:
        """All labels, in alphabetical order."""
        return tuple(sorted({segment.label for segments in self.segments.values() for segment in segments}))


def read_labels(folder: str | os.PathLike[str], recordings: Sequence[Recording]) -> LabelledFolder:
    """Read the labels of recordings of a folder.

    Raises `Unavailable` if there is a TextGrid and the package `praatio` is not installed.
    """
    root, labelled = Path(folder), LabelledFolder()
    table = _read_table(root, recordings, labelled.problems)
    unlabelled, open_parts = [], []
    for recording in recordings:
        segments = _labels_of(root / recording.path, table.get(_name(root, recording.path)), recording, labelled)
        if not segments:
            unlabelled.append(recording.path)
            continue
        labelled.segments[recording.path] = segments
        open_parts += [(recording.path, *gap) for gap in gaps(segments, recording.seconds)]
    if unlabelled:
        labelled.problems.append(
            f"{len(unlabelled):,} of {counted(len(recordings), 'recording')} without labels: not used "
            f"(the first: {printable(unlabelled[0])})"
        )
    if open_parts:
        path, start, end = open_parts[0]
        labelled.problems.append(
            f"{counted(len(open_parts), 'gap')} between labels, {sum(e - s for _, s, e in open_parts):.2f} s in "
            f"{counted(len({gap[0] for gap in open_parts}), 'recording')}: a class of their own "
            f"(the first: {printable(path)}, {start:.2f} to {end:.2f} s)"
        )
    return labelled


def read_track(path: str | os.PathLike[str], seconds: float) -> tuple[list[Segment], list[str]]:
    """The labels in one Audacity label track or TextGrid, in order, and what is wrong in it, a line each.

    seconds: duration of the recording. Raises `Unavailable` as `read_labels` does.
    """
    path = Path(path)
    text, unreadable = _text_of(path)
    found, problems = (_text_grid if path.suffix.lower() == ".textgrid" else _label_track)(text)
    segments, changes = in_order(found, seconds)
    problems = unreadable if unreadable and not text else [*unreadable, *problems, *changes]
    return segments, [f"{printable(path)}: {problem}" for problem in problems]


def _labels_of(
    path: Path, from_table: list[Segment] | None, recording: Recording, labelled: LabelledFolder
) -> list[Segment]:
    """The labels of one recording, from the first file that has any; problems are appended."""
    grids = [file for file in map(path.with_suffix, TEXT_GRIDS) if file.is_file()][:1]
    segments: list[Segment] = []
    used = ""
    for file in [*grids, *(file for file in [path.with_suffix(".txt")] if file.is_file())]:
        if used:
            labelled.problems.append(f"{printable(file)}: not used, because there is {used}")
            continue
        segments, problems = read_track(file, recording.seconds)
        labelled.problems += problems
        used = printable(file.name) if segments else ""
    if from_table is None:
        return segments
    if used:
        labelled.problems.append(f"{TABLE}: lines of {printable(recording.path)} not used, because there is {used}")
        return segments
    segments, changes = in_order(from_table, recording.seconds)
    labelled.problems += [f"{TABLE}, {printable(recording.path)}: {change}" for change in changes]
    return segments


def _read_table(root: Path, recordings: Sequence[Recording], problems: list[str]) -> dict[str, list[Segment]]:
    """The lines of the folder's table by the normalised path of their recording; problems are appended."""
    path = root / TABLE
    if not path.is_file():
        return {}
    text, found = _text_of(path)
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline="")) if row]
    except csv.Error as error:
        problems.append(f"{TABLE}: not a table ({error}): not used")
        return {}
    if rows and [name.strip().lower() for name in rows[0][:2]] == ["path", "start"]:
        del rows[0]
    segments, wrong = _segments([(row[1:], ",".join(row)) for row in rows], "path,start,end,label")
    table: dict[str, list[Segment]] = {}
    for row, segment in zip(rows, segments, strict=True):
        if segment is not None:
            table.setdefault(os.path.normpath(row[0].strip()), []).append(segment)
    problems += [f"{TABLE}: {problem}" for problem in (*found, *wrong)]
    known = {_name(root, recording.path) for recording in recordings}
    if strangers := [name for name in table if name not in known]:
        problems.append(
            f"{TABLE}: {counted(len(strangers), 'path')} of no recording of the folder: not used "
            f"(the first: {printable(strangers[0])})"
        )
    return table


def _text_of(path: Path) -> tuple[str, list[str]]:
    """The text of a file, and what is wrong with it: in UTF-8, in UTF-16 with a byte order mark, or in Windows-1252.

    The last one is a guess, and reported. The text of a file that cannot be read is empty.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        return "", [f"{reason_of(error, path)}: not used"]
    problems = []
    try:
        text = content.decode("utf-16" if content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("cp1252", errors="replace")
        problems.append("unknown encoding, not UTF-8: read as Windows-1252")
    if "\0" in text:
        return "", ["unknown encoding, not UTF-8: not used; save it as UTF-8"]
    return text, problems


def _label_track(text: str) -> tuple[list[Segment], list[str]]:
    """Segments of an Audacity label track, and what is wrong in it."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("\\")]
    segments, problems = _segments(
        [(line.split("\t", 2), line) for line in lines], "start, end, label with tabs between them"
    )
    return [segment for segment in segments if segment], problems


def _text_grid(text: str) -> tuple[list[Segment], list[str]]:
    """Segments of the first tier of intervals of a TextGrid, and what is wrong in it."""
    try:
        from praatio.utilities import errors, textgrid_io
    except ImportError as error:
        raise Unavailable(how_to_install("reading a TextGrid", "praatio", "labels")) from error
    try:
        parsed: dict[str, Any] = textgrid_io.parseTextgridStr(text.rstrip() + "\n", includeEmptyIntervals=False)
        tiers = [tier for tier in parsed["tiers"] if tier["class"] == "IntervalTier"]
        entries = [[str(part) for part in entry] for tier in tiers[:1] for entry in tier["entries"]]
    except (errors.PraatioException, ValueError, LookupError, TypeError, AttributeError):
        return [], ["not a TextGrid that can be read: not used"]
    if not tiers:
        return [], ["no tier of intervals: not used"]
    segments, problems = _segments([(entry, " ".join(entry)) for entry in entries], "an interval")
    if others := len(parsed["tiers"]) - 1:
        problems.append(
            f"{counted(others, 'tier')} not used, only the first one of intervals, {printable(tiers[0]['name'])}"
        )
    return [segment for segment in segments if segment], problems


def _segments(lines: Sequence[tuple[list[str], str]], expected: str) -> tuple[list[Segment | None], list[str]]:
    """The segment of each line, of its fields and its text; None, and a problem, for what is none."""
    segments = [_segment(fields) for fields, _ in lines]
    wrong = [text for segment, (_, text) in zip(segments, lines, strict=True) if segment is None]
    if not wrong:
        return segments, []
    what = f"{counted(len(wrong), 'line')} not {expected}: left out (the first: {printable(wrong[0], 60)})"
    return segments, [what]


def _segment(fields: list[str]) -> Segment | None:
    """start, end, label as a segment; None if they are not. A decimal comma is read, too."""
    if not 2 <= len(fields) <= 3:
        return None
    try:
        start, end = (float(text.strip().replace(",", ".")) for text in fields[:2])
    except ValueError:
        return None
    if not (math.isfinite(start) and math.isfinite(end)) or end < start:
        return None
    return Segment(start, end, fields[2].strip() if len(fields) == 3 else "")


def _name(root: Path, path: Path) -> str:
    """The normalised path of a recording below the folder."""
    return os.path.normpath(path.relative_to(root) if path.is_absolute() and path.is_relative_to(root) else path)

"""Labels of recordings from files beside them: Audacity label tracks, Praat TextGrids, or one table of a folder.

    labelled = read_labels(Path("recordings"), [Recording(Path("clip.wav"), 3.2)])
    labelled.segments[Path("clip.wav")]  # [Segment(start=0.0, end=1.4, label="dog"), ...]

| file | content |
|---|---|
| clip.TextGrid | Praat; of several tiers the first one of intervals; needs the package `praatio` |
| clip.txt | Audacity: start, end, label with tabs between them; lines that begin with a backslash are skipped |
| labels.csv | in the folder: lines of path,start,end,label; the path of a recording is relative to the folder |

Times are in seconds. The first of these files that has labels of a recording counts. An empty one says that nothing
happens in the recording. Whatever is wrong in them is reported in one line for each kind, and the rest is used.
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

    segments: by the path of the recording as it was given; sorted, without overlaps, within the recording; none for a
    recording with an empty label track. Recordings without a label track or lines of the table are not in it.
    problems: one line each: what is wrong, where, and what was done; those of all recordings are the first.
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
    unlabelled, empty, open_parts = [], [], []
    for recording in recordings:
        segments = _labels_of(root / recording.path, table.get(_name(root, recording.path)), recording, labelled)
        if segments is None:
            unlabelled.append(recording.path)
            continue
        labelled.segments[recording.path] = segments
        if not segments:
            empty.append(recording.path)
            continue
        open_parts += [(recording.path, *gap) for gap in gaps(segments, recording.seconds)]
    total, of_all = counted(len(recordings), "recording"), []
    if unlabelled:
        first = f"(the first: {printable(unlabelled[0])})"
        of_all.append(f"{len(unlabelled):,} of {total} without labels: not used {first}")
    if empty:
        first = f"(the first: {printable(empty[0])})"
        of_all.append(f"{len(empty):,} of {total} with an empty label track: nothing happens there {first}")
    if open_parts:
        path, start, end = open_parts[0]
        of_all.append(
            f"{counted(len(open_parts), 'gap')} between labels, {sum(e - s for _, s, e in open_parts):.2f} s in "
            f"{counted(len({gap[0] for gap in open_parts}), 'recording')}: a class of their own "
            f"(the first: {printable(path)}, {start:.2f} to {end:.2f} s)"
        )
    labelled.problems[:0] = of_all
    return labelled


def read_track(path: str | os.PathLike[str], seconds: float) -> tuple[list[Segment], list[str]]:
    """The labels in one Audacity label track or TextGrid, in order, and what is wrong in it, a line each.

    seconds: duration of the recording. Raises `Unavailable` as `read_labels` does.
    """
    track = _read_track(Path(path), seconds)
    return track.segments, track.problems


class _Track(NamedTuple):
    """The labels in a file, and what is wrong in it. is_empty: it can be read, and has no labels, usable or not."""

    segments: list[Segment]
    problems: list[str]
    is_empty: bool = False


def _read_track(path: Path, seconds: float) -> _Track:
    """A label track or TextGrid of a recording of so many seconds; the problems name the file."""
    text, unreadable = _text_of(path)
    if unreadable and not text:
        return _Track([], [f"{printable(path)}: {problem}" for problem in unreadable])
    found, problems, is_empty = (_text_grid if path.suffix.lower() == ".textgrid" else _label_track)(text)
    segments, changes = in_order(found, seconds)
    problems = [f"{printable(path)}: {problem}" for problem in (*unreadable, *problems, *changes)]
    return _Track(segments, problems, is_empty)


def _labels_of(
    path: Path, from_table: list[Segment] | None, recording: Recording, labelled: LabelledFolder
) -> list[Segment] | None:
    """The labels of one recording, from the first file that has any; problems are appended.

    None without labels; an empty list if there are none because a label track is empty.
    """
    grids = [file for file in map(path.with_suffix, TEXT_GRIDS) if file.is_file()][:1]
    files = [*grids, *(file for file in [path.with_suffix(".txt")] if file.is_file())]
    segments: list[Segment] = []
    used, is_empty = "", bool(files)
    for file in files:
        if used:
            labelled.problems.append(f"{printable(file)}: not used, because there is {used}")
            continue
        segments, problems, has_none = _read_track(file, recording.seconds)
        labelled.problems += problems
        used = printable(file.name) if segments else ""
        is_empty = is_empty and has_none
    if from_table is not None and used:
        labelled.problems.append(f"{TABLE}: lines of {printable(recording.path)} not used, because there is {used}")
    elif from_table is not None:
        segments, changes = in_order(from_table, recording.seconds)
        labelled.problems += [f"{TABLE}, {printable(recording.path)}: {change}" for change in changes]
        is_empty = False
    return segments if segments or is_empty else None


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
    segments, wrong = _segments([(row[1:], ",".join(row)) for row in rows], "not path,start,end,label")
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


def _label_track(text: str) -> _Track:
    """An Audacity label track."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("\\")]
    segments, problems = _segments(
        [(line.split("\t", 2), line) for line in lines], "not start, end, label with tabs between them"
    )
    return _Track([segment for segment in segments if segment], problems, is_empty=not lines)


def _text_grid(text: str) -> _Track:
    """The first tier of intervals of a TextGrid."""
    try:
        from praatio.utilities import errors, textgrid_io
    except ImportError as error:
        raise Unavailable(how_to_install("reading a TextGrid", "praatio", "labels")) from error
    try:
        parsed: dict[str, Any] = textgrid_io.parseTextgridStr(text.rstrip() + "\n", includeEmptyIntervals=False)
        all_entries = [[[str(part) for part in entry] for entry in tier["entries"]] for tier in parsed["tiers"]]
        numbers = [number for number, tier in enumerate(parsed["tiers"]) if tier["class"] == "IntervalTier"]
        names = [str(tier["name"]) for tier in parsed["tiers"]]
    except (errors.PraatioException, ValueError, LookupError, TypeError, AttributeError):
        return _Track([], ["not a TextGrid that can be read: not used"])
    if not numbers:
        return _Track([], ["no tier of intervals: not used"])
    segments, problems = _segments([(entry, " ".join(entry)) for entry in all_entries[numbers[0]]], "not an interval")
    if others := len(names) - 1:
        problems.append(
            f"{counted(others, 'tier')} not used, only the first one of intervals, {printable(names[numbers[0]])}"
        )
    return _Track([segment for segment in segments if segment], problems, is_empty=not any(all_entries))


def _segments(lines: Sequence[tuple[list[str], str]], otherwise: str) -> tuple[list[Segment | None], list[str]]:
    """The segment of each line, of its fields and its text; None, and a problem for each kind, for what is none.

    otherwise: what a line is that is not start, end and label.
    """
    segments: list[Segment | None] = []
    wrong: dict[str, list[str]] = {}  # the lines of each kind
    for fields, text in lines:
        found = _segment(fields)
        segments.append(found if isinstance(found, Segment) else None)
        if not isinstance(found, Segment):
            wrong.setdefault(found or otherwise, []).append(text)
    problems = [
        f"{counted(len(texts), 'line')} {kind}: left out (the first: {printable(texts[0], 60)})"
        for kind, texts in wrong.items()
    ]
    return segments, problems


def _segment(fields: list[str]) -> Segment | str:
    """start, end, label as a segment, or what is wrong, empty if they are none. A decimal comma is read, too."""
    if not 2 <= len(fields) <= 3:
        return ""
    try:
        start, end = (float(text.strip().replace(",", ".")) for text in fields[:2])
    except ValueError:
        return ""
    if not (math.isfinite(start) and math.isfinite(end)):
        return "with a time that is not a finite number"
    if end < start:
        return "with the end before the start"
    return Segment(start, end, fields[2].strip() if len(fields) == 3 else "")


def _name(root: Path, path: Path) -> str:
    """The normalised path of a recording below the folder."""
    return os.path.normpath(path.relative_to(root) if path.is_absolute() and path.is_relative_to(root) else path)

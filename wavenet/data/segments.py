"""Labelled segments of a recording: put in order, and as the class of each frame. NumPy only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

TOLERANCE = 0.001  # seconds; shorter segments, gaps and overlaps are rounding errors of the program that wrote them


class Segment(NamedTuple):
    """A label from `start` to `end`, in seconds from the beginning of the recording."""

    start: float
    end: float
    label: str


def in_order(segments: Sequence[Segment], seconds: float) -> tuple[list[Segment], list[str]]:
    """The segments sorted, without overlaps and within the recording, and what was changed, a phrase for each kind.

    Where segments overlap, the one that starts later counts; the other one continues behind it if it is longer.
    Segments without text or shorter than 1 ms are left out. seconds: duration of the recording.
    """
    changes = []
    named = [segment for segment in segments if segment.label]
    if without := len(segments) - len(named):
        changes.append(f"{counted(without, 'label')} without text: left out")
    usable = [segment for segment in named if segment.end - segment.start >= TOLERANCE]
    if points := len(named) - len(usable):
        changes.append(f"{counted(points, 'label')} without duration (start = end): left out; label a stretch of time")
    ordered = sorted(usable, key=lambda segment: segment.start)
    if ordered != usable:
        changes.append("not in order of time: sorted")
    if negative := sum(segment.start < -TOLERANCE for segment in ordered):
        changes.append(f"{counted(negative, 'label')} with a negative time: cut off at 0 s")
    if beyond := sum(segment.end > seconds + TOLERANCE for segment in ordered):
        changes.append(f"{counted(beyond, 'label')} beyond the recording (0 to {seconds:.2f} s): cut off there")
    inside = [Segment(max(start, 0.0), min(end, seconds), label) for start, end, label in ordered]
    inside = [segment for segment in inside if segment.end - segment.start >= TOLERANCE]
    overlaps = _overlaps(inside)
    if overlaps:
        changes.append(
            f"{counted(len(overlaps), 'overlap')}, the first at {overlaps[0]:.2f} s: the label that starts later counts"
        )
    return _without_overlaps(inside), changes


def gaps(segments: Sequence[Segment], seconds: float) -> list[tuple[float, float]]:
    """Start and end of the parts of a recording without a label. segments: as `in_order` returns them."""
    starts = [0.0, *(segment.end for segment in segments)]
    ends = [*(segment.start for segment in segments), seconds]
    return [(start, end) for start, end in zip(starts, ends, strict=True) if end - start > TOLERANCE]


def frame_classes(
    segments: Iterable[Segment], classes: Sequence[str], frames: int, frame_seconds: float
) -> NDArray[np.int64]:
    """The class of each frame, int64 [frames]: 1 + the number of the label at its centre, 0 if there is none.

    Frame n is centred on (n + 1/2) frame_seconds. A label that is not one of the classes counts as none.
    """
    numbers = {name: number for number, name in enumerate(classes, 1)}
    found = np.zeros(frames, np.int64)
    for start, end, label in segments:
        first, last = (int(np.ceil(time / frame_seconds - 0.5 - 1e-6)) for time in (start, end))
        found[max(first, 0) : max(last, 0)] = numbers.get(label, 0)
    return found


def frame_segments(
    frame_class: NDArray[np.int64], classes: Sequence[str], frame_seconds: float, seconds: float
) -> list[Segment]:
    """The segments of equal class, not 0, of int64 [frames], at least one; the last frame ends with the recording."""
    starts = np.flatnonzero(np.diff(frame_class, prepend=np.int64(-1)))
    times = [*(starts * frame_seconds).tolist(), seconds]
    return [
        Segment(times[i], times[i + 1], classes[number - 1])
        for i, number in enumerate(frame_class[starts].tolist())
        if number
    ]


def counted(count: int, noun: str) -> str:
    """Such as "1 label", "3 labels"."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def _overlaps(segments: Sequence[Segment]) -> list[float]:
    """Where segments, sorted by their start, begin before an earlier one has ended."""
    found, end = [], 0.0
    for segment in segments:
        if end - segment.start > TOLERANCE:
            found.append(segment.start)
        end = max(end, segment.end)
    return found


def _without_overlaps(segments: Sequence[Segment]) -> list[Segment]:
    """Segments, sorted by their start, of which the last one that has started counts."""
    parts: list[Segment] = []
    open_segments: list[Segment] = []  # the last one counts
    now = 0.0

    def advance(to: float) -> None:
        nonlocal now
        while open_segments and now < to:
            _, end, label = open_segments[-1]
            part = Segment(now, min(end, to), label)
            if part.end - part.start >= TOLERANCE:
                parts.append(part)
            now = max(now, part.end)
            if end <= to:
                open_segments.pop()

    for segment in segments:
        advance(segment.start)
        open_segments.append(segment)
        now = segment.start
    advance(float("inf"))
    return parts

"""The files that a batch job makes, and which of them are made side by side."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from wavenet.data import audio
from wavenet.data.cached_samples import DatasetError
from wavenet.data.errors import AudioError, printable
from wavenet.data.scan import scan

# Streams that end earlier are computed until the longest ends. Two streams side by side cost at least 1.1 times as much
# as one (float32), four at least 1.4 times: with this share that is always less than one after the other. More than
# four gain little, which shorter ones among them would lose again.
LEAST_SHARE = 0.6  # of the longest stream of a group, that its streams have at least
FEW, LEAST_SHARE_OF_MORE = 4, 0.9  # the same for those beyond the first ones
MOST_SECONDS = 4 * 3600  # of audio in a group, features and audio of which are in memory
GROUPS_OF_EACH = 2  # at least so many groups for every process, so that they end at about the same time


@dataclass(frozen=True)
class Job:
    """One file to make."""

    output: str  # below the output folder, with /
    seconds: float  # of audio, about
    seed: int
    input: str | None = None  # below the folder of recordings
    size: int = 0  # of the input in bytes
    changed: int = 0  # when the input was last changed, in nanoseconds


def recordings(folder: Path, extension: str, seed: int) -> list[Job]:
    """A job for each recording below a folder; sub-folders stay. Raises `DatasetError` if there are none.

    An output is named as its recording with another extension; where that could be the name of two, an extension is
    added instead: a.flac and a.mp3 become a.flac.wav and a.mp3.wav.
    """
    found, skipped = scan(folder)
    if not found:
        why = f" (the first of {len(skipped):,} skipped: {': '.join(skipped[0])})" if skipped else ""
        raise DatasetError(f"{printable(folder)}: no recordings in this folder{why}")
    outputs = output_names([file.name for file in found], extension)
    return [
        Job(output, _seconds(folder / file.name), seed, PurePath(file.name).as_posix(), file.size, file.mtime_ns)
        for file, output in zip(found, outputs, strict=True)
    ]


def output_names(names: Sequence[str], extension: str) -> list[str]:
    """The outputs of recordings, by their paths below a folder; no two are equal, in upper or lower case."""
    paths = [PurePath(name).as_posix() for name in names]
    longer = [path + extension for path in paths]
    shorter = [PurePath(path).with_suffix(extension).as_posix() for path in paths]
    users: dict[str, set[int]] = {}  # of every name
    for candidates in (longer, shorter):
        for index, name in enumerate(candidates):
            users.setdefault(name.casefold(), set()).add(index)
    return [short if len(users[short.casefold()]) == 1 else long for short, long in zip(shorter, longer, strict=True)]


def _seconds(path: Path) -> float:
    """The length that a file states; 0 where it cannot be read, which is reported when it is its turn."""
    try:
        rate, samples = audio.stated_length(path)
    except AudioError:
        return 0.0
    return max(samples, 0) / rate


def groups(lengths: Sequence[float], streams: int, processes: int = 1) -> list[list[int]]:
    """Indices of streams that are generated side by side, at most `streams`, by their lengths in seconds.

    Streams of a group have similar lengths. The longest come first, so that several processes end at about the same
    time, and for several processes groups are smaller if there would be too few of them.
    """
    most = streams
    if processes > 1:
        most = min(streams, max(1, -(-len(lengths) // (GROUPS_OF_EACH * processes))))
    found: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        longest = lengths[found[-1][0]] if found else 0.0
        full = not found or len(found[-1]) == most or longest * (len(found[-1]) + 1) > MOST_SECONDS
        share = LEAST_SHARE if not found or len(found[-1]) < FEW else LEAST_SHARE_OF_MORE
        if full or lengths[index] < share * longest:
            found.append([])
        found[-1].append(index)
    return found


def consecutive(jobs: Iterable[Job], streams: int) -> list[list[Job]]:
    """Groups of at most `streams` jobs whose seeds follow one another."""
    found: list[list[Job]] = []
    for job in jobs:
        if not found or len(found[-1]) == streams or job.seed != found[-1][-1].seed + 1:
            found.append([])
        found[-1].append(job)
    return found


def check_apart(folder: Path, output: Path) -> None:
    """Raises `DatasetError` for an output folder that is, or is in, the folder of recordings: it would be read, too."""
    inside, outside = Path(os.path.realpath(output)), Path(os.path.realpath(folder))
    if inside == outside or outside in inside.parents:
        raise DatasetError(f"{printable(output)}: is in the folder of recordings, {printable(folder)}; give another")

"""A sample of a folder of recordings: what indexing it would find, and how long that would take, in a few seconds.

Files are found, and a random selection of them is decoded, each up to `PART_SECONDS`. The duration of all is estimated
from the sizes of the files: bytes of those that were read over their stated durations. Nothing is written.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wavenet.config import DataConfig
from wavenet.data import audio
from wavenet.data.cache import Cache, cache_folder
from wavenet.data.cached_samples import DatasetError
from wavenet.data.clips import Clips
from wavenet.data.dataset import Recordings
from wavenet.data.decoding import MAX_WORKERS
from wavenet.data.scan import FoundFile, no_recordings, scan
from wavenet.data.speakers import speaker_lookup
from wavenet.data.summary import Summary, kinds

FIND_SECONDS, READ_SECONDS = 15.0, 10.0  # for finding the files, and for reading some
PART_SECONDS = 20.0  # of one recording that are decoded, at most
KEPT_SECONDS = 120.0  # of all of them together that stay in memory
MOST_FILES = 400  # that are read
NO_SAMPLES = np.zeros(0, np.int16)


@dataclass(frozen=True)
class ReadFile:
    """A file that was read, at most `PART_SECONDS` of it.

    seconds: its duration, as its header states it. decoded: seconds that were decoded. samples: those, if they are
        kept. reason: why it is not usable, or "".
    """

    file: FoundFile
    seconds: float
    decoded: float
    samples: NDArray[np.int16]
    reason: str = ""


@dataclass(frozen=True)
class FolderSample:
    """What was found in a folder, and what was read of it.

    found: files with the extension of a recording. all_found: whether the search ended in time.
    new: those that are not in the cache. read: those that were read, in `read_seconds`.
    """

    folder: Path
    sample_rate: int
    cache: Path
    found: list[FoundFile]
    all_found: bool
    new: list[FoundFile]
    read: list[ReadFile]
    read_seconds: float
    speakers: dict[str, str]  # speaker by file, of the files that have one

    @property
    def usable(self) -> list[ReadFile]:
        """Those of the files read that can be trained on."""
        return [item for item in self.read if not item.reason]

    @property
    def problems(self) -> dict[str, int]:
        """Number of files read that are not usable, by kind of reason."""
        return dict(Counter(item.reason.partition(":")[0] for item in self.read if item.reason).most_common())

    @property
    def seconds(self) -> float:
        """Estimated duration of all usable recordings."""
        return self._estimated(self.found)

    @property
    def new_seconds(self) -> float:
        """Estimated duration of those that are not in the cache."""
        return self._estimated(self.new)

    @property
    def cache_bytes(self) -> float:
        """Estimated size of the decoded audio that the cache does not contain yet, 16 bits a sample."""
        return 2 * self.sample_rate * self.new_seconds

    @property
    def index_seconds(self) -> float:
        """Estimated time of decoding it, at the speed at which the sample was decoded."""
        decoded = sum(item.decoded for item in self.usable)
        return self.new_seconds * self.read_seconds / decoded if decoded else 0.0

    def _estimated(self, files: list[FoundFile]) -> float:
        size = sum(item.file.size for item in self.read)
        return sum(item.seconds for item in self.usable) / max(size, 1) * sum(file.size for file in files)

    def recordings(self) -> Recordings:
        """The parts that were read, as an opened folder without held-out recordings."""
        parts = [item for item in self.usable if len(item.samples)]
        lengths = np.array([len(item.samples) for item in parts], np.int64)
        samples = np.concatenate([item.samples for item in parts])
        speakers = [self.speakers[item.file.name] for item in parts] if self.speakers else None
        names = [item.file.name for item in parts]
        summary = Summary(os.fspath(self.folder), self.sample_rate, found=len(self.found), kept=len(parts))
        for name, length in zip(speakers or (), lengths.tolist(), strict=bool(speakers)):
            summary.speakers[name] = summary.speakers.get(name, 0.0) + length / self.sample_rate
        summary.speakers = dict(sorted(summary.speakers.items()))
        summary.seconds = summary.train_seconds = float(lengths.sum()) / self.sample_rate
        summary.train_files = len(parts)
        train = Clips(samples, np.cumsum(lengths) - lengths, lengths, self.sample_rate, speakers, names)
        nothing = Clips(samples, lengths[:0], lengths[:0], self.sample_rate, None if speakers is None else [])
        return Recordings(train, nothing, summary)


def sample_folder(folder: Path, sample_rate: int, data: DataConfig) -> FolderSample:
    """Find the recordings of a folder, and read some of them.

    Raises `DatasetError` as `open_folder` does: for a folder that does not exist or in which nothing that was read can
    be used, and for a table of speakers that cannot be used.
    """
    if not folder.is_dir():
        what = "is a file: give the folder that contains it" if folder.exists() else "does not exist: give another one"
        raise DatasetError(f"{audio.printable(folder)} {what}")
    end = time.monotonic() + FIND_SECONDS
    found, _ = scan(folder, lambda: time.monotonic() > end)
    all_found = time.monotonic() <= end
    if not found and not all_found:
        raise DatasetError(f"{audio.printable(folder)}: no recording was found in {FIND_SECONDS:g} seconds")
    if not found:
        raise DatasetError(no_recordings(folder))
    speaker_of = speaker_lookup(folder, data.speakers, (file.name for file in found))
    named = {file.name: speaker_of(file.name) for file in found} if data.speakers else {}
    wanted = [file for file in found if not data.speakers or not named[file.name][1]]
    if not wanted:
        raise DatasetError(f"{audio.printable(folder)}: no recording has a speaker ({named[found[0].name][1]})")
    cache = cache_folder(folder, sample_rate, data.trim_db)
    started = time.monotonic()
    read, kept = list[ReadFile](), 0.0
    for item in _read_some(folder, wanted, sample_rate):
        read.append(item if kept < KEPT_SECONDS else replace(item, samples=NO_SAMPLES))
        kept += item.decoded
    speakers = {file.name: named[file.name][0] for file in wanted} if data.speakers else {}
    elapsed = time.monotonic() - started
    new = _new_files(cache, wanted)
    sample = FolderSample(folder, sample_rate, cache, wanted, all_found, new, read, elapsed, speakers)
    if not sample.usable:
        first = next(item for item in read if item.reason)
        raise DatasetError(
            f"none of the {len(read):,} recordings read in {audio.printable(folder)} is usable: replace them, "
            f"{kinds(sample.problems)} (the first: {audio.printable(first.file.name)}: {first.reason})"
        )
    return sample


def _new_files(cache: Path, found: list[FoundFile]) -> list[FoundFile]:
    """The files that the cache does not contain. A cache that does not exist is not created."""
    if not (cache / "index.sqlite").exists():
        return found
    with closing(Cache(cache)) as opened:
        return [file for file in found if not opened.indexed(file)]


def _read_some(folder: Path, found: list[FoundFile], sample_rate: int) -> Iterator[ReadFile]:
    """Read files in random order, side by side as indexing does, until the time is over; at least one."""
    chosen = [found[i] for i in np.random.default_rng(0).permutation(len(found))[:MOST_FILES].tolist()]
    workers = min(os.cpu_count() or 1, MAX_WORKERS)
    end = time.monotonic() + READ_SECONDS
    running: set[Future[ReadFile]] = set()
    with ThreadPoolExecutor(workers) as pool:
        for number, file in enumerate(chosen):
            if number and time.monotonic() > end:
                break
            running.add(pool.submit(_read, folder, file, sample_rate, end))
            if len(running) >= workers:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        yield from (future.result() for future in running)


def _read(folder: Path, file: FoundFile, sample_rate: int, end: float) -> ReadFile:
    """The first part of a recording, up to `end` in monotonic time."""
    path, pieces, samples = folder / file.name, [], 0
    try:
        stated_rate, stated = audio.stated_length(path)
        for piece in audio.blocks(path, sample_rate):
            pieces.append(audio.to_int16(piece))
            samples += len(piece)
            if samples >= PART_SECONDS * sample_rate or time.monotonic() > end:
                break
        if not pieces:
            raise audio.AudioError(path, "no samples")
    except audio.AudioError as error:
        return ReadFile(file, 0.0, 0.0, NO_SAMPLES, error.reason)
    decoded = samples / sample_rate
    return ReadFile(file, max(stated / stated_rate, decoded), decoded, np.concatenate(pieces))

"""Open a folder of recordings: find and decode them, and split them into training and validation clips."""

from __future__ import annotations

import math
import os
import sys
from array import array
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wavenet.config import DataConfig
from wavenet.data import audio
from wavenet.data.cache import Cache, cache_folder
from wavenet.data.cached_samples import DatasetError as DatasetError
from wavenet.data.cached_samples import Samples
from wavenet.data.clips import Clips
from wavenet.data.decoding import Decoder, update
from wavenet.data.decoding import Progress as Progress
from wavenet.data.levels import gains_of, measure_levels
from wavenet.data.scan import Skipped, no_recordings
from wavenet.data.shards import are_shards, check_settings, open_shards
from wavenet.data.speakers import speaker_lookup
from wavenet.data.split import NoSides, Sides, Split, Windows, split
from wavenet.data.summary import Summary as Summary
from wavenet.data.summary import kinds
from wavenet.data.summary import write_skipped as write_skipped
from wavenet.data.table import RecordingTable

Reject = Callable[[Mapping[str, float]], Mapping[str, str]]  # durations in seconds by path -> reasons

CANCELLING_DB = 10.0  # two channels of equal level are averaged to this much less if their correlation is -0.8
LIMITED_DB = 0.5  # recordings that are this far below data.loudness are reported


@dataclass(frozen=True)
class Recordings:
    """An opened folder: training clips, validation clips (perhaps none), and the summary of its files."""

    train: Clips
    validation: Clips
    summary: Summary

    def validated(self, seconds: float) -> Clips:
        """Clips of which each validation uses the first `seconds`: if split by time, parts of all stretches."""
        return self.validation.spread(seconds) if self.summary.split == "time" else self.validation


@dataclass(frozen=True)
class _Source:
    """What a folder of recordings and a dataset in shards have in common.

    recordings: those that were decoded, in the order of their names. found: number of files. speaker_of: the speaker
    of one of them by its row, or why it has none. measure: completes the levels in a table of some of them.
    """

    samples: Samples
    recordings: RecordingTable
    skipped: Skipped
    found: int
    speaker_of: Callable[[int], tuple[str, str]]
    sides: Sides
    measure: Callable[[RecordingTable], None]


@dataclass
class _Used:
    """The recordings that are used, with their speakers and gains, [n] each; None as in `Clips`."""

    table: RecordingTable
    speakers: list[str] | None = None
    gains: NDArray[np.float64] | None = None


def open_folder(
    folder: str | os.PathLike[str],
    sample_rate: int,
    data: DataConfig,
    progress: Progress | None = None,
    reject: Reject | None = None,
) -> Recordings:
    """Open a folder of recordings, or a dataset in shards, and split it into training and validation.

    A folder is indexed at `sample_rate` Hz, and new files are decoded. Shards are those of `wavenet data pack`, in a
    folder or at an address that fsspec knows, such as s3://bucket/shards.

    progress: called a few times a second with the number of files done and of all files.
    reject: called with the durations of all readable recordings, by their path below the folder; returns the reasons
        for which some of them are skipped.
    An interruption (Ctrl-C) loses at most a second of decoding, and a file that takes longer. Several processes may
    open a folder simultaneously.
    Raises `DatasetError` for a folder that does not exist or has no usable recording, for a table of speakers that
    cannot be used, for a cache that cannot be written, and for shards of another sample rate or trim_db.
    """
    if are_shards(folder):
        return _opened(os.fspath(folder), _shards(folder, sample_rate, data), sample_rate, data, reject)
    root = Path(folder)
    if not root.is_dir():
        what = "is a file: give the folder that contains it" if root.exists() else "does not exist: give another folder"
        raise DatasetError(f"{audio.printable(root)} {what}")
    with closing(Cache(cache_folder(root, sample_rate, data.trim_db))) as cache:
        return _opened(os.fspath(folder), _folder(root, cache, sample_rate, data, progress), sample_rate, data, reject)


def _folder(root: Path, cache: Cache, sample_rate: int, data: DataConfig, progress: Progress | None) -> _Source:
    """Index a folder of recordings, and decode new ones."""
    found = cache.find(root)
    speaker_of = speaker_lookup(root, data.speakers, found.names())
    decoder = Decoder(root, sample_rate, data.trim_db, cache.folder, cache)
    unreadable = update(cache, decoder, found, progress)
    recordings, unusable = cache.recordings(found)
    samples, skipped = cache.samples(), [*found.skipped, *unreadable, *unusable]

    def measure(chosen: RecordingTable) -> None:
        measure_levels(cache, samples, chosen, sample_rate)

    names = recordings.names
    return _Source(samples, recordings, skipped, found.total, lambda row: speaker_of(names[row]), cache, measure)


def _shards(folder: str | os.PathLike[str], sample_rate: int, data: DataConfig) -> _Source:
    """Open a dataset in shards. Speakers are those that it was packed with, if it was."""
    packed = open_shards(folder)
    check_settings(os.fspath(folder), packed.settings, sample_rate, data.trim_db)
    recordings, speakers = packed.recordings, packed.speakers
    known = data.speakers and packed.settings.speakers
    lookup = None if known else speaker_lookup(Path(folder), data.speakers, recordings.names)

    def speaker_of(row: int) -> tuple[str, str]:
        if lookup is not None:
            return lookup(recordings.names[row])
        return speakers[row], "" if speakers[row] else "packed without a speaker"

    samples, skipped, found = packed.samples, packed.skipped, packed.found
    return _Source(samples, recordings, skipped, found, speaker_of, NoSides(), lambda measured: None)


def _opened(folder: str, source: _Source, sample_rate: int, data: DataConfig, reject: Reject | None) -> Recordings:
    """Choose the recordings that are used, and split them."""
    summary = Summary(folder, sample_rate, source.found)
    used, unused = _choose(source, sample_rate, data, reject)
    summary.skipped = sorted([*source.skipped, *unused])
    if not len(used.table):
        raise DatasetError(_nothing_usable(summary))
    rows = used.table.rows
    parts = split(source.sides, rows["key"], rows["length"], sample_rate, data)
    if data.loudness:
        source.measure(used.table)
        used.gains = gains_of(rows, data.loudness)
        _summarise_levels(rows["dbfs"], used.gains, data.loudness, summary)
    return _recordings(source.samples, used, parts, data, summary)


def _choose(source: _Source, sample_rate: int, data: DataConfig, reject: Reject | None) -> tuple[_Used, Skipped]:
    """The recordings that are used, and the others with the reason."""
    table, skipped = source.recordings, Skipped()
    if not data.speakers and reject is None:
        return _Used(table), skipped
    rejected: Mapping[str, str] = {}
    if reject is not None:
        rejected = reject(dict(zip(table.names, (table.rows["length"] / sample_rate).tolist(), strict=True)))
    rows, speakers = array("q"), list[str]()
    for row, name in enumerate(table.names):
        speaker, no_speaker = source.speaker_of(row)
        if reason := rejected.get(name, "") or no_speaker:
            skipped.append((name, reason))
        else:
            rows.append(row)
            speakers.append(sys.intern(speaker))
    return _Used(table.take(np.array(rows, np.int64)), speakers if data.speakers else None), skipped


def _nothing_usable(summary: Summary) -> str:
    if not summary.skipped:
        return no_recordings(summary.folder)
    folder = audio.printable(summary.folder)
    path, reason = summary.skipped[0]
    first = f"{audio.printable(path)}: {reason}"
    return f"{folder} has no usable recording: replace its files, {kinds(summary.reasons)} (the first: {first})"


def _recordings(samples: Samples, used: _Used, parts: Split, data: DataConfig, summary: Summary) -> Recordings:
    """Training and validation clips, and the summary of both."""
    sample_rate, rows, names = summary.sample_rate, used.table.rows, used.table.names

    def clips(windows: Windows) -> Clips:
        chosen = windows.indices
        offsets, lengths = rows["offset"][chosen] + windows.starts, windows.stops - windows.starts
        speakers = None if used.speakers is None else [used.speakers[i] for i in chosen]
        gains = None if used.gains is None else used.gains[chosen]
        return Clips(samples, offsets, lengths, sample_rate, speakers, names.take(chosen), gains, windows.starts)

    windows = parts.train
    if data.edge_silence >= 0:
        windows = _without_edges(windows, rows, round(data.edge_silence * sample_rate))
        summary.edge_seconds = (_total(parts.train) - _total(windows)) / sample_rate
    train, validation = clips(windows), clips(parts.validation)

    summary.split, summary.validation_share, summary.validation_is_tail = parts.kind, data.validation, parts.is_tail
    summary.stretches = len(parts.validation.indices)
    samples_kept = int(rows["length"].sum())
    if parts.kind == "time":
        summary.gap_seconds = (samples_kept - _total(parts.train) - _total(parts.validation)) / sample_rate
    summary.kept, summary.seconds = len(rows), samples_kept / sample_rate
    summary.duplicates = len(rows) - len(np.unique(rows["key"]))
    summary.stereo = int((rows["channels"] > 1).sum())
    summary.cancelling = list(names.take(np.flatnonzero(rows["cancelled_db"] > CANCELLING_DB)))
    summary.trimmed_seconds = int(rows["trimmed"].sum()) / sample_rate
    summary.train_files, summary.train_seconds = len(np.unique(windows.indices)), train.seconds
    summary.validation_files = len(np.unique(parts.validation.indices))
    summary.validation_seconds = validation.seconds
    if used.speakers is not None:
        summary.speakers = _seconds_by_speaker(used.speakers, rows["length"], sample_rate)
        summary.held_out_speakers = sorted(set(summary.speakers) - set(train.speakers or ()))
    return Recordings(train, validation, summary)


def _without_edges(windows: Windows, rows: NDArray[Any], kept: int) -> Windows:
    """The windows without the silence at the ends of their recordings, except for `kept` samples of it.

    Windows in which nothing remains are left out; if that is so for all of them, they are returned unchanged.
    """
    lead, end = rows["lead"][windows.indices], (rows["length"] - rows["trail"])[windows.indices]
    starts, stops = np.maximum(windows.starts, lead - kept), np.minimum(windows.stops, end + kept)
    loud = starts < stops
    return Windows(windows.indices[loud], starts[loud], stops[loud]) if loud.any() else windows


def _total(windows: Windows) -> int:
    """Samples of all windows together."""
    return int((windows.stops - windows.starts).sum())


def _summarise_levels(dbfs: NDArray[np.float64], gains: NDArray[np.float64], loudness: float, summary: Summary) -> None:
    """The range of the levels, except for silent recordings, and how many cannot be set to `loudness`."""
    audible = dbfs > -math.inf
    if not audible.any():
        return
    levels = dbfs[audible]
    summary.levels = float(levels.min()), float(levels.max())
    summary.loudness = loudness
    summary.limited = int((levels + 20 * np.log10(gains[audible]) < loudness - LIMITED_DB).sum())


def _seconds_by_speaker(speakers: list[str], lengths: NDArray[np.int64], sample_rate: int) -> dict[str, float]:
    samples: dict[str, int] = dict.fromkeys(sorted(set(speakers)), 0)
    for speaker, length in zip(speakers, lengths, strict=True):
        samples[speaker] += int(length)
    return {speaker: number / sample_rate for speaker, number in samples.items()}

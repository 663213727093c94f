"""Open a folder of recordings: find and decode them, and split them into training and validation clips."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from wavenet.config import DataConfig
from wavenet.data import audio
from wavenet.data.cache import Cache, CachedClip, Level, cache_folder
from wavenet.data.cached_samples import DatasetError as DatasetError
from wavenet.data.cached_samples import Samples
from wavenet.data.clips import Clips
from wavenet.data.decoding import CHANGED, Decoder, update
from wavenet.data.decoding import Progress as Progress
from wavenet.data.levels import gain, levels
from wavenet.data.scan import Skipped, no_recordings, scan
from wavenet.data.shards import are_shards, check_settings, open_shards
from wavenet.data.speakers import Lookup, speaker_lookup
from wavenet.data.split import NoSides, Sides, Split, Windows, split
from wavenet.data.summary import Summary as Summary
from wavenet.data.summary import kinds
from wavenet.data.summary import write_skipped as write_skipped

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
class _Recording:
    """One usable file of the folder."""

    name: str  # path below the folder
    speaker: str
    key: bytes  # content hash
    clip: CachedClip
    gain: float = 1.0  # that sets it to `data.loudness`


@dataclass(frozen=True)
class _Source:
    """What a folder of recordings and a dataset in shards have in common.

    files: name, content hash and clip of each that was decoded, in the order of the names. found: number of files.
    """

    samples: Samples
    files: list[tuple[str, bytes, CachedClip]]
    skipped: Skipped
    found: int
    speaker_of: Lookup
    sides: Sides
    levels: Callable[[list[_Recording]], Mapping[bytes, Level]]


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
    found, skipped = scan(root)
    speaker_of = speaker_lookup(root, data.speakers, (file.name for file in found))
    number = len(found) + sum(not name.endswith(os.sep) for name, _ in skipped)
    decoder = Decoder(root, sample_rate, data.trim_db, cache.folder, cache.keys())
    hashes, unreadable = update(cache, decoder, found, progress)
    stored = cache.clips()
    changed = CachedClip(0, 0, 0, 0, 0, CHANGED)  # a copy of a file that changed meanwhile
    files = [(name, key, stored.get(key, changed)) for name, key in sorted(hashes.items())]

    def measured(recordings: list[_Recording]) -> Mapping[bytes, Level]:
        return levels(cache, samples, ((recording.key, recording.clip) for recording in recordings), sample_rate)

    samples = cache.samples()
    return _Source(samples, files, skipped + unreadable, number, speaker_of, cache, measured)


def _shards(folder: str | os.PathLike[str], sample_rate: int, data: DataConfig) -> _Source:
    """Open a dataset in shards. Speakers are those that it was packed with, if it was."""
    packed = open_shards(folder)
    check_settings(os.fspath(folder), packed.settings, sample_rate, data.trim_db)
    speakers = {recording.name: recording.speaker for recording in packed.recordings}
    if data.speakers and packed.settings.speakers:
        speaker_of: Lookup = lambda name: (speakers[name], "" if speakers[name] else "packed without a speaker")  # noqa: E731
    else:
        speaker_of = speaker_lookup(Path(folder), data.speakers, speakers)
    files = [(recording.name, recording.key, recording.clip) for recording in packed.recordings]
    measured = {recording.key: recording.level for recording in packed.recordings}
    return _Source(packed.samples, files, packed.skipped, packed.found, speaker_of, NoSides(), lambda _: measured)


def _opened(folder: str, source: _Source, sample_rate: int, data: DataConfig, reject: Reject | None) -> Recordings:
    """Choose the recordings that are used, and split them."""
    summary = Summary(folder, sample_rate, source.found)
    durations = {name: clip.length / sample_rate for name, _, clip in source.files if not clip.reason}
    rejected = reject(durations) if reject else {}
    recordings, skipped = list[_Recording](), list(source.skipped)
    for name, key, clip in source.files:
        reason = clip.reason or rejected.get(name, "")
        speaker, no_speaker = source.speaker_of(name)
        if reason or no_speaker:
            skipped.append((name, reason or no_speaker))
        else:
            recordings.append(_Recording(name, speaker, key, clip))
    summary.skipped = sorted(skipped)
    if not recordings:
        raise DatasetError(_nothing_usable(summary))
    lengths = np.array([recording.clip.length for recording in recordings], np.int64)
    parts = split(source.sides, [recording.key for recording in recordings], lengths, sample_rate, data)
    if data.loudness:
        measured = source.levels(recordings)
        _summarise_levels([measured[recording.key] for recording in recordings], data.loudness, summary)
        recordings = [replace(item, gain=gain(measured[item.key], data.loudness)) for item in recordings]
    return _recordings(source.samples, recordings, parts, data, summary)


def _nothing_usable(summary: Summary) -> str:
    if not summary.skipped:
        return no_recordings(summary.folder)
    folder = audio.printable(summary.folder)
    path, reason = summary.skipped[0]
    first = f"{audio.printable(path)}: {reason}"
    return f"{folder} has no usable recording: replace its files, {kinds(summary.reasons)} (the first: {first})"


def _recordings(
    samples: Samples, recordings: list[_Recording], parts: Split, data: DataConfig, summary: Summary
) -> Recordings:
    """Training and validation clips, and the summary of both."""
    sample_rate = summary.sample_rate

    def clips(windows: Windows) -> Clips:
        chosen = [recordings[i] for i in windows.indices]
        offsets = np.array([recording.clip.offset for recording in chosen], np.int64) + windows.starts
        speakers = [recording.speaker for recording in chosen] if data.speakers else None
        names = [recording.name for recording in chosen]
        gains = np.array([recording.gain for recording in chosen]) if data.loudness else None
        lengths = windows.stops - windows.starts
        return Clips(samples, offsets, lengths, sample_rate, speakers, names, gains, windows.starts)

    windows = parts.train
    if data.edge_silence >= 0:
        windows = _without_edges(windows, recordings, round(data.edge_silence * sample_rate))
        summary.edge_seconds = (_total(parts.train) - _total(windows)) / sample_rate
    train, validation = clips(windows), clips(parts.validation)

    summary.split, summary.validation_share, summary.validation_is_tail = parts.kind, data.validation, parts.is_tail
    summary.stretches = len(parts.validation.indices)
    samples_kept = sum(recording.clip.length for recording in recordings)
    if parts.kind == "time":
        summary.gap_seconds = (samples_kept - _total(parts.train) - _total(parts.validation)) / sample_rate
    summary.kept, summary.seconds = len(recordings), samples_kept / sample_rate
    summary.duplicates = len(recordings) - len({recording.key for recording in recordings})
    summary.stereo = sum(recording.clip.channels > 1 for recording in recordings)
    summary.cancelling = [recording.name for recording in recordings if recording.clip.cancelled_db > CANCELLING_DB]
    summary.trimmed_seconds = sum(recording.clip.trimmed for recording in recordings) / sample_rate
    summary.train_files, summary.train_seconds = len(set(train.names)), train.seconds
    summary.validation_files, summary.validation_seconds = len(set(validation.names)), validation.seconds
    if data.speakers:
        summary.speakers = _seconds_by_speaker(recordings, sample_rate)
        summary.held_out_speakers = sorted(set(summary.speakers) - set(train.speakers or ()))
    return Recordings(train, validation, summary)


def _without_edges(windows: Windows, recordings: list[_Recording], kept: int) -> Windows:
    """The windows without the silence at the ends of their recordings, except for `kept` samples of it.

    Windows in which nothing remains are left out; if that is so for all of them, they are returned unchanged.
    """
    clips = [recordings[i].clip for i in windows.indices]
    starts = np.maximum(windows.starts, np.array([clip.lead - kept for clip in clips], np.int64))
    stops = np.minimum(windows.stops, np.array([clip.length - clip.trail + kept for clip in clips], np.int64))
    loud = starts < stops
    return Windows(windows.indices[loud], starts[loud], stops[loud]) if loud.any() else windows


def _total(windows: Windows) -> int:
    """Samples of all windows together."""
    return int((windows.stops - windows.starts).sum())


def _summarise_levels(measured: list[Level], loudness: float, summary: Summary) -> None:
    """The range of the levels, except for silent recordings, and how many cannot be set to `loudness`."""
    audible = [level for level in measured if level.dbfs > -math.inf]
    if not audible:
        return
    summary.levels = min(level.dbfs for level in audible), max(level.dbfs for level in audible)
    summary.loudness = loudness
    reached = [level.dbfs + 20 * math.log10(gain(level, loudness)) for level in audible]
    summary.limited = sum(dbfs < loudness - LIMITED_DB for dbfs in reached)


def _seconds_by_speaker(recordings: list[_Recording], sample_rate: int) -> dict[str, float]:
    samples: dict[str, int] = dict.fromkeys(sorted({recording.speaker for recording in recordings}), 0)
    for recording in recordings:
        samples[recording.speaker] += recording.clip.length
    return {speaker: number / sample_rate for speaker, number in samples.items()}

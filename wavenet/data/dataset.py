"""Open a folder of recordings: find and decode them, and split them into training and validation clips."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wavenet.config import DataConfig
from wavenet.data import audio
from wavenet.data.cache import Cache, CachedClip, cache_folder
from wavenet.data.cached_samples import CachedSamples
from wavenet.data.cached_samples import DatasetError as DatasetError
from wavenet.data.clips import Clips
from wavenet.data.decoding import CHANGED, Decoder, update
from wavenet.data.decoding import Progress as Progress
from wavenet.data.scan import scan
from wavenet.data.speakers import speaker_lookup
from wavenet.data.summary import Summary as Summary
from wavenet.data.summary import kinds
from wavenet.data.summary import write_skipped as write_skipped

TAIL_SHARE, TAIL_SECONDS = 10, 60  # of a single recording the last tenth is held out, at most a minute


@dataclass(frozen=True)
class Recordings:
    """An opened folder: training clips, validation clips (perhaps none), and the summary of its files."""

    train: Clips
    validation: Clips
    summary: Summary


@dataclass(frozen=True)
class _Recording:
    """One usable file of the folder."""

    name: str  # path below the folder
    speaker: str
    key: bytes  # content hash
    clip: CachedClip


def open_folder(
    folder: str | os.PathLike[str], sample_rate: int, data: DataConfig, progress: Progress | None = None
) -> Recordings:
    """Index a folder of recordings at `sample_rate` Hz, decode new ones, and split it into training and validation.

    progress: called a few times a second with the number of files done and of all files.
    An interruption (Ctrl-C) loses at most a second of decoding. Several processes may open a folder simultaneously.
    Raises `DatasetError` for a folder that does not exist or has no usable recording, for a table of speakers that
    cannot be used, and for a cache that cannot be written.
    """
    root = Path(folder)
    if not root.is_dir():
        what = "is a file: give the folder that contains it" if root.exists() else "does not exist: give another folder"
        raise DatasetError(f"{audio.printable(root)} {what}")
    found, skipped = scan(root)
    speaker_of = speaker_lookup(root, data.speakers, (file.name for file in found))
    summary = Summary(os.fspath(folder), sample_rate)
    summary.found = len(found) + sum(not name.endswith(os.sep) for name, _ in skipped)
    with closing(Cache(cache_folder(root, sample_rate, data.trim_db))) as cache:
        hashes, unreadable = update(cache, Decoder(root, sample_rate, data.trim_db, cache.keys()), found, progress)
        stored = cache.clips()
        skipped += unreadable
        recordings = []
        for name, key in sorted(hashes.items()):
            reason = stored[key].reason if key in stored else CHANGED  # a copy of a file that changed meanwhile
            speaker, no_speaker = speaker_of(name)
            if reason or no_speaker:
                skipped.append((name, reason or no_speaker))
            else:
                recordings.append(_Recording(name, speaker, key, stored[key]))
        summary.skipped = sorted(skipped)
        if not recordings:
            raise DatasetError(_nothing_usable(summary))
        held_out = _held_out(cache, [recording.key for recording in recordings], data.validation)
        samples = cache.samples()
    return _split(samples, recordings, held_out, data, summary)


def _nothing_usable(summary: Summary) -> str:
    folder = audio.printable(summary.folder)
    if not summary.skipped:
        return f"{folder} has no recordings: put files there that end in {' '.join(sorted(audio.AUDIO_EXTENSIONS))}"
    path, reason = summary.skipped[0]
    first = f"{audio.printable(path)}: {reason}"
    return f"{folder} has no usable recording: replace its files, {kinds(summary.reasons)} (the first: {first})"


def _held_out(cache: Cache, keys: list[bytes], validation: float) -> NDArray[np.bool_]:
    """Which clips are held out, bool [n]. It depends on their content only: renamed or added files change nothing.

    If all clips are on one side, the one nearest to the threshold changes sides, and the cache stores that.
    """
    if not validation:
        return np.zeros(len(keys), np.bool_)
    sides = cache.sides(validation)
    held = {key: sides.get(key, int.from_bytes(key[:4], "big") / 2**32 < validation) for key in keys}
    if len(held) > 1 and len(set(held.values())) == 1:
        nearest = max(held) if held[keys[0]] else min(held)
        held[nearest] = not held[nearest]
        cache.set_side(validation, nearest, held[nearest])
    return np.array([held[key] for key in keys], np.bool_)


def _split(
    samples: CachedSamples,
    recordings: list[_Recording],
    held_out: NDArray[np.bool_],
    data: DataConfig,
    summary: Summary,
) -> Recordings:
    """Training and validation clips, and the summary of both."""
    sample_rate = summary.sample_rate
    spans = np.array([recording.clip[:5] for recording in recordings], np.int64)  # [n, 5], in samples
    starts, lengths, lead, trail, trimmed = spans.T
    stops = starts + lengths

    def clips(which: NDArray[np.bool_], starts: NDArray[np.int64], stops: NDArray[np.int64]) -> Clips:
        chosen = [recordings[i] for i in np.flatnonzero(which)]
        speakers = [recording.speaker for recording in chosen] if data.speakers else None
        names = [recording.name for recording in chosen]
        return Clips(samples, starts[which], (stops - starts)[which], sample_rate, speakers, names)

    tail = 0  # samples
    summary.validation_is_tail = len(np.unique(starts)) == 1 and data.validation > 0 and lengths[0] >= TAIL_SHARE
    if summary.validation_is_tail:  # only its end can be held out, once for all copies
        tail = min(int(lengths[0]) // TAIL_SHARE, TAIL_SECONDS * sample_rate)
        validation = clips(np.arange(len(recordings)) == 0, stops - tail, stops)
        held_out = np.zeros_like(held_out)
    else:
        validation = clips(held_out, starts, stops)
    stops = stops - tail
    if data.edge_silence >= 0:
        kept = round(data.edge_silence * sample_rate)
        cut_lead, cut_trail = np.maximum(lead - kept, 0), np.maximum(trail - tail - kept, 0)
        cut = ~held_out & (cut_lead + cut_trail < stops - starts)  # keep a clip that is silent except for its tail
        summary.edge_seconds = int((cut_lead + cut_trail)[cut].sum()) / sample_rate
        starts, stops = starts + cut_lead * cut, stops - cut_trail * cut
    train = clips(~held_out, starts, stops)

    summary.kept, summary.seconds = len(recordings), int(lengths.sum()) / sample_rate
    summary.duplicates = len(recordings) - len({recording.key for recording in recordings})
    summary.trimmed_seconds = int(trimmed.sum()) / sample_rate
    summary.train_files, summary.train_seconds = len(train), train.seconds
    summary.validation_files, summary.validation_seconds = len(validation), validation.seconds
    if data.speakers:
        summary.speakers = _seconds_by_speaker(recordings, sample_rate)
        summary.held_out_speakers = sorted(set(summary.speakers) - set(train.speakers or ()))
    return Recordings(train, validation, summary)


def _seconds_by_speaker(recordings: list[_Recording], sample_rate: int) -> dict[str, float]:
    samples: dict[str, int] = dict.fromkeys(sorted({recording.speaker for recording in recordings}), 0)
    for recording in recordings:
        samples[recording.speaker] += recording.clip.length
    return {speaker: number / sample_rate for speaker, number in samples.items()}

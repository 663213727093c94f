"""A folder of recordings -> a cache that is decoded once -> random crops of mu-law codes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wavenet import audio, mulaw
from wavenet.cache import CHANGED, Cache, DatasetError, Loader, Progress, cache_folder, update, walk
from wavenet.config import DataConfig

TAIL_SHARE, TAIL_SECONDS = 10, 60  # of a single recording the last tenth is held out, at most a minute
LISTED_SKIPS = 10  # skipped files that the printed summary names

# Code of every int16 sample, by its bits as uint16.
_CODES = mulaw.encode(np.arange(2**16, dtype=np.uint16).view(np.int16) / np.float32(audio.FULL_SCALE)).astype(np.uint8)


class Clips:
    """Recordings in memory-mapped sound: clip i is samples[offsets[i] : offsets[i] + lengths[i]]."""

    def __init__(
        self, samples: NDArray[np.int16], offsets: NDArray[np.int64], lengths: NDArray[np.int64], rate: int
    ) -> None:
        self.samples, self.offsets, self.lengths, self.rate = samples, offsets, lengths, rate  # int16 [all], [n], [n]
        self._ends: dict[int, NDArray[np.int64]] = {}

    def __len__(self) -> int:
        return len(self.offsets)

    def __iter__(self) -> Iterator[NDArray[np.int16]]:
        return (self.clip(i) for i in range(len(self)))

    @property
    def seconds(self) -> float:
        """Length of all clips together."""
        return int(self.lengths.sum()) / self.rate

    def clip(self, i: int) -> NDArray[np.int16]:
        """Samples of clip i, int16 [length]: a view, read from the file when it is used."""
        offset, length = int(self.offsets[i]), int(self.lengths[i])
        return self.samples[offset : offset + length]

    def codes(self, i: int) -> NDArray[np.uint8]:
        """Mu-law codes of clip i, uint8 [length]."""
        return _encode(self.clip(i))

    def cumulative(self, margin: int) -> NDArray[np.int64]:
        """Running sum over the clips of the crop positions they offer, int64 [n]; kept for the next call.

        A clip longer than `margin` + 1 offers length + margin positions, a shorter one as many as a clip of 1 sample.
        """
        if margin not in self._ends:
            self._ends[margin] = np.cumsum(np.where(self.lengths > margin + 1, self.lengths, 1) + margin)
        return self._ends[margin]


def crops(
    clips: Clips, batch: int, crop: int, rng: np.random.Generator, join: bool = False
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Draw random crops: inputs, targets (mu-law codes) and mask, each [batch, crop].

    Inputs are the targets one sample later. The first input is the sample before the crop, at a clip's start silence.
    The mask is False where a target is padding, which the loss leaves out. Every sample of every clip is equally
    likely to be a target, the first and the last included:

        join=False  |--clip--|    a window slides over the clip from beyond its start to beyond its end, and the crop
                   [===]   [===]  is what both share, at the front of its row, the rest padded with silence. A clip
                                  shorter than a crop is always heard whole.
        join=True   |--clip--|-another-|  a uniform start in the clip; where it ends another one, drawn with equal
                          [=======]       chances, goes on from its first sample, as clips are played one by one.

    Raises `ValueError` when there are no clips.
    """
    if not len(clips):
        raise ValueError("there are no clips to draw crops from")
    inputs = np.full((batch, crop), mulaw.SILENCE, np.int64)  # [B, T]
    targets = np.full((batch, crop), mulaw.SILENCE, np.int64)  # [B, T]
    mask = np.zeros((batch, crop), np.bool_)  # [B, T]
    margin = 0 if join else crop - 1  # positions before a clip's start from which a window still reaches into it
    ends = clips.cumulative(margin)
    for row, position in enumerate(rng.integers(0, ends[-1], size=batch)):
        i = int(np.searchsorted(ends, position, side="right"))
        length = int(clips.lengths[i])
        start = int(position - (ends[i - 1] if i else 0)) - margin  # negative: the window begins before the clip
        stop = min(start + crop, length)
        if not join and length <= crop:
            start, stop = 0, length
        start = max(start, 0)
        sound = _encode(clips.clip(i)[max(start - 1, 0) : stop])
        filled = stop - start
        targets[row, :filled] = sound[len(sound) - filled :]
        if start > 0:
            inputs[row, 0] = sound[0]
        while join and filled < crop:
            sound = _encode(clips.clip(int(rng.integers(len(clips))))[: crop - filled])
            targets[row, filled : filled + len(sound)] = sound
            filled += len(sound)
        inputs[row, 1:filled] = targets[row, : filled - 1]
        mask[row, :filled] = True
    return inputs, targets, mask


@dataclass
class Summary:
    """What became of a folder's files. Durations are seconds at the model's rate."""

    folder: str
    rate: int  # Hz
    found: int = 0  # files with the extension of a recording
    kept: int = 0
    copies: int = 0  # kept files whose content another one has too
    seconds: float = 0.0  # kept, of training and validation
    trimmed_seconds: float = 0.0  # cut from the ends by trim_db
    edge_seconds: float = 0.0  # of silence that edge_silence sets aside, training clips only
    train_files: int = 0
    train_seconds: float = 0.0
    validation_files: int = 0
    validation_seconds: float = 0.0
    tail: bool = False  # validation is the end of the only recording
    skipped: list[tuple[str, str]] = field(default_factory=list)  # path below the folder, reason

    @property
    def reasons(self) -> dict[str, int]:
        """Skipped files by kind of reason, the most frequent first."""
        return dict(Counter(reason.partition(":")[0] for _, reason in self.skipped).most_common())

    def lines(self) -> list[str]:
        """The summary to print."""
        kept = f"{_count(self.kept)} of {_count(self.found, 'recording')} in {audio.printable(self.folder)}"
        copies = f" ({_count(self.copies, 'copy', 'copies')} of another)" if self.copies else ""
        lines = [f"kept {kept}{copies}: {_duration(self.seconds)} at {self.rate:,} Hz"]
        if self.skipped:
            lines.append(f"dropped {_count(len(self.skipped), 'file')} of unknown length: {_kinds(self.reasons)}")
        if self.trimmed_seconds:
            lines.append(f"dropped {_duration(self.trimmed_seconds)}: silence at the ends of recordings (trim_db)")
        if self.edge_seconds:
            lines.append(f"set aside {_duration(self.edge_seconds)}: silence at the ends in training (edge_silence)")
        held_out = f"{_count(self.validation_files, 'file')}, {_duration(self.validation_seconds)}"
        if self.tail:
            held_out = f"the last {_duration(self.validation_seconds)} of the only recording"
        elif not self.validation_files:
            held_out = "none"
        train = f"{_count(self.train_files, 'file')}, {_duration(self.train_seconds)}"
        lines.append(f"training: {train}; validation: {held_out}")
        named = self.skipped[:LISTED_SKIPS]
        lines += [f"skipped {audio.printable(path)}: {reason}" for path, reason in named]
        if len(self.skipped) > len(named):
            lines.append(f"... and {_count(len(self.skipped) - len(named))} more")
        return lines


@dataclass(frozen=True)
class Recordings:
    """An opened folder: what to train on, what is held out (perhaps nothing), and what became of the files."""

    train: Clips
    validation: Clips
    summary: Summary


def open_folder(
    folder: str | os.PathLike[str], rate: int, data: DataConfig, progress: Progress | None = None
) -> Recordings:
    """Index a folder of recordings at `rate` Hz, decode what is new, and split it into training and validation.

    `progress(done, total)` counts files, a few times a second. An interruption (Ctrl-C) loses a second of decoding at
    most; several processes may open the same folder at once. Raises `DatasetError` for a folder that is missing or
    holds no usable recording, and for a cache that cannot be written.
    """
    root = Path(folder)
    if not root.is_dir():
        what = "is a file: name the folder it lies in" if root.exists() else "does not exist: name another folder"
        raise DatasetError(f"{audio.printable(root)} {what}")
    found, skipped = walk(root)
    summary = Summary(os.fspath(folder), rate, found=len(found) + len(skipped))
    with closing(Cache(cache_folder(root, rate, data.trim_db))) as cache:
        hashes, refused = update(cache, Loader(root, rate, data.trim_db, cache.keys()), found, progress)
        stored = cache.clips()
        keys = []
        for name, key in sorted(hashes.items()):
            reason = stored[key].reason if key in stored else CHANGED  # a copy of a file that changed meanwhile
            if reason:
                refused.append((name, reason))
            else:
                keys.append(key)
        summary.skipped = sorted(skipped + refused)
        if not keys:
            raise DatasetError(_nothing_usable(summary))
        held_out = _held_out(cache, keys, data.validation)
        samples = cache.samples()
    summary.copies = len(keys) - len(set(keys))
    rows = np.array([stored[key][:5] for key in keys], np.int64)  # [n, 5]
    return _divide(samples, rows, held_out, data, summary)


def _nothing_usable(summary: Summary) -> str:
    folder = audio.printable(summary.folder)
    if not summary.skipped:
        return f"{folder} holds no recordings; put files there that end in {' '.join(sorted(audio.AUDIO_EXTENSIONS))}"
    path, reason = summary.skipped[0]
    first = f"{audio.printable(path)}: {reason}"
    return f"{folder} holds no usable recording; replace its files: {_kinds(summary.reasons)} (the first: {first})"


def _held_out(cache: Cache, keys: list[bytes], validation: float) -> NDArray[np.bool_]:
    """Which clips are held out, by content: neither a new name nor a new file beside it moves a clip.

    Where that leaves one side empty, the clip nearest to the border changes sides, and the cache remembers it.
    """
    if not validation:
        return np.zeros(len(keys), np.bool_)
    moved = cache.moved(validation)
    held = {key: moved.get(key, int.from_bytes(key[:4], "big") / 2**32 < validation) for key in keys}
    if len(held) > 1 and len(set(held.values())) == 1:
        nearest = max(held) if held[keys[0]] else min(held)
        held[nearest] = not held[nearest]
        cache.move(validation, nearest, held[nearest])
    return np.array([held[key] for key in keys], np.bool_)


def _divide(
    samples: NDArray[np.int16], rows: NDArray[np.int64], held_out: NDArray[np.bool_], data: DataConfig, summary: Summary
) -> Recordings:
    """Training and validation clips, and the rest of the summary; `rows` are those of the cache, int64 [n, 5]."""
    rate = summary.rate
    offsets, lengths, lead, trail, trimmed = rows.T
    summary.kept, summary.seconds = len(rows), int(lengths.sum()) / rate
    summary.trimmed_seconds = int(trimmed.sum()) / rate
    tail = np.zeros_like(lengths)
    summary.tail = len(np.unique(offsets)) == 1 and data.validation > 0 and lengths[0] >= TAIL_SHARE
    if summary.tail:  # nothing to hold out but the end of the one recording
        tail = np.minimum(lengths // TAIL_SHARE, TAIL_SECONDS * rate)
        validation = Clips(samples, (offsets + lengths - tail)[:1], tail[:1], rate)  # once, however many copies
        held_out = np.zeros_like(held_out)
    else:
        validation = Clips(samples, offsets[held_out], lengths[held_out], rate)
    begin, end = offsets[~held_out], (offsets + lengths - tail)[~held_out]
    if data.edge_silence >= 0:
        keep = round(data.edge_silence * rate)
        cut_lead = np.maximum(lead[~held_out] - keep, 0)
        cut_trail = np.maximum((trail - tail)[~held_out] - keep, 0)
        sounding = cut_lead + cut_trail < end - begin  # else silence is all that the held-out tail leaves
        summary.edge_seconds = int((cut_lead + cut_trail)[sounding].sum()) / rate
        begin, end = begin + cut_lead * sounding, end - cut_trail * sounding
    train = Clips(samples, begin, end - begin, rate)
    summary.train_files, summary.train_seconds = len(train), train.seconds
    summary.validation_files, summary.validation_seconds = len(validation), validation.seconds
    return Recordings(train, validation, summary)


def _encode(samples: NDArray[np.int16]) -> NDArray[np.uint8]:
    return _CODES[samples.view(np.uint16)]


def _count(number: int, one: str = "", many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}" if one else f"{number:,}"


def _kinds(reasons: dict[str, int]) -> str:
    return ", ".join(f"{_count(count)} {kind}" for kind, count in reasons.items())


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} seconds"
    return f"{seconds / 60:.1f} minutes" if seconds < 3600 else f"{seconds / 3600:,.2f} hours"

"""A folder of recordings -> a cache that is decoded once -> random crops of codes, with the sound around them."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wavenet import mulaw
from wavenet.config import DataConfig
from wavenet.data import audio
from wavenet.data import quantizers as quantizers
from wavenet.data.cache import CHANGED, Cache, DatasetError, Loader, Progress, cache_folder, update, walk

TAIL_SHARE, TAIL_SECONDS = 10, 60  # of a single recording the last tenth is held out, at most a minute
LISTED_SKIPS = 10  # skipped files that the printed summary names

# Code of every int16 sample, by its bits as uint16.
_CODES = mulaw.encode(np.arange(2**16, dtype=np.uint16).view(np.int16) / np.float32(audio.FULL_SCALE)).astype(np.uint8)


class Clips:
    """Recordings in memory-mapped sound: clip i is samples[offsets[i] : offsets[i] + lengths[i]].

    speakers: who speaks in each, [n] names; None where that is not known.
    names: of the files, [n] paths below the folder; empty where they come from elsewhere.
    """

    def __init__(
        self,
        samples: NDArray[np.int16],
        offsets: NDArray[np.int64],
        lengths: NDArray[np.int64],
        rate: int,
        speakers: Sequence[str] | None = None,
        names: Sequence[str] = (),
    ) -> None:
        self.samples, self.offsets, self.lengths, self.rate = samples, offsets, lengths, rate  # int16 [all], [n], [n]
        self.speakers, self.names = speakers, names
        self._ends: dict[int, NDArray[np.int64]] = {}
        self._spoken: dict[str, NDArray[np.int64]] = {}

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

    def codes(self, i: int, codes: quantizers.Quantizer = quantizers.MU_LAW) -> NDArray[Any]:
        """Codes of clip i, [length]: uint8 for mu-law, int16 for 16-bit ones."""
        return _encode(self.clip(i), codes)

    def of_speaker(self, name: str) -> NDArray[np.int64]:
        """The clips of one speaker; kept for the next call."""
        if name not in self._spoken:
            self._spoken[name] = np.flatnonzero([name == speaker for speaker in self.speakers or ()])
        return self._spoken[name]

    def cumulative(self, margin: int) -> NDArray[np.int64]:
        """Running sum over the clips of the crop positions they offer, int64 [n]; kept for the next call.

        A clip longer than `margin` + 1 offers length + margin positions, a shorter one as many as a clip of 1 sample.
        """
        if margin not in self._ends:
            self._ends[margin] = np.cumsum(np.where(self.lengths > margin + 1, self.lengths, 1) + margin)
        return self._ends[margin]


class Crops(NamedTuple):
    """Random crops, B rows of T samples."""

    inputs: NDArray[np.int64]  # [B, T]: the targets one sample later, as codes
    targets: NDArray[np.int64]  # [B, T]
    mask: NDArray[np.bool_]  # [B, T]: False where a target is padding, which the loss leaves out
    sound: NDArray[np.int16]  # [B, margin + T + margin]: the same sound, and what lies around it
    bounds: NDArray[np.int64]  # [B, 2]: where in `sound` the recordings begin and end; beyond is silence
    clips: NDArray[np.int64]  # [B]: the clip that each row begins in


def crops(
    clips: Clips,
    batch: int,
    crop: int,
    rng: np.random.Generator,
    join: bool = False,
    codes: quantizers.Quantizer = quantizers.MU_LAW,
    margin: int = 1,
) -> Crops:
    """Draw random crops of T = `crop` samples, with at least one sample of `margin` around them.

    The first input is the sample before the crop, at a clip's start silence. Every sample of every clip is equally
    likely to be a target, the first and the last included:

        join=False  |--clip--|    a window slides over the clip from beyond its start to beyond its end, and the crop
                   [===]   [===]  is what both share, at the front of its row, the rest padded with silence. A clip
                                  shorter than a crop is always heard whole.
        join=True   |--clip--|-another-|  a uniform start in the clip; where it ends another one, drawn with equal
                          [=======]       chances and of the same speaker, goes on from its first sample, as clips are
                                          played one by one.

    Raises `ValueError` when there are no clips.
    """
    if not len(clips):
        raise ValueError("there are no clips to draw crops from")
    size = margin + crop + margin
    sound = np.zeros((batch, size), np.int16)
    bounds = np.zeros((batch, 2), np.int64)
    filled = np.zeros(batch, np.int64)  # samples of each crop that are no padding
    drawn = np.zeros(batch, np.int64)
    beyond = 0 if join else crop - 1  # positions before a clip's start from which a window still reaches into it
    ends = clips.cumulative(beyond)
    for row, position in enumerate(rng.integers(0, ends[-1], size=batch)):
        i = drawn[row] = int(np.searchsorted(ends, position, side="right"))
        length = int(clips.lengths[i])
        start = int(position - (ends[i - 1] if i else 0)) - beyond  # negative: the window begins before the clip
        stop = min(start + crop, length)
        if not join and length <= crop:
            start, stop = 0, length
        start = max(start, 0)
        filled[row] = crop if join else stop - start
        first = max(start - margin, 0)
        # a window that began before the clip ends before it, too: what follows is not heard, but belongs to the margin
        heard = clips.clip(i)[first : start + crop + margin]
        begin = margin - (start - first)
        end = begin + len(heard)
        sound[row, begin:end] = heard
        while join and end < margin + crop:
            heard = clips.clip(_another(clips, i, rng))[: size - end]
            sound[row, end : end + len(heard)] = heard
            end += len(heard)
        bounds[row] = begin, end
    mask = np.arange(crop) < filled[:, None]
    spoken = _encode(sound[:, margin - 1 : margin + crop], codes).astype(np.int64)  # [B, 1 + T]
    inputs, targets = (np.where(mask, part, codes.silence) for part in (spoken[:, :-1], spoken[:, 1:]))
    return Crops(inputs, targets, mask, sound, bounds, drawn)


def _another(clips: Clips, i: int, rng: np.random.Generator) -> int:
    """A random clip of the speaker of clip i."""
    if clips.speakers is None:
        return int(rng.integers(len(clips)))
    same = clips.of_speaker(clips.speakers[i])
    return int(same[rng.integers(len(same))])


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
    speakers: dict[str, float] = field(default_factory=dict)  # kept seconds of each, where they are told apart
    unheard: list[str] = field(default_factory=list)  # speakers of whom nothing is trained on
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
        for name in self.unheard:
            lines.append(f"all recordings of {audio.printable(name)} are held out: lower data.validation, or add some")
        if self.speakers:
            each = ", ".join(f"{audio.printable(name)} {_duration(s)}" for name, s in self.speakers.items())
            lines.append(f"{_count(len(self.speakers), 'speaker')}: {each}")
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
        speaker_of = _speakers(root, data.speakers)
        keys, speakers, names = [], [], []
        for name, key in sorted(hashes.items()):
            reason = stored[key].reason if key in stored else CHANGED  # a copy of a file that changed meanwhile
            speaker, unknown = speaker_of(name)
            if reason or unknown:
                refused.append((name, reason or unknown))
            else:
                keys.append(key)
                speakers.append(speaker)
                names.append(name)
        summary.skipped = sorted(skipped + refused)
        if not keys:
            raise DatasetError(_nothing_usable(summary))
        held_out = _held_out(cache, keys, data.validation)
        samples = cache.samples()
    summary.copies = len(keys) - len(set(keys))
    rows = np.array([stored[key][:5] for key in keys], np.int64)  # [n, 5]
    return _divide(samples, rows, held_out, data, summary, names, speakers)


def _speakers(root: Path, told: str) -> Callable[[str], tuple[str, str]]:
    """What gives a file's speaker, or the reason why it has none, by its path below the root. Raises `DatasetError`."""
    if not told:
        return lambda name: ("", "")
    if told == "folders":
        return lambda name: (name.split(os.sep)[0], "") if os.sep in name else ("", "in no speaker's folder")
    table = next((path for path in (Path(told), root / told) if path.is_file()), None)
    if table is None:
        raise DatasetError(f"data.speakers = {told!r}: must be 'folders', or a file of lines path,speaker")
    try:
        with open(table, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            lines = [(reader.line_num, line) for line in reader if line]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{audio.printable(table)}: cannot be read as lines of path,speaker ({error})") from None
    for number, line in lines:
        if len(line) != 2 or not line[1].strip():
            raise DatasetError(f"{audio.printable(table)}: line {number} is not path,speaker: {','.join(line)!r}")
    known: dict[str, str] = {}
    for number, (path, speaker) in lines:
        if known.setdefault(os.path.normpath(path.strip()), speaker.strip()) != speaker.strip():
            raise DatasetError(f"{audio.printable(table)}: line {number} names another speaker of {path!r} than before")
    return lambda name: (known[name], "") if name in known else ("", f"not listed: {table.name} names no speaker")


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
    samples: NDArray[np.int16],
    rows: NDArray[np.int64],
    held_out: NDArray[np.bool_],
    data: DataConfig,
    summary: Summary,
    files: list[str],
    speakers: list[str],
) -> Recordings:
    """Training and validation clips, and the rest of the summary; `rows` are those of the cache, int64 [n, 5]."""
    rate = summary.rate
    offsets, lengths, lead, trail, trimmed = rows.T
    summary.kept, summary.seconds = len(rows), int(lengths.sum()) / rate
    summary.trimmed_seconds = int(trimmed.sum()) / rate
    names = np.array(speakers, dtype=object) if data.speakers else None
    paths = np.array(files, dtype=object)
    if names is not None:
        summary.speakers = {name: int(lengths[names == name].sum()) / rate for name in sorted(set(speakers))}
    tail = np.zeros_like(lengths)
    summary.tail = len(np.unique(offsets)) == 1 and data.validation > 0 and lengths[0] >= TAIL_SHARE
    if summary.tail:  # nothing to hold out but the end of the one recording
        tail = np.minimum(lengths // TAIL_SHARE, TAIL_SECONDS * rate)
        who = speakers[:1] if data.speakers else None
        validation = Clips(samples, (offsets + lengths - tail)[:1], tail[:1], rate, who, files[:1])  # once
        held_out = np.zeros_like(held_out)
    else:
        validation = Clips(
            samples, offsets[held_out], lengths[held_out], rate, _taken(names, held_out), _taken(paths, held_out)
        )
    begin, end = offsets[~held_out], (offsets + lengths - tail)[~held_out]
    if data.edge_silence >= 0:
        keep = round(data.edge_silence * rate)
        cut_lead = np.maximum(lead[~held_out] - keep, 0)
        cut_trail = np.maximum((trail - tail)[~held_out] - keep, 0)
        sounding = cut_lead + cut_trail < end - begin  # else silence is all that the held-out tail leaves
        summary.edge_seconds = int((cut_lead + cut_trail)[sounding].sum()) / rate
        begin, end = begin + cut_lead * sounding, end - cut_trail * sounding
    train = Clips(samples, begin, end - begin, rate, _taken(names, ~held_out), _taken(paths, ~held_out))
    summary.unheard = sorted(set(summary.speakers) - set(train.speakers or ()))
    summary.train_files, summary.train_seconds = len(train), train.seconds
    summary.validation_files, summary.validation_seconds = len(validation), validation.seconds
    return Recordings(train, validation, summary)


def _taken(names: NDArray[Any] | None, which: NDArray[np.bool_]) -> Any:
    return None if names is None else names[which].tolist()


def _encode(samples: NDArray[np.int16], codes: quantizers.Quantizer) -> NDArray[Any]:
    return _CODES[samples.view(np.uint16)] if codes is quantizers.MU_LAW else samples


def _count(number: int, one: str = "", many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}" if one else f"{number:,}"


def _kinds(reasons: dict[str, int]) -> str:
    return ", ".join(f"{_count(count)} {kind}" for kind, count in reasons.items())


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} seconds"
    return f"{seconds / 60:.1f} minutes" if seconds < 3600 else f"{seconds / 3600:,.2f} hours"

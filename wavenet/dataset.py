"""A folder of recordings -> a cache that is decoded once -> random crops of mu-law codes.

The cache (`$WAVENET_CACHE`, otherwise `~/.cache/wavenet-toolkit`) has a folder for every (folder, rate, trim_db):

    audio.i16     int16 mono at the model's rate, clip after clip; only ever appended to, and memory-mapped to be read
    index.sqlite  clips: content hash -> offset and length in audio.i16, or why it is no recording
                  files: path -> size, times, content hash

A file whose size and times are those of the index is not opened again; any other is hashed, and decoded only if its
content is new. So a copy, a new name and an interrupted run cost no decoding, and a changed file is always noticed.
"""

from __future__ import annotations

import hashlib
import os
import re
import sqlite3
import stat
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wavenet import audio, mulaw
from wavenet.config import DataConfig

Progress = Callable[[int, int], None]  # files done, files in all

INDEX_VERSION = 1  # another one in the cache: it is made again
TAIL_SHARE, TAIL_SECONDS = 10, 60  # of a single recording the last tenth is held out, at most a minute
LISTED_SKIPS = 10  # skipped files that the printed summary names
BYTES_IN_FLIGHT = 2**26  # of files being decoded at a time, which bounds the memory
BATCH_SECONDS, BATCH_SAMPLES = 1.0, 2**24  # decoded sound waiting to be stored: what an interruption can lose
PROGRESS_SECONDS = 0.2  # between two reports
LOCK_SECONDS = 60.0  # how long to wait for another process on the same cache
HASH_BYTES = 20
NOTHING = np.zeros(0, np.int16)
CHANGED = "changed while it was read"
MAX_WORKERS = 16
SCHEMA = f"""
BEGIN;
CREATE TABLE clips (hash BLOB PRIMARY KEY, offset INTEGER NOT NULL, length INTEGER NOT NULL, lead INTEGER NOT NULL,
    trail INTEGER NOT NULL, trimmed INTEGER NOT NULL, reason TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE files (name BLOB PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    ctime_ns INTEGER NOT NULL, hash BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE moved (validation REAL, hash BLOB, held_out INTEGER NOT NULL,
    PRIMARY KEY (validation, hash)) WITHOUT ROWID;
PRAGMA user_version = {INDEX_VERSION};
COMMIT;
"""

# Code of every int16 sample, by its bits as uint16.
_CODES = mulaw.encode(np.arange(2**16, dtype=np.uint16).view(np.int16) / np.float32(audio.FULL_SCALE)).astype(np.uint8)


class DatasetError(ValueError):
    """A folder or a cache that cannot be used: one line that says what to do."""


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

    def codes(self, i: int) -> NDArray[np.int64]:
        """Mu-law codes of clip i, int64 [length]."""
        return _encode(self.clip(i)).astype(np.int64)

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
    found, skipped = _walk(root)
    summary = Summary(os.fspath(folder), rate, found=len(found) + len(skipped))
    with closing(_Cache(_cache_folder(root, rate, data.trim_db))) as cache:
        hashes, refused = _update(cache, _Loader(root, rate, data.trim_db, cache.keys()), found, progress)
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


def _held_out(cache: _Cache, keys: list[bytes], validation: float) -> NDArray[np.bool_]:
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


class _File(NamedTuple):
    """A file as the walk found it."""

    name: str  # path below the folder
    size: int
    mtime_ns: int
    ctime_ns: int


class _Row(NamedTuple):
    """A clip in the cache; all but the reason count samples."""

    offset: int
    length: int
    lead: int  # silence before the sound
    trail: int  # and after it
    trimmed: int  # cut away by trim_db before it was stored
    reason: str  # why the content is no recording; otherwise empty


class _Result(NamedTuple):
    """What became of a file."""

    file: _File
    refused: str = ""  # why it cannot be read just now; nothing of this is remembered
    key: bytes = b""  # content hash
    samples: NDArray[np.int16] = NOTHING
    row: _Row | None = None  # None: the content is known; the offset is chosen when it is stored


def _walk(root: Path) -> tuple[list[_File], list[tuple[str, str]]]:
    """Recordings below the root, and what looks like one but is none (path, reason). Enters each folder once."""
    found: list[_File] = []
    skipped: list[tuple[str, str]] = []
    seen: set[tuple[int, int]] = set()  # folders by device and inode, against links that lead in circles
    folders = [""]
    while folders:
        below = folders.pop()
        path = root / below
        try:
            status = os.stat(path)
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            entries = sorted(os.scandir(path), key=lambda entry: entry.name, reverse=True)
        except OSError as error:
            skipped.append((os.path.join(below, ""), audio.reason_of(error, path)))
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            name = os.path.join(below, entry.name)
            recording = os.path.splitext(entry.name)[1].lower() in audio.AUDIO_EXTENSIONS
            try:
                if entry.is_dir():
                    folders.append(name)
                    if recording:
                        skipped.append((name, "a directory"))
                elif recording:
                    status = entry.stat()
                    if stat.S_ISREG(status.st_mode):
                        found.append(_File(name, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
                    else:
                        skipped.append((name, "not a regular file"))
            except OSError as error:
                if recording:
                    skipped.append((name, audio.reason_of(error, entry.path)))
    return found, skipped


def _update(
    cache: _Cache, load: _Loader, found: list[_File], progress: Progress | None
) -> tuple[dict[str, bytes], list[tuple[str, str]]]:
    """Bring the cache up to date with the files found: content hashes by name, and files refused with the reason."""
    indexed = cache.files()
    hashes = {file.name: indexed[file] for file in found if indexed.get(file) in load.known}
    refused: list[tuple[str, str]] = []
    waiting: list[_Result] = []  # decoded, not yet stored
    samples = 0  # in them
    stored = reported = time.monotonic()
    with closing(_in_parallel(load, [file for file in found if file.name not in hashes])) as results:
        try:
            for result in results:
                if result.refused:
                    refused.append((result.file.name, result.refused))
                else:
                    hashes[result.file.name] = result.key
                    waiting.append(result)
                    samples += len(result.samples)
                now = time.monotonic()
                if now - stored > BATCH_SECONDS or samples > BATCH_SAMPLES:
                    cache.add(waiting)
                    waiting, samples, stored = [], 0, now
                if progress and now - reported > PROGRESS_SECONDS:
                    progress(len(hashes) + len(refused), len(found))
                    reported = now
        finally:  # an interruption, too, keeps what is decoded
            cache.add(waiting)
    if progress:
        progress(len(found), len(found))
    return hashes, refused


def _in_parallel(load: _Loader, files: list[_File]) -> Generator[_Result, None, None]:
    """Results as they come, from a thread per core: decoder, resampler and hash run outside the interpreter's lock."""
    workers = min(os.cpu_count() or 1, MAX_WORKERS)
    running: dict[Future[_Result], int] = {}  # and the size of its file
    with ThreadPoolExecutor(workers) as pool:
        try:
            for file in files:
                while running and (len(running) >= 2 * workers or sum(running.values()) + file.size > BYTES_IN_FLIGHT):
                    yield from _finished(running)
                running[pool.submit(load, file)] = file.size
            while running:
                yield from _finished(running)
        finally:
            for future in running:  # only when interrupted
                future.cancel()


def _finished(running: dict[Future[_Result], int]) -> Iterator[_Result]:
    done, _ = wait(running, return_when=FIRST_COMPLETED)
    for future in done:
        del running[future]
        yield future.result()


class _Loader:
    """Hashes a file and decodes it when its content is new; called from several threads."""

    def __init__(self, root: Path, rate: int, trim_db: float, known: set[bytes]) -> None:
        self.root, self.rate, self.trim_db = root, rate, trim_db
        self.known = known  # content hashes in the cache
        self._claimed = set(known)  # and those that another thread decodes
        self._lock = threading.Lock()

    def __call__(self, file: _File) -> _Result:
        path = self.root / file.name
        try:
            with open(path, "rb") as content:
                key = hashlib.file_digest(content, lambda: hashlib.blake2b(digest_size=HASH_BYTES)).digest()
            with self._lock:
                new = key not in self._claimed
                self._claimed.add(key)
            samples, row = self._decode(path) if new else (NOTHING, None)
            status = os.stat(path)
        except OSError as error:
            return _Result(file, refused=audio.reason_of(error, path))
        except MemoryError:
            return _Result(file, refused="too long for the memory: cut it into pieces")
        if (status.st_size, status.st_mtime_ns, status.st_ctime_ns) != file[1:]:
            return _Result(file, refused=CHANGED)
        return _Result(file, "", key, samples, row)

    def _decode(self, path: Path) -> tuple[NDArray[np.int16], _Row]:
        try:
            whole = audio.read(path, self.rate)
        except audio.AudioError as error:
            return NOTHING, _Row(0, 0, 0, 0, 0, error.reason)
        sound = audio.trim(whole, self.trim_db)
        lead, trail = audio.silent_edges(sound, self.rate)
        return audio.to_int16(sound), _Row(0, len(sound), lead, trail, len(whole) - len(sound), "")


class _Cache:
    """The index and the sound of one cache folder. Methods raise `DatasetError` when the folder cannot be used."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sound = folder / "audio.i16"
        with self._errors():
            folder.mkdir(parents=True, exist_ok=True)
            self.sound.touch()
            # An empty database is a lock that every system has: two processes must not mend the same cache.
            with closing(sqlite3.connect(folder / "lock.sqlite", timeout=LOCK_SECONDS, isolation_level=None)) as lock:
                lock.execute("BEGIN EXCLUSIVE")
                try:
                    self.index = self._connect()
                except sqlite3.OperationalError:  # locked, full, not to be written: not damaged
                    raise
                except sqlite3.DatabaseError:
                    for path in folder.glob("index.sqlite*"):
                        path.unlink()
                    self.sound.unlink()
                    self.sound.touch()
                    self.index = self._connect()

    def close(self) -> None:
        """Let go of the index; sound that is mapped stays so."""
        self.index.close()

    def files(self) -> dict[_File, bytes]:
        """Content hash of every file ever indexed."""
        with self._errors():
            rows = self.index.execute("SELECT name, size, mtime_ns, ctime_ns, hash FROM files")
            return {_File(os.fsdecode(name), *times): key for name, *times, key in rows}

    def keys(self) -> set[bytes]:
        """Content hashes of all clips, and of all that is known to be no recording."""
        with self._errors():
            return {key for (key,) in self.index.execute("SELECT hash FROM clips")}

    def clips(self) -> dict[bytes, _Row]:
        """Every row by its content hash."""
        with self._errors():
            rows = self.index.execute("SELECT hash, offset, length, lead, trail, trimmed, reason FROM clips")
            return {key: _Row(*row) for key, *row in rows}

    def samples(self) -> NDArray[np.int16]:
        """All sound, mapped from the file."""
        with self._errors():
            return np.memmap(self.sound, np.dtype("<i2"), "r", shape=(self.sound.stat().st_size // 2,))

    def moved(self, validation: float) -> dict[bytes, bool]:
        """Clips whose side was chosen, for this share of validation: held out or not, by content hash."""
        with self._errors():
            rows = self.index.execute("SELECT hash, held_out FROM moved WHERE validation = ?", (validation,))
            return {key: bool(held_out) for key, held_out in rows}

    def move(self, validation: float, key: bytes, held_out: bool) -> None:
        """Remember a chosen side."""
        with self._errors():
            self.index.execute("INSERT OR REPLACE INTO moved VALUES (?, ?, ?)", (validation, key, held_out))

    def add(self, results: list[_Result]) -> None:
        """Store clips and files, all or nothing. Sound lies on the disk before the index speaks of it."""
        if not results:
            return
        with self._errors(), self._transaction():
            (end,) = self.index.execute("SELECT coalesce(max(offset + length), 0) FROM clips").fetchone()
            with open(self.sound, "r+b") as sound:
                sound.seek(2 * end)  # what lies behind is left from an interruption
                for result in results:
                    if result.row and self._insert(result.key, result.row._replace(offset=end)):
                        sound.write(result.samples.astype("<i2", copy=False).data)
                        end += result.row.length
                    file = (os.fsencode(result.file.name), *result.file[1:], result.key)
                    self.index.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)", file)
                sound.flush()
                os.fsync(sound.fileno())

    def _insert(self, key: bytes, row: _Row) -> bool:
        """Whether the clip is new: another process may have stored the same meanwhile."""
        return self.index.execute("INSERT OR IGNORE INTO clips VALUES (?, ?, ?, ?, ?, ?, ?)", (key, *row)).rowcount > 0

    def _connect(self) -> sqlite3.Connection:
        """Open the index and make its tables. Raises `sqlite3.DatabaseError` where it is damaged or another version."""
        index = sqlite3.connect(self.folder / "index.sqlite", timeout=LOCK_SECONDS, isolation_level=None)
        try:
            (version,) = index.execute("PRAGMA user_version").fetchone()
            (tables,) = index.execute("SELECT count(*) FROM sqlite_master").fetchone()
            (check,) = index.execute("PRAGMA quick_check(1)").fetchone()
            if check != "ok" or (tables and version != INDEX_VERSION):
                raise sqlite3.DatabaseError(check)
            if not tables:
                index.executescript(SCHEMA)
            index.execute("BEGIN IMMEDIATE")  # while nobody appends
            held = self.sound.stat().st_size // 2
            index.execute("DELETE FROM clips WHERE offset + length > ?", (held,))  # lost: to be decoded again
            index.execute("COMMIT")
        except BaseException:
            index.close()
            raise
        return index

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self.index.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.index.execute("COMMIT")
        except BaseException:
            self.index.execute("ROLLBACK")
            raise

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            folder = audio.printable(self.folder)
            advice = "set WAVENET_CACHE to a folder that can be written and has room"
            raise DatasetError(f"the cache {folder} cannot be used ({reason}): {advice}") from error


def _cache_folder(root: Path, rate: int, trim_db: float) -> Path:
    real = os.path.realpath(root)
    name = re.sub(r"[^\w.-]+", "_", os.path.basename(real))[:40] or "root"
    key = hashlib.sha256(os.fsencode(real)).hexdigest()[:8]
    trimmed = f"-trim{trim_db:g}" if trim_db else ""
    return _cache_root() / f"{name}-{key}-{rate}{trimmed}"


def _cache_root() -> Path:
    if named := os.environ.get("WAVENET_CACHE"):
        return Path(named).expanduser()
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "wavenet-toolkit"


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

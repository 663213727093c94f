"""The cache below a dataset: every recording of a folder decoded once, memory-mapped, keyed by content.

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
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wavenet.data import audio

Progress = Callable[[int, int], None]  # files done, files in all

INDEX_VERSION = 1  # another one in the cache: it is made again
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


class DatasetError(ValueError):
    """A folder or a cache that cannot be used: one line that says what to do."""


class File(NamedTuple):
    """A file as the walk found it."""

    name: str  # path below the folder
    size: int
    mtime_ns: int
    ctime_ns: int


class Row(NamedTuple):
    """A clip in the cache; all but the reason count samples."""

    offset: int
    length: int
    lead: int  # silence before the sound
    trail: int  # and after it
    trimmed: int  # cut away by trim_db before it was stored
    reason: str  # why the content is no recording; otherwise empty


class Result(NamedTuple):
    """What became of a file."""

    file: File
    refused: str = ""  # why it cannot be read just now; nothing of this is remembered
    key: bytes = b""  # content hash
    samples: NDArray[np.int16] = NOTHING
    row: Row | None = None  # None: the content is known; the offset is chosen when it is stored


def walk(root: Path) -> tuple[list[File], list[tuple[str, str]]]:
    """Recordings below the root, and what looks like one but is none (path, reason). Enters each folder once."""
    found: list[File] = []
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
        if {"recipe.toml", "last"} <= {entry.name for entry in entries}:
            continue  # a training run: a model does not learn from its own sound
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
                        found.append(File(name, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
                    else:
                        skipped.append((name, "not a regular file"))
            except OSError as error:
                if recording:
                    skipped.append((name, audio.reason_of(error, entry.path)))
    return found, skipped


def update(
    cache: Cache, load: Loader, found: list[File], progress: Progress | None
) -> tuple[dict[str, bytes], list[tuple[str, str]]]:
    """Bring the cache up to date with the files found: content hashes by name, and files refused with the reason."""
    indexed = cache.files()
    hashes = {file.name: indexed[file] for file in found if indexed.get(file) in load.known}
    refused: list[tuple[str, str]] = []
    waiting: list[Result] = []  # decoded, not yet stored
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


def _in_parallel(load: Loader, files: list[File]) -> Generator[Result, None, None]:
    """Results as they come, from a thread per core: decoder, resampler and hash run outside the interpreter's lock."""
    workers = min(os.cpu_count() or 1, MAX_WORKERS)
    running: dict[Future[Result], int] = {}  # and the size of its file
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


def _finished(running: dict[Future[Result], int]) -> Iterator[Result]:
    done, _ = wait(running, return_when=FIRST_COMPLETED)
    for future in done:
        del running[future]
        yield future.result()


class Loader:
    """Hashes a file and decodes it when its content is new; called from several threads."""

    def __init__(self, root: Path, rate: int, trim_db: float, known: set[bytes]) -> None:
        self.root, self.rate, self.trim_db = root, rate, trim_db
        self.known = known  # content hashes in the cache
        self._claimed = set(known)  # and those that another thread decodes
        self._lock = threading.Lock()

    def __call__(self, file: File) -> Result:
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
            return Result(file, refused=audio.reason_of(error, path))
        except MemoryError:
            return Result(file, refused="too long for the memory: cut it into pieces")
        if (status.st_size, status.st_mtime_ns, status.st_ctime_ns) != file[1:]:
            return Result(file, refused=CHANGED)
        return Result(file, "", key, samples, row)

    def _decode(self, path: Path) -> tuple[NDArray[np.int16], Row]:
        try:
            whole = audio.read(path, self.rate)
        except audio.AudioError as error:
            return NOTHING, Row(0, 0, 0, 0, 0, error.reason)
        sound = audio.trim(whole, self.trim_db)
        lead, trail = audio.silent_edges(sound, self.rate)
        return audio.to_int16(sound), Row(0, len(sound), lead, trail, len(whole) - len(sound), "")


class Cache:
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

    def files(self) -> dict[File, bytes]:
        """Content hash of every file ever indexed."""
        with self._errors():
            rows = self.index.execute("SELECT name, size, mtime_ns, ctime_ns, hash FROM files")
            return {File(os.fsdecode(name), *times): key for name, *times, key in rows}

    def keys(self) -> set[bytes]:
        """Content hashes of all clips, and of all that is known to be no recording."""
        with self._errors():
            return {key for (key,) in self.index.execute("SELECT hash FROM clips")}

    def clips(self) -> dict[bytes, Row]:
        """Every row by its content hash."""
        with self._errors():
            rows = self.index.execute("SELECT hash, offset, length, lead, trail, trimmed, reason FROM clips")
            return {key: Row(*row) for key, *row in rows}

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

    def add(self, results: list[Result]) -> None:
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

    def _insert(self, key: bytes, row: Row) -> bool:
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


def cache_folder(root: Path, rate: int, trim_db: float) -> Path:
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

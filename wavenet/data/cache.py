"""The cache of a dataset: every recording of a folder decoded once, indexed by content.

The cache (`$WAVENET_CACHE`, by default `~/.cache/wavenet-toolkit`) has a folder for each combination of folder,
sample rate and trim_db:

    audio.i16     int16 mono at the model's sample rate, all clips one after the other; append-only
    index.sqlite  clips: content hash -> offset and length in audio.i16, or why the content is not a recording
                  files: path -> size, times, content hash
                  channels: content hash -> channels of the file
                  levels: content hash -> level and peak, where they were needed

A file whose size and times are those of the index is not opened again. Any other file is hashed, and decoded only if
its content is new. So copies, renamed files and interrupted runs need no second decoding, and changes are detected.
"""

from __future__ import annotations

import hashlib
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from wavenet.data import audio
from wavenet.data.cached_samples import CachedSamples, DatasetError
from wavenet.data.found_files import FoundFiles
from wavenet.data.scan import FoundFile, Skipped
from wavenet.data.spool import Spool
from wavenet.data.table import NOT_MEASURED, RecordingTable, TableBuilder, decode_name, encode_name
from wavenet.data.transaction import transaction

INDEX_VERSION = 1  # an index of another version is replaced
LOCK_SECONDS = 60.0  # how long to wait for another process that uses the same cache
CHANGED = "changed while it was read"
# The table `moved` holds the clips whose side of the split was set, see `Cache.set_side`.
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
# Added later: clips of earlier versions have no entry. They are decoded again, once, and keep their place and side.
CHANNELS = """CREATE TABLE IF NOT EXISTS channels (hash BLOB PRIMARY KEY, channels INTEGER NOT NULL,
    cancelled_db REAL NOT NULL) WITHOUT ROWID"""
LEVELS = """CREATE TABLE IF NOT EXISTS levels (hash BLOB PRIMARY KEY, dbfs REAL NOT NULL,
    peak INTEGER NOT NULL) WITHOUT ROWID"""


class CachedClip(NamedTuple):
    """A clip in the cache; offset and lengths in samples."""

    offset: int
    length: int
    lead: int  # silence at the start
    trail: int  # silence at the end
    trimmed: int  # removed by trim_db before it was stored
    reason: str  # why the content is not a recording; empty for a recording
    channels: int = 1  # of the file
    cancelled_db: float = 0.0  # how far the average of the channels is below them, see `audio.Downmix`


class Level(NamedTuple):
    """How loud a clip is, see `wavenet.data.levels`."""

    dbfs: float  # minus infinity for silence
    peak: int  # the largest absolute value, in 16-bit steps


class Decoded(NamedTuple):
    """A file that was hashed, and decoded if its content was new."""

    file: FoundFile
    key: bytes = b""  # content hash
    samples: Spool[np.int16] | None = None  # of the clip; None: not decoded
    clip: CachedClip | None = None  # None: the content is in the cache; the offset is set when the clip is stored
    skipped: str = ""  # why the file could not be read this time; it is not stored


class Cache:
    """The index and the audio of one cache folder. Methods raise `DatasetError` when the folder cannot be used."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.audio_file = folder / "audio.i16"
        with self._errors():
            folder.mkdir(parents=True, exist_ok=True)
            self.audio_file.touch()
            # An empty database is a lock that works on every system: only one process at a time may repair a cache.
            with closing(sqlite3.connect(folder / "lock.sqlite", timeout=LOCK_SECONDS, isolation_level=None)) as lock:
                lock.execute("BEGIN EXCLUSIVE")
                try:
                    self.index = self._connect()
                except sqlite3.OperationalError:  # locked, disk full or read-only, but not damaged
                    raise
                except sqlite3.DatabaseError:
                    for path in folder.glob("index.sqlite*"):
                        path.unlink()
                    self.audio_file.unlink()
                    self.audio_file.touch()
                    self.index = self._connect()
            self._reader = sqlite3.connect(folder / "index.sqlite", timeout=LOCK_SECONDS, check_same_thread=False)

    def close(self) -> None:
        """Close the index. Samples stay readable."""
        self.index.close()
        self._reader.close()

    def find(self, root: Path) -> FoundFiles:
        """The recordings of a folder, with the content hash of those that are in the cache and have not changed."""
        with self._errors():
            found = FoundFiles(root, self.index)
            with found.changing():
                self.index.execute("""UPDATE found SET hash = (SELECT hash FROM files
                    JOIN clips USING (hash) JOIN channels USING (hash) WHERE files.name = found.name
                    AND (files.size, files.mtime_ns, files.ctime_ns) = (found.size, found.mtime_ns, found.ctime_ns))""")
            return found

    def indexed(self, file: FoundFile) -> bool:
        """Whether this file was indexed, and has not changed since."""
        condition = "name = ? AND size = ? AND mtime_ns = ? AND ctime_ns = ?"
        with self._errors():
            row = (encode_name(file.name), *file[1:])
            return bool(self.index.execute(f"SELECT count(*) FROM files WHERE {condition}", row).fetchone()[0])

    def holds(self, key: bytes) -> bool:
        """Whether content is stored, or known not to be a recording. May be called from any thread, one at a time."""
        query = "SELECT count(*) FROM clips JOIN channels USING (hash) WHERE hash = ?"
        with self._errors():
            return bool(self._reader.execute(query, (key,)).fetchone()[0])

    def recordings(self, found: FoundFiles) -> tuple[RecordingTable, Skipped]:
        """The recordings of what `find` found, in the order of their names, and the files that are none."""
        recordings, skipped = TableBuilder(), Skipped()
        columns = "offset, length, lead, trail, trimmed, channels, cancelled_db, ifnull(dbfs, 0), ifnull(peak, ?)"
        query = f"""SELECT name, reason, hash, {columns} FROM found LEFT JOIN clips USING (hash)
            LEFT JOIN channels USING (hash) LEFT JOIN levels USING (hash) WHERE hash IS NOT NULL ORDER BY name"""
        with self._errors():
            for name, reason, *row in found.database.execute(query, (NOT_MEASURED,)):
                if None in (reason, *row):  # there is no clip: a copy of a file that changed meanwhile
                    skipped.append((decode_name(name), CHANGED))
                elif reason:
                    skipped.append((decode_name(name), reason))
                else:
                    recordings.add(name, tuple(row))
        return recordings.table(), skipped

    def samples(self) -> CachedSamples:
        """The samples of all clips."""
        with self._errors():
            return CachedSamples(self.audio_file)

    def sides(self, validation: float) -> dict[bytes, bool]:
        """Clips whose side of the split was set, for this share of validation: held out or not, by content hash."""
        with self._errors():
            rows = self.index.execute("SELECT hash, held_out FROM moved WHERE validation = ?", (validation,))
            return {key: bool(held_out) for key, held_out in rows}

    def set_side(self, validation: float, key: bytes, held_out: bool) -> None:
        """Set a clip's side of the split, permanently."""
        with self._errors():
            self.index.execute("INSERT OR REPLACE INTO moved VALUES (?, ?, ?)", (validation, key, held_out))

    def add_levels(self, levels: dict[bytes, Level]) -> None:
        """Store levels in one transaction."""
        if not levels:
            return
        with self._errors(), transaction(self.index, "BEGIN IMMEDIATE"):
            rows = [(key, *level) for key, level in levels.items()]
            self.index.executemany("INSERT OR REPLACE INTO levels VALUES (?, ?, ?)", rows)

    def add(self, results: list[Decoded]) -> None:
        """Store clips and files in one transaction. The audio is flushed to the disk before the index refers to it."""
        if not results:
            return
        with self._errors(), transaction(self.index, "BEGIN IMMEDIATE"):
            (end,) = self.index.execute("SELECT coalesce(max(offset + length), 0) FROM clips").fetchone()
            with open(self.audio_file, "r+b") as file:
                file.seek(2 * end)  # overwrite what an interrupted call left after it
                for result in results:
                    if result.clip and self._insert(result.key, result.clip._replace(offset=end)):
                        for block in result.samples.blocks() if result.samples else ():
                            file.write(block.astype("<i2", copy=False).data)
                        end += result.clip.length
                    row = (encode_name(result.file.name), *result.file[1:], result.key)
                    self.index.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)", row)
                file.flush()
                os.fsync(file.fileno())

    def _insert(self, key: bytes, clip: CachedClip) -> bool:
        """Insert a clip; returns False if it is there: from an earlier version, or just stored by another process."""
        *row, channels, cancelled_db = clip
        self.index.execute("INSERT OR REPLACE INTO channels VALUES (?, ?, ?)", (key, channels, cancelled_db))
        cursor = self.index.execute("INSERT OR IGNORE INTO clips VALUES (?, ?, ?, ?, ?, ?, ?)", (key, *row))
        return cursor.rowcount > 0

    def _connect(self) -> sqlite3.Connection:
        """Open the index, with its tables. Raises `sqlite3.DatabaseError` where it is damaged or of another version."""
        index = sqlite3.connect(self.folder / "index.sqlite", timeout=LOCK_SECONDS, isolation_level=None)
        try:
            (version,) = index.execute("PRAGMA user_version").fetchone()
            (tables,) = index.execute("SELECT count(*) FROM sqlite_master").fetchone()
            (check,) = index.execute("PRAGMA quick_check(1)").fetchone()
            if check != "ok" or (tables and version != INDEX_VERSION):
                raise sqlite3.DatabaseError(check)
            if not tables:
                index.executescript(SCHEMA)
            index.execute(CHANNELS)
            index.execute(LEVELS)
            with transaction(index, "BEGIN IMMEDIATE"):  # no other process appends
                held = self.audio_file.stat().st_size // 2
                index.execute("DELETE FROM clips WHERE offset + length > ?", (held,))  # lost: they are decoded again
        except BaseException:
            index.close()
            raise
        return index

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            folder = audio.printable(self.folder)
            advice = "set WAVENET_CACHE to a writable folder with enough space"
            raise DatasetError(f"the cache {folder} cannot be used ({reason}): {advice}") from error


def cache_folder(root: Path, sample_rate: int, trim_db: float) -> Path:
    """The cache folder of a folder of recordings."""
    real = os.path.realpath(root)
    name = re.sub(r"[^\w.-]+", "_", os.path.basename(real))[:40] or "root"
    key = hashlib.sha256(os.fsencode(real)).hexdigest()[:8]
    trimmed = f"-trim{trim_db:g}" if trim_db else ""
    return _cache_root() / f"{name}-{key}-{sample_rate}{trimmed}"


def _cache_root() -> Path:
    if named := os.environ.get("WAVENET_CACHE"):
        return Path(named).expanduser()
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "wavenet-toolkit"

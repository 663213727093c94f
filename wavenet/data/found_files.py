"""The recordings of a folder in a temporary table on the disk: memory does not grow with their number."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from wavenet.data.cached_samples import DatasetError
from wavenet.data.scan import FoundFile, Skipped, walk
from wavenet.data.table import decode_name, encode_name
from wavenet.data.transaction import transaction

DISK_ERRORS = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN}
PAGE = 1_000  # rows that are read at a time: the table may be changed meanwhile


class FoundFiles:
    """The recordings below a folder in the order of their names.

    The temporary table `found` has the columns of `FoundFile`, and `hash`: NULL until the content hash is known.
    database: the one in which the table is made; None: a temporary one. skipped: what is no recording, see `scan.walk`.
    Raises `DatasetError` where there is no space for the table.
    """

    def __init__(self, root: Path, database: sqlite3.Connection | None = None) -> None:
        self.skipped: Skipped = []
        self.database = database or sqlite3.connect("", isolation_level=None)  # on the disk if it is large
        rows = ((encode_name(name), *rest) for name, *rest in walk(root, self.skipped))
        with self.changing():
            self.database.execute("DROP TABLE IF EXISTS temp.found")
            self.database.execute("""CREATE TEMP TABLE found (name BLOB PRIMARY KEY, size INTEGER NOT NULL,
                mtime_ns INTEGER NOT NULL, ctime_ns INTEGER NOT NULL, hash BLOB) WITHOUT ROWID""")
            # Some network file systems return a file twice.
            self.database.executemany("INSERT OR REPLACE INTO found VALUES (?, ?, ?, ?, NULL)", rows)
        (self._number,) = self.database.execute("SELECT count(*) FROM found").fetchone()

    def __len__(self) -> int:
        return int(self._number)

    @property
    def total(self) -> int:
        """Number of files with the extension of a recording, those that were skipped included."""
        return len(self) + sum(not name.endswith(os.sep) for name, _ in self.skipped)

    def close(self) -> None:
        """Close the database."""
        self.database.close()

    @property
    def hashed(self) -> int:
        """Number of files whose content hash is known."""
        (number,) = self.database.execute("SELECT count(hash) FROM found").fetchone()
        return int(number)

    def names(self) -> Iterator[str]:
        """Paths below the folder."""
        return (file.name for file in self.files())

    def files(self, after: str = "") -> Iterator[FoundFile]:
        """The files that follow a name."""
        return self._pages("name > ?", after)

    def unhashed(self) -> Iterator[FoundFile]:
        """The files whose content hash is not known. It may be set meanwhile."""
        return self._pages("name > ? AND hash IS NULL", "")

    def set_hashes(self, files: Iterable[tuple[FoundFile, bytes]]) -> None:
        """Set the content hashes of files."""
        rows = ((key, encode_name(file.name)) for file, key in files)
        with self.changing():
            self.database.executemany("UPDATE found SET hash = ? WHERE name = ?", rows)

    @contextmanager
    def changing(self) -> Iterator[None]:
        """A transaction in which the table is changed. Raises `DatasetError` where there is no space for it."""
        try:
            with transaction(self.database):
                yield
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF not in DISK_ERRORS:  # its kind; other bits say more
                raise
            variable = "TMP" if os.name == "nt" else "TMPDIR"
            advice = f"make room in the folder of temporary files, or set {variable} to another one"
            raise DatasetError(f"the names of the recordings cannot be stored ({error}): {advice}") from error

    def _pages(self, condition: str, after: str) -> Iterator[FoundFile]:
        query = f"SELECT name, size, mtime_ns, ctime_ns FROM found WHERE {condition} ORDER BY name LIMIT {PAGE}"
        last = encode_name(after)
        while page := self.database.execute(query, (last,)).fetchall():
            yield from (FoundFile(decode_name(name), *rest) for name, *rest in page)
            last = page[-1][0]

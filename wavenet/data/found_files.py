"""The recordings of a folder in a temporary table on the disk: memory does not grow with their number."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

from wavenet.data.cached_samples import DatasetError
from wavenet.data.scan import FoundFile, Skipped, walk
from wavenet.data.transaction import transaction

PAGE = 1_000  # rows that are read at a time: the table may be changed meanwhile


class FoundFiles:
    """The recordings below a folder in the order of their names.

    The temporary table `found` has the columns of `FoundFile`, and `hash`: NULL until the content hash is known.
    database: one to join it with; None: none. skipped: what is no recording, see `scan.walk`.
    Raises `DatasetError` where there is no space for the table.
    """

    def __init__(self, root: Path, database: sqlite3.Connection | None = None) -> None:
        self.skipped: Skipped = []
        self._database = database or sqlite3.connect("", isolation_level=None)  # temporary, on the disk if it is large
        self._database.execute("DROP TABLE IF EXISTS temp.found")
        self._database.execute("""CREATE TEMP TABLE found (name BLOB PRIMARY KEY, size INTEGER NOT NULL,
            mtime_ns INTEGER NOT NULL, ctime_ns INTEGER NOT NULL, hash BLOB) WITHOUT ROWID""")
        rows = ((os.fsencode(name), *rest) for name, *rest in walk(root, self.skipped))
        self._change("INSERT INTO found VALUES (?, ?, ?, ?, NULL)", rows)

    def __len__(self) -> int:
        return self._count("count(*)")

    @property
    def hashed(self) -> int:
        """Number of files whose content hash is known."""
        return self._count("count(hash)")

    def names(self) -> Iterator[str]:
        """Paths below the folder."""
        return (file.name for file in self.files())

    def files(self, after: str = "") -> Iterator[FoundFile]:
        """The files that follow a name."""
        return self._pages("name > ?", after)

    def new(self) -> Iterator[FoundFile]:
        """The files whose content hash is not known. It may be set meanwhile."""
        return self._pages("name > ? AND hash IS NULL", "")

    def set_hashes(self, files: Iterable[tuple[FoundFile, bytes]]) -> None:
        """Set the content hashes of files."""
        rows = ((key, os.fsencode(file.name)) for file, key in files)
        self._change("UPDATE found SET hash = ? WHERE name = ?", rows)

    def _change(self, statement: str, rows: Iterable[tuple[object, ...]]) -> None:
        try:
            with transaction(self._database):
                self._database.executemany(statement, rows)
        except sqlite3.Error as error:
            advice = "make room in the folder of temporary files, or set TMPDIR to another one"
            raise DatasetError(f"the names of the recordings cannot be stored ({error}): {advice}") from error

    def _count(self, what: str) -> int:
        (number,) = self._database.execute(f"SELECT {what} FROM found").fetchone()
        return int(number)

    def _pages(self, condition: str, after: str) -> Iterator[FoundFile]:
        query = f"SELECT name, size, mtime_ns, ctime_ns FROM found WHERE {condition} ORDER BY name LIMIT {PAGE}"
        last = os.fsencode(after)
        while page := self._database.execute(query, (last,)).fetchall():
            yield from (FoundFile(os.fsdecode(name), *rest) for name, *rest in page)
            last = page[-1][0]

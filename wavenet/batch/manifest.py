"""The manifest of a batch job: a line of JSON for each of its results, with what it was made from and with.

A process appends a line when a result is complete, to a file of its own, a part. So a process that is killed loses at
most the results that it had not completed; a line that is not complete is ignored. The first process merges the parts
when a job begins and when it ends.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from wavenet.data import files

Entry = dict[str, Any]


class Manifest:
    """The manifest in the file `path`, NAME.jsonl, and its parts beside it, NAME.part-RANK.jsonl.

    name: the field of an entry that no two entries share, by which they are sorted. Methods raise `OSError`.
    """

    def __init__(self, path: Path, name: str, rank: int = 0) -> None:
        self.path, self._name = path, name
        self._part = path.with_name(f"{path.stem}.part-{rank}{path.suffix}")

    def merge(self) -> dict[str, Entry]:
        """The entries by name, of parts, too, which are removed: of two entries the one that was finished last."""
        parts = self._parts()
        entries: dict[str, Entry] = {}
        for path in (self.path, *parts):
            for entry in _read(path):
                name = str(entry.get(self._name))
                if name not in entries or entries[name].get("finished", "") <= entry.get("finished", ""):
                    entries[name] = entry
        if parts:
            self.write(entries.values())
        for part in parts:
            part.unlink(missing_ok=True)
        return entries

    def write(self, entries: Iterable[Entry]) -> None:
        """Replace the manifest; parts are not changed."""
        lines = [_line(entry) for entry in sorted(entries, key=lambda entry: str(entry[self._name]))]
        files.replace(self.path, "".join(lines).encode())

    def add(self, entry: Entry) -> None:
        """Append an entry to the part of this process."""
        try:
            with open(self._part, "ab") as file:
                file.write(_line(entry).encode())
        except OSError as error:
            raise OSError(error.errno, error.strerror or str(error), os.fspath(self.path)) from error

    def _parts(self) -> list[Path]:
        name = re.compile(f"{re.escape(self.path.stem)}\\.part-[0-9]+{re.escape(self.path.suffix)}")
        return sorted(path for path in self.path.parent.iterdir() if name.fullmatch(path.name))


def agrees(entry: Entry, described: Entry) -> bool:
    """Whether a result was made from and with what is described."""
    return all(entry.get(key) == value for key, value in described.items())


def now() -> str:
    """The time at which an entry is finished."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _line(entry: Entry) -> str:
    return json.dumps(entry) + "\n"


def _read(path: Path) -> list[Entry]:
    """The entries in a file, in order; none if there is no file. Lines that are no entries are left out."""
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    entries = []
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:  # the process was killed meanwhile
            continue
        if isinstance(entry, dict):
            entries.append(entry)
    return entries

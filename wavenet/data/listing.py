"""The listing of a shard: what the tar file contains, in lines of JSON, so that it need not be read to open a dataset.

The first line has the size of the tar file, the others a file that was packed or skipped each. Lines are written and
read one at a time, so that few are in memory as objects.
"""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Self

from wavenet.data.cache import CachedClip, Level


class DamagedListing(Exception):
    """The content of a file is not a listing."""


class Packed(NamedTuple):
    """A recording in a shard."""

    name: str  # path below the folder that was packed
    key: bytes  # content hash of the file
    speaker: str  # "": none was found
    clip: CachedClip  # its offset has no meaning
    level: Level
    pieces: tuple[tuple[int, int], ...]  # where the samples of each begin in the shard, in bytes; number of samples

    def record(self) -> dict[str, Any]:
        """What its JSON files and its line in the listing state, besides the pieces."""
        clip, level = self.clip, self.level
        return {
            "name": self.name.replace(os.sep, "/"),
            "hash": self.key.hex(),
            "speaker": self.speaker,
            "length": clip.length,
            "lead": clip.lead,
            "trail": clip.trail,
            "trimmed": clip.trimmed,
            "channels": clip.channels,
            "cancelled_db": clip.cancelled_db,
            "dbfs": None if level.dbfs == -math.inf else level.dbfs,
            "peak": level.peak,
        }

    @classmethod
    def from_record(cls, record: dict[str, Any], pieces: Iterable[Iterable[int]]) -> Self:
        """The opposite of `record`. Raises `KeyError`, `TypeError` or `ValueError`."""
        length, lead, trail, trimmed = (int(record[name]) for name in ("length", "lead", "trail", "trimmed"))
        channels = int(record["channels"]), float(record["cancelled_db"])
        clip = CachedClip(0, length, lead, trail, trimmed, "", *channels)
        level = Level(-math.inf if record["dbfs"] is None else float(record["dbfs"]), int(record["peak"]))
        name, speaker = str(record["name"]).replace("/", os.sep), str(record["speaker"])
        placed = tuple((int(position), int(length)) for position, length in pieces)
        return cls(name, bytes.fromhex(record["hash"]), speaker, clip, level, placed)


class ListedFile(NamedTuple):
    """A line of a listing: a file, with the size and time by which packing continues, and what became of it."""

    name: str  # path below the folder that was packed
    size: int  # bytes
    mtime_ns: int
    packed: Packed | None
    skipped: str = ""  # why it was not packed

    def to_json(self) -> bytes:
        """The line."""
        if self.packed is None:
            record: dict[str, Any] = {"name": self.name.replace(os.sep, "/"), "skipped": self.skipped}
        else:
            record = {**self.packed.record(), "pieces": self.packed.pieces}
        return _line({**record, "file_bytes": self.size, "file_mtime_ns": self.mtime_ns})

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Self:
        """The opposite. Raises `KeyError`, `TypeError` or `ValueError`."""
        name = str(record["name"]).replace("/", os.sep)
        size, mtime_ns = int(record["file_bytes"]), int(record["file_mtime_ns"])
        if "skipped" in record:
            return cls(name, size, mtime_ns, None, str(record["skipped"]))
        return cls(name, size, mtime_ns, Packed.from_record(record, record["pieces"]))


class Listing(NamedTuple):
    """The content of a listing."""

    size: int  # of the tar file, in bytes
    last: bool  # whether no other shard follows
    files: Iterator[ListedFile]  # parsed as they are read, once; raises `DamagedListing`

    @classmethod
    def from_json(cls, content: bytes) -> Self:
        """Read a listing. Raises `DamagedListing`."""
        records = _records(content)
        try:
            first = next(records)
            return cls(int(first["bytes"]), bool(first["last"]), _files(records))
        except (StopIteration, ValueError, KeyError, TypeError) as error:
            raise DamagedListing from error


def first_line(size: int, last: bool) -> bytes:
    """The line before those of the files."""
    return _line({"bytes": size, "last": last})


def _line(record: dict[str, Any]) -> bytes:
    return (json.dumps(record) + "\n").encode()


def _records(content: bytes) -> Iterator[dict[str, Any]]:
    try:
        for line in io.BytesIO(content):
            yield json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DamagedListing from error


def _files(records: Iterable[dict[str, Any]]) -> Iterator[ListedFile]:
    try:
        for record in records:
            yield ListedFile.from_record(record)
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedListing from error

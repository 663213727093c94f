"""Datasets in shards: WebDataset tar files that are trained on directly, from a disk or any address.

    index.json            sample rate, trim_db, and the name, size and number of recordings of each shard
    shard-000000.tar      KEY.json and KEY.wav for each piece of a recording: int16 mono, so that crops are byte ranges
    shard-000000.jsonl    a line of JSON for each recording in it: see `wavenet.data.listing`
    skipped.csv           files that were not packed, and why

A recording of more than `PIECE` samples is several pieces, all in one shard. The listings repeat what the tar files
contain, so that opening the dataset does not read those; a lost listing or index is made again from them.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import tarfile
from array import array
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from wavenet.data.cached_samples import DatasetError
from wavenet.data.errors import printable
from wavenet.data.listing import DamagedListing, Listing, Packed
from wavenet.data.scan import Skipped
from wavenet.data.shard_samples import ShardSamples
from wavenet.data.storage import Storage, is_address
from wavenet.data.table import RecordingTable, TableBuilder, encode_name

INDEX, SKIPPED = "index.json", "skipped.csv"
VERSION = 1
PIECE = 2**23  # samples, of the longest piece: as much is in memory at a time
READERS = 8  # threads that read listings
WAV_HEADER = 44  # bytes before the samples of a WAV file


@dataclass(frozen=True)
class Settings:
    """How the recordings of a dataset were decoded. speakers: the setting by which their speakers were found, or ""."""

    sample_rate: int
    trim_db: float = 0.0
    speakers: str = ""


@dataclass
class Index:
    """index.json. shards: the size in bytes and the number of recordings of each, by the name of its file.

    complete: False while the dataset is being packed.
    """

    settings: Settings
    complete: bool = False
    shards: dict[str, tuple[int, int]] = field(default_factory=dict)

    def to_json(self) -> bytes:
        """The content of the file."""
        shards = [{"name": name, "bytes": size, "recordings": count} for name, (size, count) in self.shards.items()]
        record = {"wavenet_shards": VERSION, **vars(self.settings), "complete": self.complete, "shards": shards}
        return (json.dumps(record, indent=1) + "\n").encode()

    @classmethod
    def from_json(cls, content: bytes) -> Self | None:
        """Parse the file; None if it is not an index of this version."""
        try:
            record = json.loads(content)
            if record["wavenet_shards"] != VERSION:
                return None
            settings = Settings(int(record["sample_rate"]), float(record["trim_db"]), str(record["speakers"]))
            shards = {str(shard["name"]): (int(shard["bytes"]), int(shard["recordings"])) for shard in record["shards"]}
            return cls(settings, bool(record["complete"]), shards)
        except (ValueError, KeyError, TypeError, RecursionError):
            return None


class Dataset(NamedTuple):
    """An opened dataset: its recordings in the order of their names, with offsets in `samples`."""

    settings: Settings
    recordings: RecordingTable
    speakers: list[str]  # of each; "": none was found
    samples: ShardSamples
    found: int  # recordings that were packed
    skipped: Skipped  # shards that are missing or truncated


class _Content(NamedTuple):
    """What a shard should contain."""

    size: int | None  # of the file as it is, in bytes; None: it is missing
    recordings: RecordingTable
    speakers: list[str]
    pieces: NDArray[np.int64]  # [pieces, 3]: row of the recording, position in bytes, number of samples

    @classmethod
    def of(cls, size: int | None, packed: Iterable[Packed]) -> Self:
        """Collect the recordings of a shard in columns."""
        recordings, speakers, pieces = TableBuilder(), list[str](), array("q")
        for row, (name, key, speaker, clip, level, placed) in enumerate(packed):
            lengths = clip.length, clip.lead, clip.trail, clip.trimmed
            recordings.add(encode_name(name), (key, 0, *lengths, clip.channels, clip.cancelled_db, *level))
            speakers.append(sys.intern(speaker))
            for position, length in placed:
                pieces.extend((row, position, length))
        return cls(size, recordings.table(), speakers, np.array(pieces, np.int64).reshape(-1, 3))


def listing_of(shard: str) -> str:
    """The name of the listing of a shard."""
    return f"{shard.removesuffix('.tar')}.jsonl"


def are_shards(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder holds a dataset in shards; every address does, because recordings are read from disks only."""
    if is_address(folder):
        return True
    path = Path(folder)
    with suppress(OSError):
        if Index.from_json((path / INDEX).read_bytes()) is not None:
            return True
    return any(path.glob("shard-[0-9][0-9][0-9][0-9][0-9][0-9].tar"))


def open_shards(folder: str | os.PathLike[str]) -> Dataset:
    """Open a dataset. Raises `DatasetError` if there is none, or if it is not complete, and `Unavailable`."""
    storage = Storage(folder)
    printed = printable(storage.address)
    try:
        sizes = storage.sizes()
        index = read_index(storage, sizes)
        if index is None:
            raise DatasetError(f"{printed} has no shards: write them with wavenet data pack FOLDER -o {printed}")
        if not index.complete:
            raise DatasetError(f"{printed} is not complete: run wavenet data pack again, which continues")
        parsing = Lock()  # one listing at a time, as threads cannot share the work
        with ThreadPoolExecutor(READERS) as pool:
            contents = pool.map(lambda name: _content(storage, name, sizes, parsing), index.shards)
            dataset = _dataset(storage, index, contents)
    except OSError as error:
        raise DatasetError(f"{printed} cannot be read ({error.strerror or error})") from error
    return dataset


def _dataset(storage: Storage, index: Index, contents: Iterable[_Content]) -> Dataset:
    """Concatenate the recordings that are whole. contents: of each shard."""
    whole, speakers, pieces, skipped = TableBuilder(), list[str](), list[NDArray[np.int64]](), Skipped()
    end = found = 0
    for number, ((name, (size, count)), content) in enumerate(zip(index.shards.items(), contents, strict=True)):
        rows, positions, lengths = content.pieces.T
        kept = np.ones(len(content.recordings), np.bool_)
        kept[rows[positions + 2 * lengths > (content.size or 0)]] = False
        table = content.recordings.take(np.flatnonzero(kept))
        table.rows["offset"] = end + np.cumsum(table.rows["length"]) - table.rows["length"]
        end += int(table.rows["length"].sum())
        whole.extend(table)
        speakers += itertools.compress(content.speakers, kept)
        readable = kept[rows]
        pieces.append(np.stack([np.full_like(rows, number), positions, lengths])[:, readable])
        count = max(count, len(kept))
        found += count
        if reason := _lost(content.size, size, count - len(table)):
            skipped.append((name, reason))
    recordings = whole.table()
    if (order := recordings.order_by_name()) is not None:
        recordings, speakers = recordings.take(order), [speakers[i] for i in order]
    samples = ShardSamples(storage, list(index.shards), *np.concatenate([np.zeros((3, 0), np.int64), *pieces], axis=1))
    return Dataset(index.settings, recordings, speakers, samples, found, skipped)


def _lost(held: int | None, size: int, count: int) -> str:
    """What is wrong with a shard; empty if nothing is. held, size: its bytes; count: recordings that are lost."""
    lost = f"{count:,} {'recording is' if count == 1 else 'recordings are'} lost"
    if held is None:
        return f"missing: {lost}"
    if held < size:
        return f"truncated: holds {held:,} of {size:,} bytes, {lost}"
    return f"damaged: {lost}" if count else ""


def read_index(storage: Storage, sizes: dict[str, int]) -> Index | None:
    """The index, made again from the tar files if it is lost; None if there are none, or those of other programs."""
    try:
        if index := Index.from_json(storage.read(INDEX)):
            return index
    except FileNotFoundError:
        pass
    tars = sorted(name for name in sizes if name.startswith("shard-") and name.endswith(".tar"))
    for name in tars:
        for record, _ in _pieces(storage, name):
            with suppress(KeyError, TypeError, ValueError):
                settings = Settings(int(record["sample_rate"]), float(record["trim_db"]), str(record["speakers"]))
                return Index(settings, True, {tar: (sizes[tar], 0) for tar in tars})
            break
    return None


def _content(storage: Storage, shard: str, sizes: dict[str, int], parsing: Lock) -> _Content:
    """What a shard should contain: from its listing, or from the tar file."""
    size = sizes.get(shard)
    if size is None:
        size = storage.size(shard)
    with suppress(FileNotFoundError, DamagedListing, OverflowError):  # the last: of numbers beyond those of a column
        content = storage.read(listing_of(shard))
        with parsing:
            files = Listing.from_json(content).files
            return _Content.of(size, (file.packed for file in files if file.packed is not None))
    return _Content.of(size, () if size is None else _recordings_in_tar(storage, shard))


def _recordings_in_tar(storage: Storage, shard: str) -> Iterator[Packed]:
    """The recordings that are complete in a tar file."""
    found: list[tuple[int, int]] = []  # pieces of the recording
    with suppress(KeyError, TypeError, ValueError):  # of a file that is not one of these shards
        for record, piece in _pieces(storage, shard):
            found = [*found, piece] if record["piece"] else [piece]
            if record["piece"] + 1 == record["pieces"] == len(found):
                yield Packed.from_record(record, found)


def _pieces(storage: Storage, shard: str) -> Iterator[tuple[dict[str, Any], tuple[int, int]]]:
    """The content of KEY.json, and where the samples of KEY.wav are, of each piece up to where the file is damaged."""
    record: dict[str, Any] = {}
    with storage.open(shard) as file:
        try:
            archive = tarfile.open(fileobj=file, mode="r:")  # noqa: SIM115 - the file is closed above
            for member in archive:
                content = archive.extractfile(member)
                if member.name.endswith(".json") and content is not None:
                    record = json.loads(content.read())
                elif member.name.endswith(".wav") and record:
                    length = (member.size - WAV_HEADER) // 2
                    yield record, (member.offset_data + WAV_HEADER, length)
        except (tarfile.TarError, ValueError, KeyError, TypeError):
            return


def check_settings(address: str, packed: Settings, sample_rate: int, trim_db: float) -> None:
    """Raises `DatasetError` if a dataset was packed for another sample rate or trim_db than is asked for."""
    wanted = {"sample_rate": (packed.sample_rate, sample_rate), "trim_db": (packed.trim_db, trim_db)}
    for name, (has, asked) in wanted.items():
        if has != asked:
            table = "model" if name == "sample_rate" else "data"
            option = name.replace("_", "-")
            raise DatasetError(
                f"{printable(address)} was packed with {name} = {has:g}, not {asked:g}: train with "
                f"--set {table}.{name}={has:g}, or pack it again with --{option} {asked:g}"
            )

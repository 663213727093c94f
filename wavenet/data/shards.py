"""Datasets in shards: WebDataset tar files that are trained on directly, from a disk or any address.

    index.json            sample rate, trim_db, and the name, size and number of recordings of each shard
    shard-000000.tar      KEY.json and KEY.wav for each piece of a recording: int16 mono, so that crops are byte ranges
    shard-000000.jsonl    a line of JSON for each recording in it: see `Listing`
    skipped.csv           files that were not packed, and why

A recording of more than `PIECE` samples is several pieces, all in one shard. The listings repeat what the tar files
contain, so that opening the dataset does not read those; a lost listing or index is made again from them.
"""

from __future__ import annotations

import json
import math
import os
import tarfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from wavenet.data.cache import CachedClip, Level
from wavenet.data.cached_samples import DatasetError
from wavenet.data.errors import printable
from wavenet.data.scan import Skipped
from wavenet.data.shard_samples import ShardSamples
from wavenet.data.storage import Storage, is_address

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


@dataclass
class Listing:
    """A shard's .jsonl: first a line with the size of the tar file, then one for each file that was packed or skipped.

    last: whether no other shard follows. files: size and modification time of each file, by which packing continues.
    """

    size: int = 0
    last: bool = False
    recordings: list[Packed] = field(default_factory=list)
    skipped: Skipped = field(default_factory=list)
    files: list[tuple[str, int, int]] = field(default_factory=list)

    def to_json(self) -> bytes:
        """The content of the file."""
        packed = {recording.name: recording for recording in self.recordings}
        reasons = dict(self.skipped)
        lines: list[dict[str, Any]] = [{"bytes": self.size, "last": self.last}]
        for name, size, mtime_ns in self.files:
            file = {"name": name.replace(os.sep, "/"), "file_bytes": size, "file_mtime_ns": mtime_ns}
            if name in packed:
                lines.append({**packed[name].record(), **file, "pieces": packed[name].pieces})
            else:
                lines.append({**file, "skipped": reasons[name]})
        return "".join(json.dumps(line) + "\n" for line in lines).encode()

    @classmethod
    def from_json(cls, content: bytes) -> Self | None:
        """Parse the file; None if it is damaged."""
        try:
            first, *lines = (json.loads(line) for line in content.splitlines())
            listing = cls(int(first["bytes"]), bool(first["last"]))
            for line in lines:
                name = str(line["name"]).replace("/", os.sep)
                listing.files.append((name, int(line["file_bytes"]), int(line["file_mtime_ns"])))
                if "skipped" in line:
                    listing.skipped.append((name, str(line["skipped"])))
                else:
                    listing.recordings.append(Packed.from_record(line, line["pieces"]))
        except (ValueError, KeyError, TypeError, RecursionError):
            return None
        return listing


class Dataset(NamedTuple):
    """An opened dataset: its recordings in the order of their names, with offsets in `samples`."""

    settings: Settings
    recordings: list[Packed]
    samples: ShardSamples
    found: int  # recordings that were packed
    skipped: Skipped  # shards that are missing or truncated


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
        with ThreadPoolExecutor(READERS) as pool:
            contents = pool.map(lambda name: _content(storage, name, sizes), index.shards)
            dataset = _dataset(storage, index, contents)
    except OSError as error:
        raise DatasetError(f"{printed} cannot be read ({error.strerror or error})") from error
    return dataset


def _dataset(storage: Storage, index: Index, contents: Iterable[tuple[int | None, list[Packed]]]) -> Dataset:
    """Concatenate the recordings that are whole. contents: the size of each shard as it is, and its recordings."""
    recordings, skipped, pieces = list[Packed](), Skipped(), list[tuple[int, int, int]]()
    end = found = 0
    for number, ((name, (size, count)), (held, packed)) in enumerate(zip(index.shards.items(), contents, strict=True)):
        kept = 0
        for recording in packed:
            if any(start + 2 * length > (held or 0) for start, length in recording.pieces):
                continue
            kept += 1
            recordings.append(recording._replace(clip=recording.clip._replace(offset=end), pieces=()))
            pieces += [(number, start, length) for start, length in recording.pieces]
            end += recording.clip.length
        count = max(count, len(packed))
        found += count
        if reason := _lost(held, size, count - kept):
            skipped.append((name, reason))
    recordings.sort(key=lambda recording: recording.name)
    columns = np.array(pieces, np.int64).reshape(-1, 3).T.copy()
    return Dataset(index.settings, recordings, ShardSamples(storage, list(index.shards), *columns), found, skipped)


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


def _content(storage: Storage, shard: str, sizes: dict[str, int]) -> tuple[int | None, list[Packed]]:
    """The size of a shard, None if it is missing, and its recordings: from its listing, or from the tar file."""
    size = sizes.get(shard)
    if size is None:
        size = storage.size(shard)
    try:
        if (listing := Listing.from_json(storage.read(listing_of(shard)))) is not None:
            return size, listing.recordings
    except FileNotFoundError:
        pass
    return size, [] if size is None else list(_recordings_in_tar(storage, shard))


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

"""Pack a folder of recordings into shards: decode them, in parallel, and write them in the order of their names.

The same folder and settings give the same tar files. A shard is replaced in one piece; packing continues after the last
shard that is complete and whose files have not changed since.
"""

from __future__ import annotations

import io
import json
import os
import tempfile
import wave
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from wavenet.data.cache import Decoded
from wavenet.data.cached_samples import DatasetError
from wavenet.data.decoding import Decoder, Progress, decode_files
from wavenet.data.errors import printable
from wavenet.data.levels import measure
from wavenet.data.scan import FoundFile, Skipped, no_recordings, scan
from wavenet.data.shards import (
    INDEX,
    PIECE,
    SKIPPED,
    WAV_HEADER,
    Index,
    Listing,
    Packed,
    Settings,
    listing_of,
    read_index,
)
from wavenet.data.speakers import Lookup, speaker_lookup
from wavenet.data.storage import Storage
from wavenet.data.summary import skipped_table
from wavenet.extras import Unavailable, how_to_install

TAR_BLOCK = 512  # bytes: a header is one, and content is filled up to a multiple of it


@dataclass
class PackSummary:
    """A packed dataset."""

    found: int  # files with the extension of a recording
    recordings: int = 0
    seconds: float = 0.0
    size: int = 0  # bytes of all shards
    shards: int = 0
    kept_shards: int = 0  # those of them that were there already
    skipped: Skipped = field(default_factory=list)


def pack(
    folder: str | os.PathLike[str],
    shards: str | os.PathLike[str],
    settings: Settings,
    shard_size: int,
    progress: Progress | None = None,
) -> PackSummary:
    """Write a folder of recordings as a dataset in shards, or continue to.

    shards: a folder, or an address that fsspec knows. shard_size: bytes, which a shard exceeds only if one recording
    does. progress: called with the number of files done and of all files.
    Raises `DatasetError` for a folder without a usable recording, for shards of other settings, and where another
    process is packing; `OSError` for a disk that is full or read-only; `Unavailable` without webdataset or fsspec.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DatasetError(f"{printable(root)} is not a folder: give a folder of recordings")
    storage = Storage(shards)
    with storage.locked():
        return _pack(root, storage, settings, shard_size, progress)


def _pack(root: Path, storage: Storage, settings: Settings, shard_size: int, progress: Progress | None) -> PackSummary:
    """`pack`, while no other process writes."""
    found, skipped = scan(root)
    if not found and not skipped:
        raise DatasetError(no_recordings(root))
    found.sort(key=lambda file: file.name)
    speaker_of = speaker_lookup(root, settings.speakers, (file.name for file in found))
    index = _begun(storage, settings)
    storage.remove_partial()
    listings = _finished(storage, found)
    done = sum(len(listing.files) for listing in listings)
    kept = len(listings)
    scratch = storage.path if storage.path is not None else Path(tempfile.gettempdir())
    decoder = Decoder(root, settings.sample_rate, settings.trim_db, scratch, known=None)
    with closing(decode_files(decoder, found[done:], in_order=True)) as results:
        files = _Files(results, found, done, progress)
        while files.next is not None:
            name = _shard(len(listings))
            with storage.replacing(name) as file:
                writer = _ShardWriter(file, settings, speaker_of, f"{len(listings):06}", shard_size)
                listings.append(writer.write(files))
            storage.write(listing_of(name), listings[-1].to_json())
    summary = PackSummary(len(found) + sum(not name.endswith(os.sep) for name, _ in skipped), kept_shards=kept)
    index.shards = {_shard(i): (item.size, len(item.recordings)) for i, item in enumerate(listings)}
    lengths = [recording.clip.length for listing in listings for recording in listing.recordings]
    summary.recordings, summary.seconds = len(lengths), sum(lengths) / settings.sample_rate
    summary.shards, summary.size = len(listings), sum(listing.size for listing in listings)
    summary.skipped = sorted([*skipped, *(item for listing in listings for item in listing.skipped)])
    storage.write(SKIPPED, skipped_table(summary.skipped))
    if not summary.recordings:
        raise DatasetError(f"{printable(root)} has no usable recording: see {printable(storage.address)}/{SKIPPED}")
    _remove_others(storage, index)
    index.complete = True
    storage.write(INDEX, index.to_json())
    return summary


def _shard(number: int) -> str:
    return f"shard-{number:06}.tar"


def _begun(storage: Storage, settings: Settings) -> Index:
    """Write an index that says that the dataset is not complete.

    Raises `DatasetError` for a folder of other files, and for a dataset of other settings.
    """
    printed, path = printable(storage.address), storage.path
    entries = list(path.iterdir()) if path is not None and path.is_dir() else []
    before = read_index(storage, storage.sizes())
    if before is None and any(not entry.name.startswith(".") for entry in entries):
        raise DatasetError(f"{printed} holds other files: give a new folder for the shards")
    if before is not None and before.settings != settings:
        old = ", ".join(f"{name} = {value!r}" for name, value in vars(before.settings).items())
        raise DatasetError(f"{printed} was packed with {old}: give the same settings, or a new folder")
    index = Index(settings)
    storage.write(INDEX, index.to_json())
    return index


def _finished(storage: Storage, found: list[FoundFile]) -> list[Listing]:
    """The shards from the first on that are complete, with files that have not changed since."""
    sizes, listings, done = storage.sizes(), list[Listing](), 0
    while (name := listing_of(_shard(len(listings)))) in sizes:
        listing = Listing.from_json(storage.read(name))
        if listing is None or listing.size != sizes.get(_shard(len(listings))):
            break
        end = done + len(listing.files)
        same = listing.files == [(file.name, file.size, file.mtime_ns) for file in found[done:end]]
        if not same or listing.last != (end == len(found)):  # the last one continues if files were added
            break
        listings.append(listing)
        done = end
    return listings


def _remove_others(storage: Storage, index: Index) -> None:
    """Remove shards of an earlier, larger dataset."""
    kept = {*index.shards, *map(listing_of, index.shards)}
    for name in storage.sizes():
        if name.startswith("shard-") and name.endswith((".tar", ".jsonl")) and name not in kept:
            storage.remove(name)


class _Files:
    """Decoded files in order, of which the next one can be looked at."""

    def __init__(
        self, results: Iterator[Decoded], found: list[FoundFile], done: int, progress: Progress | None
    ) -> None:
        self._results, self._total, self._done, self._progress = results, len(found), done, progress
        self.next: Decoded | None = None
        if progress:
            progress(done, self._total)
        self.next = next(self._results, None)

    def take(self) -> Decoded:
        """The next file."""
        taken = self.next
        assert taken is not None
        self._done += 1
        if self._progress:
            self._progress(self._done, self._total)
        self.next = next(self._results, None)
        return taken


class _ShardWriter:
    """Writes one shard. number: of the shard, with which the keys begin."""

    def __init__(self, file: BinaryIO, settings: Settings, speaker_of: Lookup, number: str, shard_size: int) -> None:
        self.settings, self.speaker_of, self.number, self.shard_size = settings, speaker_of, number, shard_size
        self.file, self.listing = file, Listing()
        self.archive = _tar_writer(file)
        self.position = 0  # in the file, in bytes

    def write(self, files: _Files) -> Listing:
        """Write files until the next one does not fit, or none is left."""
        while files.next is not None and self._fits(files.next):
            self._add(files.take())
        self.archive.close()
        self.listing.size, self.listing.last = self.file.tell(), files.next is None
        return self.listing

    def _fits(self, decoded: Decoded) -> bool:
        """Whether there is room for a file; for the first recording there is."""
        length = len(decoded.samples) if decoded.samples else 0
        return not length or not self.position or self.position + 2 * length <= self.shard_size

    def _add(self, decoded: Decoded) -> None:
        file, clip, samples = decoded.file, decoded.clip, decoded.samples
        self.listing.files.append((file.name, file.size, file.mtime_ns))
        if clip is None or samples is None:
            self.listing.skipped.append((file.name, decoded.skipped or (clip.reason if clip else "")))
            return
        level = measure(samples, 0, clip.length, self.settings.sample_rate)
        packed = Packed(file.name, decoded.key, self.speaker_of(file.name)[0], clip, level, ())
        starts, pieces = range(0, clip.length, PIECE), []
        for piece, start in enumerate(starts):
            content = samples[start : min(start + PIECE, clip.length)].astype("<i2", copy=False).tobytes()
            record = {**packed.record(), **vars(self.settings), "piece": piece, "pieces": len(starts)}
            pieces.append((self._write(record, content), len(content) // 2))
        samples.close()
        self.listing.recordings.append(packed._replace(pieces=tuple(pieces)))

    def _write(self, record: dict[str, Any], content: bytes) -> int:
        """Write a piece as KEY.json and KEY.wav. Returns where its samples begin in the file, in bytes."""
        described = json.dumps(record).encode()
        sound = io.BytesIO()
        with wave.open(sound, "wb") as file:
            file.setparams((1, 2, self.settings.sample_rate, 0, "NONE", ""))
            file.writeframes(content)
        key = f"{self.number}-{len(self.listing.files) - 1:08}-{record['piece']:04}"
        self.archive.write({"__key__": key, "json": described, "wav": sound.getvalue()})
        samples = self.position + _in_tar(len(described)) + TAR_BLOCK + WAV_HEADER
        self.position += _in_tar(len(described)) + _in_tar(sound.tell())
        return samples


def _in_tar(size: int) -> int:
    """Bytes that a file takes in a tar file."""
    return TAR_BLOCK + -(-size // TAR_BLOCK) * TAR_BLOCK


def _tar_writer(file: BinaryIO) -> Any:
    """WebDataset's writer, so that the file depends on nothing but what it holds."""
    try:
        from webdataset import TarWriter
    except ImportError as error:
        raise Unavailable(how_to_install("packing", "webdataset", "shards")) from error
    return TarWriter(file, user="", group="", mode=0o644, mtime=0, encoder=False, compress=False)

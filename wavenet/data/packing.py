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
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from wavenet.data.cache import Decoded
from wavenet.data.cached_samples import DatasetError
from wavenet.data.decoding import Decoder, Progress, decode_files
from wavenet.data.errors import printable
from wavenet.data.found_files import FoundFiles
from wavenet.data.levels import measure
from wavenet.data.listing import DamagedListing, ListedFile, Listing, Packed, first_line
from wavenet.data.scan import Skipped, no_recordings
from wavenet.data.shards import (
    INDEX,
    PIECE,
    SKIPPED,
    WAV_HEADER,
    Index,
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


@dataclass
class _Counts:
    """What a shard contains, in numbers."""

    size: int = 0  # of the tar file, in bytes
    files: int = 0
    last_file: str = ""  # the name of it
    recordings: int = 0
    samples: int = 0
    skipped: Skipped = field(default_factory=list)

    def add(self, file: ListedFile) -> None:
        """Count a file."""
        self.files, self.last_file = self.files + 1, file.name
        if file.packed is None:
            self.skipped.append((file.name, file.skipped))
        else:
            self.recordings, self.samples = self.recordings + 1, self.samples + file.packed.clip.length


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
    with storage.locked(), closing(FoundFiles(root)) as found:
        return _pack(root, found, storage, settings, shard_size, progress)


def _pack(
    root: Path, found: FoundFiles, storage: Storage, settings: Settings, shard_size: int, progress: Progress | None
) -> PackSummary:
    """`pack`, while no other process writes."""
    if not len(found) and not found.skipped:
        raise DatasetError(no_recordings(root))
    speaker_of = speaker_lookup(root, settings.speakers, found.names())
    index = _begun(storage, settings)
    storage.remove_partial()
    shards = list(_finished(storage, found))
    kept, done, after = len(shards), sum(shard.files for shard in shards), shards[-1].last_file if shards else ""
    scratch = storage.path if storage.path is not None else Path(tempfile.gettempdir())
    decoder = Decoder(root, settings.sample_rate, settings.trim_db, scratch)
    with closing(decode_files(decoder, found.files(after), in_order=True)) as results:
        files = _Files(results, len(found), done, progress)
        while files.next is not None:
            name = _shard_name(len(shards))
            with storage.replacing(name) as file:
                writer = _ShardWriter(file, settings, speaker_of, f"{len(shards):06}", shard_size)
                shards.append(writer.write(files))
            storage.write(listing_of(name), bytes(writer.listing))
    summary = PackSummary(found.total, kept_shards=kept)
    index.shards = {_shard_name(i): (shard.size, shard.recordings) for i, shard in enumerate(shards)}
    summary.recordings = sum(shard.recordings for shard in shards)
    summary.seconds = sum(shard.samples for shard in shards) / settings.sample_rate
    summary.shards, summary.size = len(shards), sum(shard.size for shard in shards)
    summary.skipped = sorted([*found.skipped, *(item for shard in shards for item in shard.skipped)])
    storage.write(SKIPPED, skipped_table(summary.skipped))
    if not summary.recordings:
        raise DatasetError(f"{printable(root)} has no usable recording: see {printable(storage.address)}/{SKIPPED}")
    _remove_others(storage, index)
    index.complete = True
    storage.write(INDEX, index.to_json())
    return summary


def _shard_name(number: int) -> str:
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


def _finished(storage: Storage, found: FoundFiles) -> Iterator[_Counts]:
    """The shards from the first on that are complete, with files that have not changed since."""
    sizes, files, number, done = storage.sizes(), found.files(), 0, 0
    with suppress(DamagedListing):
        while (name := listing_of(_shard_name(number))) in sizes:
            listing = Listing.from_json(storage.read(name))
            shard = _Counts(listing.size)
            for listed in listing.files:
                if next(files, ("",))[:3] != (listed.name, listed.size, listed.mtime_ns):
                    return
                shard.add(listed)
            done += shard.files
            if not shard.files or shard.size != sizes.get(_shard_name(number)):
                return
            if listing.last != (done == len(found)):  # the last one continues if files were added
                return
            yield shard
            number += 1


def _remove_others(storage: Storage, index: Index) -> None:
    """Remove shards of an earlier, larger dataset."""
    kept = {*index.shards, *map(listing_of, index.shards)}
    for name in storage.sizes():
        if name.startswith("shard-") and name.endswith((".tar", ".jsonl")) and name not in kept:
            storage.remove(name)


class _Files:
    """Decoded files in order, of which the next one can be looked at."""

    def __init__(self, results: Iterator[Decoded], total: int, done: int, progress: Progress | None) -> None:
        self._results, self._total, self._done, self._progress = results, total, done, progress
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
        self.file, self.shard = file, _Counts()
        self.listing = bytearray()  # complete when the shard is
        self.archive = _tar_writer(file)
        self.position = 0  # in the file, in bytes

    def write(self, files: _Files) -> _Counts:
        """Write files until the next one does not fit, or none is left."""
        while files.next is not None and self._fits(files.next):
            listed = self._add(files.take())
            self.shard.add(listed)
            self.listing += listed.to_json()
        self.archive.close()
        self.shard.size = self.file.tell()
        self.listing[:0] = first_line(self.shard.size, last=files.next is None)
        return self.shard

    def _fits(self, decoded: Decoded) -> bool:
        """Whether there is room for a file; for the first recording there is."""
        length = len(decoded.samples) if decoded.samples else 0
        return not length or not self.position or self.position + 2 * length <= self.shard_size

    def _add(self, decoded: Decoded) -> ListedFile:
        file, clip, samples = decoded.file, decoded.clip, decoded.samples
        if clip is None or samples is None:
            return ListedFile(*file[:3], None, decoded.skipped or (clip.reason if clip else ""))
        level = measure(samples, 0, clip.length, self.settings.sample_rate)
        packed = Packed(file.name, decoded.key, self.speaker_of(file.name)[0], clip, level, ())
        starts, pieces = range(0, clip.length, PIECE), []
        for piece, start in enumerate(starts):
            content = samples[start : min(start + PIECE, clip.length)].astype("<i2", copy=False).tobytes()
            record = {**packed.record(), **vars(self.settings), "piece": piece, "pieces": len(starts)}
            pieces.append((self._write(record, content), len(content) // 2))
        samples.close()
        return ListedFile(*file[:3], packed._replace(pieces=tuple(pieces)))

    def _write(self, record: dict[str, Any], content: bytes) -> int:
        """Write a piece as KEY.json and KEY.wav. Returns where its samples begin in the file, in bytes."""
        described = json.dumps(record).encode()
        sound = io.BytesIO()
        with wave.open(sound, "wb") as file:
            file.setparams((1, 2, self.settings.sample_rate, 0, "NONE", ""))
            file.writeframes(content)
        key = f"{self.number}-{self.shard.files:08}-{record['piece']:04}"
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

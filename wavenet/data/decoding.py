"""Decode the recordings of a folder that are not in the cache yet, with one thread per core."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from pathlib import Path

from wavenet.data import audio
from wavenet.data.cache import NO_SAMPLES, Cache, CachedClip, Decoded
from wavenet.data.scan import FoundFile, Skipped

Progress = Callable[[int, int], None]  # called with the number of files done, and of all files

BYTES_IN_FLIGHT = 2**26  # of files being decoded at a time, which bounds the memory
BATCH_SECONDS, BATCH_SAMPLES = 1.0, 2**24  # decoded audio not yet stored: what an interruption can lose
PROGRESS_SECONDS = 0.2  # between two calls of `progress`
HASH_BYTES = 20
CHANGED = "changed while it was read"
MAX_WORKERS = 16


def update(
    cache: Cache, decoder: Decoder, found: list[FoundFile], progress: Progress | None
) -> tuple[dict[str, bytes], Skipped]:
    """Decode the files that are new or changed, and store them in the cache.

    Returns the content hash of each file by its name, and the files that could not be read, with the reason.
    """
    indexed = cache.files()
    hashes = {file.name: indexed[file] for file in found if indexed.get(file) in decoder.known}
    skipped: Skipped = []
    waiting: list[Decoded] = []  # not yet stored
    samples = 0  # in them
    stored = reported = time.monotonic()
    with closing(_in_parallel(decoder, [file for file in found if file.name not in hashes])) as results:
        try:
            for result in results:
                if result.skipped:
                    skipped.append((result.file.name, result.skipped))
                else:
                    hashes[result.file.name] = result.key
                    waiting.append(result)
                    samples += len(result.samples)
                now = time.monotonic()
                if now - stored > BATCH_SECONDS or samples > BATCH_SAMPLES:
                    cache.add(waiting)
                    waiting, samples, stored = [], 0, now
                if progress and now - reported > PROGRESS_SECONDS:
                    progress(len(hashes) + len(skipped), len(found))
                    reported = now
        finally:  # what was decoded is kept after an interruption, too
            cache.add(waiting)
    if progress:
        progress(len(found), len(found))
    return hashes, skipped


def _in_parallel(decoder: Decoder, files: list[FoundFile]) -> Generator[Decoded, None, None]:
    """Results in order of completion. Decoding, resampling and hashing release the global interpreter lock."""
    workers = min(os.cpu_count() or 1, MAX_WORKERS)
    running: dict[Future[Decoded], int] = {}  # and the size of the file
    with ThreadPoolExecutor(workers) as pool:
        try:
            for file in files:
                while running and (len(running) >= 2 * workers or sum(running.values()) + file.size > BYTES_IN_FLIGHT):
                    yield from _finished(running)
                running[pool.submit(decoder, file)] = file.size
            while running:
                yield from _finished(running)
        finally:
            for future in running:  # not empty only after an interruption
                future.cancel()


def _finished(running: dict[Future[Decoded], int]) -> Iterator[Decoded]:
    done, _ = wait(running, return_when=FIRST_COMPLETED)
    for future in done:
        del running[future]
        yield future.result()


class Decoder:
    """Hashes a file, and decodes it if its content is new. Called from several threads."""

    def __init__(self, root: Path, sample_rate: int, trim_db: float, known: set[bytes]) -> None:
        self.root, self.sample_rate, self.trim_db = root, sample_rate, trim_db
        self.known = known  # content hashes in the cache
        self._claimed = set(known)  # and those that a thread is decoding
        self._lock = threading.Lock()

    def __call__(self, file: FoundFile) -> Decoded:
        path = self.root / file.name
        try:
            with open(path, "rb") as content:
                key = hashlib.file_digest(content, lambda: hashlib.blake2b(digest_size=HASH_BYTES)).digest()
            with self._lock:
                new = key not in self._claimed
                self._claimed.add(key)
            decoded = self._decode(file, key, path) if new else Decoded(file, key)
            status = os.stat(path)
        except OSError as error:
            return Decoded(file, skipped=audio.reason_of(error, path))
        except MemoryError:
            return Decoded(file, skipped="too long for the memory: split it into shorter files")
        if (status.st_size, status.st_mtime_ns, status.st_ctime_ns) != file[1:]:
            return Decoded(file, skipped=CHANGED)
        return decoded

    def _decode(self, file: FoundFile, key: bytes, path: Path) -> Decoded:
        downmix = audio.Downmix()
        try:
            whole = audio.read(path, self.sample_rate, downmix=downmix)
        except audio.AudioError as error:
            return Decoded(file, key, NO_SAMPLES, CachedClip(0, 0, 0, 0, 0, error.reason))
        trimmed = audio.trim(whole, self.trim_db)
        lead, trail = audio.silent_edges(trimmed, self.sample_rate)
        channels = downmix.channels, downmix.cancelled_db
        clip = CachedClip(0, len(trimmed), lead, trail, len(whole) - len(trimmed), "", *channels)
        return Decoded(file, key, audio.to_int16(trimmed), clip)

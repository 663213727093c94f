"""Decode the recordings of a folder that are not in the cache yet, with one thread per core."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import closing
from pathlib import Path

import numpy as np

from wavenet.data import audio
from wavenet.data.cache import CHANGED, Cache, CachedClip, Decoded
from wavenet.data.found_files import FoundFiles
from wavenet.data.scan import FoundFile, Skipped
from wavenet.data.silence import SilentEdges, loud_span
from wavenet.data.spool import Spool
from wavenet.data.table import HASH_BYTES

Progress = Callable[[int, int], None]  # called with the number of files done, and of all files

BATCH_SECONDS, BATCH_SAMPLES = 1.0, 2**24  # decoded audio not yet stored: what an interruption can lose
PROGRESS_SECONDS = 0.2  # between two calls of `progress`
MAX_WORKERS = 16


def update(cache: Cache, decoder: Decoder, found: FoundFiles, progress: Progress | None) -> Skipped:
    """Decode the files that are new or changed, and store them in the cache.

    Returns the files that could not be read, with the reason.
    """
    skipped: Skipped = []
    waiting: list[Decoded] = []  # not yet stored
    samples = 0  # in them
    stored = reported = time.monotonic()
    done, number = found.hashed, len(found)
    if progress:
        progress(done, number)
    with closing(decode_files(decoder, found.unhashed())) as results:
        try:
            for result in results:
                done += 1
                if result.skipped:
                    skipped.append((result.file.name, result.skipped))
                else:
                    waiting.append(result)
                    samples += result.clip.length if result.clip else 0
                now = time.monotonic()
                if now - stored > BATCH_SECONDS or samples > BATCH_SAMPLES:
                    _store(cache, decoder, found, waiting)
                    waiting, samples, stored = [], 0, now
                if progress and now - reported > PROGRESS_SECONDS:
                    progress(done, number)
                    reported = now
        finally:  # what was decoded is kept after an interruption, too
            _store(cache, decoder, found, waiting)
    if progress:
        progress(number, number)
    return skipped


def _store(cache: Cache, decoder: Decoder, found: FoundFiles, results: list[Decoded]) -> None:
    """Store results, and free their samples."""
    cache.add(results)
    found.set_hashes((result.file, result.key) for result in results)
    decoder.stored(result.key for result in results)
    for result in results:
        if result.samples:
            result.samples.close()


def decode_files(
    decoder: Decoder, files: Iterable[FoundFile], in_order: bool = False
) -> Generator[Decoded, None, None]:
    """Decode files in parallel, and return the results in order of completion, or in the order of the files.

    Decoding, resampling and hashing release the global interpreter lock.
    """
    workers = min(os.cpu_count() or 1, MAX_WORKERS)
    running: deque[Future[Decoded]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for file in files:
                if len(running) >= 2 * workers:
                    yield from _finished(running, in_order)
                running.append(pool.submit(decoder, file))
            while running:
                yield from _finished(running, in_order)
        finally:
            decoder.stopped.set()  # hours of a file that is being decoded are not waited for
            for future in running:  # not empty only after an interruption
                future.cancel()


def _finished(running: deque[Future[Decoded]], in_order: bool) -> Iterator[Decoded]:
    """The results that are there, at least one, or the first one; waits for it."""
    done = {running[0]} if in_order else wait(running, return_when=FIRST_COMPLETED).done
    for future in done:
        running.remove(future)
        yield future.result()


class Decoder:
    """Hashes a file, and decodes it if its content is new. Called from several threads.

    folder: of the temporary files that hold long recordings. cache: what it holds is not decoded; None: every file is
    decoded, also those of equal content.
    """

    def __init__(self, root: Path, sample_rate: int, trim_db: float, folder: Path, cache: Cache | None = None) -> None:
        self.root, self.sample_rate, self.trim_db, self.folder, self.cache = root, sample_rate, trim_db, folder, cache
        self.stopped = threading.Event()  # set when the results are not needed any more
        self._claimed: set[bytes] = set()  # content hashes that are being decoded, or not stored yet
        self._lock = threading.Lock()

    def __call__(self, file: FoundFile) -> Decoded:
        """Raises `DatasetError` if the folder of temporary files is full."""
        path = self.root / file.name
        try:
            with open(path, "rb") as content:
                key = hashlib.file_digest(content, lambda: hashlib.blake2b(digest_size=HASH_BYTES)).digest()
            decoded = self._decode(file, key, path) if self._claim(key) else Decoded(file, key)
            status = os.stat(path)
        except OSError as error:
            return Decoded(file, skipped=audio.reason_of(error, path))
        if (status.st_size, status.st_mtime_ns, status.st_ctime_ns) != file[1:]:
            return Decoded(file, skipped=CHANGED)
        return decoded

    def stored(self, keys: Iterable[bytes]) -> None:
        """The cache holds these content hashes now."""
        with self._lock:
            self._claimed.difference_update(keys)

    def _claim(self, key: bytes) -> bool:
        """Whether this content is to be decoded, by this thread."""
        if self.cache is None:
            return True
        with self._lock:
            if key in self._claimed or self.cache.holds(key):
                return False
            self._claimed.add(key)
        return True

    def _decode(self, file: FoundFile, key: bytes, path: Path) -> Decoded:
        """Decode a file in blocks: memory does not grow with its length."""
        downmix = audio.Downmix()
        try:
            with Spool[np.float32](np.float32, self.folder) as whole:
                for block in audio.blocks(path, self.sample_rate, downmix=downmix):
                    if self.stopped.is_set():
                        raise CancelledError
                    whole.append(block)
                if not len(whole):
                    raise audio.AudioError(path, "no samples")
                start, stop = loud_span(whole.blocks, len(whole), self.trim_db)
                samples, edges = Spool[np.int16](np.int16, self.folder), SilentEdges(self.sample_rate)
                for block in whole.blocks(start, stop):
                    edges.add(block)
                    samples.append(audio.to_int16(block))
                removed = len(whole) - len(samples)
        except audio.AudioError as error:
            return Decoded(file, key, None, CachedClip(0, 0, 0, 0, 0, error.reason))
        clip = CachedClip(0, len(samples), *edges.lengths(), removed, "", downmix.channels, downmix.cancelled_db)
        return Decoded(file, key, samples, clip)

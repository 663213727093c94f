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
from wavenet.data.cache import Cache, CachedClip, Decoded
from wavenet.data.scan import FoundFile, Skipped
from wavenet.data.silence import SilentEdges, loud_span
from wavenet.data.spool import Spool

Progress = Callable[[int, int], None]  # called with the number of files done, and of all files

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
    if progress:
        progress(len(hashes), len(found))
    with closing(decode_files(decoder, [file for file in found if file.name not in hashes])) as results:
        try:
            for result in results:
                if result.skipped:
                    skipped.append((result.file.name, result.skipped))
                else:
                    hashes[result.file.name] = result.key
                    waiting.append(result)
                    samples += result.clip.length if result.clip else 0
                now = time.monotonic()
                if now - stored > BATCH_SECONDS or samples > BATCH_SAMPLES:
                    _store(cache, waiting)
                    waiting, samples, stored = [], 0, now
                if progress and now - reported > PROGRESS_SECONDS:
                    progress(len(hashes) + len(skipped), len(found))
                    reported = now
        finally:  # what was decoded is kept after an interruption, too
            _store(cache, waiting)
    if progress:
        progress(len(found), len(found))
    return hashes, skipped


def _store(cache: Cache, results: list[Decoded]) -> None:
    """Store results, and free their samples."""
    cache.add(results)
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

    folder: of the temporary files that hold long recordings. known: content hashes that are not decoded; None: every
    file is decoded, also those of equal content.
    """

    def __init__(self, root: Path, sample_rate: int, trim_db: float, folder: Path, known: set[bytes] | None) -> None:
        self.root, self.sample_rate, self.trim_db, self.folder = root, sample_rate, trim_db, folder
        self.known = known or set()
        self.stopped = threading.Event()  # set when the results are not needed any more
        self._claimed = None if known is None else set(known)  # and those that a thread is decoding
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

    def _claim(self, key: bytes) -> bool:
        """Whether this content is to be decoded, by this thread."""
        if self._claimed is None:
            return True
        with self._lock:
            new = key not in self._claimed
            self._claimed.add(key)
        return new

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

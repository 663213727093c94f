"""Read recordings as float32 mono at a given sample rate, and write audio files.

    audio = wavenet.audio.read("in.mp3", 16_000)  # float32 [samples] in [-1, 1]
    wavenet.audio.write("out.flac", audio, 16_000)

Audio is float32 [samples] in [-1, 1]; its 16-bit form is int16 [samples], full scale 32,768. Lengths in headers are
not trusted: files are read in blocks until the decoder reaches the end, and truncated files are refused.
"""

from __future__ import annotations

import math
import mmap
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import soundfile
from numpy.typing import ArrayLike, NDArray

from wavenet.data.audio_writer import BLOCK, AudioWriter, SequentialFile, first_line
from wavenet.data.errors import AnyPath
from wavenet.data.errors import AudioError as AudioError
from wavenet.data.errors import printable as printable
from wavenet.data.errors import reason_of as reason_of
from wavenet.data.pcm import FULL_SCALE as FULL_SCALE
from wavenet.data.pcm import to_int16 as to_int16
from wavenet.data.silence import silent_edges as silent_edges
from wavenet.data.silence import trim as trim

# Extensions of recordings, in lower case: other files of a folder are ignored.
AUDIO_EXTENSIONS = frozenset(
    [
        ".wav",
        ".wave",
        ".w64",
        ".rf64",
        ".flac",
        ".ogg",
        ".oga",
        ".opus",
        ".mp3",
        ".aiff",
        ".aif",
        ".aifc",
        ".au",
        ".caf",
    ]
)
PLACEHOLDER_BYTES = 0x7F00_0000  # programs that write to a pipe state this size (sox) or a larger one (ffmpeg)
NO_FILE = "File does not exist"  # which soundfile also says of files whose content its mp3 decoder does not recognise
LARGEST_VALUE = 1e12  # float values beyond this are not audio, and the resampler would turn them into NaN
MOST_CANCELLED_DB = 100.0  # where the channels cancel completely
MAX_CHUNKS = 1_000  # a container with more chunks before its samples is not a recording


@dataclass
class Downmix:
    """How averaging the channels of a recording changed its level. `read` and `blocks` fill it in."""

    channels: int = 1
    energy: float = 0.0  # of the channels, their mean
    mixed: float = 0.0  # energy of their average

    @property
    def cancelled_db(self) -> float:
        """By how much the average is below the channels, in dB: 0 where they are equal, 3 where they are unrelated.

        It is large if they are of opposite phase; at most 100.
        """
        if not self.energy:
            return 0.0
        return min(MOST_CANCELLED_DB, -10 * math.log10(max(self.mixed / self.energy, 1e-30)))


def read(
    path: AnyPath, sample_rate: int, trim_db: float = 0.0, clip: bool = True, downmix: Downmix | None = None
) -> NDArray[np.float32]:
    """Read a recording in any format of libsndfile (wav, flac, ogg, opus, mp3, aiff and more).

    sample_rate: in Hz; the recording is resampled to it. trim_db: if above 0, silence at both ends is removed, see
    `trim`. clip: False keeps values beyond [-1, 1], which float files and resampling can have. downmix: is filled in.
    Returns float32 [samples] in [-1, 1], the mean of the channels.
    Raises `AudioError` (a `ValueError`) for a path that is not a file, and for a file that cannot be decoded, is
    truncated, has no samples, or contains NaN or infinity.
    """
    pieces = list(blocks(path, sample_rate, clip, downmix))
    if not pieces:
        raise AudioError(path, "no samples")
    return trim(np.concatenate(pieces), trim_db)


def blocks(
    path: AnyPath, sample_rate: int, clip: bool = True, downmix: Downmix | None = None
) -> Iterator[NDArray[np.float32]]:
    """Read a recording as `read` does, but block by block, float32 [n] with n > 0: memory does not grow with the file.

    Raises `AudioError` as `read` does; for a truncated file in a format without a stated length only after its last
    block.
    """
    _check_readable(path)
    with _opened(path) as file:
        resampler = None
        if file.samplerate != sample_rate:
            resampler = _resampler(path, file.samplerate, sample_rate)
        for mono in _decoded(path, file, downmix):
            piece = resampler.resample_chunk(mono) if resampler else mono
            if len(piece):
                yield np.clip(piece, -1.0, 1.0) if clip else piece
        if resampler:
            tail = resampler.resample_chunk(np.zeros(0, np.float32), last=True)
            if len(tail):
                yield np.clip(tail, -1.0, 1.0) if clip else tail


def stated_length(path: AnyPath) -> tuple[int, int]:
    """Sample rate of a recording in Hz, and its length in samples as its header states it: it may be wrong.

    Raises `AudioError` as `read` does.
    """
    _check_readable(path)
    with _opened(path) as file:
        return file.samplerate, file.frames


def write(path: AnyPath, audio: ArrayLike, sample_rate: int) -> None:
    """Write a .wav or .flac (16 bits) or .ogg (Vorbis) file, chosen by the extension; `AudioWriter` writes in blocks.

    audio: float [samples] in [-1, 1], at least one sample; values beyond are clipped. sample_rate: in Hz.
    The file is written under a temporary name, flushed, then renamed: `path` is either unchanged or complete.
    Raises `AudioError` (a `ValueError`) for another extension, a missing folder, no permission, a full or read-only
    disk, NaN, or a wrong shape.
    """
    array = np.asarray(audio)
    if array.ndim != 1 or not len(array):
        reason = f"expected [samples] and at least one, got the shape {list(array.shape)}"
        raise AudioError(path, f"cannot be written ({reason})")
    with AudioWriter(path, sample_rate, keep=False) as file:
        file.write(array)


def _check_readable(path: AnyPath) -> None:
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise AudioError(path, "a directory")
        if not stat.S_ISREG(status.st_mode):
            raise AudioError(path, "not a regular file")
        if status.st_size == 0:
            raise AudioError(path, "empty file")
        with open(path, "rb"):
            pass
    except OSError as error:
        raise AudioError(path, reason_of(error, path)) from error


@contextmanager
def _opened(path: AnyPath) -> Iterator[SequentialFile]:
    """An open decoder of `path`, after a check of the length stated in its container's header."""
    with open(path, "rb") as file:
        chunk = _data_chunk(file)
        if chunk and chunk.announced > chunk.held and chunk.announced < PLACEHOLDER_BYTES:
            raise AudioError(path, f"truncated: holds {chunk.held:,} of the {chunk.announced:,} bytes announced")
        source: Any = os.fspath(path) if os.name == "nt" else os.fsencode(path)  # soundfile cannot encode every str
        if chunk and chunk.left_open:
            source = chunk.completed(file)
        try:
            decoder = SequentialFile(source)
        except (soundfile.SoundFileError, ValueError, TypeError) as error:
            detail = "Format not recognised" if NO_FILE in str(error) else first_line(error)
            raise AudioError(path, f"unreadable: {detail}") from error
        with decoder:
            yield decoder


def _decoded(path: AnyPath, file: SequentialFile, downmix: Downmix | None) -> Iterator[NDArray[np.float32]]:
    """Mono blocks at the sample rate of the file. Raises `AudioError` on NaN, infinity, or a premature end."""
    decoded = 0  # frames
    checked = file.format == "FLAC" and file.frames < 2**62  # other formats state no length, or an unreliable one
    while True:
        try:
            block = file.read(BLOCK, dtype="float32", always_2d=True)  # [frames, channels]
        except soundfile.SoundFileError as error:
            if checked:
                break
            detail = f"the decoder stopped after {decoded / file.samplerate:.2f} seconds ({first_line(error)})"
            raise AudioError(path, f"unreadable: {detail}") from error
        if not len(block):
            break
        decoded += len(block)
        if not (np.abs(block) < LARGEST_VALUE).all():
            raise AudioError(path, "contains NaN" if np.isnan(block).any() else "contains infinity or values near it")
        mono = block[:, 0] if block.shape[1] == 1 else block.mean(axis=1)  # [frames]
        if downmix and block.shape[1] > 1:
            downmix.channels = block.shape[1]
            downmix.energy += float(np.vdot(block, block)) / block.shape[1]
            downmix.mixed += float(np.vdot(mono, mono))
        yield mono
    if checked and decoded < file.frames:
        seconds = f"{decoded / file.samplerate:.2f} of the {file.frames / file.samplerate:.2f} seconds announced"
        raise AudioError(path, f"truncated: holds {seconds}, or is damaged there")


def _resampler(path: AnyPath, source_rate: int, sample_rate: int) -> Any:
    import soxr  # slow to import, and not needed where the sample rates agree

    try:
        return soxr.ResampleStream(source_rate, sample_rate, 1, dtype="float32", quality="HQ")
    except (ValueError, RuntimeError) as error:
        raise AudioError(
            path, f"unreadable: cannot be resampled from {source_rate:,} Hz to {sample_rate:,} Hz"
        ) from error


@dataclass(frozen=True)
class _DataChunk:
    """The chunk of samples in a RIFF or FORM container. Sizes are in bytes."""

    position: int  # of the 4-byte size field
    order: str  # byte order for struct
    announced: int  # size stated in the header
    held: int  # from the start of the samples to the end of the file
    minimum: int  # stated size of a chunk without samples
    closed: bool  # the stated size of the whole container agrees with the file

    @property
    def left_open(self) -> bool:
        """Whether the size was never filled in: it states no samples, but there is data up to the end of the file."""
        return self.announced <= self.minimum < self.held and not self.closed

    def completed(self, file: BinaryIO) -> mmap.mmap:
        """The file's content with the true size filled in; the file itself is not changed."""
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        content[self.position : self.position + 4] = struct.pack(f"{self.order}I", min(self.held, 2**32 - 1))
        return content


def _data_chunk(file: BinaryIO) -> _DataChunk | None:
    """The chunk with the samples of a WAV, RF64 or AIFF file; None for other files, or where it is not found."""
    size = os.fstat(file.fileno()).st_size
    head = file.read(12)
    order = {b"RIFF": "<", b"RF64": "<", b"RIFX": ">", b"FORM": ">"}.get(head[:4])
    if order is None or head[8:] not in (b"WAVE", b"AIFF", b"AIFC"):
        return None
    aiff = head[:4] == b"FORM"
    closed = abs(struct.unpack(f"{order}I", head[4:8])[0] + 8 - size) <= 1  # a pad byte may be missing
    position, long_size = 12, None
    for _ in range(MAX_CHUNKS):
        file.seek(position)
        header = file.read(8)
        if len(header) < 8:
            return None
        name, announced = struct.unpack(f"{order}4sI", header)
        if name == b"ds64":  # RF64: the sizes that do not fit into 32 bits
            long_size = struct.unpack("<Q", file.read(16).ljust(16, b"\0")[8:])[0]
        if name == (b"SSND" if aiff else b"data"):
            if long_size is not None and announced == 2**32 - 1:
                announced = long_size
            return _DataChunk(position + 4, order, announced, size - position - 8, 8 if aiff else 0, closed)
        position += 8 + announced + announced % 2
    return None

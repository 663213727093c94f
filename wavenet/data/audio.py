"""Recordings in and sound out: any file libsndfile reads -> float32 mono at the model's rate, and back to a file.

Sound is float32 [samples] in [-1, 1]; its 16-bit form is int16 [samples], full scale 32,768. Lengths in headers are
not trusted: files are read in blocks until the decoder has no more, and one that was cut short is refused.
"""

from __future__ import annotations

import io
import mmap
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soundfile
from numpy.typing import ArrayLike, NDArray

from wavenet.data import files
from wavenet.data.pcm import FULL_SCALE as FULL_SCALE
from wavenet.data.pcm import to_int16 as to_int16

# What a folder's walk takes for a recording, in lower case.
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
WRITABLE = {".wav": ("WAV", "PCM_16"), ".flac": ("FLAC", "PCM_16"), ".ogg": ("OGG", "VORBIS")}  # libsndfile's names
BLOCK = 65_536  # frames decoded or encoded at a time; libvorbis fails on very long ones
PLACEHOLDER_BYTES = 0x7F00_0000  # programs that write into a pipe announce this much (sox) or more (ffmpeg)
SILENCE_FRAME_SECONDS = 0.01  # silence at clip ends is measured in frames of this length
SILENCE_DB = 45.0  # a frame this far below the loudest one is silence
LOUDEST = 1e12  # beyond this a float file holds no sound, and the resampler would make NaN of it
MAX_CHUNKS = 1_000  # a container with more before its data is no recording

AnyPath = str | os.PathLike[str]


class AudioError(ValueError):
    """A file that cannot be read or written: `path`, and the `reason`, 'kind' or 'kind: detail', in one line."""

    def __init__(self, path: AnyPath, reason: str) -> None:
        super().__init__(f"{printable(path)}: {reason}")
        self.path = path
        self.reason = reason


def printable(path: AnyPath) -> str:
    """A path that fits on one line of any terminal: control characters and undecodable bytes are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in os.fspath(path))


def read(path: AnyPath, rate: int, trim_db: float = 0.0) -> NDArray[np.float32]:
    """A whole recording as float32 [samples] in [-1, 1]: mono (channels averaged), at `rate` Hz.

    `trim_db` > 0 cuts the silence at both ends, see `trim`. Raises `AudioError` for what is no file, cannot be decoded,
    holds no samples, NaN or infinity, or is cut short.
    """
    pieces = list(blocks(path, rate))
    if not pieces:
        raise AudioError(path, "no samples")
    return trim(np.concatenate(pieces), trim_db)


def blocks(path: AnyPath, rate: int) -> Iterator[NDArray[np.float32]]:
    """The same recording piece by piece, each float32 [n] with n > 0, so that memory does not grow with the file.

    Raises `AudioError` as `read` does; of a file cut short only at its end, after all that it holds.
    """
    _check_readable(path)
    with _opened(path) as sound:
        resampler = None
        if sound.samplerate != rate:
            resampler = _resampler(path, sound.samplerate, rate)
        for mono in _decoded(path, sound):
            piece = resampler.resample_chunk(mono) if resampler else mono
            if len(piece):
                yield np.clip(piece, -1.0, 1.0)  # float files and the resampler's ripple go beyond
        if resampler:
            tail = resampler.resample_chunk(np.zeros(0, np.float32), last=True)
            if len(tail):
                yield np.clip(tail, -1.0, 1.0)


def trim(audio: NDArray[np.float32], db: float) -> NDArray[np.float32]:
    """View of `audio` [samples] without the ends in which every sample lies more than `db` below the clip's peak.

    `db` = 0 trims nothing; a clip of nothing but silence stays whole.
    """
    peak = max(float(audio.max()), -float(audio.min())) if len(audio) else 0.0
    if db <= 0 or peak == 0:
        return audio
    threshold = peak * 10 ** (-db / 20)
    loud = (audio >= threshold) | (audio <= -threshold)
    first, behind = int(loud.argmax()), len(audio) - int(loud[::-1].argmax())
    return audio[first:behind]


def silent_edges(audio: NDArray[np.float32], rate: int) -> tuple[int, int]:
    """Samples of silence before and after the sound of a clip [samples]; (0, 0) for one that is all silence.

    Silence is a frame of 10 ms whose mean power lies more than 45 dB below that of the clip's loudest frame.
    """
    frame = max(1, round(SILENCE_FRAME_SECONDS * rate))
    whole = len(audio) // frame * frame
    frames = audio[:whole].reshape(-1, frame)  # [frames, samples]
    power = np.einsum("ij,ij->i", frames, frames) / frame
    if rest := audio[whole:].tolist():
        power = np.append(power, sum(x * x for x in rest) / len(rest))
    loud = np.flatnonzero(power >= power.max(initial=0.0) * 10 ** (-SILENCE_DB / 10))
    if not len(loud):
        return 0, 0
    return int(loud[0]) * frame, max(len(audio) - (int(loud[-1]) + 1) * frame, 0)


def check_writable(path: AnyPath) -> tuple[Path, tuple[str, str]]:
    """Where `write` will write, and libsndfile's names of the format; links are followed.

    Raises `AudioError` for another extension, a missing folder, a directory, no permission: before the work, not after.
    """
    target = Path(os.path.realpath(path))  # a link stays, its target is replaced
    kind = WRITABLE.get(Path(path).suffix.lower())
    if kind is None:
        raise AudioError(path, f"unknown extension: sound is written as {', '.join(WRITABLE)}")
    if not target.parent.is_dir():
        raise AudioError(path, "no such folder: create it first")
    if target.is_dir():
        raise AudioError(path, "a directory: give a file name")
    if not os.access(target.parent, os.W_OK):
        raise AudioError(path, "no permission to write in its folder")
    return target, kind


def write(path: AnyPath, audio: ArrayLike, rate: int) -> None:
    """Write float samples [samples] at `rate` Hz as .wav or .flac (16 bits) or .ogg (Vorbis), by the extension.

    Written under a temporary name, flushed, then renamed: `path` is either as it was or complete. Raises `AudioError`
    for another extension, a missing folder, no permission, a full disk, NaN, no samples.
    """
    target, kind = check_writable(path)
    try:
        files.replace(target, _encode(to_int16(audio), rate, *kind))
    except OSError as error:
        raise AudioError(path, f"cannot be written: {error.strerror or error}") from error
    except (soundfile.SoundFileError, ValueError) as error:
        raise AudioError(path, f"cannot be written: {_first_line(error)}") from error


def _encode(samples: NDArray[np.int16], rate: int, container: str, encoding: str) -> bytes:
    if samples.ndim != 1 or not len(samples):
        raise ValueError(f"expected [samples] and at least one, got the shape {list(samples.shape)}")
    content = io.BytesIO()
    with soundfile.SoundFile(content, "w", rate, 1, encoding, format=container) as sound:
        for start in range(0, len(samples), BLOCK):
            sound.write(samples[start : start + BLOCK])
    return content.getvalue()


class _Stream(soundfile.SoundFile):  # type: ignore[misc]
    """A file read in one go from front to back. soundfile seeks after every block where it can, which is slow."""

    def seekable(self) -> bool:
        return False


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


def reason_of(error: OSError, path: AnyPath) -> str:
    """A few words for the system's refusal to open `path`."""
    if isinstance(error, FileNotFoundError):
        return "dangling link" if os.path.islink(path) else "no such file"
    if isinstance(error, PermissionError):
        return "no permission"
    return (error.strerror or str(error)).lower()


@contextmanager
def _opened(path: AnyPath) -> Iterator[_Stream]:
    """The decoder on `path`, after a look at what its container announces."""
    with open(path, "rb") as file:
        chunk = _data_chunk(file)
        if chunk and chunk.announced > chunk.held and chunk.announced < PLACEHOLDER_BYTES:
            raise AudioError(path, f"truncated: holds {chunk.held:,} of the {chunk.announced:,} bytes announced")
        source: Any = os.fspath(path) if os.name == "nt" else os.fsencode(path)  # soundfile cannot encode every str
        if chunk and chunk.left_open:
            source = chunk.completed(file)
        try:
            sound = _Stream(source)
        except (soundfile.SoundFileError, ValueError, TypeError) as error:
            raise AudioError(path, f"unreadable: {_first_line(error)}") from error
        with sound:
            yield sound


def _decoded(path: AnyPath, sound: _Stream) -> Iterator[NDArray[np.float32]]:
    """Mono blocks at the file's own rate. Raises `AudioError` on NaN, infinity, or an end before the announced one."""
    held = 0  # frames
    checked = sound.format == "FLAC" and sound.frames < 2**62  # else no length is announced, or none to rely on
    while True:
        try:
            block = sound.read(BLOCK, dtype="float32", always_2d=True)  # [frames, channels]
        except soundfile.SoundFileError as error:
            if checked:
                break
            detail = f"the decoder stopped after {held / sound.samplerate:.2f} seconds ({_first_line(error)})"
            raise AudioError(path, f"unreadable: {detail}") from error
        if not len(block):
            break
        held += len(block)
        if not (np.abs(block) < LOUDEST).all():
            raise AudioError(path, "holds NaN" if np.isnan(block).any() else "holds infinity or numbers near it")
        yield block[:, 0] if block.shape[1] == 1 else block.mean(axis=1)  # [frames]
    if checked and held < sound.frames:
        seconds = f"{held / sound.samplerate:.2f} of the {sound.frames / sound.samplerate:.2f} seconds announced"
        raise AudioError(path, f"truncated: holds {seconds}, or is damaged there")


def _resampler(path: AnyPath, from_rate: int, to_rate: int) -> Any:
    import soxr  # slow to import, and not needed where rates agree

    try:
        return soxr.ResampleStream(from_rate, to_rate, 1, dtype="float32", quality="HQ")
    except (ValueError, RuntimeError) as error:
        raise AudioError(path, f"unreadable: cannot go from {from_rate:,} Hz to {to_rate:,} Hz") from error


@dataclass(frozen=True)
class _DataChunk:
    """Where a RIFF or FORM container keeps its samples, in bytes: the announced size and what the file holds."""

    position: int  # of the 4-byte size field
    order: str  # byte order for struct
    announced: int
    held: int
    minimum: int  # announced size of a chunk without samples
    closed: bool  # the size of the container as a whole agrees with the file

    @property
    def left_open(self) -> bool:
        """The writer never came back to fill in the size: no sample announced, yet data to the end of the file."""
        return self.announced <= self.minimum < self.held and not self.closed

    def completed(self, file: BinaryIO) -> mmap.mmap:
        """The file with the true size filled in, in memory only."""
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        content[self.position : self.position + 4] = struct.pack(f"{self.order}I", min(self.held, 2**32 - 1))
        return content


def _data_chunk(file: BinaryIO) -> _DataChunk | None:
    """Walk the chunks of a WAV, RF64 or AIFF file up to its samples; None for other files and lost ways."""
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


def _first_line(error: Exception) -> str:
    """What libsndfile says, without the path that the message names already."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return text.rpartition("': ")[2].removeprefix("Error : ").rstrip(".")

"""Write audio files block by block: memory does not grow with their length, and an interruption loses nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import soundfile
from numpy.typing import ArrayLike

from wavenet.data import files
from wavenet.data.errors import AnyPath, AudioError
from wavenet.data.pcm import to_int16

BLOCK = 65_536  # samples encoded at a time; libvorbis fails on very long blocks
PROBE_BYTES = 1 << 20  # written to find out why the system refuses to write, which libsndfile does not report


class Format(NamedTuple):
    """A format of audio files."""

    container: str  # libsndfile's name
    encoding: str  # libsndfile's name
    most_samples: int  # of the longest file


FORMATS = {
    ".wav": Format("WAV", "PCM_16", (2**32 - 64) // 2),  # the size field has 32 bits; the headers take about 44 bytes
    ".flac": Format("FLAC", "PCM_16", 2**36 - 1),  # the field with the number of samples has 36 bits
    ".ogg": Format("OGG", "VORBIS", 2**36 - 1),  # could be longer, but more than 49 days at 16 kHz is a typing error
}


class SequentialFile(soundfile.SoundFile):  # type: ignore[misc]
    """A file that is read once from start to end. In seekable files soundfile seeks after every block: slow."""

    def seekable(self) -> bool:
        return False


class AudioWriter:
    """Writes a .wav or .flac (16 bits) or .ogg (Vorbis) file, chosen by the extension, block by block:

        with AudioWriter("new.wav", 16_000) as file:
            file.write(block)  # float [n] in [-1, 1]

    The samples are written to a temporary file in the same folder, which `close` renames: until then an existing file
    is not changed. When an exception (or Ctrl-C) leaves the `with` block, the samples written so far are kept under the
    final name, unless `keep` is False. A file without samples is never created.

    samples: samples written so far. complete: whether the file has its final name.
    Raises `AudioError` for another extension, a missing folder, no permission, a full or read-only disk.
    """

    def __init__(self, path: AnyPath, sample_rate: int, keep: bool = True) -> None:
        self.path = path
        self.keep = keep
        self.samples, self.complete = 0, False
        self._size = 0  # bytes of the temporary file after the last complete write
        self._failed = False
        self._target, audio_format = check_writable(path)
        self._temporary = files.temporary_name(self._target)
        name: str | bytes = os.fspath(self._temporary)
        if os.name != "nt":
            name = os.fsencode(name)  # soundfile cannot encode every str
        try:
            with self._named_errors():
                self._file = soundfile.SoundFile(
                    name, "w", sample_rate, 1, audio_format.encoding, format=audio_format.container
                )
        except BaseException:
            self._remove()
            raise

    def write(self, audio: ArrayLike) -> None:
        """Append float samples [n] in [-1, 1]; values beyond are clipped.

        Raises `AudioError` on a full disk, NaN, or a wrong shape.
        """
        with self._named_errors():
            samples = to_int16(audio)
            if samples.ndim != 1:
                raise ValueError(f"expected [samples], got the shape {list(samples.shape)}")
            for start in range(0, len(samples), BLOCK):
                block = samples[start : start + BLOCK]
                self._file.write(block)
                self.samples += len(block)
                self._size = self._temporary.stat().st_size

    def close(self) -> None:
        """Complete the file: write its header, flush it to the disk, rename it. Further calls do nothing."""
        if self._file.closed:
            return
        try:
            with self._named_errors():
                self._file.close()
                if self._failed:
                    if self._file.format != "WAV":  # the last frame or page may be incomplete
                        os.truncate(self._temporary, self._size)
                    self.samples = _decodable(self._temporary)
                if self.samples:
                    try:
                        _flush(self._temporary)
                    except KeyboardInterrupt:  # a second Ctrl-C must not lose what was written
                        self._rename()
                        raise
                    self._rename()
        finally:
            self._remove()

    def discard(self) -> None:
        """Delete what was written; an existing file of that name is not changed."""
        with suppress(soundfile.SoundFileError):
            self._file.close()
        self._remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None or self.keep:
            self.close()
        else:
            self.discard()

    def _rename(self) -> None:
        os.replace(self._temporary, self._target)
        self.complete = True

    def _remove(self) -> None:
        with suppress(OSError):
            self._temporary.unlink(missing_ok=True)

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        """Turn errors of the system and of libsndfile into `AudioError`, which names the file."""
        try:
            yield
        except OSError as error:
            raise _unwritable(self.path, error) from error
        except (soundfile.SoundFileError, ValueError) as error:
            self._failed = True
            if isinstance(error, soundfile.SoundFileError) and (refusal := _refusal(self._temporary)):
                raise _unwritable(self.path, refusal) from refusal
            raise AudioError(self.path, f"cannot be written ({first_line(error)})") from error


def check_writable(path: AnyPath) -> tuple[Path, Format]:
    """The path that a file is written to (links are followed), and its format; checked by creating a file there.

    Raises `AudioError` for another extension, a missing folder, a directory, no permission, a full or read-only disk.
    """
    name = os.fspath(path)
    separators = tuple(separator for separator in (os.sep, os.altsep) if separator)
    if not name:
        raise AudioError("''", "no file name: give one, such as new.wav")
    if name.endswith(separators) or os.path.isdir(name):
        raise AudioError(path, "a directory: give a file name, such as new.wav")
    suffix = Path(name).suffix.lower()
    if not suffix and Path(name).name.lower() in FORMATS:
        raise AudioError(path, f"only an extension: give a file name, such as new{Path(name).name}")
    if suffix not in FORMATS:
        raise AudioError(path, f"unknown extension: audio is written as {', '.join(FORMATS)}")
    target = Path(os.path.realpath(name))  # a link stays, its target is replaced
    if not target.parent.is_dir():
        raise AudioError(path, "no such folder: create it first")
    try:
        files.check_writable(target)
    except PermissionError as error:
        raise AudioError(path, "no permission to write in its folder") from error
    except OSError as error:
        raise _unwritable(path, error) from error
    return target, FORMATS[suffix]


def check_length(path: AnyPath, samples: int, sample_rate: int) -> None:
    """Raises `AudioError` if the format of `path` cannot hold this many samples; called before any is generated."""
    most = FORMATS[Path(path).suffix.lower()].most_samples
    if samples > most:
        wider = (
            ", or .flac" if most < FORMATS[".flac"].most_samples and samples <= FORMATS[".flac"].most_samples else ""
        )
        raise AudioError(
            path,
            f"can hold {most / sample_rate / 3600:,.1f} hours at {sample_rate:,} Hz, not "
            f"{samples / sample_rate / 3600:,.1f}: write a shorter file{wider}",
        )


def first_line(error: BaseException) -> str:
    """The message of libsndfile, without the path: the caller's message names it already."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return text.rpartition("': ")[2].removeprefix("Error : ").rstrip(".")


def _unwritable(path: AnyPath, error: OSError) -> AudioError:
    return AudioError(path, f"cannot be written ({error.strerror or error})")


def _flush(path: Path) -> None:
    with open(path, "r+b") as file:
        os.fsync(file.fileno())


def _refusal(path: Path) -> OSError | None:
    """The error with which the system refuses to extend a file, from an attempt that is undone; None if it does not."""
    try:
        size = path.stat().st_size
        try:
            with open(path, "ab", buffering=0) as file:
                for _ in range(2):  # a limit may let a part of the first write succeed; the second one then fails
                    file.write(bytes(PROBE_BYTES))
        finally:
            os.truncate(path, size)
    except OSError as error:
        return error
    return None


def _decodable(path: Path) -> int:
    """Samples in an audio file that may not be complete."""
    samples = 0
    with suppress(soundfile.SoundFileError), SequentialFile(path) as file:
        while len(block := file.read(BLOCK, dtype="int16")):
            samples += len(block)
    return samples

"""Write generated audio to files or standard output, or play it, block by block in constant memory."""

from __future__ import annotations

import math
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import click

from wavenet.cli.console import ProgressLine, duration, print_message
from wavenet.cli.models import trained_joined
from wavenet.data.errors import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from wavenet.generate import Generator, Session
    from wavenet.refined_session import RefinedSession
    from wavenet.replay import Replay

FIRST_BLOCK_SECONDS = 0.02  # of audio; short, so that playback starts immediately
BLOCK_SECONDS = 0.1  # of audio, per write and per update of the progress line
MOSTLY_SILENT = 0.6  # share of silent frames
INTERRUPTED = 130  # exit code after Ctrl-C
SPARE_FILES = 64  # files that the process may open in addition to its outputs


def output_paths(output: str | None, count: int) -> list[Path]:
    """The files to write: none for None, and for "-", which is standard output. Called before anything is generated.

    Raises `AudioError` for a file that cannot be written, `click.UsageError` if standard output cannot be used.
    """
    if output == "-":
        if count > 1:
            raise click.UsageError("standard output takes one stream: leave out --count, or give a file with -o")
        if sys.stdout is None:
            raise click.UsageError("standard output is closed: give a file with -o")
    if output is None or output == "-":
        return []
    from wavenet.data.audio_writer import check_writable  # loads libsndfile, which standard output does not need

    check_writable(output)
    path = Path(output)
    if count == 1:
        return [path]
    paths = [path.with_stem(f"{path.stem}-{index}") for index in range(count)]
    for one in paths:
        check_writable(one)
    return paths


def check_lengths(paths: Sequence[Path], samples: int, sample_rate: int) -> None:
    """Raises `AudioError` if the format of these files cannot hold this many samples."""
    if paths:
        from wavenet.data.audio_writer import check_length

        check_length(paths[0], samples, sample_rate)


def write_audio(
    generator: Generator | Replay,
    session: Session | RefinedSession | Replay,
    samples: int,
    output: str | None,
    play: bool = False,
    count: int = 1,
    model: Path | None = None,
) -> None:
    """Generate `samples` samples, write them to `output`, play them if `play`, and print a summary.

    session: a batch of `count` streams (blocks are [count, n]). output: as of `output_paths`. model: its path, to print
    advice on silent audio. Audio generated before an error or Ctrl-C is kept.
    """
    sample_rate = generator.sample_rate
    blocks, levels = _Blocks(session, samples, sample_rate), _Levels(sample_rate)
    progress = ProgressLine("playing" if play else "generating", "samples")
    files = _Files(output_paths(output, count), sample_rate)
    playback = ""
    try:
        with files:
            sent = _sent(blocks, levels, files, output == "-", progress)
            if play:
                playback = _play((block[0] for block in sent), blocks, progress, _faster(generator))
            else:
                for _ in sent:
                    pass
    except BaseException as error:
        progress.clear()
        interrupted = isinstance(error, KeyboardInterrupt)
        if line := files.kept_line(interrupted, levels.seconds):
            print_message(line)
        if interrupted:
            raise click.exceptions.Exit(INTERRUPTED) from None
        raise
    progress.clear()
    names = [printable(path) for path in files.paths] or ["standard output" if output == "-" else "played"]
    for index, name in enumerate(names):
        print_message(f"{name}: {levels.summary(index)}")
    if playback:
        print_message(playback)
    print_message(_speed_line(generator, blocks, count))
    if levels.silent_share > MOSTLY_SILENT and model is not None:
        print_message(_silence_note(levels.silent_share, trained_joined(model)))


def _speed_line(generator: Generator | Replay, blocks: _Blocks, count: int) -> str:
    speed = count * blocks.samples / blocks.seconds
    return (
        f"{generator.engine} engine, {generator.precision}: {speed:,.0f} samples/s, "
        f"{speed / blocks.sample_rate:.2f} x real time, {duration(blocks.seconds)}"
    )


def _sent(
    blocks: _Blocks, levels: _Levels, files: _Files, piped: bool, progress: ProgressLine
) -> Iterator[NDArray[np.float32]]:
    """Write each block [count, n] to the files or standard output, update the levels and the progress, and yield it."""
    for block in blocks:
        if piped:
            _write_raw(block[0])
        files.write(block)
        levels.add(block)
        progress(levels.samples, blocks.total)
        yield block


def _write_raw(audio: NDArray[np.float32]) -> None:
    """Write samples [n] to standard output as raw 16-bit little-endian ones."""
    from wavenet.data.pcm import to_int16

    try:
        sys.stdout.buffer.write(to_int16(audio).astype("<i2").tobytes())
        sys.stdout.buffer.flush()
    except OSError as error:
        error.filename = "standard output"
        raise


def _play(blocks: Iterator[NDArray[np.float32]], source: _Blocks, progress: ProgressLine, faster: str) -> str:
    """Play blocks [n] while they are generated; returns a summary."""
    from wavenet.play import play

    def report_gap() -> None:
        progress.clear()
        if source.times_real_time < 1:
            print_message(
                f"slower than real time ({source.times_real_time:.2f} x), so the audio has gaps; try {faster}"
            )
        else:
            print_message("a gap in the audio: the machine was busy for a moment")

    playback = play(blocks, source.sample_rate, on_underrun=report_gap)
    summary = f"gaps {playback.underruns}, latency {playback.latency_ms:.0f} ms"
    return f"{summary}; try {faster}" if playback.underruns else summary


def _faster(generator: Generator | Replay) -> str:
    """A suggestion for faster generation."""
    if generator.engine != "native":
        return "the native engine or a smaller model"
    return "a smaller model" if generator.precision == "int8" else "--precision int8 or a smaller model"


def _silence_note(share: float, joined: bool | None) -> str:
    """Advice on audio that is mostly silent."""
    longer = {
        True: "train longer",
        False: "train longer, or with --set data.join=true, so that another clip follows where one ends",
        None: "train longer, and with data.join=true if the model was trained without",
    }[joined]
    return (
        f"note: {share:.0%} of this is silence. Try another --seed, a --temperature nearer to 1, or --prime CLIP; "
        f"if that does not help, {longer}"
    )


class _Blocks:
    """Iterates over the blocks of a session, each [count, n], the first one short, and measures their time."""

    def __init__(self, session: Session | RefinedSession | Replay, total: int, sample_rate: int) -> None:
        self.session, self.total, self.sample_rate = session, total, sample_rate
        self.samples, self.seconds = 0, 0.0

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        import numpy as np

        size = max(1, round(FIRST_BLOCK_SECONDS * self.sample_rate))
        while self.samples < self.total:
            started = time.perf_counter()
            block = np.atleast_2d(self.session.next(min(size, self.total - self.samples)))
            self.seconds += time.perf_counter() - started
            self.samples += block.shape[-1]
            size = max(1, round(BLOCK_SECONDS * self.sample_rate))
            yield block

    @property
    def times_real_time(self) -> float:
        return self.samples / self.sample_rate / self.seconds


class _Files:
    """Context manager of the audio files of a batch of streams, one per stream; see `AudioWriter`."""

    def __init__(self, paths: list[Path], sample_rate: int) -> None:
        self.paths, self.sample_rate = paths, sample_rate
        self._writers: list[Any] = []
        self._open = ExitStack()

    def __enter__(self) -> Self:
        if self.paths:
            from wavenet.data.audio_writer import AudioWriter

            _allow_open_files(len(self.paths))
            with ExitStack() as opening:
                self._writers = [opening.enter_context(AudioWriter(path, self.sample_rate)) for path in self.paths]
                self._open = opening.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, traceback)

    def write(self, block: NDArray[np.float32]) -> None:
        """Append a block [count, n], a row to each file."""
        for writer, audio in zip(self._writers, block, strict=bool(self._writers)):
            writer.write(audio)

    def kept_line(self, interrupted: bool, seconds: float) -> str:
        """The line to print after an error or an interruption, at `seconds` of audio; empty if there is none."""
        start = "interrupted: " if interrupted else ""
        kept = [writer for writer in self._writers if writer.complete]
        if kept:
            names = [printable(writer.path) for writer in kept]
            where = names[0] if len(names) == 1 else f"each of {len(names)} files, {names[0]} to {names[-1]}"
            return f"{start}kept {min(writer.samples for writer in kept) / self.sample_rate:.1f} s in {where}"
        if not interrupted:
            return ""
        return f"{start}nothing was generated yet" if self.paths else f"{start}after {seconds:.1f} s"


def _allow_open_files(count: int) -> None:
    """Raise this process's limit of open files, as far as the system allows."""
    try:
        import resource
    except ImportError:  # Windows
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = count + SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        most = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


class _Levels:
    """Peak, RMS and share of silence of a batch of streams, from their blocks."""

    def __init__(self, sample_rate: int) -> None:
        self.sample_rate, self.samples, self.silent = sample_rate, 0, 0.0
        self.peak: Any = 0.0  # [count]
        self.power: Any = 0.0  # [count], summed over the samples

    def add(self, block: NDArray[np.float32]) -> None:
        """Add a block [count, n]."""
        import numpy as np

        from wavenet.generate import silent_share

        self.samples += block.shape[-1]
        self.silent += block.shape[-1] * silent_share(block, self.sample_rate)
        self.peak = np.maximum(self.peak, np.abs(block).max(axis=-1))
        self.power = self.power + np.square(block, dtype=np.float64).sum(axis=-1)

    @property
    def seconds(self) -> float:
        return self.samples / self.sample_rate

    @property
    def silent_share(self) -> float:
        return self.silent / self.samples

    def summary(self, index: int) -> str:
        """Length, peak and RMS of one stream."""
        rms = math.sqrt(self.power[index] / self.samples)
        length = f"{self.seconds:.2f} s at {self.sample_rate:,} Hz"
        return f"{length}, peak {_decibels(self.peak[index])}, RMS {_decibels(rms)}"


def _decibels(amplitude: float) -> str:
    return f"{20 * math.log10(amplitude):.1f} dBFS" if amplitude else "-inf dBFS"

"""What `generate` and `vocode` share: their options, and the way of sound to files, standard output and ears."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wavenet.cli.console import ProgressLine, duration, say

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from wavenet.generate import Generator, Session

FIRST_BLOCK_SECONDS = 0.02  # of sound: whoever listens hears the start at once
BLOCK_SECONDS = 0.1  # of sound between looks at the progress line, and per write to standard output
MOSTLY_SILENT = 0.6

OUTPUT = click.option("-o", "--output", help=".wav, .flac, .ogg, or - for raw 16-bit.")
TOP_P = click.option(
    "--top-p", type=float, help="Draw from the most likely samples that hold this share of the probability."
)
SAMPLING = (
    click.option("--play", is_flag=True, help="Play it while it is made."),
    click.option("--seed", type=int, default=0, show_default=True, help="The same seed makes the same sound."),
    click.option("--temperature", type=float, default=1.0, show_default=True, help="Below 1 is safer, above wilder."),
    TOP_P,
    click.option("--speaker", help="Whom to use of those that the model knows; a blend is ann=0.3,bob=0.7."),
    click.option("--engine", default="auto", show_default=True, help="auto, native, torch or naive."),
    click.option("--precision", default="auto", show_default=True, help="auto, f32 or int8."),
    click.option("--threads", type=click.IntRange(1), help="CPU threads."),
)
VOICED_TEMPERATURE = click.option(
    "--voiced-temperature", type=float, help="The temperature in frames that have a pitch.  [default: the same]"
)


def sampling_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that every command which makes sound has."""
    for option in reversed(SAMPLING):
        command = option(command)
    return command


def speaker_of(text: str | None, known: Sequence[str]) -> str | dict[str, float] | None:
    """What --speaker means: a name that the model knows, or a blend such as ann=0.3,bob=0.7."""
    if text is None or text in known or "=" not in text:
        return text
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, _, share = part.rpartition("=")
        try:
            shares[name.strip()] = float(share)
        except ValueError:
            raise click.UsageError(f"--speaker {text}: expected a name, or shares such as ann=0.3,bob=0.7") from None
    return shares


def perform(generator: Generator, session: Session, total: int, output: str | None, play: bool, count: int) -> None:
    """Make `total` samples and send them where they belong; tells what came out, and how fast.

    session: of `count` streams side by side. output: see `outputs_of`.
    """
    import numpy as np

    rate, piped, outputs = generator.sample_rate, output == "-", outputs_of(output, count)
    making, levels, parts = _Making(session, total, rate), _Levels(rate), []
    bar = ProgressLine("playing" if play else "generating", "samples")

    def made() -> Iterator[NDArray[np.float32]]:  # each block [count, n], on its way
        for block in making:
            if piped:
                _write_raw(block[0])
            if outputs:
                parts.append(block)
            levels.add(block)
            bar(levels.samples, total)
            yield block

    told = ""
    if play:
        told = _play((block[0] for block in made()), making, bar, _faster(generator))
    else:
        for _ in made():
            pass
    bar.clear()
    if outputs:
        from wavenet.data import audio

        for path, one in zip(outputs, np.concatenate(parts, axis=-1), strict=True):
            audio.write(path, one, rate)
    for index in range(count):
        name = outputs[index] if outputs else "standard output" if piped else "played"
        say(f"{name}: {levels.line(index)}")
    if told:
        say(told)
    speed = count * total / making.seconds
    say(
        f"{generator.engine} engine, {generator.precision}: {speed:,.0f} samples/s, {speed / rate:.2f} x real time, "
        f"{duration(making.seconds)}"
    )
    if levels.silent_share > MOSTLY_SILENT and session.left is None:
        say(
            f"note: {levels.silent_share:.0%} of this is silence. Try another --seed, a --temperature nearer to 1, "
            "--prime CLIP; if it stays so, train longer, or with data.join=true, which shows what follows a clip's end"
        )


def outputs_of(output: str | None, count: int) -> list[Path]:
    """The files to write; none for "-", which is standard output. Checked before the work, not after it."""
    if output == "-":
        if count > 1:
            raise click.UsageError("standard output takes one sound: leave out --count, or name a file with -o")
        if sys.stdout is None:
            raise click.UsageError("standard output is closed: name a file with -o")
    if output is None or output == "-":
        return []
    from wavenet.data import audio_writer

    path = Path(output)
    paths = [path] if count == 1 else [path.with_stem(f"{path.stem}-{index}") for index in range(count)]
    for one in paths:
        audio_writer.check_writable(one)
    return paths


def _write_raw(sound: NDArray[np.float32]) -> None:
    """To standard output, as raw 16-bit little-endian samples."""
    from wavenet.data.pcm import to_int16

    sys.stdout.buffer.write(to_int16(sound).astype("<i2").tobytes())
    sys.stdout.buffer.flush()


def _play(blocks: Iterator[NDArray[np.float32]], making: _Making, bar: ProgressLine, faster: str) -> str:
    """Play blocks [n] as they are made; what is to be told about it afterwards."""
    from wavenet.play import play

    def late() -> None:
        bar.clear()
        if making.times_real_time < 1:
            say(f"slower than real time ({making.times_real_time:.2f} x), so the sound has gaps; try {faster}")
        else:
            say("a gap: the machine was busy for a moment")

    playback = play(blocks, making.rate, on_underrun=late)
    told = f"under-runs {playback.underruns}, heard {playback.latency_ms:.0f} ms after it is made"
    return f"{told}; try {faster}" if playback.underruns else told


def _faster(generator: Generator) -> str:
    """What makes sound faster than this generator."""
    if generator.engine != "native":
        return "the native engine or a smaller model"
    return "a smaller model" if generator.precision == "int8" else "--precision int8 or a smaller model"


class _Making:
    """The blocks of a sound, each [count, n], the first one short; and how long the making took, waiting left out."""

    def __init__(self, session: Session, total: int, rate: int) -> None:
        self.session, self.total, self.rate = session, total, rate
        self.samples, self.seconds = 0, 0.0

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        size = max(1, round(FIRST_BLOCK_SECONDS * self.rate))
        while self.samples < self.total:
            started = time.perf_counter()
            block = self.session.next(min(size, self.total - self.samples))
            self.seconds += time.perf_counter() - started
            self.samples += block.shape[-1]
            size = max(1, round(BLOCK_SECONDS * self.rate))
            yield block

    @property
    def times_real_time(self) -> float:
        return self.samples / self.rate / self.seconds


class _Levels:
    """Peak, RMS and silent share of sounds made side by side, block by block: a stream may last for hours."""

    def __init__(self, rate: int) -> None:
        self.rate, self.samples, self.silent = rate, 0, 0.0
        self.peak: Any = 0.0  # [count]
        self.power: Any = 0.0  # [count], summed over the samples

    def add(self, block: NDArray[np.float32]) -> None:
        """A block [count, n]."""
        import numpy as np

        from wavenet.generate import silent_share

        self.samples += block.shape[-1]
        self.silent += block.shape[-1] * silent_share(block, self.rate)
        self.peak = np.maximum(self.peak, np.abs(block).max(axis=-1))
        self.power = self.power + np.square(block, dtype=np.float64).sum(axis=-1)

    @property
    def silent_share(self) -> float:
        return self.silent / self.samples

    def line(self, index: int) -> str:
        """What is told about one of the sounds."""
        rms = math.sqrt(self.power[index] / self.samples)
        length = f"{self.samples / self.rate:.2f} s at {self.rate:,} Hz"
        return f"{length}, peak {_decibels(self.peak[index])}, RMS {_decibels(rms)}"


def _decibels(level: float) -> str:
    return f"{20 * math.log10(level):.1f} dBFS" if level else "-inf dBFS"

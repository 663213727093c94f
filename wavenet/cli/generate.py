"""wavenet generate."""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wavenet.cli.console import Bar, duration, say
from wavenet.sampling import MAX_STREAMS

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from wavenet.generate import Generator, Session

FIRST_BLOCK_SECONDS = 0.02  # of sound: whoever listens hears the start at once
BLOCK_SECONDS = 0.1  # of sound between looks at the progress line, and per write to standard output
DEFAULT_OUTPUT = "generated.wav"
MOSTLY_SILENT = 0.6


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", help=f".wav, .flac, .ogg, or - for raw 16-bit.  [default: {DEFAULT_OUTPUT}; with --play none]"
)
@click.option("--play", is_flag=True, help="Play it while it is made.")
@click.option("--seconds", type=float, default=5.0, show_default=True, help="Length of the sound.")
@click.option(
    "--count", type=click.IntRange(1, MAX_STREAMS), default=1, show_default=True, help="Sounds made side by side."
)
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed makes the same sound.")
@click.option("--temperature", type=float, default=1.0, show_default=True, help="Below 1 is safer, above wilder.")
@click.option("--top-k", type=int, help="Draw from the K most likely codes only.")
@click.option("--top-p", type=float, help="Draw from the most likely codes that hold this share of the probability.")
@click.option("--prime", type=click.Path(path_type=Path), help="A clip to continue.")
@click.option("--engine", default="auto", show_default=True, help="auto, native, torch or naive.")
@click.option("--precision", default="auto", show_default=True, help="auto, f32 or int8.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads.")
def command(
    model: Path,
    output: str | None,
    play: bool,
    seconds: float,
    count: int,
    seed: int,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    prime: Path | None,
    engine: str,
    precision: str,
    threads: int | None,
) -> None:
    """Make sound from MODEL: a model file, or a run directory (then its best model).

    Several sounds (--count) are numbered: new-0.wav, new-1.wav, ...; sound i is the one that --seed SEED+i makes.

    \b
    wavenet generate runs/speech -o new.wav --seconds 5
    wavenet generate runs/speech -o new.wav --prime clip.wav --temperature 0.9
    wavenet generate runs/speech --play --seconds 60
    wavenet generate runs/speech -o - | aplay -f S16_LE -r 16000
    """
    import numpy as np

    from wavenet.generate import Generator

    if play and count > 1:
        raise click.UsageError("one sound can be played: leave out --count, or --play")
    piped = output == "-"
    if output is None and not play:
        output = DEFAULT_OUTPUT
    outputs = _outputs(output, count)
    generator = Generator.load(model, engine, precision, threads)
    rate = generator.sample_rate
    session = generator.session(
        seed=seed,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        count=count,
        prime=None if prime is None else _read(prime, rate),
    )
    total = generator.samples(seconds)
    making, levels, parts = _Making(session, total, rate), _Levels(rate), []
    bar = Bar("playing" if play else "generating", "samples")

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
        from wavenet import audio

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
    if levels.silent_share > MOSTLY_SILENT:
        say(
            f"note: {levels.silent_share:.0%} of this is silence. Try another --seed, a --temperature nearer to 1, "
            "--prime CLIP; if it stays so, train longer, or with data.join=true, which shows what follows a clip's end"
        )


def _outputs(output: str | None, count: int) -> list[Path]:
    """The files to write; none for "-", which is standard output. Checked before the work, not after it."""
    if output == "-":
        if count > 1:
            raise click.UsageError("standard output takes one sound: leave out --count, or name a file with -o")
        if sys.stdout is None:
            raise click.UsageError("standard output is closed: name a file with -o")
    if output is None or output == "-":
        return []
    from wavenet import audio

    path = Path(output)
    paths = [path] if count == 1 else [path.with_stem(f"{path.stem}-{index}") for index in range(count)]
    for one in paths:
        audio.check_writable(one)
    return paths


def _write_raw(sound: NDArray[np.float32]) -> None:
    """To standard output, as raw 16-bit little-endian samples."""
    from wavenet.pcm import to_int16

    sys.stdout.buffer.write(to_int16(sound).astype("<i2").tobytes())
    sys.stdout.buffer.flush()


def _read(prime: Path, rate: int) -> NDArray[np.float32]:
    from wavenet import audio  # loads libsndfile, which sound without a file does not need

    return audio.read(prime, rate)


def _play(blocks: Iterator[NDArray[np.float32]], making: _Making, bar: Bar, faster: str) -> str:
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

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
    import numpy as np
    from numpy.typing import NDArray

BLOCK_SECONDS = 0.1  # of sound between looks at the progress line, and per write to standard output
MOSTLY_SILENT = 0.6


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", default="generated.wav", show_default=True, help=".wav, .flac, .ogg, or - for raw 16-bit."
)
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
    output: str,
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
    wavenet generate runs/speech -o - | aplay -f S16_LE -r 16000
    """
    import numpy as np

    from wavenet import audio
    from wavenet.generate import Generator

    outputs = _outputs(output, count)
    generator = Generator.load(model, engine, precision, threads)
    rate = generator.sample_rate
    session = generator.session(
        seed=seed,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        count=count,
        prime=None if prime is None else audio.read(prime, rate),
    )
    total = generator.samples(seconds)
    step = max(1, round(BLOCK_SECONDS * rate))
    blocks = (session.next(min(step, total - done)) for done in range(0, total, step))  # each [count, n]
    levels, parts = _Levels(rate), []
    started, bar = time.perf_counter(), Bar("generating", "samples")
    for block in blocks:
        levels.add(block)
        if outputs:
            parts.append(block)
        else:
            _write_raw(block[0])
        bar(levels.samples, total)
    bar.clear()
    elapsed = time.perf_counter() - started
    if outputs:
        for path, one in zip(outputs, np.concatenate(parts, axis=-1), strict=True):
            audio.write(path, one, rate)
    for index in range(count):
        say(f"{outputs[index] if outputs else 'standard output'}: {levels.line(index)}")
    speed = count * total / elapsed
    say(
        f"{generator.engine} engine, {generator.precision}: {speed:,.0f} samples/s, {speed / rate:.2f} x real time, "
        f"{duration(elapsed)}"
    )
    if levels.silent_share > MOSTLY_SILENT:
        say(
            f"note: {levels.silent_share:.0%} of this is silence. Try another --seed, a --temperature nearer to 1, "
            "--prime CLIP; if it stays so, train longer, or with data.join=true, which shows what follows a clip's end"
        )


def _outputs(output: str, count: int) -> list[Path]:
    """Where each sound goes; none for standard output. Checked before the work, not after it."""
    from wavenet import audio

    if output == "-":
        if count > 1:
            raise click.UsageError("standard output takes one sound: leave out --count, or name a file with -o")
        if sys.stdout is None:
            raise click.UsageError("standard output is closed: name a file with -o")
        return []
    path = Path(output)
    paths = [path] if count == 1 else [path.with_stem(f"{path.stem}-{index}") for index in range(count)]
    for one in paths:
        audio.check_writable(one)
    return paths


def _write_raw(sound: NDArray[np.float32]) -> None:
    """To standard output, as raw 16-bit little-endian samples."""
    from wavenet import audio

    sys.stdout.buffer.write(audio.to_int16(sound).astype("<i2").tobytes())
    sys.stdout.buffer.flush()


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

"""wavenet generate."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wavenet.cli.console import Bar, duration, say

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from wavenet.generate import Generator

BLOCK_SECONDS = 0.05  # of sound between looks at the progress line, and per write to standard output
MOSTLY_SILENT = 0.6


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", default="generated.wav", show_default=True, help=".wav, .flac, .ogg, or - for raw 16-bit."
)
@click.option("--seconds", type=float, default=5.0, show_default=True, help="Length of the sound.")
@click.option("--count", type=click.IntRange(1), default=1, show_default=True, help="Sounds made side by side.")
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
    from wavenet import audio
    from wavenet.generate import Generator, silent_share

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
    started = time.perf_counter()
    sound = _collect(_written(blocks) if output == "-" else blocks, total)
    elapsed = time.perf_counter() - started
    for path, one in zip(outputs, sound, strict=False):
        audio.write(path, one, rate)
    _tell(generator, sound, elapsed, outputs)
    silent = silent_share(sound, rate)
    if silent > MOSTLY_SILENT:
        say(
            f"note: {silent:.0%} of this is silence. Try another --seed, a --temperature nearer to 1, --prime CLIP; if "
            "it stays so, train longer, or with data.join=true, which shows the network what follows a clip's end"
        )


def _outputs(output: str, count: int) -> list[Path]:
    """Where each sound goes; none for standard output. Checked before the work, not after it."""
    from wavenet import audio

    if output == "-":
        if count > 1:
            raise click.UsageError("standard output takes one sound: leave out --count, or name a file with -o")
        return []
    path = Path(output)
    audio.check_writable(path)
    return [path] if count == 1 else [path.with_stem(f"{path.stem}-{index}") for index in range(count)]


def _collect(blocks: Iterable[NDArray[np.float32]], total: int) -> NDArray[np.float32]:
    import numpy as np

    bar, parts, done = Bar("generating", "samples"), [], 0
    for block in blocks:
        parts.append(block)
        done += block.shape[-1]
        bar(done, total)
    bar.clear()
    return np.concatenate(parts, axis=-1)


def _written(blocks: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
    """The same blocks, each written to standard output as raw 16-bit little-endian samples on its way."""
    from wavenet import audio

    for block in blocks:
        sys.stdout.buffer.write(audio.to_int16(block[0]).astype("<i2").tobytes())
        sys.stdout.buffer.flush()
        yield block


def _tell(generator: Generator, sound: NDArray[Any], elapsed: float, outputs: list[Path]) -> None:
    import numpy as np

    speed = sound.size / elapsed
    for index, one in enumerate(sound):
        peak, rms = float(np.abs(one).max()), float(np.sqrt(np.mean(np.square(one, dtype=np.float64))))
        where = outputs[index] if outputs else "standard output"
        say(
            f"{where}: {len(one) / generator.sample_rate:.2f} s at {generator.sample_rate:,} Hz, "
            f"peak {_decibels(peak)}, RMS {_decibels(rms)}"
        )
    say(
        f"{generator.engine} engine, {generator.precision}: {speed:,.0f} samples/s, "
        f"{speed / generator.sample_rate:.2f} x real time, {duration(elapsed)}"
    )


def _decibels(level: float) -> str:
    import math

    return f"{20 * math.log10(level):.1f} dBFS" if level else "-inf dBFS"

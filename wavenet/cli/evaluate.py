"""wavenet evaluate."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wavenet.cli.console import ProgressLine, say
from wavenet.cli.options import TOP_P, VOICED_TEMPERATURE, parse_speaker
from wavenet.engine.sampling import Sampling, checked_voiced_temperature

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wavenet.evaluation.copy_synthesis import Copy
    from wavenet.generate import SessionOptions

FIGURES = {  # of `metrics.Comparison`: title, unit
    "log_mel_db": ("log-mel distance", "dB"),
    "mcd_db": ("mel-cepstral distortion", "dB"),
    "pitch_cents": ("pitch error", "cents"),
    "voicing_error": ("voicing error", ""),
    "pesq": ("PESQ", ""),
    "stoi": ("STOI", ""),
}


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--precision", type=click.Choice(["f32", "int8"]), help="Let the native engine predict, in this precision."
)
@click.option("--speakers", metavar="folders|FILE.csv", help="Who speaks: by sub-folder, or by lines path,speaker.")
@click.option("--speaker", help="The speaker that the model is told, whoever speaks.")
@click.option("--copies", type=click.IntRange(0), help="Recordings to copy.  [default: 10 of a model with features]")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the copies.")
@click.option("--temperature", type=float, default=1.0, show_default=True, help="Of the copies.")
@VOICED_TEMPERATURE
@TOP_P
@click.option("--csv", "table", type=click.Path(path_type=Path), help="Write the figures of every copy to this file.")
@click.option("--save", type=click.Path(path_type=Path), help="Write the copies into this folder, one for each maker.")
def command(
    model: Path,
    folder: Path,
    precision: str | None,
    speakers: str | None,
    speaker: str | None,
    copies: int | None,
    seed: int,
    temperature: float,
    voiced_temperature: float | None,
    top_p: float | None,
    table: Path | None,
    save: Path | None,
) -> None:
    """Bits per sample of MODEL on a FOLDER of recordings that it has not seen.

    Lower is better; 8 is guessing for mu-law, 16 for 16-bit outputs. Beside it stand two reference levels of the same
    recordings: the entropy of a histogram of codes, and that of a table of code pairs.

    A model that is driven by spectrograms also copies recordings: from their spectrogram back to sound. The copies are
    compared with the recordings, and so are those of Griffin and Lim's algorithm, which needs no model, and the
    recordings themselves. This needs: pip install 'wavenet-toolkit[metrics]'

    \b
    wavenet evaluate runs/speech recordings/test
    wavenet evaluate runs/speech recordings/test --precision int8
    wavenet evaluate runs/speakers recordings/test --speakers folders
    wavenet evaluate runs/vocoder recordings/test --csv copies.csv --save copies
    """
    from wavenet.checkpoint import load_model
    from wavenet.evaluation import metrics
    from wavenet.evaluation.copy_synthesis import copies as copied
    from wavenet.evaluation.copy_synthesis import evaluate
    from wavenet.generate import Generator

    network = load_model(model)
    copying = network.config.features is not None and copies != 0
    if not copying and (copies or table or save or voiced_temperature is not None or top_p is not None):
        why = "--copies 0" if copies == 0 else f"{model} is driven by no spectrogram"
        raise click.UsageError(f"{why}: nothing is copied, so leave out what is said of copies")
    Sampling(temperature, top_p=top_p)
    if voiced_temperature is not None:
        checked_voiced_temperature(voiced_temperature)
    told = parse_speaker(speaker, network.config.speakers)
    if copying:
        metrics.check_available()  # now, not after minutes of listening
        _check_places(table, save)
    bar = ProgressLine("listening", "samples")
    reading = ProgressLine("reading", "files")
    result = evaluate(network, folder, reading, bar, precision, speakers or "", told)
    bar.clear()
    for line in result.summary.lines():
        say(line)
    click.echo(f"model                {result.bits:.4f} bits per sample")
    click.echo(f"histogram of codes   {result.references.histogram:.4f}")
    click.echo(f"table of code pairs  {result.references.pairs:.4f}")
    if copying:
        generator = Generator.from_model(network, precision=precision or "auto")
        count, bar = 10 if copies is None else copies, ProgressLine("copying", "recordings")
        options: SessionOptions = {
            "seed": seed,
            "temperature": temperature,
            "voiced_temperature": voiced_temperature,
            "top_p": top_p,
            "speaker": told,
        }
        made = copied(generator, result.recordings, count, options, bar)
        _copies(made, bar, generator.sample_rate, table, save)


def _check_places(table: Path | None, save: Path | None) -> None:
    """Make the folder of the copies, and see that the table can be written beside others."""
    if table is not None and (table.is_dir() or not os.access(table.resolve().parent, os.W_OK)):
        raise click.UsageError(f"--csv {table}: cannot be written there; name a file in a folder that exists")
    if save is not None:
        try:
            save.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise click.UsageError(f"--save {save}: cannot be made ({error.strerror})") from None


def _copies(copies: Iterable[Copy], bar: ProgressLine, rate: int, table: Path | None, save: Path | None) -> None:
    """Tell the figures of copies while they are made, and keep what is asked for."""
    from wavenet.evaluation import copy_synthesis

    made = []
    for copy in copies:
        made.append(dataclasses.replace(copy, sound=copy.sound[:0]))  # its figures are all that is needed later
        if save is not None:
            _save(save, copy, rate)
    bar.clear()
    if made:
        _print(made)
    else:
        say(f"no recording of {copy_synthesis.LEAST_SECONDS} s or more to copy")
    if table is not None:
        copy_synthesis.write_csv(table, made)
        say(f"figures of every copy: {table}")


def _print(made: list[Copy]) -> None:
    from wavenet.evaluation.copy_synthesis import COPIES
    from wavenet.evaluation.metrics import mean

    means = {maker: mean(copy.comparison for copy in made if copy.maker == maker) for maker in COPIES}
    seconds = sum(copy.seconds for copy in made if copy.maker == COPIES[0])
    title = f"copies of {len(made) // len(COPIES)} recordings, {seconds:.1f} s"
    click.echo(f"\n{title:36}" + "".join(f"{maker:>13}" for maker in COPIES))
    for name, (figure, unit) in FIGURES.items():
        label = f"{figure}, {unit}" if unit else figure
        click.echo(f"{label:36}" + "".join(f"{getattr(means[maker], name):13.3f}" for maker in COPIES))


def _save(folder: Path, copy: Copy, rate: int) -> None:
    from wavenet.data import audio

    path = folder / copy.maker / f"{copy.file}.wav"  # a.flac and a.mp3 may lie side by side
    path.parent.mkdir(parents=True, exist_ok=True)
    audio.write(path, copy.sound, rate)

"""wavenet evaluate."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wavenet.cli.console import ProgressLine, print_message, print_result
from wavenet.cli.options import TEMPERATURE, TOP_P, VOICED_TEMPERATURE, parse_speaker
from wavenet.data import files
from wavenet.data.errors import printable

if TYPE_CHECKING:
    from wavenet.engine.conditioning import Speaker
    from wavenet.evaluation.copy_synthesis import Copy, Evaluation
    from wavenet.generate import SessionOptions
    from wavenet.model import WaveNet

COPIED = 10  # recordings, without --copies
FIGURES = {  # of `metrics.Comparison`: title, unit, why it can be undefined for a copy
    "log_mel_db": ("log-mel distance", "dB", "have no audio in the recording"),
    "mcd_db": ("mel-cepstral distortion", "dB", "have no audio in the recording"),
    "pitch_cents": ("pitch error", "cents", "have no frame voiced in both"),
    "voicing_error": ("voicing error", "", "have no audio in the recording"),
    "pesq": ("PESQ", "", "have too little speech"),
    "stoi": ("STOI", "", "have too little speech"),
}


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--precision", type=click.Choice(["f32", "int8"]), help="Predict with the native engine, in this precision."
)
@click.option(
    "--speakers", metavar="folders|FILE.csv", help="Speaker of each recording: by sub-folder, or by lines path,speaker."
)
@click.option("--speaker", help="One speaker for all recordings instead.")
@click.option(
    "--copies", type=click.IntRange(0), help=f"Recordings to copy.  [default: {COPIED} for a model with features]"
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the copies.")
@TEMPERATURE
@VOICED_TEMPERATURE
@TOP_P
@click.option("--csv", "table", type=click.Path(path_type=Path), help="Write the figures of every copy to this file.")
@click.option("--save", type=click.Path(path_type=Path), help="Write the copies to this folder.")
def command(
    model: Path,
    folder: Path,
    precision: str | None,
    speakers: str | None,
    speaker: str | None,
    copies: int | None,
    seed: int,
    temperature: float | None,
    voiced_temperature: float | None,
    top_p: float | None,
    table: Path | None,
    save: Path | None,
) -> None:
    """Measure the bits per sample of MODEL on a FOLDER of recordings that it was not trained on.

    Lower is better; random guessing takes 8 for mu-law and 16 for 16-bit outputs. Two reference levels of the same
    recordings are printed, too: the entropy of a histogram of codes, and that of a table of code pairs.

    With a model that is conditioned on spectrograms, recordings are also copied: audio is generated from their
    spectrograms and compared with them, and so are copies by the Griffin-Lim algorithm and the recordings themselves.
    PESQ and STOI need: pip install 'wavenet-toolkit[metrics]'

    \b
    wavenet evaluate runs/speech recordings/test
    wavenet evaluate runs/speech recordings/test --precision int8
    wavenet evaluate runs/speakers recordings/test --speakers folders
    wavenet evaluate runs/vocoder recordings/test --csv copies.csv --save copies
    """
    from wavenet.checkpoint import load_model

    network = load_model(model)
    sampling = {"temperature": temperature, "voiced_temperature": voiced_temperature, "top_p": top_p}
    network.config.sampling.updated(**sampling)  # raises for an invalid value now, not after the prediction
    of_copies = {"--csv": table, "--save": save, **{f"--{name.replace('_', '-')}": sampling[name] for name in sampling}}
    given = [name for name, value in of_copies.items() if value is not None]
    count = _copy_count(copies, given, network.config.features is not None, printable(model))
    _check_outputs(table, save)
    named = parse_speaker(speaker, network.config.speakers)
    result = _predict(network, folder, precision, speakers or "", named)
    _print_bits(result)
    if count:
        options: SessionOptions = {
            "seed": seed,
            "temperature": temperature,
            "voiced_temperature": voiced_temperature,
            "top_p": top_p,
            "speaker": named,
        }
        _print_figures(_copies(network, result, count, precision, options, table, save))


def _copy_count(copies: int | None, given: list[str], with_features: bool, model: str) -> int:
    """Number of recordings to copy. given: names of the options given that apply to copies only.

    Raises `UsageError` if there are such options but nothing to copy, or `copies` for a model without features.
    """
    if copies and not with_features:
        raise click.UsageError(f"--copies: {model} is not conditioned on spectrograms, so it copies nothing")
    count = (COPIED if copies is None else copies) if with_features else 0
    if given and not count:
        why = "with --copies 0" if copies == 0 else f"{model} is not conditioned on spectrograms, so"
        raise click.UsageError(f"{', '.join(given)}: {why} nothing is copied; leave it out")
    return count


def _predict(
    network: WaveNet, folder: Path, precision: str | None, speakers: str, speaker: Speaker | None
) -> Evaluation:
    """Evaluate, with a progress line for each phase."""
    from wavenet.evaluation.copy_synthesis import evaluate

    reading = ProgressLine("reading", "files")
    predicting, counting = ProgressLine("predicting", "samples"), ProgressLine("counting codes", "samples")
    try:
        return evaluate(network, folder, reading, predicting, counting, precision, speakers, speaker)
    finally:
        for line in (reading, predicting, counting):
            line.clear()


def _check_outputs(table: Path | None, save: Path | None) -> None:
    """Create the folder of the copies, and check that the table can be written."""
    if table is not None:
        if table.is_dir() or not table.absolute().parent.is_dir():
            raise click.UsageError(f"--csv {table}: give a file name in a folder that exists")
        files.check_writable(table)
    if save is not None:
        try:
            save.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise click.UsageError(f"--save {save}: not a folder") from None


def _print_bits(result: Evaluation) -> None:
    for line in result.summary.lines(training=False):
        print_message(line)
    print_result(f"model                {result.bits:.4f} bits per sample")
    print_result(f"histogram of codes   {result.references.histogram:.4f}")
    print_result(f"table of code pairs  {result.references.pairs:.4f}")


def _copies(
    network: WaveNet,
    result: Evaluation,
    count: int,
    precision: str | None,
    options: SessionOptions,
    table: Path | None,
    save: Path | None,
) -> list[Copy]:
    """Copy recordings, and write the audio and the table if requested. Returns the copies without their audio."""
    from wavenet.evaluation import copy_synthesis
    from wavenet.generate import Generator

    generator = Generator.from_model(network, precision=precision or "auto")
    progress, done = ProgressLine("copying", "recordings"), []
    try:
        for copy in copy_synthesis.copies(generator, result.recordings, count, options, progress):
            if save is not None:
                _save(save, copy, generator.sample_rate)
            done.append(dataclasses.replace(copy, audio=copy.audio[:0]))
    finally:
        progress.clear()
    if table is not None:
        copy_synthesis.write_csv(table, done)
        print_message(f"figures of every copy: {printable(table)}")
    return done


def _print_figures(copies: list[Copy]) -> None:
    """Print a table of mean figures, and notes on those that are undefined for some copies."""
    from wavenet.evaluation.copy_synthesis import LEAST_SECONDS, METHODS
    from wavenet.evaluation.metrics import counts, mean, missing_packages

    if not copies:
        print_message(f"no recording of {LEAST_SECONDS} s or more to copy")
        return
    comparisons = {method: [copy.comparison for copy in copies if copy.method == method] for method in METHODS}
    means = {method: mean(rows) for method, rows in comparisons.items()}
    defined = {method: counts(rows) for method, rows in comparisons.items()}
    total = len(copies) // len(METHODS)
    seconds = sum(copy.seconds for copy in copies if copy.method == METHODS[0])
    title = f"copies of {total} recordings, {seconds:.1f} s"
    print_result("")
    print_result(f"{title:36}" + "".join(f"{method:>13}" for method in METHODS))
    missing = missing_packages()
    notes = list(missing.values())
    for name, (figure, unit, reason) in FIGURES.items():
        if name in missing:
            continue
        label = f"{figure}, {unit}" if unit else figure
        print_result(f"{label:36}" + "".join(f"{getattr(means[method], name):13.3f}" for method in METHODS))
        for method in METHODS:
            if defined[method][name] < total:
                over = f"over {defined[method][name]} of {total} copies"
                notes.append(f"{figure}, {method}: {over}; {total - defined[method][name]} {reason}")
    for note in notes:
        print_message(f"note: {note}")


def _save(folder: Path, copy: Copy, sample_rate: int) -> None:
    from wavenet.data import audio

    path = folder / copy.method / f"{copy.file}.wav"  # the folder may hold both a.flac and a.mp3
    path.parent.mkdir(parents=True, exist_ok=True)
    audio.write(path, copy.audio, sample_rate)

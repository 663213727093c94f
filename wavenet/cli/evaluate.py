"""wavenet evaluate."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from wavenet.cli.console import ProgressLine, print_message, print_result
from wavenet.cli.evaluate_copies import copy_recordings, outputs_of, print_figures
from wavenet.cli.options import (
    MIN_DURATION,
    PARTICLES,
    REFINE,
    SMOOTHING,
    TEMPERATURE,
    TOP_P,
    VOICED_TEMPERATURE,
    parse_speaker,
)
from wavenet.data.errors import printable

if TYPE_CHECKING:
    from wavenet.batch.workers import Workers
    from wavenet.engine.conditioning import Speaker
    from wavenet.evaluation.clip_bits import Results
    from wavenet.evaluation.copy_synthesis import Evaluation
    from wavenet.evaluation.words import Recogniser
    from wavenet.generate import RenderOptions
    from wavenet.model import WaveNet

COPIED = 10  # recordings, without --copies
ONLY_OF_LABELLERS = ("smoothing", "min_duration")  # parameters
OF_LABELLERS = ("model", "folder", "table", "save", *ONLY_OF_LABELLERS)


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("folder")
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
@REFINE
@PARTICLES
@click.option("--tune", is_flag=True, help="Choose the sampling options, and store them in MODEL; see above.")
@click.option(
    "--csv", "table", type=click.Path(path_type=Path), help="Write the figures of every copy, or class, to this file."
)
@click.option(
    "--save", type=click.Path(path_type=Path), help="Write the copies, or the confusion matrix, to this folder."
)
@click.option("--page", type=click.Path(path_type=Path), help="Write a listening test to this folder: index.html.")
@click.option(
    "--words", is_flag=True, help="Count the words that an English speech recogniser does not find in copies."
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Keep the bits of every recording in this .jsonl file, and the figures of its copies beside it, to continue "
    "an interrupted evaluation.",
)
@SMOOTHING
@MIN_DURATION
def command(
    model: Path,
    folder: str,
    precision: str | None,
    speakers: str | None,
    speaker: str | None,
    copies: int | None,
    seed: int,
    temperature: float | None,
    voiced_temperature: float | None,
    top_p: float | None,
    refine: int | None,
    particles: int | None,
    tune: bool,
    table: Path | None,
    save: Path | None,
    page: Path | None,
    words: bool,
    output: Path | None,
    smoothing: float,
    min_duration: float,
) -> None:
    """Measure the bits per sample of MODEL on a FOLDER of recordings that it was not trained on.

    Lower is better; random guessing takes 8 for mu-law and 16 for 16-bit outputs. Two reference levels of the same
    recordings are printed, too: the entropy of a histogram of codes, and that of a table of code pairs.

    With a model that is conditioned on spectrograms, recordings are also copied: audio is generated from their
    spectrograms and compared with them, and so are copies by the Griffin-Lim algorithm, with and without refinement,
    and the recordings themselves. The means have 95% confidence intervals.
    PESQ, STOI, mel-cepstral distortion and --words need: pip install 'wavenet-toolkit[metrics]'

    --page writes a blind listening test that any browser opens, from the disk or from a web server: pairs of versions
    in random order, the recordings among them. It shows the results at the end; listeners send them as a CSV file.

    With --tune, sampling options are tried on copies instead, one after the other (not in combination),
    and the ones with the best PESQ (without PESQ: with the least log-mel distance) that are fast enough on one core are
    stored in MODEL; docs/vocoding.md has the details. It takes some minutes; Ctrl-C leaves MODEL as it was. Use
    recordings that were held out from training, and others for the final figures.

    With a labeller, FOLDER has labels beside the recordings (docs/labelling.md): frame accuracy, figures of each class,
    and F1 of the boundaries are printed. --csv writes the figures of each class, --save the confusion matrix and
    pictures of recordings.

    With --precision recordings are predicted side by side, which is faster; torchrun divides them between processes.
    With -o FILE.jsonl an evaluation that was interrupted is continued: what was predicted stays in that file, and the
    figures of copies in FILE.copies.jsonl. Copies for --page are made again.

    \b
    wavenet evaluate runs/speech recordings/test
    wavenet evaluate runs/speech recordings/test --precision int8
    wavenet evaluate runs/speakers recordings/test --speakers folders
    wavenet evaluate runs/vocoder recordings/test --words --csv copies.csv --save copies
    wavenet evaluate runs/vocoder recordings/test --copies 20 --page listening
    wavenet evaluate runs/vocoder recordings/validation --tune
    wavenet evaluate runs/turns recordings/test --csv classes.csv --save confusion
    torchrun --nproc-per-node 8 -m wavenet evaluate runs/speech recordings/test --precision f32 -o bits.jsonl
    """
    from wavenet.batch.workers import Workers
    from wavenet.checkpoint import is_labeller, load_model
    from wavenet.cli.evaluate_labels import evaluate_labels
    from wavenet.cli.tuning import tune_options
    from wavenet.evaluation.copy_synthesis import LEAST_SECONDS, long_clips

    workers = Workers.from_environment()
    if workers.count > 1 and (tune or page is not None or is_labeller(model)):
        raise click.UsageError("a labeller, --tune and --page are for one process: leave out torchrun")
    if is_labeller(model):
        _refuse(lambda name: name not in OF_LABELLERS, "not for a labeller")
        outputs = outputs_of(table, save, None)
        evaluate_labels(model, Path(folder), outputs.table, outputs.save, smoothing, min_duration)
        return
    _refuse(lambda name: name in ONLY_OF_LABELLERS, "only for a labeller")
    sampling: RenderOptions = {
        "temperature": temperature,
        "voiced_temperature": voiced_temperature,
        "top_p": top_p,
        "refine": refine,
        "particles": particles,
    }
    results = None if output is None else _results(output, model, precision, speaker)
    of_copies = {"csv": table, "save": save, "page": page, "words": words or None, **sampling}
    given = [f"--{name.replace('_', '-')}" for name, value in of_copies.items() if value is not None]
    if tune:
        given += ["--output"] if output is not None else []
        if given:
            raise click.UsageError(f"{', '.join(given)}: not with --tune, which chooses the options itself")
        if copies == 0:
            raise click.UsageError("--copies 0: --tune needs copies to choose by; leave it out")
        tune_options(model, folder, copies or COPIED, precision, speakers or "", speaker, seed)
        return
    network = load_model(model)
    config = network.config
    of_model = config.sampling.updated(**sampling)  # raises for an invalid value
    count = _copy_count(copies, given, config.features is not None, printable(model))
    of_model.check(config.output, config.features, config.frame_model)  # raises now, not after the prediction
    recogniser = _recogniser() if words else None
    outputs = outputs_of(table, save, page)
    named = parse_speaker(speaker, config.speakers)
    options: RenderOptions = {**sampling, "seed": seed, "speaker": named}
    try:
        result = _predict(network, folder, precision, speakers or "", named, results, workers)
        if workers.is_first:
            _print_bits(result)
        if count and not long_clips(result.recordings.train):
            unwritten = "; nothing is written" if table or save or page else ""
            if workers.is_first:
                print_message(f"no recording of {LEAST_SECONDS} s or more to copy{unwritten}")
        elif count:
            made = copy_recordings(network, result, count, precision, options, recogniser, outputs, results, workers)
            if workers.is_first:
                print_figures(made, words, of_model)
    except KeyboardInterrupt:
        if output is not None and workers.is_first:
            print_message("interrupted: run the same command again to continue")
        raise


def _refuse(refused: Callable[[str], bool], why: str) -> None:
    """Raises `UsageError` if an option was given whose parameter is refused."""
    context = click.get_current_context()
    given = [
        parameter.opts[0]
        for parameter in context.command.params
        if parameter.name is not None
        and refused(parameter.name)
        and context.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE
    ]
    if given:
        raise click.UsageError(f"{', '.join(given)}: {why}; leave it out")


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


def _results(output: Path, model: Path, precision: str | None, speaker: str | None) -> Results:
    """The file of the bits of every recording, and what determines them. Raises `UsageError` for another kind."""
    from wavenet.checkpoint import model_file
    from wavenet.evaluation.clip_bits import Results

    if output.suffix != ".jsonl" or output.is_dir():
        raise click.UsageError(f"-o {printable(output)}: give a file whose name ends in .jsonl")
    digest = hashlib.sha256(model_file(model).read_bytes()).hexdigest()
    return Results(output, {"model": digest, "precision": precision or "torch", "speaker": speaker})


def _predict(
    network: WaveNet,
    folder: str,
    precision: str | None,
    speakers: str,
    speaker: Speaker | None,
    results: Results | None,
    workers: Workers,
) -> Evaluation:
    """Evaluate, with a progress line for each phase."""
    from wavenet.evaluation.copy_synthesis import evaluate

    reading = ProgressLine("reading", "files")
    predicting, counting = ProgressLine("predicting", "samples"), ProgressLine("counting codes", "samples")
    try:
        shown = reading, predicting, counting
        first, second, third = shown if workers.is_first else (None, None, None)
        return evaluate(network, folder, first, second, third, precision, speakers, speaker, results, workers)
    finally:
        for line in (reading, predicting, counting):
            line.clear()


def _recogniser() -> Recogniser:
    """Raises `MetricUnavailable` now, not after the prediction."""
    from wavenet.evaluation.words import Recogniser

    return Recogniser()


def _print_bits(result: Evaluation) -> None:
    for line in result.summary.lines(training=False):
        print_message(line)
    print_result(f"model                {result.bits:.4f} bits per sample")
    print_result(f"histogram of codes   {result.references.histogram:.4f}")
    print_result(f"table of code pairs  {result.references.pairs:.4f}")

"""`wavenet evaluate --tune`: choose the sampling options of a model and store them in its file."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wavenet import checkpoint
from wavenet.cli.audio_output import INTERRUPTED
from wavenet.cli.console import ProgressLine, print_message, print_result
from wavenet.cli.options import parse_speaker
from wavenet.data.errors import printable
from wavenet.data.summary import count as counted

if TYPE_CHECKING:
    from wavenet.config import SamplingConfig
    from wavenet.data.dataset import Recordings
    from wavenet.evaluation.tuning import Trial, Tuner

CRITERIA = {"pesq": "PESQ", "log_mel_db": "log-mel distance"}
OPTIONS = {  # of `SamplingConfig`: title
    "temperature": "temperature",
    "voiced_temperature": "voiced",
    "top_p": "top-p",
    "particles": "particles",
    "refine": "refine",
}
FIGURES = {  # of `Trial`: title, decimals
    "pesq": ("PESQ", 3),
    "stoi": ("STOI", 4),
    "log_mel_db": ("log-mel, dB", 2),
    "times_real_time": ("x real time", 1),
}


def tune_options(
    model: Path, folder: str, count: int, precision: str | None, speakers: str, speaker: str | None, seed: int
) -> None:
    """Try sampling options on recordings, print a table, and store the chosen ones in the model file.

    Raises `UsageError` for a model without features, `CheckpointError` for one that cannot be read or written, and
    `ValueError` for a speaker that is missing or unknown.
    """
    from wavenet.engine import native_installed
    from wavenet.evaluation.copy_synthesis import check_speaker
    from wavenet.evaluation.intervals import FEWEST
    from wavenet.evaluation.tuning import Tuner

    config, weights = checkpoint.read_model(model)
    if config.features is None:
        raise click.UsageError(
            f"--tune: {printable(model)} is not conditioned on spectrograms, so that there is no recording to compare "
            "its audio with; choose the options by ear"
        )
    precision = precision or ("int8" if native_installed() else "auto")
    named = parse_speaker(speaker, config.speakers)
    check_speaker(config, speakers, named)
    with _reserved(model) as save:
        recordings = _read(folder, config.sample_rate, speakers)
        progress = ProgressLine("trying", "copies")
        tuner = Tuner(config, weights, recordings, count, precision, seed, named, progress)
        try:
            _print_trials(tuner, progress)
        except KeyboardInterrupt:
            progress.clear()
            print_message(f"interrupted: {printable(model)} is unchanged")
            raise click.exceptions.Exit(INTERRUPTED) from None
        finally:
            progress.clear()
        if tuner.compared < FEWEST:
            used = counted(tuner.compared, "recording")
            print_message(f"note: chosen on {used}: too few to choose by, the best options may be so by chance")
        save(tuner.options)
    print_message(f"{printable(model)}: stored {tuner.options.summary}")


@contextlib.contextmanager
def _reserved(model: Path) -> Iterator[Callable[[SamplingConfig], None]]:
    """Yields a function that stores options in a model file or run directory; no training can start there meanwhile.

    Raises `CheckpointError` if it is read-only, or used by a training.
    """
    from wavenet.training.run_directory import RunDirectory

    checkpoint.check_writable(model)
    run = RunDirectory(model)
    if not run.exists():
        yield lambda sampling: checkpoint.update_config(model, sampling=sampling)
        return
    with run.lock("tune when it has ended"):
        yield run.save_sampling


def _read(folder: str, sample_rate: int, speakers: str) -> Recordings:
    from wavenet.config import DataConfig
    from wavenet.data import dataset

    reading = ProgressLine("reading", "files")
    try:
        recordings = dataset.open_folder(folder, sample_rate, DataConfig(validation=0.0, speakers=speakers), reading)
    finally:
        reading.clear()
    for line in recordings.summary.lines(training=False):
        print_message(line)
    return recordings


def _print_trials(tuner: Tuner, progress: ProgressLine) -> None:
    """Run the search, and print a line for every trial, as soon as it is complete, and for the chosen one."""
    from wavenet.evaluation.metrics import missing_packages

    for figure, note in missing_packages().items():
        if figure in FIGURES:
            print_message(f"note: {note}")
    print_message(
        f"by {CRITERIA[tuner.criterion]} on {counted(tuner.recordings, 'recording')}, {tuner.seconds:.1f} s; speed on "
        f"one core, {tuner.engine}"
    )
    titles = [*OPTIONS.values(), *(title for title, _ in FIGURES.values())]
    print_result("".join(f"{title:>13}" for title in titles))
    for trial in tuner.run():
        progress.clear()
        print_result(_row(trial))
    progress.clear()
    print_result("")
    print_result(_row(tuner.best) + "  chosen")


def _row(trial: Trial) -> str:
    options = ["-" if (value := getattr(trial.options, name)) is None else f"{value:g}" for name in OPTIONS]
    figures = [f"{getattr(trial, name):.{decimals}f}" for name, (_, decimals) in FIGURES.items()]
    return "".join(f"{cell:>13}" for cell in options + figures)

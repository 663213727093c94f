"""The copies of recordings of `wavenet evaluate`: made, written, kept, and shown in a table."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wavenet.cli.console import ProgressLine, print_message, print_result
from wavenet.data import files
from wavenet.data.errors import printable

if TYPE_CHECKING:
    from wavenet.batch.workers import Workers
    from wavenet.data.clips import Clips
    from wavenet.evaluation.clip_bits import Results
    from wavenet.evaluation.copy_synthesis import Copy, Evaluation, KeptCopies
    from wavenet.evaluation.words import Recogniser
    from wavenet.generate import Generator, RenderOptions
    from wavenet.model import WaveNet
    from wavenet.sampling_config import SamplingConfig


@dataclass(frozen=True)
class Outputs:
    """Where to write the copies, and what to write about them."""

    table: Path | None
    save: Path | None
    page: Path | None


def outputs_of(table: Path | None, save: Path | None, page: Path | None) -> Outputs:
    """Check that the table, and the folders of the copies and of the page, can be written; nothing is created."""
    from wavenet.evaluation.listening import AUDIO

    if table is not None:
        if table.is_dir() or not table.absolute().parent.is_dir():
            raise click.UsageError(f"--csv {table}: give a file name in a folder that exists")
        files.check_writable(table)
    page_audio = None if page is None else page / AUDIO
    for option, folder in (("--save", save), ("--page", page), ("--page", page_audio)):
        if folder is not None:
            absolute = folder.absolute()
            present = next(path for path in (absolute, *absolute.parents) if path.exists())  # others are created in it
            if not present.is_dir():
                raise click.UsageError(f"{option} {folder}: not a folder")
            files.check_writable(present / folder.name)
    return Outputs(table, save, page)


def copy_recordings(
    network: WaveNet,
    result: Evaluation,
    count: int,
    precision: str | None,
    options: RenderOptions,
    recogniser: Recogniser | None,
    outputs: Outputs,
    results: Results | None,
    workers: Workers,
) -> list[Copy]:
    """Copy recordings, and write what is requested. Returns the copies of all processes without their audio.

    results: of the prediction; the figures of copies are kept beside it. Those for a page are made again: it needs all.
    """
    from wavenet.evaluation import copy_synthesis
    from wavenet.evaluation.listening import ListeningPage
    from wavenet.generate import Generator

    page = None if outputs.page is None else ListeningPage(outputs.page)
    threads = 1 if workers.count > 1 else None
    generator = Generator.from_model(network, precision=precision or "auto", threads=threads)
    progress, done = ProgressLine("copying", "recordings"), []
    shown = progress if workers.is_first else None
    kept = None
    if results is not None and page is None:
        kept = _kept(results, result.recordings.train, generator, options, recogniser, outputs.save, workers)
    try:
        made = copy_synthesis.copies(generator, result.recordings, count, options, shown, recogniser, workers, kept)
        for copy in made:
            if outputs.save is not None and len(copy.audio):
                _save(outputs.save, copy, generator.sample_rate)
            if page is not None:
                page.add(copy, generator.sample_rate)
            done.append(dataclasses.replace(copy, audio=copy.audio[:0]))
    finally:
        progress.clear()
    done = copy_synthesis.everywhere(done, workers)
    if kept is not None and workers.is_first:
        kept.merge()
    if outputs.table is not None and workers.is_first:
        copy_synthesis.write_csv(outputs.table, done)
        print_message(f"figures of every copy: {printable(outputs.table)}")
    if page is not None:
        print_message(f"listening test: {printable(page.finish())}")
    return done


def _kept(
    results: Results,
    clips: Clips,
    generator: Generator,
    options: RenderOptions,
    recogniser: Recogniser | None,
    saved: Path | None,
    workers: Workers,
) -> KeptCopies:
    """The copies that were made earlier with the same model and options, and that are saved if they are to be."""
    from wavenet.evaluation.clip_bits import Results
    from wavenet.evaluation.copy_synthesis import KeptCopies
    from wavenet.evaluation.metrics import missing_packages

    sampling = {name: value for name, value in options.items() if name not in ("seed", "speaker")}
    made_with = {
        **results.made_with,
        "seed": options["seed"],
        "sampling": dataclasses.asdict(generator.options(**sampling)),
        "words": recogniser is not None,
        "missing": sorted(missing_packages()),
    }
    path = results.path.with_name(f"{results.path.stem}.copies{results.path.suffix}")

    def usable(copy: Copy) -> bool:
        return saved is None or _saved(saved, copy).is_file()

    return KeptCopies(Results(path, made_with), clips, workers, usable)


def print_figures(copies: list[Copy], with_words: bool, sampling: SamplingConfig) -> None:
    """Print the table of the copies, and notes on what is missing in it.

    sampling: the options of the model's copies.
    """
    from wavenet.cli.copy_table import CopyTable
    from wavenet.evaluation.metrics import missing_packages

    table, missing = CopyTable(copies), missing_packages()
    without = {*missing} if with_words else {*missing, "words_lost"}
    for line in ("", *table.lines(without), f"model: {sampling.summary}"):
        print_result(line)
    for note in (*missing.values(), *table.notes(without)):
        print_message(f"note: {note}")


def _save(folder: Path, copy: Copy, sample_rate: int) -> None:
    from wavenet.data import audio

    path = _saved(folder, copy)
    path.parent.mkdir(parents=True, exist_ok=True)
    audio.write(path, copy.audio, sample_rate)


def _saved(folder: Path, copy: Copy) -> Path:
    """Where a copy is saved."""
    return folder / copy.method.replace(" ", "-") / f"{copy.file}.wav"  # the folder may hold both a.flac and a.mp3

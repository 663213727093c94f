"""wavenet train with the recipe of a labeller."""

from __future__ import annotations

import math
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from wavenet.cli.console import ProgressLine, duration, print_message
from wavenet.cli.training_run import check_folder, train_to_the_end
from wavenet.config import listed
from wavenet.data.errors import printable
from wavenet.training.run_directory import RunDirectory

if TYPE_CHECKING:
    from wavenet.training.distributed import Processes
    from wavenet.training.labelling_trainer import LabellingTrainer, LabelProgress, LabelValidation
    from wavenet.training.labelling_validation import HeldOutFigures
    from wavenet.training.recipe import Recipe
    from wavenet.training.rollback import Rollback

MOST_PROBLEMS = 20  # that are printed
NO_LABEL_NAME = "no label"


def train(
    folder: Path,
    run: RunDirectory,
    recipe: Recipe,
    device: str,
    fresh: bool,
    named: bool,
    processes: Processes,
    tensorboard: bool,
) -> None:
    """Train a labeller on a folder of recordings with labels beside them. named: --out was given.

    tensorboard: write curves for TensorBoard.
    """
    from wavenet.training.fingerprint import fingerprint
    from wavenet.training.labelling_data import open_labelled
    from wavenet.training.labelling_trainer import LabellingTrainer

    progress = ProgressLine("reading", "files")
    recordings, recipe = processes.hosts_first(
        lambda: open_labelled(folder, recipe, processes.beating(progress)), "the recordings to be read"
    )
    progress.clear()
    clips = (recordings.train.clips, recordings.validation.clips)
    labels = (*recordings.train.classes, *recordings.validation.classes)
    processes.check_same(fingerprint(*clips, labels=labels), "the recordings and labels")
    for line in (*recordings.summary.lines(run.skipped), *recordings.problems[:MOST_PROBLEMS]):
        print_message(line)
    if (more := len(recordings.problems) - MOST_PROBLEMS) > 0:
        print_message(f"... and {more:,} more problems of labels")
    trainer = LabellingTrainer(run, recipe, recordings, device, fresh, processes)
    check_folder(trainer, named)
    _announce(trainer)
    if not train_to_the_end(trainer, _Reporter, tensorboard):
        return
    print_message(f"best model: {run.model}; try it: wavenet label {shlex.quote(str(run.path))} IN.wav -o labels.txt")
    print_message(f"curves and confusion matrix: {run.page}")


def _announce(trainer: LabellingTrainer) -> None:
    config, training, state = trainer.config, trainer.recipe.training, trainer.state
    before, after = (frames * config.frame_seconds for frames in config.context_frames)
    print_message(
        f"network: {config.stack.layers} layers, {config.parameters:,} parameters; a label depends on {before:.2f} s "
        f"before its frame and {after:.2f} s after it"
    )
    print_message(f"{len(config.classes):,} classes: {listed(config.classes)}")
    budget = f"{training.steps:,} steps" if training.steps else f"{training.minutes:g} minutes"
    start = f"continuing at step {state.step:,} of" if state.step else "budget:"
    crops = f"{training.batch} x {training.crop / config.sample_rate:.2g} s a step"
    print_message(f"run {trainer.run.path}: {start} {budget}, {crops}, on the {trainer.device.type.upper()}")
    figures, name = trainer.reference.figures, trainer.reference.name or NO_LABEL_NAME
    if not math.isnan(figures.accuracy):
        print_message(
            f"held-out reference: {printable(name)}, the most frequent class, for all frames: {_figures(figures)}"
        )


def _figures(figures: HeldOutFigures) -> str:
    return f"frame accuracy {100 * figures.accuracy:.1f}%, macro F1 {figures.macro_f1:.3f}"


class _Reporter:
    """Shows the progress of training and of validations, and prints a line for every validation."""

    def __init__(self) -> None:
        self.progress = ProgressLine("training")

    def __call__(self, event: LabelProgress | LabelValidation | Rollback) -> None:
        from wavenet.training.labelling_trainer import LabelProgress
        from wavenet.training.rollback import Rollback

        if isinstance(event, LabelProgress):
            details = [
                f"{event.loss:.3f} nats",
                f"step {event.step:,}",
                *([f"{event.skipped} steps skipped"] if event.skipped else []),
            ]
            self.progress.draw(event.fraction, event.seconds_left, details, label=event.phase)
            return
        self.progress.clear()
        if isinstance(event, Rollback):
            print_message(event.text)
            return
        held_out = "nothing held out" if math.isnan(event.figures.accuracy) else f"{_figures(event.figures)} held out"
        best = " (best)" if event.is_best else f" (best F1 {event.best:.3f})"
        reference = event.reference.figures
        beside = "" if math.isnan(reference.accuracy) else f"; the most frequent class: {_figures(reference)}"
        skipped = f", {event.skipped} steps skipped" if event.skipped else ""
        print_message(f"step {event.step:,}, {duration(event.seconds)}: {held_out}{best}{beside}{skipped}")

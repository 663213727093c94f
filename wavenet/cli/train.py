"""wavenet train."""

from __future__ import annotations

import json
import math
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wavenet.cli.console import ProgressLine, duration, say
from wavenet.training.run_directory import RunDirectory

if TYPE_CHECKING:
    from wavenet.config import ModelConfig
    from wavenet.training.trainer import Progress, Trainer, Validation


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--recipe", "name", metavar="NAME|FILE.toml", help="What to train and how; without it, the defaults.")
@click.option("--out", type=click.Path(path_type=Path), help="Run directory.  [default: runs/FOLDER]")
@click.option("--minutes", type=float, help="Budget in minutes of training.")
@click.option("--steps", type=int, help="Budget in steps instead.")
@click.option("--speakers", metavar="folders|FILE.csv", help="Tell speakers apart: by sub-folder, or by path,speaker.")
@click.option("--set", "overrides", multiple=True, metavar="a.b=value", help="Override a key of the recipe.")
@click.option("--seed", type=int, help="Of the first weights and of the crops.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--fresh", is_flag=True, help="Start an existing run again from nothing.")
def command(
    folder: Path,
    name: str | None,
    out: Path | None,
    minutes: float | None,
    steps: int | None,
    speakers: str | None,
    overrides: tuple[str, ...],
    seed: int | None,
    device: str,
    fresh: bool,
) -> None:
    """Train on a FOLDER of recordings: wav, flac, ogg, opus, mp3, aiff, nested as you like.

    The run directory holds the best model, a clip made at every validation, and all that is needed to go on: the same
    command continues a run that exists, and Ctrl-C saves it.

    \b
    wavenet train recordings
    wavenet train recordings --recipe speech --out runs/speech --minutes 60
    wavenet train recordings --out runs/speech --minutes 120     (goes on)
    wavenet train voices --recipe speakers                       (voices/ann/*.wav, voices/bob/*.wav, ...)
    """
    from wavenet.data import dataset
    from wavenet.training import trainer as training

    if minutes is not None and steps is not None:
        raise click.UsageError("--minutes and --steps are both given: one of them is the budget")
    run = RunDirectory(out or Path("runs") / (folder.resolve().name or "all"))
    values = {"minutes": minutes, "steps": steps, "seed": seed}
    if steps is None and minutes is not None:
        values["steps"] = 0
    settings = [f"training.{key}={value}" for key, value in values.items() if value is not None]
    if speakers is not None:
        settings.append(f"data.speakers={json.dumps(speakers)}")
    training.pick_device(device)
    run.check()
    recipe = training.recipe_for(run, name, [*overrides, *settings], fresh)

    bar = ProgressLine("reading", "files")
    recordings = dataset.open_folder(folder, recipe.model.sample_rate, recipe.data, bar)
    bar.clear()
    for line in recordings.summary.lines():
        say(line)
    recipe = training.with_speakers(recipe, recordings)
    trainer = training.Trainer(run, recipe, recordings, device, fresh)
    if trainer.begun_with != trainer.folder:
        if out is None:
            raise click.UsageError(f"{run.path} was begun with {trainer.begun_with}: name another run with --out")
        say(f"note: this run was begun with {trainer.begun_with}")
    _announce(trainer)
    if trainer.fraction >= 1:
        say("its budget is spent: a larger --minutes or --steps goes on, --fresh starts again")
        return
    try:
        trainer.train(_Reporter())
    except KeyboardInterrupt:
        again = "the same command without --fresh" if fresh else "the same command"
        say(f"\nstopped at step {trainer.step:,}, saved up to step {trainer.saved_step:,}; {again} goes on from there")
        raise
    say(f"the best model: {run.model}; hear it: {_to_hear(recipe.model, run.path)}")


def _to_hear(model: ModelConfig, run: Path) -> str:
    speaker = f" --speaker {shlex.quote(model.speakers[0])}" if model.speakers else ""
    if model.features is not None:
        return f"wavenet vocode {run} IN.wav -o new.wav{speaker}"
    return f"wavenet generate {run} -o new.wav{speaker}"


def _announce(trainer: Trainer) -> None:
    model, training, levels = trainer.recipe.model, trainer.recipe.training, trainer.references
    say(
        f"network: {model.layers} layers, {model.parameters:,} parameters, receptive field {model.receptive_field:,} "
        f"samples ({model.receptive_field_ms:.0f} ms)"
    )
    budget = f"{training.steps:,} steps" if training.steps else f"{training.minutes:g} minutes"
    begun = f"going on at step {trainer.step:,} of" if trainer.step else "budget:"
    crops = f"{training.batch} x {training.crop:,} samples a step, on the {trainer.device.type.upper()}"
    say(f"run {trainer.run.path}: {begun} {budget}, {crops}")
    if not math.isnan(levels.pairs):
        say(
            f"held-out reference levels, bits per sample: a histogram of codes {levels.histogram:.2f}, "
            f"a table of code pairs {levels.pairs:.2f}"
        )


class _Reporter:
    """Prints what the trainer tells: a line that moves, and a line that stays for every validation."""

    def __init__(self) -> None:
        self.progress = ProgressLine("training")

    def __call__(self, event: Progress | Validation) -> None:
        from wavenet.training.trainer import Progress

        if isinstance(event, Progress):
            details = [f"step {event.step:,}", f"{event.bits:.3f} bits", f"{event.samples_per_second:,.0f} samples/s"]
            if event.skipped:
                details.append(f"{event.skipped} steps skipped")
            self.progress.draw(event.fraction, event.seconds_left, details)
        else:
            self.progress.clear()
            skipped = f", {event.skipped} steps skipped" if event.skipped else ""
            held_out = "nothing held out" if math.isnan(event.bits) else f"{event.bits:.3f} bits per sample held out"
            best = " (best)" if event.is_best else f" (best {event.best:.3f})"
            say(f"step {event.step:,}, {duration(event.seconds)}: {held_out}{best}{skipped}")

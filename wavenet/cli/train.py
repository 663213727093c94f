"""wavenet train."""

from __future__ import annotations

import json
import math
import shlex
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wavenet.cli import train_labels
from wavenet.cli.console import ProgressLine, duration, print_message, silenced
from wavenet.cli.options import name_of_folder, size_in_bytes
from wavenet.cli.train_plan import print_plan, sample_of, within_memory
from wavenet.cli.training_run import check_folder, train_to_the_end
from wavenet.config import TrainingConfig, listed
from wavenet.data.errors import printable
from wavenet.training import recipe as recipes
from wavenet.training.run_directory import RunDirectory

if TYPE_CHECKING:
    from wavenet.config import ModelConfig
    from wavenet.data.dataset import Recordings
    from wavenet.training.base_model import BaseModel
    from wavenet.training.distributed import Processes
    from wavenet.training.dry_run import Sample
    from wavenet.training.events import Event, Validation, ValidationProgress
    from wavenet.training.frame_tier import FrameValidation
    from wavenet.training.recipe import Recipe
    from wavenet.training.trainer import Trainer

LONGEST_NAME = 60  # characters of a speaker's name in the command that is suggested


def _recipes() -> str:
    """The recipes of the package, for --help."""
    minutes = {name: recipes.load(name).training.minutes for name in recipes.names()}
    return "Recipes, with their minutes: " + ", ".join(f"{name} ({value:,g})" for name, value in minutes.items()) + "."


@click.command(epilog=_recipes())
@click.argument("folder")
@click.option(
    "--recipe",
    "name",
    metavar="NAME|FILE.toml",
    help="Network, data and training settings; see below.  [default: voice for recordings that are like speech, unless "
    "--set changes the network; otherwise none]",
)
@click.option(
    "--from",
    "start",
    metavar="MODEL|auto|none",
    help="Start from the weights of a model file or run directory, with its network; auto: from the base model of this "
    "package; none: from random weights.  [default: the recipe's, auto for voice; none for others]",
)
@click.option("--out", type=click.Path(path_type=Path), help="Run directory.  [default: runs/FOLDER]")
@click.option(
    "--minutes",
    type=click.FloatRange(0, min_open=True),
    help=f"Budget in minutes of training.  [default: the recipe's; {TrainingConfig().minutes:g} without a recipe]",
)
@click.option("--steps", type=click.IntRange(1), help="Budget in steps instead.")
@click.option(
    "--speakers", metavar="folders|FILE.csv", help="Train with speakers: by sub-folder, or by lines path,speaker."
)
@click.option("--set", "overrides", multiple=True, metavar="a.b=value", help="Override a key of the recipe.")
@click.option("--seed", type=int, help="Seed of the initial weights and of the crops.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option(
    "--memory",
    metavar="SIZE",
    callback=size_in_bytes,
    help="Memory of each process, or of its GPU, such as 8G, 500M or 7.5GiB: as far as it requires, the batch is "
    "computed in parts, and crops are shortened.",
)
@click.option("--tensorboard", is_flag=True, help="Write curves and clips for TensorBoard (extra tensorboard).")
@click.option(
    "--dry-run", is_flag=True, help="Check data, disk, memory and speed in less than a minute; train nothing."
)
@click.option("--fresh", is_flag=True, help="Start an existing run again from step 0.")
def command(
    folder: str,
    name: str | None,
    start: str | None,
    out: Path | None,
    minutes: float | None,
    steps: int | None,
    speakers: str | None,
    overrides: tuple[str, ...],
    seed: int | None,
    device: str,
    memory: int | None,
    dry_run: bool,
    fresh: bool,
    tensorboard: bool,
) -> None:
    """Train on a FOLDER of recordings: wav, flac, ogg, opus, mp3, aiff, also in sub-folders.

    The run directory contains the best model, a clip generated at every validation, and the state of the run: the same
    command continues an existing run. Ctrl-C saves the state and stops.

    \b
    wavenet train recordings
    wavenet train recordings --recipe speech --out runs/speech --minutes 60
    wavenet train recordings --out runs/speech --minutes 120     (continues the run)
    wavenet train voices --recipe speakers                       (voices/ann/*.wav, voices/bob/*.wav, ...)
    wavenet train recordings --from speech.safetensors --out runs/mine     (from a model that already speaks)
    wavenet train recordings --recipe labels                     (clip.wav and clip.txt, its label track: see the guide)
    torchrun --nproc-per-node 8 -m wavenet train recordings      (on eight GPUs)
    """
    from wavenet.training import run_policy
    from wavenet.training.process_group import joined

    if tensorboard:
        from wavenet.training.tensorboard import check_installed

        check_installed()
    device = run_policy.pick_device(device)
    with joined(device) as processes, silenced(not processes.is_first):
        settings = [*overrides, *_settings(minutes, steps, seed, speakers, overrides)]
        run = RunDirectory(out or Path("runs") / name_of_folder(folder))
        named = out is not None
        _train(folder, run, processes, name, start, memory, settings, device, dry_run, fresh, named, tensorboard)


def _train(
    folder: str,
    run: RunDirectory,
    processes: Processes,
    name: str | None,
    start: str | None,
    memory: int | None,
    settings: list[str],
    device: str,
    dry_run: bool,
    fresh: bool,
    named: bool,
    tensorboard: bool,
) -> None:
    """Train on one of several processes, or on the only one. named: --out was given; others as of `command`."""
    from wavenet.training import run_policy
    from wavenet.training.fingerprint import fingerprint
    from wavenet.training.trainer import check_memory

    def begin() -> tuple[bool, BaseModel | None, Recipe]:
        run.check()
        again = run_policy.starts_again(run, fresh)
        base, recipe = _start(run, start, name, settings, again)
        return again, base, within_memory(run, recipe, memory, settings, again, device, processes)

    fresh, base, recipe = processes.first(begin, "the recipe")
    if dry_run and recipe.labeller is not None:
        raise click.UsageError("--dry-run: is not known for labellers")
    if recipe.labeller is not None:
        train_labels.train(Path(folder), run, recipe, device, fresh, named, processes, tensorboard)
        return
    check_memory(recipe, device, processes)  # before the files are read
    sample: Sample | None = None
    if dry_run:
        sample = processes.first(lambda: sample_of(folder, run, recipe), "a sample of the recordings")
        recordings = sample.recordings
    else:
        recordings = processes.hosts_first(lambda: _open(folder, recipe, run, processes), "the recordings to be read")
    processes.check_same(fingerprint(recordings.train, recordings.validation), "the recordings")

    def choose() -> tuple[str | None, BaseModel | None, Recipe]:
        suitable = run_policy.recipe_for_speech(run, name, settings, recordings, fresh) if base is None else None
        if suitable is None:
            return name, base, recipe
        print_message(f"the recordings are like speech: using the recipe {suitable}; --recipe NAME chooses another")
        new_base, chosen = _start(run, start, suitable, settings, fresh)
        return suitable, new_base, within_memory(run, chosen, memory, settings, fresh, device, processes)

    name, base, recipe = processes.first(choose, "the recipe that suits the recordings")
    check_memory(recipe, device, processes)
    recipe = run_policy.with_speakers(recipe, recordings, add=base is not None)
    trainer = _trainer(run, recipe, recordings, device, fresh, base, named, processes)
    if sample:
        print_plan(trainer, sample, processes)
        return
    processes.first(lambda: _announce_all(trainer, name, start, base), "the speed to be measured")
    if not train_to_the_end(trainer, _Reporter, tensorboard):
        return
    suggestion = _suggestion(trainer.recipe.model, run.path, recordings.summary.speakers)
    print_message(f"best model: {run.model}; try it: {suggestion}")
    print_message(f"clips, pictures and curves: {run.page}")


def _announce_all(trainer: Trainer, name: str | None, start: str | None, base: BaseModel | None) -> None:
    """Print what will be trained, and on what. name: of the recipe. start: --from."""
    recipe = trainer.recipe
    if base is not None:
        _announce_base(base, name, recipe)
    elif recipe.training.base == "auto" and start is None and not trainer.state.step:
        print_message("the package has no base model with this network: starting from random weights")
    _announce(trainer)
    if not trainer.state.step:
        _announce_expectation(trainer, name, base)


def _settings(
    minutes: float | None, steps: int | None, seed: int | None, speakers: str | None, overrides: tuple[str, ...]
) -> list[str]:
    """The options as overrides of the recipe. Raises `UsageError` if two of them contradict each other."""
    if minutes is not None and steps is not None:
        raise click.UsageError("--minutes and --steps are both given: one of them is the budget")
    options: dict[str, dict[str, object]] = {
        "--minutes": {} if minutes is None else {"training.minutes": minutes, "training.steps": 0},
        "--steps": {} if steps is None else {"training.steps": steps},
        "--seed": {} if seed is None else {"training.seed": seed},
        "--speakers": {} if speakers is None else {"data.speakers": json.dumps(speakers)},
    }
    for override in overrides:
        key = override.partition("=")[0].strip()
        for option, values in options.items():
            if key in values:
                raise click.UsageError(f"{option} and --set {override} contradict each other: leave one of them out")
    return [f"{key}={value}" for values in options.values() for key, value in values.items()]


def _start(
    run: RunDirectory, start: str | None, name: str | None, settings: list[str], fresh: bool
) -> tuple[BaseModel | None, Recipe]:
    """The model that the run starts from, if there is one, and its recipe; start, name: as they were given."""
    from wavenet.training import run_policy

    base = run_policy.base_for(run, run_policy.start_of(run, start, name, settings, fresh), fresh)
    return base, run_policy.recipe_for(run, name, settings, fresh, base)


def _open(folder: str, recipe: Recipe, run: RunDirectory, processes: Processes) -> Recordings:
    """Read the folder, and print what was found."""
    from wavenet.data import dataset

    progress = ProgressLine("reading", "files")
    recordings = dataset.open_folder(folder, recipe.model.sample_rate, recipe.data, processes.beating(progress))
    progress.clear()
    for line in recordings.summary.lines(run.skipped):
        print_message(line)
    return recordings


def _trainer(
    run: RunDirectory,
    recipe: Recipe,
    recordings: Recordings,
    device: str,
    fresh: bool,
    base: BaseModel | None,
    named: bool,
    processes: Processes,
) -> Trainer:
    """The trainer. Raises `UsageError` if the run was started with another folder, and --out was not given."""
    from wavenet.training.trainer import Trainer

    progress = ProgressLine("reference levels", "samples")
    tracking = ProgressLine("tracking the pitch", "recordings")
    trainer = Trainer(run, recipe, recordings, device, fresh, progress, base, tracking, processes)
    progress.clear()
    check_folder(trainer, named)
    return trainer


def _suggestion(model: ModelConfig, run: Path, speakers: Iterable[str]) -> str:
    """A command that generates audio with the model. speakers: of the recordings."""
    name = next((name for name in speakers if name.isprintable() and len(name) <= LONGEST_NAME), "NAME")
    speaker = f" --speaker {shlex.quote(name)}" if model.speakers else ""
    path = shlex.quote(str(run))
    if model.features is not None and model.frame_model is None:
        return f"wavenet vocode {path} IN.wav -o new.wav{speaker}"
    return f"wavenet generate {path} -o new.wav{speaker}"


def _announce_base(base: BaseModel, name: str | None, recipe: Recipe) -> None:
    """Print what the run starts from, and what it does not take from there."""
    from wavenet.training.base_model import fitting_recipe

    name = name or fitting_recipe(base.config)
    settings = f"the settings of the recipe {printable(name)}" if name else "default settings"
    model = printable(base.path)
    if recipe.model.frame_model is not None and base.config.frame_model is None:
        model += " (the vocoder; the frame model is new)"
    print_message(
        f"starting from {model} with {settings} and a learning rate of "
        f"{recipe.training.learning_rate:g} (--set training.learning_rate=... changes it)"
    )
    added = recipe.model.speakers[len(base.config.speakers) :]
    if added:
        print_message(f"speakers that it does not have yet: {listed(added)}")


def _announce(trainer: Trainer) -> None:
    model, training, levels = trainer.recipe.model, trainer.recipe.training, trainer.references
    print_message(
        f"network: {model.layers} layers, {model.parameters:,} parameters, receptive field {model.receptive_field:,} "
        f"samples ({model.receptive_field_ms:.0f} ms)"
    )
    frame_model = model.frame_model
    if frame_model is not None and model.features is not None:
        print_message(
            f"frame model: {frame_model.layers} layers, {frame_model.parameters(len(model.speakers)):,} parameters, "
            f"receptive field {frame_model.receptive_field_seconds(model.features):.1f} seconds"
        )
    budget = f"{training.steps:,} steps" if training.steps else f"{training.minutes:g} minutes"
    start = f"continuing at step {trainer.state.step:,} of" if trainer.state.step else "budget:"
    crops = f"{training.batch} x {training.crop:,} samples a step, on the {trainer.device.type.upper()}"
    if trainer.processes.count > 1:
        crops += f", {trainer.processes.count} processes"
    print_message(f"run {trainer.run.path}: {start} {budget}, {crops}")
    if not math.isnan(levels.pairs):
        print_message(
            f"held-out reference levels, bits per sample: a histogram of codes {levels.histogram:.2f}, "
            f"a table of code pairs {levels.pairs:.2f}"
        )
    if trainer.frames is not None and not math.isnan(trainer.frames.levels.linear):
        frames = trainer.frames.levels
        print_message(
            f"the same of frames, nats per frame: repeating the last frame {frames.repeat:.2f}, linear prediction "
            f"{frames.linear:.2f}"
        )


def _announce_expectation(trainer: Trainer, name: str | None, base: BaseModel | None) -> None:
    """Print what the budget can give on this machine, and whether another recipe suits the recordings."""
    from wavenet.training.expectations import advice, expectation

    new_frames = trainer.frames is not None and (base is None or base.config.frame_model is None)
    known = None if new_frames else name  # what two tiers reached is known from a base of both
    if text := expectation(trainer.recipe, known, trainer.seconds_per_step()):
        print_message(text)
    for line in advice(trainer.recordings, trainer.clips.reference_figures, trainer.recipe, name):
        print_message(f"note: {line}")


def _frames_text(frames: FrameValidation) -> str:
    """The result of the frame model."""
    if math.isnan(frames.nats):
        return "no frames held out"
    return f"{frames.nats:.2f} nats per frame" + (" (best)" if frames.is_best else f" (best {frames.best:.2f})")


class _Reporter:
    """Shows the progress of training and of validations, and prints a line for every validation."""

    def __init__(self) -> None:
        self.progress = ProgressLine("training")
        self.phase, self.phase_started = "", 0.0  # of a validation

    def __call__(self, event: Event) -> None:
        from wavenet.training.events import Progress, Validation
        from wavenet.training.rollback import Rollback

        if isinstance(event, Progress):
            details = [
                f"{event.bits:.3f} bits",
                *([] if math.isnan(event.nats) else [f"{event.nats:.1f} nats"]),
                f"step {event.step:,}",
                f"{event.samples_per_second:,.0f} samples/s",
                *([f"{event.skipped} steps skipped"] if event.skipped else []),
                f"{event.waiting:.1%} waiting for data",
            ]
            self.progress.draw(event.fraction, event.seconds_left, details)
        elif isinstance(event, Validation):
            self._validated(event)
        elif isinstance(event, Rollback):
            self.progress.clear()
            print_message(event.text)
        else:
            self._validating(event)

    def _validating(self, event: ValidationProgress) -> None:
        if event.phase != self.phase:
            self.phase, self.phase_started = event.phase, time.monotonic()
        elapsed = time.monotonic() - self.phase_started
        left = elapsed * (1 - event.fraction) / event.fraction if event.fraction else None
        self.progress.draw(event.fraction, left, [f"step {event.step:,}"], label=event.phase)

    def _validated(self, event: Validation) -> None:
        self.phase = ""
        self.progress.clear()
        skipped = f", {event.skipped} steps skipped" if event.skipped else ""
        held_out = "nothing held out" if math.isnan(event.bits) else f"{event.bits:.3f} bits per sample held out"
        best = " (best)" if event.is_best else f" (best {event.best:.3f})"
        frames = "" if event.frames is None else f"; {_frames_text(event.frames)}"
        print_message(f"step {event.step:,}, {duration(event.seconds)}: {held_out}{best}{frames}{skipped}")
        if event.verdict.text:
            print_message(f"  {event.verdict.text}")
        if event.verdict.note:
            print_message(f"  note: {event.verdict.note}")

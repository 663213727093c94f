"""What `wavenet train --dry-run` finds out: whether a run could start, and what it would do, in less than a minute.

A sample of the recordings takes the place of the folder, and a few steps that of the run. Nothing is written in the run
directory.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from wavenet.checkpoint import CheckpointError
from wavenet.data import dataset, files
from wavenet.data.cached_samples import DatasetError
from wavenet.data.dataset import Recordings
from wavenet.data.errors import printable
from wavenet.data.folder_sample import FolderSample, sample_folder
from wavenet.data.shards import are_shards
from wavenet.data.summary import count, duration, kinds
from wavenet.training.expectations import TRAINED_SHARE
from wavenet.training.recipe import Recipe
from wavenet.training.run_directory import RunDirectory
from wavenet.training.trainer import Trainer
from wavenet.training.training_cost import MEASURED_STEPS, available_megabytes, peak_megabytes
from wavenet.training.training_memory import frame_parameters, training_memory

SAMPLE_SECONDS, HELD_OUT_SECONDS = 120.0, 10.0  # of a dataset in shards that the steps are measured with
STATES = 2  # a state file is written beside the last one before it replaces it
STATE_COPIES = 4  # of the weights in it: weights, average, two moments


@dataclass(frozen=True)
class Measured:
    """The speed and the memory of training, and what the budget gives at that speed."""

    seconds_per_step: float
    steps: int  # of the budget, or of what is left of it
    samples: int  # of a step
    predicted: float  # MB at the peak of the run
    megabytes: float  # peak memory after the steps that were measured
    available: float  # MB that were free before

    @property
    def samples_per_second(self) -> float:
        """Samples of crops, as they count in the loss."""
        return self.samples / self.seconds_per_step

    def passes(self, seconds: float, sample_rate: int) -> float:
        """How often the budget passes over recordings of so many seconds."""
        return self.steps * self.samples / max(seconds * sample_rate, 1)


@dataclass(frozen=True)
class Sample:
    """Some of the recordings. seconds: of all of them. lines: what was found, and what indexing it takes."""

    recordings: Recordings
    seconds: float
    lines: list[str]


def sample_of(folder: str | os.PathLike[str], run: RunDirectory, recipe: Recipe) -> Sample:
    """A sample of a folder of recordings, or of a dataset in shards, whose listing is read.

    Raises `DatasetError` or `CheckpointError` for what would end the run.
    """
    sample_rate = recipe.model.sample_rate
    if are_shards(folder):
        opened = dataset.open_folder(folder, sample_rate, recipe.data)
        few = Recordings(
            opened.train.spread(SAMPLE_SECONDS), opened.validation.spread(HELD_OUT_SECONDS), opened.summary
        )
        check_disk(run, recipe)
        return Sample(few, opened.summary.seconds, [f"data     {line}" for line in opened.summary.lines()[:1]])
    sample = sample_folder(Path(folder), sample_rate, recipe.data)
    check_cache(sample)
    check_disk(run, recipe)
    return Sample(sample.recordings(), sample.seconds, data_lines(sample))


def data_lines(sample: FolderSample) -> list[str]:
    """What was found, and what indexing it takes."""
    reasons = f" ({kinds(sample.problems)})" if sample.problems else ""
    more = "" if sample.all_found else " or more: the search took too long"
    usable = f"{len(sample.usable):,} of the {len(sample.read):,} that were read are usable{reasons}"
    voices = f", {count(len(set(sample.speakers.values())), 'speaker')}" if sample.speakers else ""
    lines = [
        f"data     {count(len(sample.found), 'recording')}{more}; {usable}: about {duration(sample.seconds)}{voices}"
    ]
    cached = len(sample.found) - len(sample.new)
    if not sample.new:
        return [*lines, "index    all of them are in the cache"]
    known = f", {cached:,} are in the cache already" if cached else ""
    space = f"{_size(sample.cache_bytes)} of cache, {_size(_free(sample.cache))} free"
    return [*lines, f"index    about {duration(sample.index_seconds)}, {space}{known}"]


def check_cache(sample: FolderSample) -> None:
    """Raises `DatasetError` if the cache could not be written, also where the disk is too small for it."""
    folder = _existing(sample.cache)
    advice = "set WAVENET_CACHE to a writable folder with enough space"
    try:
        files.check_writable(folder / "index.sqlite")
    except OSError as error:
        reason = error.strerror or error
        raise DatasetError(f"the cache {printable(sample.cache)} cannot be used ({reason}): {advice}") from error
    needed, free = sample.cache_bytes, _free(sample.cache)
    if needed > free:
        raise DatasetError(
            f"the cache {printable(sample.cache)} needs about {_size(needed)} and {_size(free)} are free: {advice}"
        )


def check_disk(run: RunDirectory, recipe: Recipe) -> None:
    """Raises `CheckpointError` if the disk is too small for a run; `RunDirectory.check` checks the directory itself."""
    parameters = recipe.model.parameters + frame_parameters(recipe.model)
    state, free = STATES * STATE_COPIES * 4 * parameters, _free(run.path)
    if state > free:
        raise CheckpointError(
            f"{printable(run.path)}: the state of the run needs about {_size(state)} and {_size(free)} are free: give "
            "a folder on another disk with --out"
        )


def measured(trainer: Trainer) -> Measured:
    """What a few steps take, which change nothing, and how many of them the rest of the budget has."""
    training, device = trainer.recipe.training, trainer.device.type
    predicted = training_memory(trainer.recipe, device, trainer.processes).peak / 1e6
    available = available_megabytes(device)
    per_step = trainer.seconds_per_step()
    left = max(0.0, 1 - trainer.fraction)
    steps = round(left * (training.steps or TRAINED_SHARE * 60 * training.minutes / per_step))
    size = training.batch * training.crop
    return Measured(per_step, steps, size, predicted, peak_megabytes(device), available)


def run_lines(trainer: Trainer, plan: Measured, seconds: float) -> list[str]:
    """Start, memory and speed of a run. seconds: of all recordings."""
    training, begun = trainer.recipe.training, trainer.state.step
    new = f"starts from {printable(trainer.state.base) or 'random weights'}"
    start = f"continues at step {begun:,}" if begun else new
    note = "; that is more than is free" if plan.predicted > plan.available else ""
    each = f" of each of {trainer.processes.count} processes" if trainer.processes.count > 1 else ""
    budget = f"{training.steps:,} steps" if training.steps else f"{training.minutes:g} minutes"
    takes = f", about {duration(plan.steps * plan.seconds_per_step)}" if training.steps else ""
    sample_rate = trainer.recipe.model.sample_rate
    heard, passes = plan.steps * plan.samples / sample_rate, plan.passes(seconds, sample_rate)
    return [
        f"run      {printable(trainer.run.path)} {start}, {training.batch} x {training.crop:,} samples a step",
        f"memory   about {plan.predicted:,.0f} MB at the peak{each}; {plan.megabytes:,.0f} MB after "
        f"{count(MEASURED_STEPS, 'step')}; {plan.available:,.0f} MB are free{note}",
        f"speed    {plan.samples_per_second:,.0f} samples/s, {60 / plan.seconds_per_step:,.1f} steps a minute, on the "
        f"{trainer.device.type.upper()}",
        f"budget   {budget}: {plan.steps:,} steps{takes}, {duration(heard)} of audio, {_rounded(passes)} passes over "
        "the recordings",
    ]


def _rounded(value: float) -> str:
    """Two significant digits, or all before the point."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _existing(path: Path) -> Path:
    """The folder, or the nearest one above it that exists: others would be created in it."""
    absolute = path.absolute()
    return next(folder for folder in (absolute, *absolute.parents) if folder.is_dir())


def _free(path: Path) -> int:
    """Bytes that are free on the disk of a path."""
    return shutil.disk_usage(os.fspath(_existing(path))).free


def _size(size: float) -> str:
    """'1.2 GB' or '345 MB'."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.0f} MB"

"""Decisions of a training run: the model it starts from, the recipe it continues, its speakers, and its device."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from wavenet.config import ConfigError, MelConfig
from wavenet.data.crop_features import CropFeatures
from wavenet.data.crops import random_crops
from wavenet.data.dataset import Recordings
from wavenet.data.errors import printable
from wavenet.data.levels import recorded_levels
from wavenet.data.pcm import to_float32
from wavenet.engine.feature_range import measured_range, quietest_level
from wavenet.features import mel_spectrogram
from wavenet.training import base_model
from wavenet.training import recipe as recipes
from wavenet.training.base_model import BaseModel
from wavenet.training.distributed import Processes, launch, started_by_torchrun
from wavenet.training.recipe import Recipe
from wavenet.training.recorded_frames import RecordedFrames
from wavenet.training.run_directory import RunDirectory
from wavenet.training.shipped_bases import is_shipped, shipped_base
from wavenet.training.state import base_of
from wavenet.training.validation_clip import ValidationClips
from wavenet.training_config import BASES

MEASURED = ("sampling", *base_model.MEASURED)  # fields of a model that do not come from its recipe
SPEECH_RECIPE = "voice"  # its sample rate and data settings are the defaults
RANGE_CROPS = 200  # crops of which the range of the features is measured
LEVEL_CLIPS, LEVEL_SECONDS = 100, 10.0  # recordings of which the lowest level is measured, and their lengths, at most
LONGEST_VALUE = 60  # characters of a name or value in a message


def start_of(
    run: RunDirectory, given: str | None, name: str | None, overrides: list[str], fresh: bool = False
) -> Path | None:
    """The model to start the run from: the path `given`, the base of the package for "auto", or None for "none".

    given: None: as the recipe's `training.base` says. A run that is continued has its weights: None, unless a path is
    given. Raises `ConfigError` for "auto" if the package has no base with the network of the recipe, and for "auto" and
    "none" if the run is continued and was started otherwise.
    """
    if given not in (None, *BASES):
        return Path(given)
    if _continued(run, fresh):
        if given is not None and run.state.exists():
            _check_start(run, given)
        return None
    if given == "none":
        return None
    own = run.recipe if name is None and not fresh and run.exists() else None  # of a run that has no weights yet
    recipe = _loaded(name or own, overrides)
    if given is None and recipe.training.base == "none":
        return None
    base = shipped_base(recipe if name or own else None)
    if base is None and given is not None:
        raise ConfigError("--from auto: the package has no base model with this network: leave it out, or give MODEL")
    return base


def base_for(run: RunDirectory, given: Path | None, fresh: bool = False) -> BaseModel | None:
    """The model `given` to start the run from; None if there is none, or if the run is continued: it has its weights.

    Raises `CheckpointError` for a file that is not a model, `ConfigError` for the run itself, or where the run was
    started from another model or from none.
    """
    if given is None:
        return None
    if os.path.realpath(given) in (os.path.realpath(run.path), os.path.realpath(run.model)):
        raise ConfigError(
            f"--from {printable(given)}: is this run itself; leave out --from to continue it, or give another --out"
        )
    if not _continued(run, fresh):
        return base_model.load(given)
    if run.state.exists() and base_of(run.state) != os.path.abspath(given):
        raise _started_otherwise(run, printable(given))
    return None


def _check_start(run: RunDirectory, given: str) -> None:
    """Raises `ConfigError` if a run was not started as `given`, "auto" or "none"."""
    base = base_of(run.state)
    if given == "none" and base:
        raise _started_otherwise(run, "random weights")
    if given == "auto" and not is_shipped(base):
        raise _started_otherwise(run, "a base model of the package")


def _started_otherwise(run: RunDirectory, wanted: str) -> ConfigError:
    begun = printable(base_of(run.state)) or "random weights"
    return ConfigError(
        f"{printable(run.path)} was started from {begun}, not from {wanted}: leave out --from to continue it, "
        "give another --out, or start again with --fresh"
    )


def _continued(run: RunDirectory, fresh: bool) -> bool:
    """Whether the run has weights that it continues with."""
    return not fresh and (run.state.exists() or run.model.exists())


def starts_again(run: RunDirectory, fresh: bool) -> bool:
    """Whether to start a run again with `fresh`: not if a process that torchrun has replaced has done so already."""
    if not fresh or not started_by_torchrun():
        return fresh
    with contextlib.suppress(OSError):
        return run.cleared_by.read_text(encoding="utf-8") != launch()
    return True


def recipe_for(
    run: RunDirectory, name: str | None, overrides: list[str], fresh: bool = False, base: BaseModel | None = None
) -> Recipe:
    """The recipe to train with: the named one or, when a run is continued without naming one, the run's own.

    base: the model that the run starts from, see `base_for`; its network is used.
    A continued run keeps its sampling options, which only `overrides` change: they may have been chosen for it.
    Raises `ConfigError` where the run was started with another network or other data.
    """
    if base is not None:
        if name is not None and recipes.load(name, overrides).labeller is not None:
            raise ConfigError("--from: a labeller starts from random weights; leave it out")
        return base_model.recipe_from(base, name, overrides)
    if fresh or not run.exists():
        return recipes.load(name, overrides)
    own = _own_recipe(run, overrides)
    recipe = _loaded(name or run.recipe, overrides)
    if recipe.data.split == "auto":
        recipe = dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, split=own.data.split))
    if (own.labeller is None) != (recipe.labeller is None):
        raise ConfigError(
            f"{printable(run.path)} was started with another kind of network: give another --out, or start again with "
            "--fresh"
        )
    if name and recipe.labeller is None and run.state.exists() and base_of(run.state):
        recipe = base_model.with_lower_rate(recipe, overrides)  # as when the run was started
    for section in ("model", "data") if recipe.labeller is None else ("labeller", "data"):
        before, now = getattr(own, section), getattr(recipe, section)
        for field in dataclasses.fields(before):
            old, new = getattr(before, field.name), getattr(now, field.name)
            if section == "model" and (field.name in MEASURED or (field.name == "speakers" and {*new} <= {*old})):
                continue  # the run's own are kept below; other speakers come from the recordings or the base
            if field.name == "classes" and not new:
                continue  # those of the recordings that the run was started with
            if old != new:
                raise ConfigError(
                    f"{printable(run.path)} was started with {section}.{field.name} = {_short(old)}, not "
                    f"{_short(new)}: give another --out, or start again with --fresh"
                )
    return dataclasses.replace(recipe, model=own.model, labeller=own.labeller)


def recipe_for_speech(
    run: RunDirectory, name: str | None, overrides: Iterable[str], recordings: Recordings, fresh: bool = False
) -> str | None:
    """The recipe for recordings that are like speech, where none is named; None: that of `recipe_for` is used.

    A network that `overrides` describe, and that of a run that exists, are kept. It measures a minute of recordings.
    """
    keys = [override.partition("=")[0].strip() for override in overrides]
    own = any(key.startswith("model.") and not key.startswith("model.sampling.") for key in keys)
    if name is not None or own or (run.exists() and not fresh):
        return None
    return SPEECH_RECIPE if ValidationClips(Recipe(), recordings).reference_figures.like_speech else None


def _loaded(name: str | os.PathLike[str] | None, overrides: list[str]) -> Recipe:
    """A recipe with overrides, without what was measured: `overrides` may name other speakers."""
    tables = recipes.read(name)
    for field in base_model.MEASURED:
        tables.get("model", {}).pop(field, None)
    recipes.override(tables, overrides)
    return recipes.build(tables)


def _own_recipe(run: RunDirectory, overrides: list[str]) -> Recipe:
    """The recipe that a run was started with, but with the given sampling options."""
    tables = recipes.read(run.recipe)
    tables.setdefault("data", {}).setdefault("split", "files")  # the only way of earlier versions
    recipes.override(tables, recipes.sampling_overrides(overrides))
    return recipes.build(tables)


def with_split(recipe: Recipe, recordings: Recordings) -> Recipe:
    """The recipe with the split that the recordings have instead of "auto": a run keeps it when files are added."""
    return dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, split=recordings.summary.split))


def with_speakers(recipe: Recipe, recordings: Recordings, add: bool = False) -> Recipe:
    """The recipe with the speakers of the recordings as those of the model, unless it names its own.

    add: those of the recordings are added to the ones that it names.
    Raises `ConfigError` where the recordings have a speaker that the model does not, or none are distinguished.
    """
    found, named = tuple(recordings.summary.speakers), recipe.model.speakers
    if named and not found:
        raise ConfigError(
            "model.speakers: set data.speakers to 'folders' or FILE.csv, so that every file has a speaker"
        )
    if add or not named:
        speakers = (*named, *(name for name in found if name not in named))
        return dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, speakers=speakers))
    for name in found:
        if name not in named:
            raise ConfigError(
                f"speaker {_short(name)}: the model has {printable(', '.join(named), 3 * LONGEST_VALUE)}; "
                "give another --out, or use --fresh"
            )
    return recipe


def with_training_range(recipe: Recipe, recordings: Recordings, recorded: RecordedFrames | None = None) -> Recipe:
    """The recipe with the range of the features of random crops, for a model with features that has none yet.

    recorded: the frames that a frame model is trained on.
    """
    mel, training = recipe.model.features, recipe.training
    if mel is None or recipe.model.training_range is not None:
        return recipe
    features_of = CropFeatures(mel, max(recipe.model.frame_context), training.crop)
    rng, frames = np.random.default_rng(training.seed), []
    for _ in range(RANGE_CROPS):
        crop = random_crops(recordings.train, 1, training.crop, rng, recipe.data, margin=features_of.margin)
        frames.append(features_of(crop.samples, crop.bounds)[0].T)  # [N, bands]
    measured = measured_range(np.concatenate(frames), mel)
    if measured is not None:
        quietest = quietest_level(_frames_of_recordings(recordings, mel, rng), mel)
        if quietest is not None:
            measured = dataclasses.replace(measured, quietest=quietest + recipe.data.gain_shift[0])
        if recorded is not None:
            measured = dataclasses.replace(measured, voiced=recorded.voiced_shares(recipe.model.speakers))
    return dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, training_range=measured))


def with_recorded_levels(recipe: Recipe, recordings: Recordings) -> Recipe:
    """The recipe with the levels of its recordings as they are played, for a model without features that has none."""
    if recipe.model.features is not None or recipe.model.recorded_levels is not None:
        return recipe
    measured = recorded_levels(recordings.train, recipe.model.speakers, sum(recipe.data.gain_shift) / 2)
    return dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, recorded_levels=measured))


def _frames_of_recordings(
    recordings: Recordings, mel: MelConfig, rng: np.random.Generator
) -> Iterator[NDArray[np.float32]]:
    """The log-mel frames [n, bands] of the first seconds of some of the recordings for training."""
    clips, most = recordings.train, round(LEVEL_SECONDS * mel.sample_rate)
    for clip in rng.permutation(len(clips))[:LEVEL_CLIPS].tolist():
        samples = to_float32(clips.clip(clip, 0, min(most, int(clips.lengths[clip]))))
        yield mel_spectrogram(samples, mel).T


def pick_device(name: str) -> str:
    """'cuda' or 'cpu' for 'auto', 'cuda' or 'cpu'. Raises `ConfigError` for a device that is not available."""
    if name not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"device = {name!r}: must be auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device = 'cuda': PyTorch finds no CUDA device here; use --device cpu")
    return "cuda" if name != "cpu" and torch.cuda.is_available() else "cpu"


def device_of(name: str, processes: Processes) -> torch.device:
    """The device of this process, see `pick_device`: with several on a host each has a GPU of its own."""
    kind = pick_device(name)
    return torch.device(kind, processes.local_rank) if kind == "cuda" and processes.count > 1 else torch.device(kind)


def _short(value: object) -> str:
    return printable(repr(value), LONGEST_VALUE)

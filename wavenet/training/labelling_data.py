"""Training data of a labeller: recordings with labels beside them as the classes of their frames, and random crops."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wavenet.config import ConfigError, LabelTrainingConfig, listed
from wavenet.data import dataset
from wavenet.data.clips import Clips
from wavenet.data.dataset import Progress, Summary
from wavenet.data.label_tracks import LabelledFolder, Recording, read_labels
from wavenet.data.pcm import to_float32
from wavenet.data.segments import Segment, frame_classes
from wavenet.features import mel_spectrogram
from wavenet.labelling_config import LabellerConfig
from wavenet.training.recipe import Recipe

NOT_LABELLED = "no labels"


@dataclass(frozen=True)
class LabelledClips:
    """Clips and the classes of their frames, int32 [frames] each; 0 is that of frames without a label."""

    clips: Clips
    classes: list[NDArray[np.int32]]

    def counts(self, number: int) -> NDArray[np.int64]:
        """Frames of each class, int64 [number]."""
        total = np.zeros(number, np.int64)
        for classes in self.classes:
            total += np.bincount(classes, minlength=number)
        return total


@dataclass(frozen=True)
class LabelledRecordings:
    """An opened folder: clips to train on, held-out clips, the summary of its files and what is wrong with labels."""

    train: LabelledClips
    validation: LabelledClips
    summary: Summary
    problems: list[str]


def open_labelled(
    folder: str | os.PathLike[str], recipe: Recipe, progress: Progress | None = None
) -> tuple[LabelledRecordings, Recipe]:
    """Open a folder of recordings with labels beside them, see `wavenet.data.label_tracks`.

    Returns also the recipe with the classes of the recordings, unless it names its own: labels of others are none.
    Raises `DatasetError` as `dataset.open_folder` does, `ConfigError` if there is no label, and `Unavailable`.
    """
    assert recipe.labeller is not None
    labelled = LabelledFolder()

    def unlabelled(durations: Mapping[str, float]) -> dict[str, str]:
        nonlocal labelled
        labelled = read_labels(folder, [Recording(Path(name), seconds) for name, seconds in durations.items()])
        if not labelled.classes:
            raise ConfigError(f"{os.fspath(folder)}: no labels beside the recordings, such as clip.txt beside clip.wav")
        return {name: NOT_LABELLED for name in durations if Path(name) not in labelled.segments}

    recordings = dataset.open_folder(folder, recipe.labeller.sample_rate, recipe.data, progress, unlabelled)
    labeller = recipe.labeller
    if not labeller.classes:
        labeller = replace(labeller, classes=labelled.classes)
    problems = list(labelled.problems)
    if others := sorted(set(labelled.classes) - set(labeller.classes)):
        problems.append(f"labels that the labeller does not have count as none: {listed(others)}")
    seconds = recipe.training.validation_seconds
    held_out = recordings.validation
    if held_out.seconds > seconds:
        held_out = held_out.spread(seconds)
    train, validation = (_labelled(clips, labelled, labeller) for clips in (recordings.train, held_out))
    problems[:0] = _class_problems(train, validation, labeller.classes)
    found = LabelledRecordings(train, validation, recordings.summary, problems)
    return found, replace(recipe, labeller=labeller, data=replace(recipe.data, split=recordings.summary.split))


def _class_problems(train: LabelledClips, validation: LabelledClips, classes: tuple[str, ...]) -> list[str]:
    """A line for each problem with the classes that the clips have. classes: without that of frames without a label."""
    names, problems = np.array(["no label", *classes]), []
    trained, held_out = (clips.counts(len(names)) > 0 for clips in (train, validation))
    if missing := names[1:][~trained[1:]].tolist():
        problems.append(f"in no recording to train on, so that they are not learned: {listed(missing)}")
    if trained.sum() == 1:
        (only,) = names[trained].tolist()
        problems.append(
            f"all frames to train on have one class, {listed([only])}: there is nothing to tell apart; label "
            "other sounds, too, or leave the rest without a label"
        )
    if held_out.any() and (unmeasured := names[trained & ~held_out].tolist()):
        problems.append(
            f"in no held-out recording, so that the best model is chosen without them: {listed(unmeasured)}; raise "
            "data.validation, or add recordings"
        )
    return problems


def _labelled(clips: Clips, labelled: LabelledFolder, labeller: LabellerConfig) -> LabelledClips:
    classes = []
    for name, start, length in zip(clips.names, clips.starts.tolist(), clips.lengths.tolist(), strict=True):
        offset, frames = start / clips.sample_rate, -(-length // labeller.samples_per_frame)
        segments = [Segment(s.start - offset, s.end - offset, s.label) for s in labelled.segments[Path(name)]]
        found = frame_classes(segments, labeller.classes, frames, labeller.frame_seconds)
        classes.append(found.astype(np.int32))
    return LabelledClips(clips, classes)


class LabelBatch(NamedTuple):
    """B crops of N frames, on the training device."""

    inputs: Tensor  # float32 [B, bands, N] or [B, N x hop], as of `LabellingNetwork.forward`
    classes: Tensor  # int64 [B, N]
    seed: int  # of the dropout


class LabelBatches:
    """The batch of every step. It depends on the seed and the step only, so that a continued run is exact.

    A crop begins at any frame of any clip; where the clip ends, others follow, from their first frame.
    """

    def __init__(self, data: LabelledClips, recipe: Recipe, device: torch.device) -> None:
        assert recipe.labeller is not None
        self.data, self.recipe, self.device, self.labeller = data, recipe, device, recipe.labeller
        self.frames = recipe.training.crop // recipe.labeller.samples_per_frame  # of a crop
        self.ends = np.cumsum([self._frames_of(clip) for clip in range(len(data.clips))])

    def batch(self, step: int) -> LabelBatch:
        """The batch of a step, counted from 0."""
        training = self.recipe.training
        rng = np.random.default_rng((training.seed, step))
        crops = [self._crop(rng) for _ in range(training.batch)]
        audio, classes = (np.stack(rows) for rows in zip(*crops, strict=True))
        mel, inputs = self.labeller.features, audio
        if mel is not None:
            inputs = augmented(mel_spectrogram(audio, mel), training.labels, mel.mean, rng)
        tensors = [torch.from_numpy(array).to(self.device) for array in (inputs, classes.astype(np.int64))]
        return LabelBatch(tensors[0], tensors[1], int(rng.integers(2**62)))

    def _crop(self, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Samples [N x hop] and classes [N] of one crop."""
        hop = self.labeller.samples_per_frame
        position = int(rng.integers(self.ends[-1]))
        clip = int(np.searchsorted(self.ends, position, side="right"))
        start = position - int(self.ends[clip]) + self._frames_of(clip)
        gain = 10 ** (rng.uniform(*self.recipe.data.gain_shift) / 20)
        audio, classes = np.zeros(self.frames * hop, np.float32), np.zeros(self.frames, np.int32)
        filled = 0
        while filled < self.frames:
            stop = min(self._frames_of(clip), start + self.frames - filled)
            samples = to_float32(self.data.clips.clip(clip, start * hop, stop * hop))
            audio[filled * hop :][: len(samples)] = samples
            classes[filled : filled + stop - start] = self.data.classes[clip][start:stop]
            filled += stop - start
            clip, start = int(rng.integers(len(self.ends))), 0
        return audio * np.float32(gain), classes

    def _frames_of(self, clip: int) -> int:
        """Whole frames of a clip, at least one."""
        return max(1, int(self.data.clips.lengths[clip]) // self.labeller.samples_per_frame)


def augmented(
    features: NDArray[np.float32], config: LabelTrainingConfig, mean: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Features [B, bands, N] with noise and masks."""
    changed = features + np.float32(config.noise) * rng.standard_normal(features.shape, np.float32)
    for crop in changed:  # [bands, N]
        for axis, masks, widest in (0, config.band_masks, config.band_mask), (1, config.frame_masks, config.frame_mask):
            for _ in range(masks):
                size = crop.shape[axis]
                width = min(int(rng.integers(widest + 1)), size)
                start = int(rng.integers(size - width + 1))
                np.moveaxis(crop, axis, 0)[start : start + width] = mean
    return changed

"""The slow tier in a training run: recordings of the frame model, its steps beside the network's, its validation."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wavenet.config import ConfigError, MelConfig, SamplingConfig
from wavenet.data.clips import Clips
from wavenet.data.dataset import Recordings
from wavenet.frame_coding import FrameCoding
from wavenet.frame_model import FrameModel
from wavenet.frame_prediction import ReferenceLevels, reference_levels
from wavenet.training.distributed import SINGLE, Processes
from wavenet.training.frame_batches import FrameClips, encoded_clips, fit_coding
from wavenet.training.frame_temperature import measured_temperatures, with_temperatures
from wavenet.training.frame_training import FrameTrainer, fit_to, frame_model_from, held_out_nats
from wavenet.training.recipe import Recipe
from wavenet.training.recorded_frames import RecordedFrames, recorded_frames
from wavenet.training.state import TrainingState
from wavenet.two_tiers import TwoTiers

MOST_SECONDS = 7_200.0  # of recordings that a frame model is trained on: 150 MB of encoded frames
FIT_SECONDS = 1_800.0  # of those, that the coding is fitted to: that takes 0.5 MB per second
HELD_OUT_SECONDS = 300.0  # of held-out recordings, of each validation
PIECE_SECONDS = 60.0  # of a longer folder, every n-th piece is used; recordings are cut into pieces of this length


@dataclass(frozen=True)
class FrameValidation:
    """Result of the averaged frame model on held-out recordings, in nats per frame."""

    nats: float  # NaN when nothing is held out
    best: float
    is_best: bool
    references: ReferenceLevels
    training_nats: float  # smoothed training loss, of disturbed inputs


class FrameTier:
    """Trains the frame model of a run's state, whose network `TrainingState` and `Trainer` train."""

    def __init__(
        self,
        recipe: Recipe,
        recorded: RecordedFrames,
        held_out: RecordedFrames,
        state: TrainingState,
        new: bool,
        base: FrameModel | None = None,
        processes: Processes = SINGLE,
    ) -> None:
        """recorded, held_out: frames of recordings to train on, and to validate with, see `frames_of`.

        new: the state's frame model is replaced by one that starts at these recordings, or from the base.
        Raises `ConfigError` for a speaker without recordings to train on.
        """
        model, average = (each.frame_model for each in (state.model, state.average) if isinstance(each, TwoTiers))
        assert state.frame_optimizer is not None
        self.state, self.config, self.seed = state, recipe.training.frames, recipe.training.seed
        speakers, known = recipe.model.speakers, recipe.model.training_range
        self.voiced = () if known is None else known.voiced
        coding = _coding(recipe, recorded, base) if new else model.frame_coding
        clips = encoded_clips(recorded, coding, speakers)
        if new:
            state.start_frames(_started(model, clips, base, len(speakers)))
        self.held_out = encoded_clips(held_out, coding, speakers)
        self.trainer = FrameTrainer(model, clips, self.config, self.seed, average, state.frame_optimizer, processes)
        self.levels = ReferenceLevels(math.nan, math.nan)
        if any(len(frames) > 1 for frames in self.held_out.frames):
            order = model.config.prediction_order
            self.levels = reference_levels(clips.frames, self.held_out.frames, order)

    def update(self, fraction: float) -> Tensor | None:
        """The frame model's steps after a step of the network; fraction: share of the budget spent.

        Returns [2] on the device, for which this does not wait: this process's share of the mean nats per frame of
        their batches, and the mean norm of their gradients; None without steps.
        """
        self.trainer.step = self.state.step * self.config.steps
        self.trainer.rate_share = self.state.stability.share("training.frames", self.config.learning_rate)
        figures = [self.trainer.launch(fraction) for _ in range(self.config.steps)]
        if not figures:
            return None
        source, shape, norm = torch.stack(figures).mean(0)
        return torch.stack([source + shape, norm])

    def seconds_per_step(self) -> float:
        """The time of the frame model's steps after one of the network; two are measured, which changes nothing."""
        model, batch = self.trainer.model, self.trainer.batches.batch(0)
        inputs, targets, voices = (tensor.to(model.deviation.device) for tensor in batch)
        started = time.perf_counter()
        for _ in range(2):
            losses = model.losses(inputs, targets, voices if model.speakers else None)
            sum(losses, torch.zeros(())).mean().backward()
        self.trainer.optimizer.zero_grad(set_to_none=True)
        return self.config.steps * (time.perf_counter() - started) / 2

    def validate(self) -> FrameValidation:
        """The averaged weights on held-out recordings; `is_best` if they are better than those of all validations."""
        nats = held_out_nats(self.trainer.average, self.held_out).total
        is_best = math.isnan(nats) or nats < self.state.frame_best
        best = nats if is_best else self.state.frame_best
        return FrameValidation(nats, best, is_best, self.levels, self.state.nats)

    def with_temperatures(
        self, sampling: SamplingConfig, model: FrameModel, progress: Callable[[int, int], None]
    ) -> SamplingConfig:
        """The sampling options with the temperatures that are measured for a model of this run."""
        trials = measured_temperatures(model, self.trainer.batches.clips, self.seed, progress, self.voiced)
        return with_temperatures(sampling, trials)


def frames_of(
    recordings: Recordings, mel: MelConfig, progress: Callable[[int, int], None] = lambda done, total: None
) -> tuple[RecordedFrames, RecordedFrames]:
    """The frames of recordings to train on, and of held-out ones. progress: as of `recorded_frames`."""
    training = recorded_frames(limited(recordings.train, MOST_SECONDS), mel, progress)
    return training, recorded_frames(limited(recordings.validation, HELD_OUT_SECONDS), mel)


def limited(clips: Clips, seconds: float) -> Clips:
    """The clips if they are not longer than this; otherwise parts of them at equal distances, some of each speaker."""
    factor = math.ceil(clips.seconds / seconds)
    if factor <= 1:
        return clips
    size = round(PIECE_SECONDS * clips.sample_rate)
    pieces = [(clip, start) for clip, n in enumerate(clips.lengths.tolist()) for start in range(0, n, size)]
    speakers = ["" if clips.speakers is None else clips.speakers[clip] for clip, _ in pieces]
    chosen = [
        pieces[index]
        for name in sorted(set(speakers))
        for index in [index for index, speaker in enumerate(speakers) if speaker == name][::factor]
    ]
    indices, starts = (np.array(values, np.int64) for values in zip(*chosen, strict=True))
    return clips.parts(indices, starts, size)


def _started(model: FrameModel, clips: FrameClips, base: FrameModel | None, speakers: int) -> FrameModel:
    """The frame model before its first step: as `model` is initialised, or the base with its voices first."""
    if base is not None:
        voices = [voice if voice < base.speakers else None for voice in range(speakers)]
        return frame_model_from(base, clips, voices)
    fit_to(model, clips)
    return model


def _coding(recipe: Recipe, recorded: RecordedFrames, base: FrameModel | None) -> FrameCoding:
    """The coding of the recordings; that of the base's voices without recordings here is the base's."""
    mel, config, speakers = recipe.model.features, recipe.model.frame_model, recipe.model.speakers
    assert mel is not None and config is not None
    known = None if base is None else base.frame_coding
    kept = 0 if base is None else base.speakers
    present = [name for index, name in enumerate(speakers) if index >= kept or name in recorded.speakers]
    per_second = mel.sample_rate / mel.hop
    recorded = recorded.thinned(round(FIT_SECONDS * per_second), round(PIECE_SECONDS * per_second))
    try:
        coding = fit_coding(recorded, mel, config.components, present, known)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    if known is None or len(present) == len(speakers):
        return coding
    return _with_voices(coding, known, [present.index(name) if name in present else None for name in speakers])


def _with_voices(coding: FrameCoding, known: FrameCoding, voices: Sequence[int | None]) -> FrameCoding:
    """A coding of these voices of `coding`; where it has none, of the voice of `known` at that place."""

    def rows(name: str) -> NDArray[np.float64]:
        own, other = getattr(coding, name), getattr(known, name)
        return np.stack([other[index] if voice is None else own[voice] for index, voice in enumerate(voices)])

    return dataclasses.replace(coding, mean=rows("mean"), loudness=rows("loudness"), pitch=rows("pitch"))

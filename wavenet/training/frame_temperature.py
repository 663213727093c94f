"""The temperatures at which a frame model keeps the level and the pauses of its recordings, and the best of them.

Both follow from the frames that it draws, so no audio is generated. They tell nothing about how the frames move: at a
low temperature speech is slurred, at a high one it jitters. The best temperature is the one at which the shape changes
from frame to frame as much as in the recordings; the idea is that of the global variance of Toda and Tokuda 2007, "A
speech parameter generation algorithm considering global variance for HMM-based speech synthesis".
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wavenet.config import SamplingConfig
from wavenet.engine.frame_sampler import FrameSampler
from wavenet.evaluation.verdict import LEVEL_DB, SILENT_POINTS
from wavenet.frame_coding import FrameCoding
from wavenet.frame_model import FrameModel
from wavenet.frame_model_config import LOUDNESS, SOURCE
from wavenet.training.frame_batches import FrameClips

TEMPERATURES = (0.7, 0.8, 0.9, 1.0, 1.1)
STREAMS, STREAM_SECONDS = 4, 6.0  # that are drawn at each temperature
RECORDED_SECONDS = 300.0  # of recordings of each voice, at most
SILENT_DB = 30.0  # a frame that is this far below the level of the recordings is silent
DB_PER_NEPER = 20 / math.log(10)

Frames = NDArray[np.floating]


class FrameFigures(NamedTuple):
    """Figures of encoded frames."""

    level: float  # dB, of the mean power
    silent: float  # share of silent frames
    movement: NDArray[np.float64]  # [K]: standard deviation of the change of each dimension of the shape


class Trial(NamedTuple):
    """The differences between drawn frames and recordings at a temperature."""

    temperature: float
    level: float  # dB
    silent: float  # percentage points
    movement: float  # mean logarithm of the ratio of the movements, without its sign

    @property
    def keeps(self) -> bool:
        """Whether the level and the pauses are those of the recordings."""
        return abs(self.level) <= LEVEL_DB and abs(self.silent) <= SILENT_POINTS


def sampler_of(
    model: FrameModel, streams: int, seed: int, temperature: float, speaker: int | None = None
) -> FrameSampler:
    """A sampler of the model's frames. speaker: index of a voice, for a model with speakers."""
    weights = {name: tensor.numpy(force=True) for name, tensor in model.state_dict().items()}
    return FrameSampler(model.config, model.mel, weights, streams, seed, temperature, speaker)


def measured_temperatures(
    model: FrameModel, clips: FrameClips, seed: int = 0, progress: Callable[[int, int], None] | None = None
) -> list[Trial]:
    """A trial at each of the `TEMPERATURES`; with several voices, the mean of those of up to `STREAMS` of them.

    clips: recordings. progress: called with the number of trials done, and of all.
    """
    recorded = sorted(set(clips.voices))
    voices = recorded[:: math.ceil(len(recorded) / STREAMS)]
    figures = {voice: _recorded_figures(model, clips, voice) for voice in voices}
    trials = []
    for done, temperature in enumerate(TEMPERATURES):
        if progress:
            progress(done, len(TEMPERATURES))
        differences = []
        for voice in voices:
            speaker = voice if model.speakers else None
            sampler = sampler_of(model, STREAMS // len(voices), seed, temperature, speaker)
            differences.append(_difference(sampler, figures[voice], clips.coding, voice))
        trials.append(Trial(temperature, *np.mean(differences, axis=0).tolist()))
    return trials


def with_temperatures(sampling: SamplingConfig, trials: Sequence[Trial]) -> SamplingConfig:
    """The sampling options with the best temperature, and those around it that keep level and pauses as the range.

    Without any that keeps them the range is None, and the best of all is used; without a measured movement, as of
    recordings of a few frames, nothing changes.
    """
    if any(math.isnan(trial.movement) for trial in trials):
        return sampling
    best = min((trial for trial in trials if trial.keeps), key=_movement, default=None)
    if best is None:
        temperature = min(trials, key=_movement).temperature
        return dataclasses.replace(sampling, frame_temperature=temperature, frame_temperature_range=None)
    low = high = trials.index(best)
    while low > 0 and trials[low - 1].keeps:
        low -= 1
    while high < len(trials) - 1 and trials[high + 1].keeps:
        high += 1
    limits = trials[low].temperature, trials[high].temperature
    return dataclasses.replace(sampling, frame_temperature=best.temperature, frame_temperature_range=limits)


def figures_of(
    recordings: Sequence[Frames], coding: FrameCoding, voice: int = 0, level: float | None = None
) -> FrameFigures:
    """Figures of encoded frames [N, D] each. level: that silent frames are compared with; None: the frames' own."""
    mean, deviation = coding.loudness[voice]
    loudness = np.concatenate([frames[:, LOUDNESS] for frames in recordings]) * deviation + mean  # [all], nepers
    own = DB_PER_NEPER * 0.5 * float(np.log(np.exp(2 * loudness).mean()))
    silent = DB_PER_NEPER * loudness < (own if level is None else level) - SILENT_DB
    changes = np.concatenate([np.diff(frames[:, SOURCE:], axis=0) for frames in recordings])
    return FrameFigures(own, float(silent.mean()), changes.astype(np.float64).std(axis=0))


def _movement(trial: Trial) -> float:
    return trial.movement


def _recorded_figures(model: FrameModel, clips: FrameClips, voice: int) -> FrameFigures:
    """Figures of the first recordings of a voice."""
    own, left = [], round(RECORDED_SECONDS * model.mel.sample_rate / model.mel.hop)
    for frames, of in zip(clips.frames, clips.voices, strict=True):
        if of == voice and left > 0:
            own.append(frames[:left])
            left -= len(own[-1])
    return figures_of(own, clips.coding, voice)


def _difference(
    sampler: FrameSampler, recordings: FrameFigures, coding: FrameCoding, voice: int
) -> tuple[float, float, float]:
    """Level in dB, silent share in percentage points, and movement, of drawn frames beside a voice's recordings."""
    count = round(STREAM_SECONDS * coding.mel.sample_rate / coding.mel.hop)
    drawn = figures_of(list(sampler.draw(count)), coding, voice, recordings.level)
    ratio = np.log(np.maximum(drawn.movement, 1e-9) / np.maximum(recordings.movement, 1e-9))
    level, silent = drawn.level - recordings.level, 100 * (drawn.silent - recordings.silent)
    return level, silent, float(abs(ratio.mean()))

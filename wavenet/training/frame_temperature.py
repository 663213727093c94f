"""The temperatures at which a frame model keeps the level and the pauses of its recordings, and the best of them.

Both follow from the level of the frames that it returns, so no audio is generated. What is drawn does not depend on
the temperature, see `wavenet.engine.frame_sampler`: the shapes of a frame at all temperatures lie on the line through
those at 0 and at 1, so that two draws are enough. Level and pauses tell nothing about how the frames move: at a low
temperature speech is slurred, at a high one it jitters. The best temperature is the one at which the shape changes from
frame to frame as much as in the recordings; the idea is that of the global variance of Toda and Tokuda 2007, "A speech
parameter generation algorithm considering global variance for HMM-based speech synthesis".
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wavenet.config import SamplingConfig
from wavenet.engine.frame_sampler import FrameSampler
from wavenet.evaluation.verdict import LEVEL_DB, SILENT_POINTS
from wavenet.frame_coding import FrameCoding, decibels
from wavenet.frame_model import FrameModel
from wavenet.frame_model_config import SOURCE
from wavenet.training.frame_batches import FrameClips

TEMPERATURES = (0.7, 0.8, 0.9, 1.0, 1.1)
STREAMS, STREAM_SECONDS = 4, 6.0  # that are drawn at each temperature
RECORDED_SECONDS = 300.0  # of recordings of each voice, at most
SILENT_DB = 30.0  # a frame that is this far below the level of the recordings is silent

Frames = NDArray[np.floating[Any]]


class FrameFigures(NamedTuple):
    """Figures of encoded frames."""

    level: float  # dBFS, of the mean power of their audio
    silent: float  # share of silent frames
    movement: NDArray[np.float64]  # [K]: standard deviation of the change of each dimension of the shape, NaN for none


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
    model: FrameModel,
    streams: int,
    seed: int,
    temperature: float,
    speaker: int | None = None,
    voiced: Sequence[float] = (),
) -> FrameSampler:
    """A sampler of the model's frames. speaker: index of a voice, for a model with speakers. voiced: see there."""
    weights = {name: tensor.numpy(force=True) for name, tensor in model.state_dict().items()}
    return FrameSampler(model.config, model.mel, weights, streams, seed, temperature, speaker, voiced)


def measured_temperatures(
    model: FrameModel,
    clips: FrameClips,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
    voiced: Sequence[float] = (),
) -> list[Trial]:
    """A trial at each of the `TEMPERATURES`; with several voices, the mean of those of up to `STREAMS` of them.

    clips: recordings. progress: called with the number of voices done, and of all. voiced: as of `FrameSampler`.
    """
    recorded = sorted(set(clips.voices))
    voices = recorded[:: math.ceil(len(recorded) / STREAMS)]
    differences = []
    for done, voice in enumerate(voices):
        progress(done, len(voices))
        recordings = _recorded_figures(model, clips, voice)
        speaker, streams = voice if model.speakers else None, STREAMS // len(voices)
        drawn = frames_at(TEMPERATURES, model, streams, seed, speaker, voiced)
        differences.append([_difference(list(frames), recordings, clips.coding, voice) for frames in drawn])
    means = np.mean(differences, axis=0)  # [temperatures, 3]
    return [Trial(temperature, *row) for temperature, row in zip(TEMPERATURES, means.tolist(), strict=True)]


def frames_at(
    temperatures: Sequence[float],
    model: FrameModel,
    streams: int,
    seed: int,
    speaker: int | None = None,
    voiced: Sequence[float] = (),
) -> NDArray[np.float32]:
    """The encoded frames [temperatures, streams, N, D] that a sampler returns at each temperature, `STREAM_SECONDS`."""
    count = round(STREAM_SECONDS * model.mel.sample_rate / model.mel.hop)
    least, one = (
        sampler_of(model, streams, seed, temperature, speaker, voiced).draw(count) for temperature in (0.0, 1.0)
    )
    scale = np.array(temperatures, np.float32)[:, None, None, None]
    return (least + scale * (one - least)).clip(*model.frame_coding.limits.astype(np.float32))


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
    levels = np.concatenate([decibels(coding.decode(frames, voice), coding.mel) for frames in recordings])  # [all]
    own = 10 * math.log10(np.mean(10 ** (levels / 10)))
    silent = levels < (own if level is None else level) - SILENT_DB
    changes = np.concatenate([np.diff(frames[:, SOURCE:], axis=0) for frames in recordings])
    movement = changes.astype(np.float64).std(axis=0) if len(changes) else np.full(coding.components, np.nan)
    return FrameFigures(own, float(silent.mean()), movement)


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
    frames: Sequence[Frames], recordings: FrameFigures, coding: FrameCoding, voice: int
) -> tuple[float, float, float]:
    """Level in dB, silent share in percentage points, and movement, of drawn frames beside a voice's recordings."""
    drawn = figures_of(frames, coding, voice, recordings.level)
    ratio = np.log(np.maximum(drawn.movement, 1e-9) / np.maximum(recordings.movement, 1e-9))
    level, silent = drawn.level - recordings.level, 100 * (drawn.silent - recordings.silent)
    return level, silent, float(abs(ratio.mean()))

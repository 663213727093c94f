"""Training data of a frame model: a folder's recordings as encoded frames, and random crops of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wavenet.config import MelConfig
from wavenet.frame_coding import FrameCoding
from wavenet.frame_model_config import PITCH, VOICING
from wavenet.training.recorded_frames import RecordedFrames

# Disturbances of the inputs, as standard deviations: a network that has only seen recorded frames does not recover from
# its own errors (Blaauw and Bonada 2017, regularisation). Each is multiplied by a random number from 0 to 2 per crop.
NOISE = 0.02  # of encoded dimensions, which have unit variance
RESIDUAL_NOISE = 0.1  # as a share of the deviation of linear prediction

START_SHARE = 0.1  # of the crops begin before a clip, where the sampler of a new stream does

Frames = NDArray[np.float32]


@dataclass(frozen=True)
class FrameClips:
    """Recordings as encoded frames.

    coding: what they are encoded with. frames: [N, D] of each clip. voices: index of the voice of each clip.
    """

    coding: FrameCoding
    frames: list[Frames]
    voices: list[int]


def fit_coding(
    recorded: RecordedFrames,
    mel: MelConfig,
    components: int,
    speakers: Sequence[str] = (),
    base: FrameCoding | None = None,
) -> FrameCoding:
    """The frame coding of recordings; base: one whose components are kept, with new normalisation.

    speakers: the names of the voices, of which each has a normalisation of its own; empty: all clips are of one voice.
    Raises `ValueError` for a voice without recordings.
    """
    voices, pitches = [], []
    for name in speakers or (None,):
        own = recorded.of_speaker(name)
        if not own.frames:
            described = "the folder" if name is None else f"speaker {name!r}"
            raise ValueError(f"{described} has no recordings to fit a frame coding to")
        voices.append(np.concatenate(own.frames))
        pitches.append(np.concatenate(own.pitches))
    return base.renormalised(voices, pitches) if base else FrameCoding.fit(voices, mel, components, pitches)


def encoded_clips(recorded: RecordedFrames, coding: FrameCoding, speakers: Sequence[str] = ()) -> FrameClips:
    """Recordings as encoded frames. speakers: the names of the coding's voices."""
    voices = [speakers.index(name) if speakers else 0 for name in recorded.speakers]
    clips = zip(recorded.frames, recorded.pitches, voices, strict=True)
    return FrameClips(coding, [coding.encode(frames, voice, pitch) for frames, pitch, voice in clips], voices)


class FrameBatch(NamedTuple):
    """B crops of T frames."""

    inputs: Tensor  # [B, T, D]: disturbed, each one frame before its target
    targets: Tensor  # [B, T, D]
    voices: Tensor  # int64 [B]


class FrameBatches:
    """The batch of every step. It depends on the seed and the step only, so that a continued run is exact.

    clips: the recordings. deviation [D]: of the residual of linear prediction. batch, crop: crops, and frames of each.
    Raises `ValueError` for recordings without frames.
    """

    def __init__(
        self, clips: FrameClips, deviation: NDArray[np.floating], batch: int, crop: int, seed: int = 0
    ) -> None:
        self.clips, self.deviation, self.batch_size, self.crop, self.seed = clips, deviation, batch, crop, seed
        self._ends = np.cumsum([len(frames) for frames in clips.frames], dtype=np.int64)
        if not len(self._ends) or not self._ends[-1]:
            raise ValueError("there are no frames to draw crops from")
        voices = np.array(clips.voices)
        self._of_voice = {voice: np.flatnonzero(voices == voice) for voice in set(clips.voices)}

    def batch(self, step: int) -> FrameBatch:
        """The batch of a step, counted from 0. Crops are of one voice, and continue with another clip where one ends.

        All frames of all clips are equally likely to be the first of a crop, but for a `START_SHARE` of the crops,
        whose first frame is zero and is followed by the start of a clip.
        """
        rng = np.random.default_rng((self.seed, step))
        crops, voices = zip(*(self._crop(rng) for _ in range(self.batch_size)), strict=True)
        frames = np.stack(crops)  # [B, 1 + T, D]
        inputs = frames[:, :-1] + self._noise(frames[:, :-1], rng)
        return FrameBatch(*(torch.from_numpy(array) for array in (inputs, frames[:, 1:], np.array(voices))))

    def _crop(self, rng: np.random.Generator) -> tuple[Frames, int]:
        """1 + T consecutive frames, and their voice."""
        position = int(rng.integers(self._ends[-1]))
        clip = int(np.searchsorted(self._ends, position, side="right"))
        frames, voice = self.clips.frames[clip], self.clips.voices[clip]
        if rng.random() < START_SHARE:
            parts = [np.zeros_like(frames[:1]), frames[: self.crop]]
        else:
            parts = [frames[position - int(self._ends[clip]) + len(frames) :][: 1 + self.crop]]
        missing = 1 + self.crop - sum(map(len, parts))
        while missing:
            following = self.clips.frames[int(rng.choice(self._of_voice[voice]))][:missing]
            parts.append(following)
            missing -= len(following)
        return np.concatenate(parts), voice

    def _noise(self, frames: Frames, rng: np.random.Generator) -> Frames:
        """The disturbance of frames [B, T, D]. Voicing has none, and an unvoiced frame no pitch to disturb."""
        factors = 2 * rng.random((2, len(frames), 1, 1))
        size = np.hypot(factors[0] * NOISE, factors[1] * RESIDUAL_NOISE * self.deviation)  # [B, 1, D]
        noise = size * rng.standard_normal(frames.shape)
        noise[..., VOICING] = 0
        noise[..., PITCH] *= frames[..., VOICING]
        return noise.astype(np.float32)

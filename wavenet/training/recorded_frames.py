"""Recordings as log-mel frames with their pitch: what a frame coding is fitted to, and a frame model is trained on.

The pitch is tracked in the audio, over several frames. A single frame's cepstrum does not find that of a low or a
reverberant voice: of a Dutch actor's voiced frames it missed 38%, and found one in 22% of the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wavenet.config import MelConfig
from wavenet.data.clips import Clips
from wavenet.data.pcm import FULL_SCALE
from wavenet.evaluation.signals import Signal
from wavenet.features import mel_spectrogram

# White noise added to the audio, as its RMS: -80 dBFS. The frames of digital silence are all the same and would have an
# unbounded density, which says nothing about speech and outweighs it: -114 nats per frame, where speech has 25.
DITHER = 1e-4
PITCH_RATE = 16_000  # Hz; the pitch is tracked in audio of this sample rate
PITCH_SECONDS, PITCH_STEP = 0.020, 0.25  # between its values, and its resolution in semitones

Frames = NDArray[np.float32]


@dataclass(frozen=True)
class RecordedFrames:
    """Log-mel frames [N, bands] of each clip; their pitch [N] in Hz, NaN if unvoiced; its speaker, "" for none."""

    frames: list[Frames]
    pitches: list[Frames]
    speakers: list[str]

    def of_speaker(self, name: str | None) -> RecordedFrames:
        """The clips of a speaker; None: all."""
        return self._chosen([clip for clip, own in enumerate(self.speakers) if name in (own, None)])

    def thinned(self, most: int, piece: int) -> RecordedFrames:
        """All clips, or, of more than `most` frames, every n-th piece, of `piece` frames, of each speaker."""
        step = math.ceil(sum(map(len, self.frames)) / most)
        if step <= 1:
            return self
        thinned = RecordedFrames([], [], [])
        for name in sorted(set(self.speakers)):
            own = self.of_speaker(name)
            pieces = [(clip, n) for clip, frames in enumerate(own.frames) for n in range(0, len(frames), piece)]
            for clip, n in pieces[::step]:
                thinned.frames.append(own.frames[clip][n : n + piece])
                thinned.pitches.append(own.pitches[clip][n : n + piece])
                thinned.speakers.append(name)
        return thinned

    def voiced_shares(self, speakers: Sequence[str] = ()) -> tuple[float, ...]:
        """The share of voiced frames of each speaker, rounded; of one without recordings, that of all frames.

        speakers: their names; empty: one share for all.
        """
        of_all = _voiced_share(self.pitches)
        shares = [_voiced_share(self.of_speaker(name).pitches) for name in speakers or (None,)]
        return tuple(round(of_all if math.isnan(share) else share, 3) for share in shares)

    def _chosen(self, clips: list[int]) -> RecordedFrames:
        frames, pitches, speakers = self.frames, self.pitches, self.speakers
        return RecordedFrames([frames[i] for i in clips], [pitches[i] for i in clips], [speakers[i] for i in clips])


def _voiced_share(pitches: list[Frames]) -> float:
    """The share of voiced frames; NaN without frames."""
    return float(np.isfinite(np.concatenate(pitches)).mean()) if pitches else math.nan


def recorded_frames(
    clips: Clips, mel: MelConfig, progress: Callable[[int, int], None] = lambda done, total: None
) -> RecordedFrames:
    """The frames of recordings, with dither. progress: called with the number of clips done, and of all."""
    rng, recorded = np.random.default_rng(0), RecordedFrames([], [], [])
    for index, clip in enumerate(clips):
        progress(index, len(clips))
        audio = clip.astype(np.float32) / np.float32(FULL_SCALE)
        noise = np.float32(DITHER) * rng.standard_normal(len(audio), dtype=np.float32)
        recorded.frames.append(mel_spectrogram(audio + noise, mel).T)
        recorded.pitches.append(frame_pitch(audio, mel))
        recorded.speakers.append("" if clips.speakers is None else clips.speakers[index])
    return recorded


def frame_pitch(audio: NDArray[np.floating], mel: MelConfig) -> Frames:
    """The pitch [N] in Hz of the log-mel frames of audio [T], NaN where unvoiced; see `Signal.pitch`.

    It is tracked at intervals of `PITCH_SECONDS`. A frame is voiced if the nearest value is, and between two values
    its pitch is interpolated on a logarithmic scale.
    """
    signal = Signal(audio, mel.sample_rate)
    if mel.sample_rate != PITCH_RATE:
        signal = Signal(signal.resampled(PITCH_RATE), PITCH_RATE)
    tracked = Signal(signal.audio, PITCH_RATE, PITCH_SECONDS, PITCH_STEP).pitch
    centres = (np.arange(-(-len(audio) // mel.hop)) + 0.5) * (mel.hop / mel.sample_rate / PITCH_SECONDS)  # [N]
    before = centres.astype(np.int64).clip(0, len(tracked) - 1)
    after = (before + 1).clip(0, len(tracked) - 1)
    share = (centres - before).clip(0, 1)
    nearest = tracked[np.where(share < 0.5, before, after)]
    between = tracked[before] ** (1 - share) * tracked[after] ** share
    return np.where(np.isfinite(nearest) & np.isfinite(between), between, nearest).astype(np.float32)

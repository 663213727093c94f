"""A few figures that tell what audio sounds like, the same for generated audio and for recordings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wavenet.evaluation.signals import Signal
from wavenet.generate import silent_share

HOP_SECONDS = 0.020
PITCH_STEP = 0.25  # semitones
HIGHEST_SAMPLE_RATE = 16_000  # Hz; audio at a higher one is resampled for the pitch: voices lie below 600 Hz
LEAST_VOICED = 0.05  # share of voiced frames below which the pitch is not defined; noise has 0.01 to 0.03
TONAL_VOICED = 0.25  # share of voiced frames from which recordings are tonal: voices, most instruments
SPEECH_PITCH_CHANGE = 0.3  # semitones; measured: 0.37 to 0.57 for voices in eight sets, 0.02 to 0.25 for six of music


@dataclass(frozen=True)
class VoiceFigures:
    """Level, pauses and pitch of some audio.

    seconds: its length. level: RMS of all of it in dB relative to full scale; minus infinity for digital silence.
    silent: share of frames that are silent, see `wavenet.generate.silent_share`.
    voiced: share of frames that have a pitch, see `Signal.pitch`.
    pitch: median in Hz. pitch_change: mean absolute change from a voiced frame to the next, 20 ms later, in semitones.
        Both are NaN for audio with (almost) no voiced frames.
    """

    seconds: float
    level: float
    silent: float
    voiced: float
    pitch: float
    pitch_change: float

    @property
    def tonal(self) -> bool:
        """Whether a considerable share of it has a pitch."""
        return self.voiced >= TONAL_VOICED

    @property
    def like_speech(self) -> bool:
        """Whether its pitch moves as in speech, where it glides; in music it holds, and changes at once."""
        return self.tonal and self.pitch_change >= SPEECH_PITCH_CHANGE


def voice_figures(audio: NDArray[np.floating[Any]], sample_rate: int) -> VoiceFigures:
    """The figures of audio [samples] in [-1, 1]. Raises `ValueError` for empty audio, NaN and infinity.

    It takes about 0.02 s per second of audio. Audio shorter than 64 ms has no voiced frames.
    """
    signal = Signal(audio, sample_rate, HOP_SECONDS, PITCH_STEP)
    power = float(np.square(signal.audio).mean()) if len(signal) else 0.0
    silent = silent_share(signal.audio, sample_rate)  # raises ValueError for empty audio
    if sample_rate > HIGHEST_SAMPLE_RATE:
        resampled = signal.resampled(HIGHEST_SAMPLE_RATE)
        signal = Signal(resampled, HIGHEST_SAMPLE_RATE, HOP_SECONDS, PITCH_STEP)
    semitones = 12 * np.log2(signal.pitch)  # [frames], NaN where unvoiced
    voiced = float(np.isfinite(semitones).mean())
    pitched = voiced >= LEAST_VOICED
    changes = np.abs(np.diff(semitones))
    changes = changes[np.isfinite(changes)]
    return VoiceFigures(
        seconds=len(audio) / sample_rate,
        level=10 * math.log10(power) if power else -math.inf,
        silent=silent,
        voiced=voiced,
        pitch=float(2 ** (np.nanmedian(semitones) / 12)) if pitched else math.nan,
        pitch_change=float(changes.mean()) if pitched and len(changes) else math.nan,
    )

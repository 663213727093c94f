"""Audio to be compared, and its properties that more than one figure needs: loud frames, spectrum, pitch, cepstrum.

Frames are centred on multiples of the hop, 10 ms by default: audio of T samples has 1 + T // hop of them.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import librosa
import numpy as np
from numpy.typing import NDArray

from wavenet.extras import Unavailable, how_to_install

Audio = NDArray[np.floating[Any]]  # [samples]

WINDOW_SECONDS = 0.064  # 1,024 samples at 16 kHz; the figures of shorter audio are NaN
HOP_SECONDS = 0.010
PITCH_STEP = 0.1  # semitones
BANDS = 80
SPEECH_DB = 40.0  # a frame this far below the loudest one is silence (the dynamic range of Taal et al. 2011, II)
LOWEST_PITCH, HIGHEST_PITCH = 60.0, 600.0  # Hz, of voices
ORDER = 24  # of the mel-cepstrum


class MetricUnavailable(Unavailable):
    """A figure needs a package that is not installed."""


class Signal:
    """Audio, float64 [samples], in [-1, 1] at `sample_rate` Hz, 8,000 or more. Each property is computed once.

    hop_seconds: from one frame to the next. pitch_step: resolution of `pitch` in semitones; its cost is inversely
    proportional to both.
    Raises `ValueError` for another shape than [samples], and for NaN or infinity.
    """

    def __init__(
        self, audio: Audio, sample_rate: int, hop_seconds: float = HOP_SECONDS, pitch_step: float = PITCH_STEP
    ) -> None:
        if audio.ndim != 1:
            raise ValueError(f"the audio has the shape {list(audio.shape)}; expected [samples]")
        if not np.isfinite(audio).all():
            raise ValueError("the audio contains NaN or infinity")
        self.audio = audio.astype(np.float64)
        self.sample_rate = sample_rate
        self.window, self.hop = round(WINDOW_SECONDS * sample_rate), round(hop_seconds * sample_rate)
        self.hop_seconds, self.pitch_step = hop_seconds, pitch_step

    def __len__(self) -> int:
        return len(self.audio)

    def first(self, samples: int) -> Signal:
        """The first `samples` of it; itself if that is all of it."""
        if samples >= len(self):
            return self
        return Signal(self.audio[:samples], self.sample_rate, self.hop_seconds, self.pitch_step)

    @property
    def empty(self) -> bool:
        """Whether it is shorter than a window, or digital silence: then most figures are not defined."""
        return len(self) < self.window or not self.audio.any()

    def resampled(self, sample_rate: int) -> NDArray[np.float64]:
        """The audio [samples] at another sample rate."""
        return librosa.resample(self.audio, orig_sr=self.sample_rate, target_sr=sample_rate, res_type="soxr_hq")

    @cached_property
    def mel(self) -> NDArray[np.float64]:
        """Mel power spectrogram [80, frames]: windows of 64 ms, bands from 0 Hz to half the sample rate."""
        return librosa.feature.melspectrogram(
            y=self.audio, sr=self.sample_rate, n_fft=self.window, hop_length=self.hop, n_mels=BANDS, power=2.0
        )

    @cached_property
    def speech(self) -> NDArray[np.bool_]:
        """Which frames are less than 40 dB below the loudest one, bool [frames]."""
        return within(np.square(librosa.feature.rms(y=self.audio, frame_length=self.window, hop_length=self.hop)[0]))

    @cached_property
    def pitch(self) -> NDArray[np.float64]:
        """Fundamental frequency in Hz, float64 [frames], NaN where unvoiced; 60 to 600 Hz.

        Probabilistic YIN (Mauch and Dixon 2014), librosa's implementation, in steps of `pitch_step`. Frames that are
        not `speech` count as unvoiced. All NaN if the signal is `empty`.
        """
        if self.empty:
            return np.full(1 + len(self) // self.hop, np.nan)
        found, _, _ = librosa.pyin(
            self.audio,
            sr=self.sample_rate,
            fmin=LOWEST_PITCH,
            fmax=HIGHEST_PITCH,
            frame_length=self.window,
            hop_length=self.hop,
            resolution=self.pitch_step,
        )
        return np.where(self.speech, found, np.nan)

    @cached_property
    def envelope(self) -> NDArray[np.float64]:
        """Power of the spectral envelope [frames, bins]: WORLD's CheapTrick (Morise 2015) with the signal's `pitch`.

        Raises `MetricUnavailable` without the package `pyworld`.
        """
        seconds = np.arange(len(self.pitch)) * (self.hop / self.sample_rate)  # [frames]
        return _pyworld().cheaptrick(
            self.audio, np.nan_to_num(self.pitch), seconds, self.sample_rate, f0_floor=LOWEST_PITCH
        )

    @cached_property
    def mel_cepstrum(self) -> NDArray[np.float64]:
        """Mel-cepstrum of the `envelope`, of order 24 without c_0, [frames, 24], coded by WORLD.

        ln amplitude = c_0 + sum over i of c_i cos(i w), where w is the frequency on a mel scale, 0 to pi.
        """
        # WORLD's cosine transform is orthonormal: the sum of the squares is the mean square of ln power, and each
        # coefficient is sqrt(2) times that of ln amplitude.
        return _pyworld().code_spectral_envelope(self.envelope, self.sample_rate, ORDER + 1)[:, 1:] / np.sqrt(2)


def within(power: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether the power of each frame is less than 40 dB below the loudest one's, bool [frames]."""
    return power > power.max() * 10 ** (-SPEECH_DB / 10)


def _pyworld() -> Any:
    try:
        import pyworld
    except ImportError as error:
        raise MetricUnavailable(how_to_install("mel-cepstral distortion", "pyworld", "metrics")) from error
    return pyworld

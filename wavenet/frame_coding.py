"""Frame coding: log-mel frames [N, bands] <-> encoded frames [N, 3 + K], in which a frame model predicts.

    loudness  half the logarithm of the frame's energy over all bands: l = 1/2 ln sum over b of exp(2 m_b)
    voicing   1 for a frame with a pitch, otherwise 0
    pitch     ln F0 of a voiced frame, 0 for others: voicing times ln F0
    shape     (m - l - mean) A: K principal components of the spectrum without its loudness

Loudness, pitch and shape are normalised: zero mean and unit variance over the recordings of each voice. The first three
are explicit, so that they can be predicted first, and controlled. Voicing and pitch come with a recording, or are
estimated from the frame alone, whose shape contains them, too; a decoder needs only loudness and shape. It restores the
loudness exactly, and the frame up to the components that were left out.

The components are whitened, and then rotated so that their changes from frame to frame are uncorrelated as well: linear
slow feature analysis (Wiskott and Sejnowski 2002, "Slow feature analysis: unsupervised learning of invariances").
Each then has its own speed, which a linear prediction per component can use. NumPy only.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wavenet.config import MelConfig
from wavenet.frame_model_config import LOUDNESS, PITCH, SOURCE, VOICING
from wavenet.mel_config import PITCH_RANGE
from wavenet.nn.linear_prediction import periodicity, predictor_rows, unpack_rows, voicing_and_pitch

LEAST_DEVIATION = 0.01  # nepers; lower limit of a component's standard deviation
LEAST_SPREAD = 0.05  # nepers; the same for loudness and pitch: a monotone is not magnified to a melody
NEPER_DB = 20 / math.log(10)  # dB in a neper
LARGEST = 1e4  # limit of encoded values and of frames: those that no audio has stay finite
VOICED = 0.2  # cepstral peak from which a single frame counts as voiced; finds most frames of low voices
PITCH_TOLERANCE = 0.06  # of ln F0: a peak within a semitone of the encoded pitch is that of this pitch
COVERED = 0.999  # share of the frames within the limits of each dimension
NAMES = ("mean", "analysis", "synthesis", "loudness", "pitch", "limits")  # of the arrays of a coding

Array = NDArray[np.float64]
Pitches = Sequence[NDArray[np.floating]]


def loudness(frames: NDArray[np.floating]) -> Array:
    """The loudness [...] of log-mel frames [..., bands], in nepers: the logarithm of the norm of its bands."""
    peak = frames.max(-1, keepdims=True).astype(np.float64)
    return peak[..., 0] + 0.5 * np.log(np.exp(2 * (frames - peak)).sum(-1))


def decibels(frames: NDArray[np.floating], mel: MelConfig) -> Array:
    """The level [...] in dBFS of audio with log-mel frames [..., bands]: its RMS, as linear prediction computes it."""
    return 20 * np.log10(unpack_rows(predictor_rows(frames, mel, 1)).rms)


@dataclass(frozen=True, eq=False)
class FrameCoding:
    """A frame coding of V voices, which share the components and have their own normalisation.

    mel: parameters of the frames.
    mean [V, bands]: of the frames without their loudness.
    analysis [bands, K], synthesis [K, bands]: from those to the shape, and back.
    loudness [V, 2], pitch [V, 2]: mean and standard deviation of the loudness, and of ln F0 in voiced frames.
    limits [2, D]: the interval of each encoded dimension that contains 99.9% of the frames, to clamp generated ones.
    """

    mel: MelConfig
    mean: Array
    analysis: Array
    synthesis: Array
    loudness: Array
    pitch: Array
    limits: Array

    @property
    def components(self) -> int:
        """K: dimensions of the shape."""
        return self.analysis.shape[1]

    @staticmethod
    def fit(
        voices: Sequence[NDArray[np.floating]], mel: MelConfig, components: int, pitches: Pitches | None = None
    ) -> FrameCoding:
        """The coding of recordings: one array [N, bands] of consecutive log-mel frames for each voice.

        components: K, at most the bands; with all of them nothing is left out.
        pitches: as of `encode`, one array [N] for each voice.
        Raises `ValueError` for recordings without frames, with another number of bands, or that are not finite.
        """
        if not 1 <= components <= mel.bands:
            raise ValueError(f"components = {components}: must be between 1 and the number of bands, {mel.bands}")
        voices = _checked(voices, mel)
        shapes = [frames - loudness(frames)[:, None] for frames in voices]
        shapes = [shape - shape.mean(0) for shape in shapes]
        variance, vectors = np.linalg.eigh(_covariance(shapes))  # ascending
        deviation = np.sqrt(np.maximum(variance[::-1][:components], LEAST_DEVIATION**2))
        vectors = vectors[:, ::-1][:, :components]  # [bands, K]
        whitened = [shape @ (vectors / deviation) for shape in shapes]
        rotation = np.linalg.eigh(_covariance([np.diff(rows, axis=0) for rows in whitened]))[1]  # [K, K], slow first
        analysis, synthesis = vectors / deviation @ rotation, (rotation.T * deviation) @ vectors.T
        return _normalised(voices, mel, analysis, synthesis, pitches)

    def renormalised(self, voices: Sequence[NDArray[np.floating]], pitches: Pitches | None = None) -> FrameCoding:
        """The same components with the normalisation of other recordings; arguments and errors as of `fit`."""
        return _normalised(_checked(voices, self.mel), self.mel, self.analysis, self.synthesis, pitches)

    def encode(
        self, frames: NDArray[np.floating], speaker: ArrayLike = 0, pitch: NDArray[np.floating] | None = None
    ) -> NDArray[np.float32]:
        """Log-mel frames [..., bands] -> encoded frames [..., 3 + K].

        speaker: index of the voice, or shares of all voices [..., V], which broadcast with the frames.
        pitch: of the frames [...] in Hz, NaN where they are unvoiced; None: estimated from each frame.
        Raises `ValueError` for frames with another number of bands, or that are not finite.
        """
        (checked,) = _checked([frames], self.mel)
        mean, scale, tone = self._normalisation(speaker)
        level = loudness(checked)
        has_pitch, hertz = _voicing(checked, self.mel, pitch)
        encoded = np.empty((*checked.shape[:-1], SOURCE + self.components))
        encoded[..., LOUDNESS] = (level - scale[..., 0]) / scale[..., 1]
        encoded[..., VOICING] = has_pitch
        encoded[..., PITCH] = np.where(has_pitch, (np.log(hertz) - tone[..., 0]) / tone[..., 1], 0)
        encoded[..., SOURCE:] = (checked - level[..., None] - mean) @ self.analysis
        return encoded.clip(-LARGEST, LARGEST).astype(np.float32)

    def decode(self, encoded: NDArray[np.floating], speaker: ArrayLike = 0) -> NDArray[np.float32]:
        """Encoded frames [..., 3 + K] -> log-mel frames [..., bands]; speaker: as of `encode`.

        No band is below silence, which only for frames with such bands changes the loudness.
        """
        mean, scale, _ = self._normalisation(speaker)
        values = encoded.astype(np.float64)
        frames = values[..., SOURCE:] @ self.synthesis + mean
        level = values[..., LOUDNESS] * scale[..., 1] + scale[..., 0]
        frames += (level - loudness(frames))[..., None]
        return frames.clip(self.mel.silence, LARGEST).astype(np.float32)

    def periodicity(self, encoded: NDArray[np.floating], speaker: ArrayLike = 0) -> Array:
        """How clearly the decoded frames show the encoded pitch of voiced frames [..., 3 + K]: cepstral peaks [...]."""
        tone = self._normalisation(speaker)[2]
        hertz = np.exp(encoded[..., PITCH] * tone[..., 1] + tone[..., 0])
        return periodicity(self.decode(encoded, speaker), hertz.clip(*PITCH_RANGE), self.mel, PITCH_TOLERANCE)

    def with_level(
        self, encoded: NDArray[np.floating], level: NDArray[np.floating], speaker: ArrayLike = 0
    ) -> NDArray[np.float32]:
        """Encoded frames [..., 3 + K] with the loudness that gives their audio these levels [...] in dBFS."""
        deviation = self._normalisation(speaker)[1][..., 1]
        missing = level - decibels(self.decode(encoded, speaker), self.mel)
        changed = encoded.astype(np.float32)  # a copy
        changed[..., LOUDNESS] += missing / NEPER_DB / deviation
        return changed

    def encoded_pitch(self, hertz: NDArray[np.floating], speaker: ArrayLike = 0) -> Array:
        """Frequencies in Hz as the encoded pitch of voiced frames; they broadcast."""
        tone = self._normalisation(speaker)[2]
        return (np.log(hertz) - tone[..., 0]) / tone[..., 1]

    def tensors(self) -> dict[str, NDArray[np.float32]]:
        """The arrays by their names in `FrameModelConfig.shapes`, without the prefix."""
        return {name: np.ascontiguousarray(getattr(self, name), np.float32) for name in NAMES}

    @staticmethod
    def from_tensors(mel: MelConfig, tensors: Mapping[str, NDArray[np.floating]]) -> FrameCoding:
        """The coding of `tensors`. Raises `KeyError` for one that is missing."""
        return FrameCoding(mel, *(np.asarray(tensors[name], np.float64) for name in NAMES))

    def _normalisation(self, speaker: ArrayLike) -> tuple[Array, Array, Array]:
        """Mean [..., bands], loudness [..., 2] and pitch [..., 2] of a voice, or of a mixture of voices."""
        share = np.asarray(speaker)
        if share.ndim == 0:
            return self.mean[int(share)], self.loudness[int(share)], self.pitch[int(share)]
        return share @ self.mean, share @ self.loudness, share @ self.pitch


def _normalised(
    voices: Sequence[Array], mel: MelConfig, analysis: Array, synthesis: Array, pitches: Pitches | None
) -> FrameCoding:
    """A coding with these components and the normalisation of these voices."""
    means, scales, tones = [], [], []
    given: Sequence[NDArray[np.floating] | None] = pitches or [None] * len(voices)
    for frames, pitch in zip(voices, given, strict=True):
        level = loudness(frames)
        has_pitch, hertz = _voicing(frames, mel, pitch)
        means.append((frames - level[:, None]).mean(0))
        scales.append((level.mean(), max(level.std(), LEAST_SPREAD)))
        tones.append(_tone(np.log(hertz[has_pitch])))
    unlimited = np.zeros((2, SOURCE + analysis.shape[1]))
    coding = FrameCoding(mel, np.array(means), analysis, synthesis, np.array(scales), np.array(tones), unlimited)
    coding = FrameCoding.from_tensors(mel, coding.tensors())  # rounded as in a model file
    encoded = np.concatenate([coding.encode(*each) for each in zip(voices, range(len(voices)), given, strict=True)])
    return dataclasses.replace(coding, limits=_limits(encoded).astype(np.float64))


def _voicing(
    frames: Array, mel: MelConfig, pitch: NDArray[np.floating] | None
) -> tuple[NDArray[np.bool_], NDArray[np.floating]]:
    """Whether frames [..., bands] are voiced, and their pitch in Hz; it is arbitrary for others, but positive."""
    if pitch is None:
        return voicing_and_pitch(frames, mel, VOICED)
    is_voiced = np.isfinite(pitch)
    return is_voiced, np.where(is_voiced, pitch, PITCH_RANGE[0])


def _limits(encoded: NDArray[np.float32]) -> NDArray[np.float32]:
    """The limits [2, D] of encoded frames [n, D]; those of the pitch are of voiced frames, and contain 0."""
    quantiles = (1 - COVERED) / 2, (1 + COVERED) / 2
    limits = np.quantile(encoded, quantiles, axis=0).astype(np.float32)
    pitch = encoded[encoded[:, VOICING] > 0, PITCH]
    limits[:, VOICING] = 0, 1
    low, high = np.quantile(pitch, quantiles) if len(pitch) else (0, 0)
    limits[:, PITCH] = min(low, 0), max(high, 0)
    return limits


def _tone(log_pitch: Array) -> tuple[float, float]:
    """Mean and standard deviation of ln F0 [n] of voiced frames; those of the range of pitches if there are none."""
    if not len(log_pitch):
        low, high = map(math.log, PITCH_RANGE)
        return (low + high) / 2, (high - low) / 4
    return float(log_pitch.mean()), max(float(log_pitch.std()), LEAST_SPREAD)


def _covariance(parts: Sequence[Array]) -> Array:
    """The second moments [n, n] of all rows of arrays [N, n]."""
    products = np.array([part.T @ part for part in parts])  # [parts, n, n]
    return products.sum(0) / max(1, sum(map(len, parts)))


def _checked(voices: Sequence[NDArray[np.floating]], mel: MelConfig) -> list[Array]:
    """Frames as float64. Raises `ValueError` as `FrameCoding.fit`."""
    checked = [np.asarray(frames, np.float64) for frames in voices]
    for frames in checked:
        if frames.ndim == 0 or frames.shape[-1] != mel.bands or not frames.size:
            raise ValueError(f"frames must be [..., {mel.bands}], at least one, not {list(frames.shape)}")
        if not np.isfinite(frames).all():
            raise ValueError("the frames contain NaN or infinity; replace those first")
    if not checked:
        raise ValueError("there are no recordings to fit a frame coding to")
    return [frames.clip(-LARGEST, LARGEST) for frames in checked]

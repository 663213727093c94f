"""Objective distances between a recording and a copy of it: spectral, of pitch, and perceptual.

Audio is float [samples] in [-1, 1] at `sample_rate` Hz, 8,000 or more. A copy must be aligned with its original and of
the same length, as a vocoder's is: there is no time warping and no shift. If the lengths differ by less than a window,
the longer one is truncated. A figure is NaN if the audio is too short or too quiet for it.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from importlib import import_module
from typing import Any

import librosa
import numpy as np
from numpy.typing import NDArray

from wavenet.extras import Unavailable, how_to_install

Audio = NDArray[np.floating[Any]]  # [samples]

WINDOW_SECONDS = 0.064  # 1,024 samples at 16 kHz; the figures of shorter audio are NaN
HOP_SECONDS = 0.010
BANDS = 80
FLOOR_DB = 80.0  # lower limit of power, below the loudest cell of a spectrogram
SPEECH_DB = 40.0  # a frame this far below the loudest one is silence (the dynamic range of Taal et al. 2011, II)
COEFFICIENTS = 13
LOWEST_PITCH, HIGHEST_PITCH = 60.0, 600.0  # Hz, of voices
PESQ_SAMPLE_RATE, NARROW_PESQ_SAMPLE_RATE = 16_000, 8_000  # Hz
PESQ_SECONDS = 10  # the ITU's program crashes on more than 50 utterances, which are at least 0.2 s long


PACKAGES = {"pesq": "pesq", "stoi": "pystoi"}  # figures of `Comparison` -> the optional packages that they need


class MetricUnavailable(Unavailable):
    """A figure needs a package that is not installed."""


@dataclass(frozen=True)
class PitchError:
    """Differences in pitch. NaN: nothing to compare."""

    cents: float  # RMS, over the frames that are voiced in both
    voicing: float  # share of all frames that are voiced in one and unvoiced in the other


@dataclass(frozen=True)
class Comparison:
    """All figures of one copy, or their means. NaN: not defined for this audio, or its package is not installed."""

    log_mel_db: float
    mcd_db: float
    pitch_cents: float
    voicing_error: float  # 0 to 1
    pesq: float  # 1 to 4.64
    stoi: float  # 0 to 1


def missing_packages() -> dict[str, str]:
    """Figures of `Comparison` whose packages cannot be imported -> a line on how to install each."""
    return {
        figure: how_to_install(figure.upper(), package, "metrics")
        for figure, package in PACKAGES.items()
        if not _importable(package)
    }


def _importable(package: str) -> bool:
    """Whether it is installed, and its compiled parts fit the other packages."""
    try:
        import_module(package)
    except ImportError:
        return False
    return True


def compare(original: Audio, copy: Audio, sample_rate: int) -> Comparison:
    """All figures of this module for a recording [samples] and a copy of it [samples].

    PESQ and STOI are NaN if their packages are not installed, see `missing_packages`. Raises `ValueError` for
    lengths that differ by a window or more, and for NaN or infinity.
    """
    pitches = pitch_error(original, copy, sample_rate)
    return Comparison(
        log_mel_db=log_mel_distance(original, copy, sample_rate),
        mcd_db=mel_cepstral_distortion(original, copy, sample_rate),
        pitch_cents=pitches.cents,
        voicing_error=pitches.voicing,
        pesq=_if_installed(pesq, original, copy, sample_rate),
        stoi=_if_installed(stoi, original, copy, sample_rate),
    )


def _if_installed(
    figure: Callable[[Audio, Audio, int], float], original: Audio, copy: Audio, sample_rate: int
) -> float:
    try:
        return figure(original, copy, sample_rate)
    except MetricUnavailable:
        return math.nan


def mean(comparisons: Iterable[Comparison]) -> Comparison:
    """The mean of each figure over the comparisons in which it is not NaN (see `counts`); NaN if there are none."""
    rows = list(comparisons)
    columns = [[getattr(row, field.name) for row in rows] for field in fields(Comparison)]
    return Comparison(*(_mean([figure for figure in column if not math.isnan(figure)]) for column in columns))


def counts(comparisons: Iterable[Comparison]) -> dict[str, int]:
    """The number of comparisons in which each figure is not NaN, by the name of its field."""
    rows = list(comparisons)
    return {field.name: sum(not math.isnan(getattr(row, field.name)) for row in rows) for field in fields(Comparison)}


def log_mel_distance(original: Audio, copy: Audio, sample_rate: int) -> float:
    """Mean absolute distance between log-mel spectrograms, in dB.

    80 bands from 0 Hz to half the sample rate, windows of 64 ms every 10 ms. It is the L1 distance that vocoders report
    and train on (Kong et al. 2020, HiFi-GAN, "Mel-Spectrogram Loss"), in dB of power: a distance of 1 there, in natural
    logarithms of amplitude, is 8.69 dB. Power is limited below to 80 dB under the original's loudest cell, so that the
    distance between digital silence and faint noise is finite.
    NaN for less than a window and for a silent original. Raises `ValueError` as `compare` does.
    """
    original, copy = _pair(original, copy, sample_rate)
    if _too_short_or_silent(original, sample_rate):
        return math.nan
    mel = _mel(original, sample_rate)  # [80, frames]
    loudest = float(mel.max())
    return float(np.abs(_decibels(mel, loudest) - _decibels(_mel(copy, sample_rate), loudest)).mean())


def mel_cepstral_distortion(original: Audio, copy: Audio, sample_rate: int) -> float:
    """Mel cepstral distortion in dB: 10 / ln 10 * sqrt(2 * sum over i = 1 .. 13 of (c_i - c'_i)^2), mean over frames.

    Kubichek 1993, "Mel-cepstral distance measure for objective speech quality assessment". The cepstrum is that of the
    80 mel bands of `log_mel_distance`, ln P = c_0 + 2 * sum c_i cos, so that the figure is the RMS distance in dB of
    the two smoothed spectra. c_0 is left out: loudness is ignored. The mean is over the frames in which the
    original is within 40 dB of its loudest frame. There is no time warping.
    NaN for less than a window and for a silent original. Raises `ValueError` as `compare` does.
    """
    original, copy = _pair(original, copy, sample_rate)
    if _too_short_or_silent(original, sample_rate):
        return math.nan
    mel, mel_of_copy = _mel(original, sample_rate), _mel(copy, sample_rate)  # [80, frames]
    speech = _within(mel.sum(axis=0), SPEECH_DB)  # [frames]
    # Each floor is relative to the loudest cell of its own spectrogram, so that a gain changes only c_0.
    change = _cepstrum(_decibels(mel, float(mel.max()))) - _cepstrum(_decibels(mel_of_copy, float(mel_of_copy.max())))
    return float(np.sqrt(2 * np.square(change[:, speech]).sum(axis=0)).mean())


def pitch(audio: Audio, sample_rate: int) -> NDArray[np.float64]:
    """Fundamental frequency in Hz, float64 [1 + samples // hop]: one every 10 ms, NaN where unvoiced; 60 to 600 Hz.

    Probabilistic YIN (Mauch and Dixon 2014), librosa's implementation, in steps of 10 cents. Frames more than 40 dB
    below the loudest one count as unvoiced. All NaN for less than a window.
    """
    window, hop = _window(sample_rate), _hop(sample_rate)
    audio = _checked(audio, "audio")
    if _too_short_or_silent(audio, sample_rate):
        return np.full(1 + len(audio) // hop, np.nan)
    found, _, _ = librosa.pyin(
        audio, sr=sample_rate, fmin=LOWEST_PITCH, fmax=HIGHEST_PITCH, frame_length=window, hop_length=hop
    )
    power = np.square(librosa.feature.rms(y=audio, frame_length=window, hop_length=hop)[0])
    return np.where(_within(power, SPEECH_DB), found, np.nan)


def pitch_error(original: Audio, copy: Audio, sample_rate: int) -> PitchError:
    """RMS error of the fundamental frequency in cents, and the share of frames with a wrong voicing decision.

    The voicing decision error is that of Nakatani et al. 2008, "A method for fundamental frequency estimation and
    voicing decision" (VDE in Chu and Alwan 2009): frames that are voiced in one and unvoiced in the other, over all
    frames. `pitch` has steps of 10 cents, so smaller differences are not significant.
    NaN for less than a window and for a silent original; cents also if no frame is voiced in both. Raises
    `ValueError` as `compare` does.
    """
    original, copy = _pair(original, copy, sample_rate)
    if _too_short_or_silent(original, sample_rate):
        return PitchError(math.nan, math.nan)
    before, after = pitch(original, sample_rate), pitch(copy, sample_rate)
    cents = 1_200 * np.log2(after / before)  # NaN where one is unvoiced
    errors = cents[~np.isnan(cents)]
    voicing = float((np.isnan(before) != np.isnan(after)).mean())
    return PitchError(float(np.sqrt(np.square(errors).mean())) if len(errors) else math.nan, voicing)


def pesq(original: Audio, copy: Audio, sample_rate: int) -> float:
    """Perceptual evaluation of speech quality, as a mean opinion score of 1 to 4.64 (1 bad, 4.64 no difference).

    Wide-band (ITU-T P.862.2) at 16 kHz, after resampling from higher sample rates; from lower ones narrow-band (P.862
    with the mapping of P.862.1, at most 4.55) at 8 kHz. Long audio is divided into equal pieces of up to 10 s, whose
    scores are averaged. NaN for a quarter of a second or less, for an original without speech, and for a silent copy.
    Raises `ValueError` as `compare` does, `MetricUnavailable` without the package `pesq`.
    """
    original, copy = _pair(original, copy, sample_rate)
    try:
        from pesq import PesqError
        from pesq import pesq as score
    except ImportError as error:
        raise MetricUnavailable(how_to_install("PESQ", "pesq", "metrics")) from error
    if _too_short_or_silent(original, sample_rate) or not copy.any():
        return math.nan
    target, mode = (PESQ_SAMPLE_RATE, "wb") if sample_rate >= PESQ_SAMPLE_RATE else (NARROW_PESQ_SAMPLE_RATE, "nb")
    pieces = math.ceil(len(original) / (PESQ_SECONDS * sample_rate))
    pairs = zip(
        *(np.array_split(_resampled(audio, sample_rate, target), pieces) for audio in (original, copy)), strict=True
    )
    scores = []
    for piece, piece_of_copy in pairs:
        if len(piece) <= target / 4 or not piece.any() or not piece_of_copy.any():
            continue
        try:
            scores.append(float(score(target, piece, piece_of_copy, mode)))
        except PesqError:  # no utterances
            continue
    return _mean(scores)


def stoi(original: Audio, copy: Audio, sample_rate: int) -> float:
    """Short-time objective intelligibility, 0 to 1 (all words understood).

    Taal et al. 2011, "An algorithm for intelligibility prediction of time-frequency weighted noisy speech". It uses
    frequencies up to 4.3 kHz and frames within 40 dB of the original's loudest one. NaN for fewer than 30 of these
    frames, 0.4 s. Raises `ValueError` as `compare` does, `MetricUnavailable` without the package `pystoi`.
    """
    original, copy = _pair(original, copy, sample_rate)
    try:
        from pystoi import stoi as score
    except ImportError as error:
        raise MetricUnavailable(how_to_install("STOI", "pystoi", "metrics")) from error
    if _too_short_or_silent(original, sample_rate):
        return math.nan
    with warnings.catch_warnings():
        # By default, too few frames give a warning and a score of 0.00001.
        warnings.simplefilter("error", RuntimeWarning)
        try:
            return float(score(original, copy, sample_rate))
        except RuntimeWarning:
            return math.nan


def _pair(original: Audio, copy: Audio, sample_rate: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both as float64 [samples] of the same length. Raises `ValueError` if the lengths differ by a window or more."""
    first, second = _checked(original, "original"), _checked(copy, "copy")
    if abs(len(first) - len(second)) >= _window(sample_rate):
        raise ValueError(
            f"the original has {len(first):,} samples and the copy {len(second):,}: they must be aligned, and "
            f"differ by less than {_window(sample_rate):,}"
        )
    samples = min(len(first), len(second))
    return first[:samples], second[:samples]


def _checked(audio: Audio, name: str) -> NDArray[np.float64]:
    if audio.ndim != 1:
        raise ValueError(f"{name}: expected [samples], got the shape {list(audio.shape)}")
    if not np.isfinite(audio).all():
        raise ValueError(f"{name}: contains NaN or infinity")
    return audio.astype(np.float64)


def _too_short_or_silent(audio: NDArray[np.float64], sample_rate: int) -> bool:
    return len(audio) < _window(sample_rate) or not audio.any()


def _window(sample_rate: int) -> int:
    return round(WINDOW_SECONDS * sample_rate)


def _hop(sample_rate: int) -> int:
    return round(HOP_SECONDS * sample_rate)


def _mel(audio: NDArray[np.float64], sample_rate: int) -> NDArray[np.float64]:
    """Mel power spectrogram [80, frames]."""
    return librosa.feature.melspectrogram(
        y=audio, sr=sample_rate, n_fft=_window(sample_rate), hop_length=_hop(sample_rate), n_mels=BANDS, power=2.0
    )


def _decibels(power: NDArray[np.float64], loudest: float) -> NDArray[np.float64]:
    """Power in dB, limited below to 80 dB under `loudest`, and to the smallest positive number if that is 0."""
    return 10 * np.log10(np.maximum(power, max(loudest * 10 ** (-FLOOR_DB / 10), np.finfo(np.float64).tiny)))


def _cepstrum(decibels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coefficients 1 to 13 [13, frames] of log-mel spectra [bands, frames], in dB: spectrum = c_0 + 2 sum c_i cos."""
    bands = len(decibels)
    order, middle = np.arange(1, COEFFICIENTS + 1)[:, None], np.arange(bands) + 0.5
    return np.cos(np.pi * order * middle / bands) @ decibels / bands


def _within(power: NDArray[np.float64], db: float) -> NDArray[np.bool_]:
    """Whether the power of each frame is within `db` dB of the loudest one's, bool [frames]."""
    return power > power.max() * 10 ** (-db / 10)


def _resampled(audio: NDArray[np.float64], sample_rate: int, target: int) -> NDArray[np.float64]:
    return librosa.resample(audio, orig_sr=sample_rate, target_sr=target, res_type="soxr_hq")


def _mean(figures: list[float]) -> float:
    return sum(figures) / len(figures) if figures else math.nan

"""Objective distances between a recording and a copy of it: spectral, of pitch, and perceptual.

A copy must be aligned with its original and of the same length, as a vocoder's is: there is no time warping and no
shift. If the lengths differ by less than a window of 64 ms, the longer one is truncated. A figure is NaN if the audio
is too short or too quiet for it. All functions raise `ValueError` for lengths that differ by more, and for different
sample rates.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

import numpy as np
from numpy.typing import NDArray

from wavenet.evaluation.signals import Audio, MetricUnavailable, Signal, within
from wavenet.extras import how_to_install

__all__ = [
    "Audio",
    "Comparison",
    "MetricUnavailable",
    "PitchError",
    "Signal",
    "compare",
    "log_mel_distance",
    "mel_cepstral_distortion",
    "missing_packages",
    "pesq",
    "pitch_error",
    "stoi",
]

FLOOR_DB = 80.0  # lower limit of power, below the loudest cell of a spectrogram
GROSS_ERROR = 0.2  # of pitch, relative to the original's
PESQ_SAMPLE_RATE, NARROW_PESQ_SAMPLE_RATE = 16_000, 8_000  # Hz
PESQ_SECONDS = 10  # the ITU's program crashes on more than 50 utterances, which are at least 0.2 s long

PACKAGES = {  # figures of `Comparison` -> what they are called, and the optional packages that they need
    "pesq": ("PESQ", "pesq"),
    "stoi": ("STOI", "pystoi"),
    "mcd_db": ("mel-cepstral distortion", "pyworld"),
}


@dataclass(frozen=True)
class PitchError:
    """Differences in pitch. NaN: nothing to compare."""

    gross: float  # share of the frames voiced in both whose pitch differs by more than 20%
    cents: float  # RMS, over the other frames that are voiced in both
    voicing: float  # share of all frames that are voiced in one and unvoiced in the other


@dataclass(frozen=True)
class Comparison:
    """All figures of one copy. NaN: not defined for this audio, not computed, or its package is not installed."""

    pesq: float  # 1 to 4.64
    stoi: float  # 0 to 1
    log_mel_db: float
    mcd_db: float
    gross_pitch_error: float  # 0 to 1
    pitch_cents: float
    voicing_error: float  # 0 to 1
    words_lost: float = math.nan  # number of words of the original that a recogniser does not find in the copy
    words: float = math.nan  # number of words that it finds in the original


def missing_packages() -> dict[str, str]:
    """Figures of `Comparison` whose packages cannot be imported -> a line on how to install each."""
    return {
        figure: how_to_install(title, package, "metrics")
        for figure, (title, package) in PACKAGES.items()
        if not _importable(package)
    }


def _importable(package: str) -> bool:
    """Whether it is installed, and its compiled parts fit the other packages."""
    try:
        import_module(package)
    except ImportError:
        return False
    return True


def compare(original: Signal, copy: Signal) -> Comparison:
    """All figures of this module for a recording and a copy of it.

    Figures are NaN if their packages are not installed, see `missing_packages`. Words are not counted, see
    `wavenet.evaluation.words`.
    """
    pitches = pitch_error(original, copy)
    return Comparison(
        pesq=_if_installed(pesq, original, copy),
        stoi=_if_installed(stoi, original, copy),
        log_mel_db=log_mel_distance(original, copy),
        mcd_db=_if_installed(mel_cepstral_distortion, original, copy),
        gross_pitch_error=pitches.gross,
        pitch_cents=pitches.cents,
        voicing_error=pitches.voicing,
    )


def _if_installed(figure: Callable[[Signal, Signal], float], original: Signal, copy: Signal) -> float:
    try:
        return figure(original, copy)
    except MetricUnavailable:
        return math.nan


def log_mel_distance(original: Signal, copy: Signal) -> float:
    """Mean absolute distance between log-mel spectrograms, in dB.

    80 bands from 0 Hz to half the sample rate, windows of 64 ms every 10 ms. It is the L1 distance that vocoders report
    and train on (Kong et al. 2020, HiFi-GAN, "Mel-Spectrogram Loss"), in dB of power: a distance of 1 there, in natural
    logarithms of amplitude, is 8.69 dB. Power is limited below to 80 dB under the original's loudest cell, so that the
    distance between digital silence and faint noise is finite.
    NaN for less than a window and for a silent original.
    """
    original, copy = _pair(original, copy)
    if original.empty:
        return math.nan
    loudest = float(original.mel.max())
    return float(np.abs(_decibels(original.mel, loudest) - _decibels(copy.mel, loudest)).mean())


def mel_cepstral_distortion(original: Signal, copy: Signal) -> float:
    """Mel-cepstral distortion in dB: 10 / ln 10 * sqrt(2 * sum over i = 1 .. 24 of (c_i - c'_i)^2), mean over frames.

    Kubichek 1993, "Mel-cepstral distance measure for objective speech quality assessment", on `Signal.mel_cepstrum`:
    the RMS distance in dB of the two smoothed spectral envelopes. c_0 is left out: loudness is ignored. The mean is
    over the frames whose envelope in the original is within 40 dB of the loudest one. There is no time warping.
    NaN for less than a window and for a silent original. Raises `MetricUnavailable` without the package `pyworld`.
    """
    original, copy = _pair(original, copy)
    if original.empty:
        return math.nan
    speech = within(original.envelope.sum(axis=1))  # [frames]
    change = (original.mel_cepstrum - copy.mel_cepstrum)[speech]  # [frames, 24]
    return float(10 / np.log(10) * np.sqrt(2 * np.square(change).sum(axis=1)).mean())


def pitch_error(original: Signal, copy: Signal) -> PitchError:
    """Gross pitch error, RMS error of the other frames in cents, and the share of frames with a wrong voicing decision.

    As Chu and Alwan 2009, "Reducing F0 frame error of F0 tracking algorithms under noisy conditions", define them: the
    gross pitch error is the share of the frames voiced in both whose pitch differs by more than 20% of the original's
    (Rabiner et al. 1976), and the voicing decision error is the number of frames voiced in one and unvoiced in the
    other, over all frames (Nakatani et al. 2008). The cents are those of the frames without a gross error.
    `Signal.pitch` is rounded to steps of 10 cents, which alone make up to 4 cents (10 * sqrt(2 / 12)) of the RMS error.
    NaN for less than a window and for a silent original; gross error and cents also if no frame is voiced in both,
    cents also if all of these have a gross error.
    """
    original, copy = _pair(original, copy)
    if original.empty:
        return PitchError(math.nan, math.nan, math.nan)
    before, after = original.pitch, copy.pitch
    both = ~np.isnan(before) & ~np.isnan(after)
    ratios = after[both] / before[both]
    gross = np.abs(ratios - 1) > GROSS_ERROR
    cents = 1_200 * np.log2(ratios[~gross])
    return PitchError(
        gross=float(gross.mean()) if len(gross) else math.nan,
        cents=float(np.sqrt(np.square(cents).mean())) if len(cents) else math.nan,
        voicing=float((np.isnan(before) != np.isnan(after)).mean()),
    )


def pesq(original: Signal, copy: Signal) -> float:
    """Perceptual evaluation of speech quality, as a mean opinion score of 1 to 4.64 (1 bad, 4.64 no difference).

    Wide-band (ITU-T P.862.2) at 16 kHz, after resampling from higher sample rates; from lower ones narrow-band (P.862
    with the mapping of P.862.1, at most 4.55) at 8 kHz. Long audio is divided into equal pieces of up to 10 s, whose
    scores are averaged. NaN for a quarter of a second or less, for an original without speech, and for a silent copy.
    Raises `MetricUnavailable` without the package `pesq`.
    """
    original, copy = _pair(original, copy)
    try:
        from pesq import PesqError
        from pesq import pesq as score
    except ImportError as error:
        raise MetricUnavailable(how_to_install("PESQ", "pesq", "metrics")) from error
    if original.empty or not copy.audio.any():
        return math.nan
    wide = original.sample_rate >= PESQ_SAMPLE_RATE
    target, mode = (PESQ_SAMPLE_RATE, "wb") if wide else (NARROW_PESQ_SAMPLE_RATE, "nb")
    pieces = math.ceil(len(original) / (PESQ_SECONDS * original.sample_rate))
    pairs = zip(*(np.array_split(signal.resampled(target), pieces) for signal in (original, copy)), strict=True)
    scores = []
    for piece, piece_of_copy in pairs:
        if len(piece) <= target / 4 or not piece.any() or not piece_of_copy.any():
            continue
        try:
            scores.append(float(score(target, piece, piece_of_copy, mode)))
        except PesqError:  # no utterances
            continue
    return sum(scores) / len(scores) if scores else math.nan


def stoi(original: Signal, copy: Signal) -> float:
    """Short-time objective intelligibility, 0 to 1 (all words understood).

    Taal et al. 2011, "An algorithm for intelligibility prediction of time-frequency weighted noisy speech". It uses
    frequencies up to 4.3 kHz and frames within 40 dB of the original's loudest one. NaN for fewer than 30 of these
    frames, 0.4 s. Raises `MetricUnavailable` without the package `pystoi`.
    """
    original, copy = _pair(original, copy)
    try:
        from pystoi import stoi as score
    except ImportError as error:
        raise MetricUnavailable(how_to_install("STOI", "pystoi", "metrics")) from error
    if original.empty:
        return math.nan
    with warnings.catch_warnings():
        # By default, too few frames give a warning and a score of 0.00001.
        warnings.simplefilter("error", RuntimeWarning)
        try:
            return float(score(original.audio, copy.audio, original.sample_rate))
        except RuntimeWarning:
            return math.nan


def _pair(original: Signal, copy: Signal) -> tuple[Signal, Signal]:
    """Both, of the same length. Raises `ValueError` if the lengths differ by a window or more, or the sample rates."""
    if original.sample_rate != copy.sample_rate:
        raise ValueError(f"the original has {original.sample_rate} samples per second and the copy {copy.sample_rate}")
    if abs(len(original) - len(copy)) >= original.window:
        raise ValueError(
            f"the original has {len(original):,} samples and the copy {len(copy):,}: they must be aligned, and "
            f"differ by less than {original.window:,}"
        )
    samples = min(len(original), len(copy))
    return original.first(samples), copy.first(samples)


def _decibels(power: NDArray[np.float64], loudest: float) -> NDArray[np.float64]:
    """Power in dB, limited below to 80 dB under `loudest`, and to the smallest positive number if that is 0."""
    return 10 * np.log10(np.maximum(power, max(loudest * 10 ** (-FLOOR_DB / 10), np.finfo(np.float64).tiny)))

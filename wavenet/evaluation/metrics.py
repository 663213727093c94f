"""How close a copy is to the original recording: distances in the spectrum, in pitch, and as listeners would judge.

Sound is float [samples] in [-1, 1] at `rate` Hz. A copy is aligned with its original and as long, as vocoded sound is:
nothing is warped in time or shifted, and of lengths that differ by less than a window the longer one is cut.
Every figure is NaN where a clip is too short or too quiet to tell. Rates of 8 kHz and more are meant.
"""

from __future__ import annotations

import importlib.util
import math
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

import librosa
import numpy as np
from numpy.typing import NDArray

Sound = NDArray[np.floating[Any]]  # [samples]

WINDOW_SECONDS = 0.064  # 1,024 samples at 16 kHz; no sound shorter than this is measured
HOP_SECONDS = 0.010
BANDS = 80
FLOOR_DB = 80.0  # power this far below the loudest cell of a spectrogram, or farther, counts as that
SPEECH_DB = 40.0  # a frame this far below the loudest one is silence (the dynamic range of Taal et al. 2011, II)
COEFFICIENTS = 13
LOWEST_PITCH, HIGHEST_PITCH = 60.0, 600.0  # Hz: voices
PESQ_RATE, NARROW_PESQ_RATE = 16_000, 8_000
PESQ_SECONDS = 10  # the ITU's program crashes beyond 50 utterances; none is shorter than 0.2 s


class MetricUnavailable(RuntimeError):
    """A figure whose package is not installed."""


@dataclass(frozen=True)
class PitchError:
    """What a copy did to the pitch. NaN: nothing to compare."""

    cents: float  # RMS, over the frames that are voiced in both
    voicing: float  # share of all frames that are voiced in one and unvoiced in the other


@dataclass(frozen=True)
class Comparison:
    """All figures of one copy, or their means. NaN: could not be told."""

    log_mel_db: float
    mcd_db: float
    pitch_cents: float
    voicing_error: float  # 0 to 1
    pesq: float  # 1 to 4.64
    stoi: float  # 0 to 1


def check_available() -> None:
    """Raises `MetricUnavailable` where a package that `compare` needs is missing."""
    for figure, package in (("PESQ", "pesq"), ("STOI", "pystoi")):
        if importlib.util.find_spec(package) is None:
            raise MetricUnavailable(f"{figure} needs {package}: pip install 'wavenet-toolkit[metrics]'")


def compare(original: Sound, copy: Sound, rate: int) -> Comparison:
    """Every figure of this module for one copy of one recording, each [samples] at `rate` Hz.

    Raises `ValueError` for lengths that differ, `MetricUnavailable` where the packages for PESQ or STOI are missing.
    """
    pitches = pitch_error(original, copy, rate)
    return Comparison(
        log_mel_db=log_mel_distance(original, copy, rate),
        mcd_db=mel_cepstral_distortion(original, copy, rate),
        pitch_cents=pitches.cents,
        voicing_error=pitches.voicing,
        pesq=pesq(original, copy, rate),
        stoi=stoi(original, copy, rate),
    )


def mean(comparisons: Iterable[Comparison]) -> Comparison:
    """The mean of every figure over the comparisons that could tell it; NaN where none could."""
    rows = list(comparisons)
    columns = [[getattr(row, field.name) for row in rows] for field in fields(Comparison)]
    return Comparison(*(_mean([figure for figure in column if not math.isnan(figure)]) for column in columns))


def log_mel_distance(original: Sound, copy: Sound, rate: int) -> float:
    """Mean absolute distance between log-mel spectrograms, in dB.

    80 bands from 0 Hz to half the rate, windows of 64 ms every 10 ms. It is the L1 distance that vocoders report and
    train on (Kong et al. 2020, HiFi-GAN, "Mel-Spectrogram Loss"), in dB of power: 1 of theirs, a natural logarithm of
    amplitude, is 8.69 dB. Power lower than 80 dB below the original's loudest cell counts as that, in both, so that
    digital silence is no infinite distance from faint noise.
    NaN for less than a window and for a silent original. Raises `ValueError` as `compare` does.
    """
    original, copy = _pair(original, copy, rate)
    if _nothing(original, rate):
        return math.nan
    mel = _mel(original, rate)  # [80, frames]
    loudest = float(mel.max())
    return float(np.abs(_decibels(mel, loudest) - _decibels(_mel(copy, rate), loudest)).mean())


def mel_cepstral_distortion(original: Sound, copy: Sound, rate: int) -> float:
    """Mel cepstral distortion in dB: 10 / ln 10 * sqrt(2 * sum over i = 1 .. 13 of (c_i - c'_i)^2), mean over frames.

    Kubichek 1993, "Mel-cepstral distance measure for objective speech quality assessment". The cepstrum is that of the
    80 mel bands of `log_mel_distance`, ln P = c_0 + 2 * sum c_i cos, so that the figure is the RMS distance in dB of
    the two smoothed spectra. c_0 is left out: loudness does not count. Only frames in which the original lies within
    40 dB of its loudest frame count, and frames are not warped in time.
    NaN for less than a window and for a silent original. Raises `ValueError` as `compare` does.
    """
    original, copy = _pair(original, copy, rate)
    if _nothing(original, rate):
        return math.nan
    mel, mel_of_copy = _mel(original, rate), _mel(copy, rate)  # [80, frames]
    speech = _within(mel.sum(axis=0), SPEECH_DB)  # [frames]
    # Each floor hangs below its own loudest cell, so that a gain changes nothing but c_0.
    change = _cepstrum(_decibels(mel, float(mel.max()))) - _cepstrum(_decibels(mel_of_copy, float(mel_of_copy.max())))
    return float(np.sqrt(2 * np.square(change[:, speech]).sum(axis=0)).mean())


def pitch(audio: Sound, rate: int) -> NDArray[np.float64]:
    """Fundamental frequency in Hz, float64 [1 + samples // hop]: one every 10 ms, NaN where unvoiced; 60 to 600 Hz.

    Probabilistic YIN (Mauch and Dixon 2014) as librosa has it, in steps of 10 cents. Frames more than 40 dB below the
    loudest are unvoiced, whatever hums there. All NaN for less than a window.
    """
    window, hop = _window(rate), _hop(rate)
    audio = _checked(audio, "audio")
    if _nothing(audio, rate):
        return np.full(1 + len(audio) // hop, np.nan)
    found, _, _ = librosa.pyin(
        audio, sr=rate, fmin=LOWEST_PITCH, fmax=HIGHEST_PITCH, frame_length=window, hop_length=hop
    )
    power = np.square(librosa.feature.rms(y=audio, frame_length=window, hop_length=hop)[0])
    return np.where(_within(power, SPEECH_DB), found, np.nan)


def pitch_error(original: Sound, copy: Sound, rate: int) -> PitchError:
    """RMS error of the fundamental in cents, and the share of frames with a wrong voicing decision.

    The voicing decision error is that of Nakatani et al. 2008, "A method for fundamental frequency estimation and
    voicing decision" (VDE in Chu and Alwan 2009): voiced frames taken for unvoiced and unvoiced for voiced, over all
    frames. `pitch` finds steps of 10 cents, so differences of less mean nothing.
    NaN for less than a window and for a silent original; cents also where no frame is voiced in both. Raises
    `ValueError` as `compare` does.
    """
    original, copy = _pair(original, copy, rate)
    if _nothing(original, rate):
        return PitchError(math.nan, math.nan)
    before, after = pitch(original, rate), pitch(copy, rate)
    cents = 1_200 * np.log2(after / before)  # NaN where one is unvoiced
    errors = cents[~np.isnan(cents)]
    voicing = float((np.isnan(before) != np.isnan(after)).mean())
    return PitchError(float(np.sqrt(np.square(errors).mean())) if len(errors) else math.nan, voicing)


def pesq(original: Sound, copy: Sound, rate: int) -> float:
    """Perceptual evaluation of speech quality, as a mean opinion score of 1 to 4.64 (1 bad, 4.64 no difference).

    Wide-band (ITU-T P.862.2) at 16 kHz, to which other rates are resampled; below 16 kHz narrow-band (P.862 with the
    mapping of P.862.1, at most 4.55) at 8 kHz. Long sound is scored in equal pieces of up to 10 s, and they are
    averaged. NaN for a quarter of a second or less, where the original holds no speech, and for a silent copy.
    Raises `ValueError` as `compare` does, `MetricUnavailable` without the package `pesq`.
    """
    original, copy = _pair(original, copy, rate)
    try:
        from pesq import PesqError
        from pesq import pesq as score
    except ImportError as error:
        raise MetricUnavailable("PESQ needs pesq: pip install 'wavenet-toolkit[metrics]'") from error
    if _nothing(original, rate) or not copy.any():
        return math.nan
    target, mode = (PESQ_RATE, "wb") if rate >= PESQ_RATE else (NARROW_PESQ_RATE, "nb")
    pieces = math.ceil(len(original) / (PESQ_SECONDS * rate))
    pairs = zip(*(np.array_split(_resampled(sound, rate, target), pieces) for sound in (original, copy)), strict=True)
    scores = []
    for piece, piece_of_copy in pairs:
        if len(piece) <= target / 4 or not piece.any() or not piece_of_copy.any():
            continue
        try:
            scores.append(float(score(target, piece, piece_of_copy, mode)))
        except PesqError:  # no utterances
            continue
    return _mean(scores)


def stoi(original: Sound, copy: Sound, rate: int) -> float:
    """Short-time objective intelligibility, 0 to 1 (all words understood).

    Taal et al. 2011, "An algorithm for intelligibility prediction of time-frequency weighted noisy speech". It hears up
    to 4.3 kHz and leaves out frames more than 40 dB below the original's loudest. NaN where fewer than 30 of them, 0.4
    s, remain. Raises `ValueError` as `compare` does, `MetricUnavailable` without the package `pystoi`.
    """
    original, copy = _pair(original, copy, rate)
    try:
        from pystoi import stoi as score
    except ImportError as error:
        raise MetricUnavailable("STOI needs pystoi: pip install 'wavenet-toolkit[metrics]'") from error
    if _nothing(original, rate):
        return math.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # else too few frames are a warning and a score of 0.00001
        try:
            return float(score(original, copy, rate))
        except RuntimeWarning:
            return math.nan


def _pair(original: Sound, copy: Sound, rate: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both as float64 of one length. Raises `ValueError` for lengths a window or more apart."""
    first, second = _checked(original, "original"), _checked(copy, "copy")
    if abs(len(first) - len(second)) >= _window(rate):
        raise ValueError(
            f"the original has {len(first):,} samples and the copy {len(second):,}: they must be aligned, and "
            f"differ by less than {_window(rate):,}"
        )
    samples = min(len(first), len(second))
    return first[:samples], second[:samples]


def _checked(sound: Sound, name: str) -> NDArray[np.float64]:
    if sound.ndim != 1:
        raise ValueError(f"{name}: expected [samples], got the shape {list(sound.shape)}")
    if not np.isfinite(sound).all():
        raise ValueError(f"{name}: holds NaN or infinity")
    return sound.astype(np.float64)


def _nothing(sound: NDArray[np.float64], rate: int) -> bool:
    """Too short or silent: nothing to measure against."""
    return len(sound) < _window(rate) or not sound.any()


def _window(rate: int) -> int:
    return round(WINDOW_SECONDS * rate)


def _hop(rate: int) -> int:
    return round(HOP_SECONDS * rate)


def _mel(sound: NDArray[np.float64], rate: int) -> NDArray[np.float64]:
    """Mel power spectrogram [80, frames]."""
    return librosa.feature.melspectrogram(
        y=sound, sr=rate, n_fft=_window(rate), hop_length=_hop(rate), n_mels=BANDS, power=2.0
    )


def _decibels(power: NDArray[np.float64], loudest: float) -> NDArray[np.float64]:
    """dB of power, no lower than 80 dB below `loudest`; the least positive number stands in where that is 0."""
    return 10 * np.log10(np.maximum(power, max(loudest * 10 ** (-FLOOR_DB / 10), np.finfo(np.float64).tiny)))


def _cepstrum(decibels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coefficients 1 to 13 [13, frames] of log-mel spectra [bands, frames], in dB: spectrum = c_0 + 2 sum c_i cos."""
    bands = len(decibels)
    order, middle = np.arange(1, COEFFICIENTS + 1)[:, None], np.arange(bands) + 0.5
    return np.cos(np.pi * order * middle / bands) @ decibels / bands


def _within(power: NDArray[np.float64], db: float) -> NDArray[np.bool_]:
    """Which frames' power lies within `db` of the loudest one's."""
    return power > power.max() * 10 ** (-db / 10)


def _resampled(sound: NDArray[np.float64], rate: int, target: int) -> NDArray[np.float64]:
    return librosa.resample(sound, orig_sr=rate, target_sr=target, res_type="soxr_hq")


def _mean(figures: list[float]) -> float:
    return sum(figures) / len(figures) if figures else math.nan

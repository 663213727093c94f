"""The levels and pitches that a network was trained on, and a warning for features outside of them.

A network continues voices that it knows. A voice far below the pitch of its training data becomes a whisper, and one
far above their level becomes noise, although the features are correct.
"""

from __future__ import annotations

import math
import warnings

import numpy as np
from numpy.typing import NDArray

from wavenet.config import FeatureRange, MelConfig
from wavenet.engine.feature_check import AUDIBLE, LEAST_FRAMES, probe
from wavenet.nn.linear_prediction import pitch_periods, voiced

COVERED = 0.98  # share of the training data's frames within the range
MARGIN_DB = 3.0  # beyond the range in which a level counts as within it
MARGIN_PITCH = 1.12  # factor beyond the range in which a pitch counts as within it: two semitones
TOLERATED = 0.25  # share of frames outside of the range up to which there is no warning


def measured_range(frames: NDArray[np.float32], mel: MelConfig) -> FeatureRange | None:
    """The range of log-mel frames [n, bands]; None for too few frames that are not silent."""
    levels, pitches = _levels_and_pitches(frames, mel)
    if len(levels) < LEAST_FRAMES:
        return None
    return FeatureRange(_interval(levels), _interval(pitches) if len(pitches) >= LEAST_FRAMES else (0.0, 0.0))


def warn_outside(features: NDArray[np.float32], mel: MelConfig, trained: FeatureRange) -> None:
    """Warns, in a line for each, if level or pitch of features [B, bands, N] often lie outside the training range."""
    levels, pitches = _levels_and_pitches(probe(features), mel)
    low, high = trained.level
    if len(levels) >= LEAST_FRAMES:
        below, above = (levels < low - MARGIN_DB).mean(), (levels > high + MARGIN_DB).mean()
        if max(below, above) > TOLERATED:
            quieter = below > above
            change = (low if quieter else high) - float(np.median(levels))
            _warn(
                f"{max(below, above):.0%} of the frames are {'quieter' if quieter else 'louder'} than the training "
                f"data of this model; amplify the audio by {change:+.0f} dB or more before computing the features"
            )
    low, high = trained.pitch
    if len(pitches) >= LEAST_FRAMES and high:
        below, above = (pitches < low / MARGIN_PITCH).mean(), (pitches > high * MARGIN_PITCH).mean()
        if max(below, above) > TOLERATED:
            _warn(
                f"the pitch of {max(below, above):.0%} of the voiced frames is {'below' if below > above else 'above'} "
                f"that of the training data, {low:.0f} to {high:.0f} Hz (median here {np.median(pitches):.0f} Hz): "
                "expect a hoarse voice, or train on such voices"
            )


def _levels_and_pitches(frames: NDArray[np.float32], mel: MelConfig) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of log-mel frames [n, bands]: the mean of the bands in dB, of those that are not silent; Hz, of those voiced."""
    audible = frames[frames.max(axis=1) > mel.silence + AUDIBLE].astype(np.float64)
    levels = audible.mean(axis=1) * (20 / math.log(10) / mel.power)
    with_pitch = audible[voiced(audible, mel)]
    return levels, mel.sample_rate / pitch_periods(with_pitch, mel)


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """The interval, rounded to tenths, that contains all but equal shares of the lowest and the highest values."""
    low, high = np.quantile(values, [(1 - COVERED) / 2, (1 + COVERED) / 2])
    return round(float(low), 1), round(float(high), 1)


def _warn(text: str) -> None:
    warnings.warn(f"features: {text}", stacklevel=5)  # in `Generator.session`

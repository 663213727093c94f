"""The levels and pitches that a network was trained on, and a warning for features outside of them.

A network continues voices that it knows. A voice far below the pitch of its training data becomes a whisper, and one
far above their level becomes noise, although the features are correct.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from wavenet.config import FeatureRange, MelConfig
from wavenet.engine.feature_check import AUDIBLE, LEAST_FRAMES, probe
from wavenet.nn.linear_prediction import pitch_periods, voiced

COVERED = 0.98  # share of the training data's frames within the range
MARGIN_DB = 3.0  # beyond the range in which a level counts as within it
MARGIN_PITCH = 1.12  # factor beyond the range in which a pitch counts as within it: two semitones
TOLERATED = 0.25  # share of frames outside of the range up to which there is no warning
OUTLYING = 0.05  # share of the lowest or highest values beyond the one that the range is compared with
# The level of a recording is that of its loud frames: the lower limit of the range is the level of pauses.
QUIETEST = 0.02  # share of the training data's recordings that are quieter than what counts as their lowest level
QUIET_DB = 16.0  # below the upper limit, for models of earlier versions, whose lowest level is not known


# From log-mel frames [n, bands]: whether they are voiced, and their pitch periods, [n] each.
Pitches = Callable[[NDArray[np.float32]], tuple[NDArray[np.bool_], NDArray[np.int64]]]


def measured_range(frames: NDArray[np.float32], mel: MelConfig) -> FeatureRange | None:
    """The range of log-mel frames [n, bands]; None for too few frames that are not silent."""
    levels, pitches = _levels_and_pitches(frames, mel)
    if len(levels) < LEAST_FRAMES:
        return None
    return FeatureRange(_interval(levels), _interval(pitches) if len(pitches) >= LEAST_FRAMES else (0.0, 0.0))


def quietest_level(recordings: Iterable[NDArray[np.float32]], mel: MelConfig) -> float | None:
    """The level in dB of the loud frames of the quietest recordings, log-mel frames [n, bands] each; None without any.

    Measured in four sets of 100 recordings each, of others of the same set, up to 2.5% were quieter by `MARGIN_DB`; of
    those attenuated by 10 dB, 55 to 93% in three sets with even levels, and 10% in one that varies by 30 dB.
    """
    loud = [_loud(levels) for levels, _ in (_levels_and_pitches(frames, mel) for frames in recordings) if len(levels)]
    return round(float(np.quantile(loud, QUIETEST)), 1) if loud else None


def warn_outside(
    features: NDArray[np.float32], mel: MelConfig, trained: FeatureRange, pitches: Pitches | None = None
) -> None:
    """Warns, in a line for each, of a level or pitch of features [B, bands, N] that is not that of the training data.

    Too loud: more than a quarter of the frames are above the range. Too quiet: the loud frames, too, are below those of
    the quietest recordings. Another pitch: more than a quarter of the voiced frames are below the range, or above it.
    pitches: an engine's; None: in NumPy.
    """
    levels, hertz = _levels_and_pitches(probe(features), mel, pitches)
    if len(levels) >= LEAST_FRAMES:
        _, high = trained.level
        lowest = high - QUIET_DB - trained.gains + MARGIN_DB if trained.quietest is None else trained.quietest
        share, loud = float((levels > high + MARGIN_DB).mean()), _loud(levels)
        if share > TOLERATED:
            _warn(
                f"{share:.0%} of the frames are louder than the training data of this model; attenuate the audio by "
                f"{loud - high:.0f} dB before computing the features"
            )
        elif loud < lowest - MARGIN_DB:
            target = high if trained.quietest is None else lowest
            _warn(
                "even the loud frames are quieter than the training data of this model; amplify the audio by "
                f"{target - loud:.0f} dB before computing the features"
            )
    low, high = trained.pitch
    if len(hertz) >= LEAST_FRAMES and high:
        share, extreme = _outside(hertz, low / MARGIN_PITCH, high * MARGIN_PITCH)
        if share > TOLERATED:
            side, direction = ("below", "down") if extreme < low else ("above", "up")
            _warn(
                f"the pitch of {share:.0%} of the voiced frames is {side} that of the training data, {low:.0f} to "
                f"{high:.0f} Hz (here {direction} to {extreme:.0f} Hz): expect a hoarse voice, or train on such voices"
            )


def _loud(levels: NDArray[np.float64]) -> float:
    """The level of the loud frames of a recording."""
    return float(np.quantile(levels, 1 - OUTLYING))


def _outside(values: NDArray[np.float64], low: float, high: float) -> tuple[float, float]:
    """The share of values below `low` or above `high`, whichever is larger, and the outlying quantile on that side."""
    below, above = float((values < low).mean()), float((values > high).mean())
    return max(below, above), float(np.quantile(values, OUTLYING if below > above else 1 - OUTLYING))


def _levels_and_pitches(
    frames: NDArray[np.float32], mel: MelConfig, pitches: Pitches | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of log-mel frames [n, bands]: the mean of the bands in dB, of those that are not silent; Hz, of those voiced."""
    audible = frames[frames.max(axis=1) > mel.silence + AUDIBLE]
    levels = audible.astype(np.float64).mean(axis=1) * (20 / math.log(10) / mel.power)
    found, periods = pitches(audible) if pitches else (voiced(audible, mel), pitch_periods(audible, mel))
    return levels, mel.sample_rate / periods[found]


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """The interval, rounded to tenths, that contains all but equal shares of the lowest and the highest values."""
    low, high = np.quantile(values, [(1 - COVERED) / 2, (1 + COVERED) / 2])
    return round(float(low), 1), round(float(high), 1)


def _warn(text: str) -> None:
    warnings.warn(f"features: {text}", stacklevel=7)  # in `Generator.session`

"""Check whether log-mel features can belong to audio in [-1, 1], and whether they resemble the training data.

Features on another scale (decibels, another logarithm, audio scaled to integers) result in full-scale noise. Values
that no audio in [-1, 1] can have are an error. A mean or standard deviation, over the frames that are not silent, that
differs strongly from the normalisation of the model (`MelConfig.mean`, `MelConfig.deviation`) is a warning. Both
messages name the scale that explains the values best.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from wavenet.config import MelConfig
from wavenet.features import hann_window, mel_filters

ROUNDING = 0.02  # a feature may lie this far below the floor: half a step of float16 there is 0.004
OVERSHOOT = 2.0  # amplitude that decoded and resampled audio may reach; a larger one means another scale
PROBED_FRAMES = 2_000  # at most, evenly spaced, for mean and spread
LEAST_FRAMES = 20  # not silent ones; fewer have no meaningful mean and spread
AUDIBLE = 1.0  # above the floor: a frame whose loudest band is below that counts as silent
# Clips of speech, music and noise have means from -2.4 to 0.3 and spreads from 0.5 to 1.4, in units of the
# normalisation; close to the floor, recordings of very low level have smaller spreads.
HIGHEST_MEAN = 1.5
SPREADS = (0.5, 2.0)
MEAN_NEAR_FLOOR = -1.5  # mean below which a small spread is due to the floor
EXPLAINS = 1.2  # largest distance from the normalisation at which a scale counts as an explanation

Array = NDArray[np.float32]


def check_features(features: Array, mel: MelConfig) -> None:
    """Raises `ValueError`, in one line, for features [B, bands, N] that no audio in [-1, 1] can have.

    These are values that are not finite, below ln(floor), or above `largest_feature`.
    """
    lowest, highest = float(features.min()), float(features.max())  # NaN if there is one
    if not math.isfinite(lowest) or not math.isfinite(highest):
        hint = f": clip the mel spectrogram to {mel.floor:g} before the logarithm" if lowest == -math.inf else ""
        raise ValueError(
            f"features: they contain NaN, infinity or numbers beyond 1e38; replace those values first{hint}"
        )
    limit = largest_feature(mel) + mel.power * math.log(OVERSHOOT)
    if lowest < mel.silence - ROUNDING or highest > limit:
        raise ValueError(
            f"features: they range from {lowest:.4g} to {highest:.4g}, but audio in [-1, 1] has natural-log mel values "
            f"from {mel.silence:.4g} to {limit:.4g}; {explanation(features, mel)}"
        )


def warn_unusual(features: Array, mel: MelConfig) -> None:
    """Warns, in one line, if mean or spread of features [B, bands, N] differ strongly from the training data's."""
    statistics = _statistics(probe(features), mel)
    if statistics is not None and _unusual(*statistics):
        mean, spread = mel.mean + statistics[0] * mel.deviation, statistics[1] * mel.deviation
        warnings.warn(
            f"features: mean {mean:.1f} and standard deviation {spread:.1f} differ strongly from the training data's "
            f"{mel.mean:.1f} and {mel.deviation:.1f}; {explanation(features, mel)}",
            stacklevel=6,  # in `Generator.session`
        )


def largest_feature(mel: MelConfig) -> float:
    """An upper bound of the features of audio in [-1, 1]: ln of the largest sum of w_k |X_k|^p that any band can have.

    The spectrum X of a frame, of `fft` points and with the window v, has |X_k| <= sum v, and by Parseval's theorem a
    sum of |X_k|^2 over the bins between 0 and fft / 2 of at most fft / 2 times the sum of v^2. The second bound, with
    Hoelder's inequality, is the lower one for wide bands.
    """
    weights = mel_filters(mel)  # [bands, bins]
    window = hann_window(mel.window)
    largest = float(weights.sum(1).max()) * window.sum() ** mel.power
    if mel.power <= 2:
        energy = mel.fft / 2 * float(np.square(window).sum())
        largest = min(largest, energy ** (mel.power / 2) * float(_dual_norm(weights, mel.power).max()))
    return math.log(max(largest, mel.floor))


def _dual_norm(weights: NDArray[np.float64], power: float) -> NDArray[np.float64]:
    """[bands]: the largest sum of w_k e_k^(power / 2) for e_k >= 0 whose sum is 1."""
    if power == 2:
        return weights.max(1)
    order = 2 / (2 - power)
    return np.asarray((weights**order).sum(1) ** (1 / order))


def explanation(features: Array, mel: MelConfig) -> str:
    """The most probable scale of features [B, bands, N], and how to convert them."""
    frames = probe(features)
    lowest, highest = float(features.min()), float(features.max())
    decibel = math.log(10) / 20 * mel.power  # in natural logarithms of magnitudes to the power
    candidates: list[tuple[str, Callable[[Array], Array]]] = [
        (f"decibels: multiply by {decibel:.4g}", lambda x: x * np.float32(decibel)),
        ("log10 values: multiply by ln(10)", lambda x: x * np.float32(math.log(10))),
        (
            "features of audio scaled to 16-bit integers: divide the samples by 32,768 first",
            lambda x: x - np.float32(mel.power * math.log(32_768)),
        ),
    ]
    if lowest < 0:
        candidates.append(
            ("normalised values: undo that", lambda x: x * np.float32(mel.deviation) + np.float32(mel.mean))
        )
    else:
        candidates.append(
            ("magnitudes without a logarithm: take the natural logarithm", lambda x: np.log(np.maximum(x, mel.floor)))
        )
    if lowest < mel.silence - ROUNDING and highest <= largest_feature(mel):
        candidates.append((f"values without the floor: clip them to at least {mel.silence:.4g}", lambda x: x))
    distances = {}
    for name, convert in candidates:
        statistics = _statistics(np.maximum(convert(frames), np.float32(mel.silence)), mel)
        if statistics is not None and statistics[1] > 0:
            distances[name] = math.hypot(statistics[0], math.log(statistics[1]))
    best = min(distances, key=distances.__getitem__, default=None)
    if best is None or distances[best] > EXPLAINS:
        return "check that they were computed with the parameters in the model's config.features"
    return f"they may be {best}"


def probe(features: Array) -> Array:
    """A sample of the frames of all streams, [n, bands]."""
    streams, _, frames = features.shape
    step = -(-streams * frames // PROBED_FRAMES)
    across = max(1, min(streams, step))  # every how many streams
    chosen = features[::across, :, :: max(1, step // across)]
    return chosen.transpose(0, 2, 1).reshape(-1, features.shape[1])


def _statistics(frames: Array, mel: MelConfig) -> tuple[float, float] | None:
    """Mean and standard deviation of frames [n, bands] that are not silent, in units of the normalisation."""
    audible = frames[frames.max(axis=1) > mel.silence + AUDIBLE]
    if len(audible) < LEAST_FRAMES:
        return None
    normalised = (audible.astype(np.float64) - mel.mean) / mel.deviation
    return float(normalised.mean()), float(normalised.std())


def _unusual(mean: float, spread: float) -> bool:
    low, high = SPREADS
    return mean > HIGHEST_MEAN or spread > high or (spread < low and mean > MEAN_NEAR_FLOOR)

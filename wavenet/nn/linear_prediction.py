"""Linear prediction computed from the features: what a frame's spectrum already says about the next sample.

The envelope of a log-mel frame is brought to a power spectrum, its inverse Fourier transform is the autocorrelation of
the sound in that frame, and the Levinson-Durbin recursion turns that into the coefficients of the best linear predictor
and the power of what it leaves over. So both sides know predictor and gain without being told, and the network models
only the rest (Valin and Skoglund 2019, "LPCNet", section 3.1; Hwang et al. 2020, "LP-WaveNet", section 3). NumPy only.

    prediction p_t = sum over k of a_k s_(t-k)      s_t = p_t + gain . e_t       a, gain: of the frame that holds t

What is left over of a voice comes again after a period of its pitch. Harmonics are ripples in a frame's spectrum, so
the cepstrum peaks at the period (Noll 1967, "Cepstrum pitch determination"), and as the features are logarithms, it is
one matrix product away. The network can be given what was left over around one period ago (long-term prediction, as
speech coders have it), and need not search for it.

Frames do not blend here: a predictor changes from one frame to the next.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from wavenet.config import MelConfig, ModelConfig

# These numbers are part of every model that predicts: with others, it would have to be trained again.
WHITE_NOISE = 1e-5  # added to the power, -50 dB: keeps the recursion well behaved
LAG_HERTZ = 40.0  # Gaussian lag window: no resonance is sharper than that
LEAST_GAIN = 2.0**-16  # half a step of 16-bit sound: digital silence has a gain, too
VOICED = 0.3  # mean ripple of a voiced frame's spectrum at its pitch period, in nepers of magnitude
HARMONICS = 2_500.0  # Hz; above, bands are too wide to tell harmonics apart, and the cepstrum hears nothing
MOST_INPUT = 16.0  # what the network is given is cut there: a click stays finite


def rows_of(features: NDArray[np.float32], mel: MelConfig, order: int) -> NDArray[np.float64]:
    """Rows [..., order + 3] of frames [..., bands] of log-mel features: coefficients, gain, level, pitch period."""
    # Features beyond all sound make predictors that are no numbers, which engines refuse.
    with np.errstate(all="ignore"):
        return _rows_of(features, mel, order)


def _rows_of(features: NDArray[np.float32], mel: MelConfig, order: int) -> NDArray[np.float64]:
    power = np.exp((2 / mel.power) * features.astype(np.float64)) * _band_scale(mel)  # [..., bands]
    correlation = power @ _correlation_matrix(mel, order).T  # [..., order + 1]
    coefficients, error = levinson(correlation)
    gain = np.sqrt(np.maximum(error, 0)) + LEAST_GAIN
    level = np.sqrt(correlation[..., 0]) + LEAST_GAIN
    return np.concatenate([coefficients, gain[..., None], level[..., None], periods(features, mel)[..., None]], axis=-1)


def periods(features: NDArray[np.float32], mel: MelConfig) -> NDArray[np.int64]:
    """The pitch period [...] of frames [..., bands] of log-mel features, in samples; without a pitch, any."""
    return mel.pitch_periods[0] + _cepstrum(features, mel).argmax(-1)


def voiced(features: NDArray[np.float32], mel: MelConfig) -> NDArray[np.bool_]:
    """Whether frames [..., bands] of log-mel features have a pitch, [...]."""
    return _cepstrum(features, mel).max(-1) > VOICED * mel.power


def _cepstrum(features: NDArray[np.float32], mel: MelConfig) -> NDArray[np.float64]:
    """Of the low end of every frame, [..., periods]. Rounded: what is the same but for the last bits, is the same."""
    return (features.astype(np.float64) @ _cepstrum_matrix(mel).T).round(9)


class Predictor:
    """The predictions of B streams, sample by sample; a value that can be copied."""

    def __init__(self, config: ModelConfig, streams: int) -> None:
        self.config = config
        self.past = np.zeros((streams, config.linear_prediction))  # the last sample first
        self.lefts = np.zeros((streams, config.pitch_reach))  # what was left over, likewise
        self.sample = np.zeros(streams)  # the last prediction
        self.gain = np.ones(streams)

    def copy(self) -> Predictor:
        other = Predictor(self.config, len(self.past))
        other.past, other.lefts, other.sample, other.gain = self.past, self.lefts, self.sample, self.gain
        return other

    def next(self, last: NDArray[np.float64], rows: NDArray[np.float64]) -> NDArray[np.float32]:
        """Given the last samples [B] in full scale, predict the next ones; the network's inputs [B, 3 + pitch taps].

        rows [B, order + 3]: those of the frame that holds the next sample.
        """
        order, taps = self.config.linear_prediction, self.config.pitch_taps
        left = last - self.sample
        self.past = np.concatenate([last[:, None], self.past[:, :-1]], axis=1)
        self.sample, self.gain, level = (self.past * rows[:, :order]).sum(1), rows[:, order], rows[:, order + 1]
        inputs = np.stack([last / level, self.sample / level, left / self.gain], axis=1)
        if taps:
            self.lefts = np.concatenate([left[:, None], self.lefts[:, :-1]], axis=1)
            places = rows[:, order + 2, None].astype(int) + taps // 2 - 1 - np.arange(taps)  # the oldest first
            earlier = np.take_along_axis(self.lefts, places, axis=1) / self.gain[:, None]
            inputs = np.concatenate([inputs, earlier], axis=1)
        return np.clip(inputs, -MOST_INPUT, MOST_INPUT).astype(np.float32)

    def shifted(self, numbers: NDArray[np.float32], parts: int) -> NDArray[np.float32]:
        """The head's numbers [B, A] about what is left over, as numbers about the sound: means and log scales moved."""
        moved = numbers.copy()
        gain = self.gain[:, None].astype(np.float32)
        moved[:, -2 * parts : -parts] = self.sample[:, None].astype(np.float32) + gain * numbers[:, -2 * parts : -parts]
        moved[:, -parts:] += np.log(gain)
        return moved


def levinson(correlation: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Predictors [..., order] of autocorrelations [..., order + 1], and the power that they leave over, [...].

    The Levinson-Durbin recursion (Makhoul 1975, "Linear prediction: a tutorial review", section III).
    """
    order = correlation.shape[-1] - 1
    a = np.zeros((*correlation.shape[:-1], order))
    error = np.maximum(correlation[..., 0], 1e-30)
    for i in range(order):
        known = (a[..., :i] * correlation[..., i:0:-1]).sum(-1)
        reflection = (correlation[..., i + 1] - known) / error
        a[..., :i] -= reflection[..., None] * a[..., :i][..., ::-1]
        a[..., i] = reflection
        error = error * (1 - reflection**2)
    return a, error


def mel_filters(mel: MelConfig) -> NDArray[np.float64]:
    """The triangles [bands, fft / 2 + 1] of a mel filter bank; the same as `torchaudio.functional.melscale_fbanks`."""
    edges = _to_hertz(np.linspace(_to_mel(mel.low, mel.scale), _to_mel(mel.high, mel.scale), mel.bands + 2), mel.scale)
    bins = np.linspace(0, mel.sample_rate // 2, mel.fft // 2 + 1)
    rising = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    triangles = np.maximum(0, np.minimum(rising, falling))  # [bands, bins]
    return triangles * (2 / (edges[2:] - edges[:-2]))[:, None] if mel.area else triangles


@lru_cache(maxsize=8)
def _band_scale(mel: MelConfig) -> NDArray[np.float64]:
    """What turns a band's squared sum [bands] into the power of the sound per bin of its spectrum."""
    weight = mel_filters(mel).sum(1)
    window = np.hanning(mel.window + 1)[:-1]
    return np.where(weight > 0, weight, np.inf) ** (-2 / mel.power) / np.square(window).sum()


@lru_cache(maxsize=8)
def _correlation_matrix(mel: MelConfig, order: int) -> NDArray[np.float64]:
    """From the power in every band [bands] to the autocorrelation [order + 1] of the sound."""
    spectrum, bins, lags = _spectrum_matrix(mel), np.arange(mel.fft // 2 + 1), np.arange(order + 1)
    weight = np.where((bins == 0) | (2 * bins == mel.fft), 1, 2) / mel.fft  # both halves of the spectrum
    matrix = np.cos(2 * np.pi * np.outer(lags, bins) / mel.fft) * weight @ spectrum
    matrix *= np.exp(-0.5 * np.square(2 * np.pi * LAG_HERTZ * lags / mel.sample_rate))[:, None]
    matrix[0] *= 1 + WHITE_NOISE
    return matrix


@lru_cache(maxsize=8)
def _cepstrum_matrix(mel: MelConfig) -> NDArray[np.float64]:
    """From log-mel features [bands] to the cepstrum of their low end at every pitch period, [periods]."""
    hertz = np.linspace(0, mel.sample_rate / 2, mel.fft // 2 + 1)
    taper = np.where(hertz < HARMONICS, 0.5 + 0.5 * np.cos(np.pi * hertz / HARMONICS), 0)  # falls to zero
    spectrum = _spectrum_matrix(mel)
    ripples = taper[:, None] * (spectrum - taper @ spectrum / taper.sum())  # without the mean
    shortest, longest = mel.pitch_periods
    return (
        np.cos(2 * np.pi / mel.sample_rate * np.outer(np.arange(shortest, longest + 1), hertz)) @ ripples / taper.sum()
    )


@lru_cache(maxsize=8)
def _spectrum_matrix(mel: MelConfig) -> NDArray[np.float64]:
    """From the bands [bands] to the bins of a spectrum, [fft / 2 + 1].

    Between the centres of the bands it runs in straight lines, beyond the outermost ones it stays level. Bands without
    a bin of their own (too narrow at the low end) are passed over.
    """
    filters = mel_filters(mel)
    used = filters.sum(1) > 0
    bins = np.arange(filters.shape[1])
    centres = (filters[used] * bins).sum(1) / filters[used].sum(1)
    spectrum = np.zeros((len(bins), mel.bands))
    for column, band in enumerate(np.flatnonzero(used)):
        spectrum[:, band] = np.interp(bins, centres, np.eye(len(centres))[column])
    return spectrum


def _to_mel(hertz: float, scale: str) -> float:
    if scale == "htk":
        return float(2595 * np.log10(1 + hertz / 700))
    return float(3 * hertz / 200 if hertz < 1000 else 15 + 27 * np.log(hertz / 1000) / np.log(6.4))


def _to_hertz(mels: NDArray[np.float64], scale: str) -> NDArray[np.float64]:
    if scale == "htk":
        return 700 * (10 ** (mels / 2595) - 1)
    return np.where(mels < 15, 200 * mels / 3, 1000 * np.exp((mels - 15) * np.log(6.4) / 27))

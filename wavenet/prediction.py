"""Linear prediction computed from the features: what a frame's spectrum already says about the next sample.

The envelope of a log-mel frame is brought to a power spectrum, its inverse Fourier transform is the autocorrelation of
the sound in that frame, and the Levinson-Durbin recursion turns that into the coefficients of the best linear predictor
and the power of what it leaves over. So both sides know predictor and gain without being told, and the network models
only the rest (Valin and Skoglund 2019, "LPCNet", section 3.1; Hwang et al. 2020, "LP-WaveNet", section 3). NumPy only.

    prediction p_t = sum over k of a_k s_(t-k)      s_t = p_t + gain . e_t       a, gain: of the frame that holds t

Frames do not blend here: a predictor changes from one frame to the next.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from wavenet.config import MelConfig

WHITE_NOISE = 1e-4  # added to the power, -40 dB: keeps the recursion well behaved (LPCNet)
LAG_HERTZ = 40.0  # Gaussian lag window: no resonance is sharper than that
LEAST_GAIN = 2.0**-16  # half a step of 16-bit sound: digital silence has a gain, too
MOST_INPUT = 16.0  # what the network is given is cut there: a click stays finite


def rows_of(features: NDArray[np.float32], mel: MelConfig, order: int) -> NDArray[np.float64]:
    """Rows [..., order + 2] of frames [..., bands] of log-mel features: coefficients, gain, level."""
    # Features beyond all sound make predictors that are no numbers, which engines refuse.
    with np.errstate(all="ignore"):
        return _rows_of(features, mel, order)


def _rows_of(features: NDArray[np.float32], mel: MelConfig, order: int) -> NDArray[np.float64]:
    power = np.exp((2 / mel.power) * features.astype(np.float64)) * _band_scale(mel)  # [..., bands]
    correlation = power @ _correlation_matrix(mel, order).T  # [..., order + 1]
    coefficients, error = levinson(correlation)
    gain = np.sqrt(np.maximum(error, 0)) + LEAST_GAIN
    level = np.sqrt(correlation[..., 0]) + LEAST_GAIN
    return np.concatenate([coefficients, gain[..., None], level[..., None]], axis=-1)


class Predictor:
    """The predictions of B streams, sample by sample; a value that can be copied."""

    def __init__(self, streams: int, order: int) -> None:
        self.past = np.zeros((streams, order))  # the last sample first
        self.sample = np.zeros(streams)  # the last prediction
        self.gain = np.ones(streams)

    def copy(self) -> Predictor:
        other = Predictor(*self.past.shape)
        other.past, other.sample, other.gain = self.past.copy(), self.sample, self.gain
        return other

    def next(self, last: NDArray[np.float64], rows: NDArray[np.float64]) -> NDArray[np.float32]:
        """Given the last samples [B] in full scale, predict the next ones; the network's inputs [B, 3].

        rows [B, order + 2]: those of the frame that holds the next sample.
        """
        order = self.past.shape[1]
        left = last - self.sample
        self.past = np.concatenate([last[:, None], self.past[:, :-1]], axis=1)
        self.sample, self.gain, level = (self.past * rows[:, :order]).sum(1), rows[:, order], rows[:, order + 1]
        inputs = np.stack([last / level, self.sample / level, left / self.gain], axis=1)
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
    bins = np.linspace(0, mel.rate // 2, mel.fft // 2 + 1)
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
    """From the power in every band [bands] to the autocorrelation [order + 1] of the sound.

    Between the centres of the bands the spectrum runs in straight lines, beyond the outermost ones it stays level.
    Bands without a bin of their own (too narrow at the low end) are passed over.
    """
    filters = mel_filters(mel)
    used = filters.sum(1) > 0
    bins = np.arange(filters.shape[1])
    centres = (filters[used] * bins).sum(1) / filters[used].sum(1)
    spectrum = np.zeros((len(bins), mel.bands))  # [bins, bands]: what each band adds to a bin
    for column, band in enumerate(np.flatnonzero(used)):
        spectrum[:, band] = np.interp(bins, centres, np.eye(len(centres))[column])
    lags = np.arange(order + 1)
    weight = np.where((bins == 0) | (bins == len(bins) - 1), 1, 2) / mel.fft  # both halves of the spectrum
    matrix = np.cos(2 * np.pi * np.outer(lags, bins) / mel.fft) * weight @ spectrum
    matrix *= np.exp(-0.5 * np.square(2 * np.pi * LAG_HERTZ * lags / mel.rate))[:, None]
    matrix[0] *= 1 + WHITE_NOISE
    return matrix


def _to_mel(hertz: float, scale: str) -> float:
    if scale == "htk":
        return float(2595 * np.log10(1 + hertz / 700))
    return float(3 * hertz / 200 if hertz < 1000 else 15 + 27 * np.log(hertz / 1000) / np.log(6.4))


def _to_hertz(mels: NDArray[np.float64], scale: str) -> NDArray[np.float64]:
    if scale == "htk":
        return 700 * (10 ** (mels / 2595) - 1)
    return np.where(mels < 15, 200 * mels / 3, 1000 * np.exp((mels - 15) * np.log(6.4) / 27))

"""Linear prediction: the part of the next sample that the spectrum of its frame, or of the recent past, determines.

A log-mel frame is converted to a power spectrum, its inverse Fourier transform is the autocorrelation of the audio in
that frame, and the Levinson-Durbin recursion turns that into the coefficients of the best linear predictor and the
power of its residual. No side information is needed, and the network models only the residual (Valin and Skoglund
2019, "LPCNet", section 3.1; Hwang et al. 2020, "LP-WaveNet", section 3).

    prediction p_t = sum over k = 1 ... order of a_k s_(t-k)        s_t = p_t + gain . e_t        residual: s_t - p_t

The residual of voiced speech repeats after a pitch period. Harmonics are ripples in a frame's spectrum, so the cepstrum
peaks at the period (Noll 1967, "Cepstrum pitch determination"); as the features are logarithms, the cepstrum is one
matrix product. The pitch taps are inputs of the network: the residual around one period earlier (long-term prediction,
as in speech coders).

In a network without features the prediction is backward-adaptive: the autocorrelation is that of the last 20 ms, and is
computed anew every 2.5 ms, at fixed positions of the stream (Chen et al. 1992, "A low-delay CELP coder for the CCITT
16 kb/s speech coding standard", ITU-T G.728; the window there is recursive, here it is finite). The other inputs of the
network are relative to the RMS and the gain, so the logarithms of both are inputs, too: nothing else states the level.

Nothing is interpolated here: coefficients, gain, RMS and period are constant within a frame, or between two updates.
NumPy only.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple, cast

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from wavenet.config import MelConfig, ModelConfig
from wavenet.data.pcm import FULL_SCALE
from wavenet.features import hann_window, mel_filters, one_thread_product

# Models with linear prediction are trained with these constants: after a change they would have to be trained again.
WHITE_NOISE = 1e-5  # added to the power, -50 dB: conditions the recursion
ADAPTATION_NOISE = 1e-6  # the same for backward-adaptive prediction
RECENT_SHARE = 1 / 12  # of its window, over which the weight falls to the most recent sample
LAG_HERTZ = 40.0  # Gaussian lag window: the narrowest bandwidth of a resonance
MIN_GAIN = 2.0**-16  # half a step of 16-bit audio, added to gain and RMS: digital silence has a gain, too
VOICED = 0.3  # cepstral peak, in nepers of magnitude, from which a frame counts as voiced; see `voiced`
LEAST_RESOLUTION = 0.1  # lower limit of the factor by which the threshold falls for low voices
HARMONICS = 2_500.0  # Hz; above, bands are too wide to resolve harmonics, and the cepstrum leaves them out
MAX_INPUT = 16.0  # limit of the network's inputs: those of a click stay finite
CHUNK = 1_024  # frames whose cepstra are in memory at the same time


class PredictorParameters(NamedTuple):
    """Parameters of the predictor of each frame: views of rows [..., order + 3] that contain them in this order."""

    coefficients: NDArray[np.float64]  # [..., order]: a_1, a_2, ...
    gain: NDArray[np.float64]  # [...]: RMS of the residual
    rms: NDArray[np.float64]  # [...]: of the audio
    period: NDArray[np.float64]  # [...]: pitch period in samples, a whole number


def predictor_rows(features: NDArray[np.floating], mel: MelConfig, order: int) -> NDArray[np.float64]:
    """Rows [..., order + 3] of `PredictorParameters` of log-mel frames [..., bands]."""
    values = features.reshape(-1, mel.bands).astype(np.float64)  # [n, bands]
    # Features beyond those of any audio make parameters that are not finite, which engines refuse.
    with np.errstate(all="ignore"):
        power = np.exp(2 / mel.power * values) * _band_scale(mel)  # [n, bands]
        correlation = one_thread_product(power, _correlation_matrix(mel, order))  # [n, order + 1]
        coefficients, error = levinson(correlation)
        gain = np.sqrt(np.maximum(error, 0)) + MIN_GAIN
        rms = np.sqrt(correlation[:, 0]) + MIN_GAIN
        rows = np.column_stack([coefficients, gain, rms, pitch_periods(values, mel)])
    return rows.reshape(*features.shape[:-1], order + 3)


def unpack_rows(rows: NDArray[np.float64]) -> PredictorParameters:
    """The parameters in rows [..., order + 3] of `predictor_rows`."""
    return PredictorParameters(rows[..., :-3], rows[..., -3], rows[..., -2], rows[..., -1])


def pitch_periods(features: NDArray[np.floating], mel: MelConfig) -> NDArray[np.int64]:
    """The pitch periods [...] of log-mel frames [..., bands], in samples; arbitrary for frames without a pitch."""
    return mel.pitch_periods[0] + _cepstrum(features, mel).argmax(-1)


def voiced(features: NDArray[np.floating], mel: MelConfig) -> NDArray[np.bool_]:
    """Whether log-mel frames [..., bands] have a pitch, [...]; see `voicing_and_pitch`."""
    return voicing_and_pitch(features, mel)[0]


def voicing_and_pitch(
    features: NDArray[np.floating], mel: MelConfig, voiced: float = VOICED
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Whether log-mel frames [..., bands] have a pitch, and their fundamental frequency in Hz; [...] each.

    A frame has a pitch if the peak of its cepstrum exceeds a threshold. The harmonics of a low voice are closer
    together than the bands are wide, so that they make weaker ripples in the features than those of a high voice. The
    threshold of each pitch period is therefore `voiced` times the share of the ripple that the bands leave of it.

    The frequency is that of the vertex of the parabola through the peak and its neighbours, which is finer than whole
    samples (Smith and Serra 1987, "PARSHL: an analysis/synthesis program for non-harmonic sounds"); it is arbitrary for
    frames without a pitch.
    """
    frames, threshold = features.reshape(-1, mel.bands), voiced * mel.power * _resolution(mel)  # [periods]
    found, hertz = np.empty(len(frames), np.bool_), np.empty(len(frames))
    for first in range(0, len(frames), CHUNK):
        part = slice(first, first + CHUNK)
        cepstra = _cepstrum(frames[part], mel)  # [n, periods]
        peaks = cepstra.argmax(-1)
        found[part] = cepstra.max(-1) > threshold[peaks]
        hertz[part] = mel.sample_rate / (mel.pitch_periods[0] + _vertex(cepstra, peaks))
    return found.reshape(features.shape[:-1]), hertz.reshape(features.shape[:-1])


def periodicity(
    features: NDArray[np.floating], hertz: NDArray[np.floating], mel: MelConfig, tolerance: float
) -> NDArray[np.float64]:
    """The largest values [...] of the cepstra of log-mel frames [..., bands] near the periods of frequencies [...].

    Near: within a factor e^tolerance. The values are relative to the share of the ripple that the bands leave, as the
    threshold of `voicing_and_pitch` is; minus infinity for a frequency outside of the range of pitches.
    """
    frames, wanted = features.reshape(-1, mel.bands), np.log(mel.sample_rate / hertz).reshape(-1, 1)
    periods = mel.pitch_periods[0] + np.arange(mel.pitch_periods[1] - mel.pitch_periods[0] + 1)
    largest = np.empty(len(frames))
    for first in range(0, len(frames), CHUNK):
        part = slice(first, first + CHUNK)
        values = _cepstrum(frames[part], mel) / (mel.power * _resolution(mel))  # [n, periods]
        near = np.abs(np.log(periods) - wanted[part]) <= tolerance
        largest[part] = np.where(near, values, -np.inf).max(-1)
    return largest.reshape(features.shape[:-1])


def _vertex(rows: NDArray[np.float64], peaks: NDArray[np.int64]) -> NDArray[np.float64]:
    """The positions [n] of the vertices of the parabolas through the largest values [n] of rows [n, periods].

    They are at most half a period from the largest value; where that is the first or the last of a row, it is returned.
    """
    inside = (peaks > 0) & (peaks < rows.shape[1] - 1)
    index = np.arange(len(rows))
    before, peak, after = (rows[index, np.where(inside, peaks + step, peaks)] for step in (-1, 0, 1))
    curvature = before - 2 * peak + after  # not positive: the peak is the largest
    offset = np.where(curvature < 0, (before - after) / np.where(curvature < 0, 2 * curvature, 1), 0)
    return np.add(peaks, offset, dtype=np.float64)


def adapted_rows(history: NDArray[np.float64], ends: NDArray[np.integer], config: ModelConfig) -> NDArray[np.float64]:
    """Rows [B, n, order + 3] of `PredictorParameters` from the samples of history [B, T] before positions `ends` [n].

    The period is 0: backward-adaptive prediction has no pitch taps.
    """
    order, weights = config.linear_prediction, adaptation_weights(config)
    windows = sliding_window_view(history, len(weights), axis=1)[:, ends - len(weights)] * weights  # [B, n, W]
    power = np.square(np.abs(np.fft.rfft(windows, len(weights) + order)))  # long enough for the lags not to wrap around
    correlation = np.fft.irfft(power, len(weights) + order)[..., : order + 1] / np.square(weights).sum()
    rms = np.sqrt(np.maximum(correlation[..., 0], 0))
    correlation[..., 0] = correlation[..., 0] * (1 + ADAPTATION_NOISE) + MIN_GAIN**2
    coefficients, error = levinson(correlation)
    gain = np.sqrt(np.maximum(error, 0)) + MIN_GAIN
    return np.concatenate([coefficients, np.stack([gain, rms + MIN_GAIN, np.zeros_like(gain)], axis=-1)], axis=-1)


@lru_cache(maxsize=8)
def adaptation_weights(config: ModelConfig) -> NDArray[np.float64]:
    """The window [W] of backward-adaptive prediction, the oldest sample first: a slow rise and a quick fall."""
    fall = round(RECENT_SHARE * config.adaptation_window)
    rise = config.adaptation_window - fall
    return np.sin(np.pi / 2 * np.concatenate([(np.arange(rise) + 0.5) / rise, (np.arange(fall, 0, -1) - 0.5) / fall]))


class PredictorState(NamedTuple):
    """State of a predictor of B streams. Immutable: the arrays are never written to."""

    samples: NDArray[np.float64]  # [B, n]: before the last one, as far back as the predictor reaches, the oldest first
    residuals: NDArray[np.float64]  # [B, n]: as far back as the pitch taps reach, the oldest first
    prediction: NDArray[np.float64]  # [B]: of the next sample
    # Backward-adaptive: the number of the last update, -1 before the first, and its rows [B, order + 3].
    update: int = -1
    rows: NDArray[np.float64] = np.zeros((0, 0))

    @staticmethod
    def zeros(config: ModelConfig, streams: int) -> PredictorState:
        """The state before the first sample."""
        past, residuals = config.prediction_reach - 2, max(config.pitch_reach - 1, 0)
        return PredictorState(np.zeros((streams, past)), np.zeros((streams, residuals)), np.zeros(streams))


class Prediction(NamedTuple):
    """Predictions of T samples of B streams, each from the samples before it."""

    prediction: NDArray[np.float64]  # [B, T], in full scale
    gain: NDArray[np.float64]  # [B, T]: RMS of the residual
    # [B, T, input channels]: the network's inputs. The last sample and the prediction, relative to the RMS; the last
    # residual, and those around one pitch period before the predicted sample, oldest first, relative to the gain.
    # Backward-adaptive: logarithms of RMS and gain instead of the pitch taps, about normalised.
    inputs: NDArray[np.float64]

    def transform(
        self, config: ModelConfig, dtype: type[np.floating]
    ) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """Factors and offsets [B, T, A] that convert output parameters of the residual to those of the sample.

        means: prediction + gain * mean; log scales: log scale + ln gain; logits of mixture components: unchanged.
        """
        channels, components = config.output_channels, config.components
        means = slice(channels - 2 * components, channels - components)
        gain = self.gain[..., None].astype(dtype)
        factors, offsets = np.ones((*self.gain.shape, channels), dtype), np.zeros((*self.gain.shape, channels), dtype)
        factors[..., means], offsets[..., means] = gain, self.prediction[..., None]
        offsets[..., channels - components :] = np.log(gain)
        return factors, offsets


class LinearPredictor:
    """Predicts the samples of B streams, one or many per call. `state` can be kept and assigned to go back."""

    def __init__(self, config: ModelConfig, streams: int) -> None:
        self.config = config
        self.state = PredictorState.zeros(config, streams)
        self._streams = np.arange(streams)[:, None, None]
        self._taps = np.arange(config.pitch_taps)

    def copy(self) -> LinearPredictor:
        """An independent predictor that continues from the same sample."""
        other = LinearPredictor(self.config, len(self.state.prediction))
        other.state = self.state
        return other

    def advance(self, samples: NDArray[np.float64], rows: NDArray[np.float64] | None, position: int = 0) -> Prediction:
        """Append samples [B, T], relative to full scale, and predict the sample after each of them.

        rows [B, T, order + 3]: `predictor_rows` of the frames that contain the predicted samples; None if the predictor
        is backward-adaptive. position: of the first predicted sample in the stream, only used then.
        """
        state, count, taps = self.state, samples.shape[1], len(self._taps)
        history = np.concatenate([state.samples, samples], axis=1)  # [B, n + T]
        if rows is None:
            rows, state = self._adapted(history, count, position)
        coefficients, gain, rms, period = unpack_rows(rows)
        order = coefficients.shape[2]
        windows = _windows(history[:, -(count + order - 1) :], order)  # [B, T, order], the oldest first
        prediction = np.einsum("btk,btk->bt", windows, coefficients[..., ::-1])  # [B, T]
        residual = samples.copy()
        residual[:, 0] -= state.prediction
        residual[:, 1:] -= prediction[:, :-1]
        inputs = np.empty((*samples.shape, self.config.input_channels))
        np.divide(samples, rms, out=inputs[..., 0])
        np.divide(prediction, rms, out=inputs[..., 1])
        np.divide(residual, gain, out=inputs[..., 2])
        residuals = state.residuals
        if taps:
            residuals = np.concatenate([residuals, residual], axis=1)  # [B, n + T]
            # tap 0 is taps // 2 samples further back than a period before the predicted sample, t + 1
            oldest = residuals.shape[1] - count + np.arange(count) + 1 - period.astype(np.int64) - taps // 2  # [B, T]
            past = residuals[self._streams, oldest[..., None] + self._taps]  # [B, T, taps]
            np.divide(past, gain[..., None], out=inputs[..., 3:])
            residuals = residuals[:, count:]
        if self.config.backward_adaptive:
            inputs[..., 3], inputs[..., 4] = (np.log(rms) + 4) / 2, (np.log(gain) + 6) / 2
        np.minimum(np.maximum(inputs, -MAX_INPUT, out=inputs), MAX_INPUT, out=inputs)
        self.state = PredictorState(  # last: complete or unchanged
            history[:, count:], residuals, prediction[:, -1], state.update, state.rows
        )
        return Prediction(prediction, gain, inputs)

    def _adapted(
        self, history: NDArray[np.float64], count: int, position: int
    ) -> tuple[NDArray[np.float64], PredictorState]:
        """Backward-adaptive: the rows [B, T, order + 3] of T = `count` samples, and the state with the last of them.

        history [B, n + T]: the samples before the last of these.
        """
        hop, state = self.config.adaptation_hop, self.state
        updates = np.arange(position, position + count) // hop  # [T]: the number of the last update
        if updates[-1] == state.update:
            rows = state.rows[:, None]
        else:
            ends = np.arange(updates[0], updates[-1] + 1) * hop  # in the stream
            ends += history.shape[1] - count + 1 - position  # in the history
            rows = adapted_rows(history, ends, self.config)  # [B, updates, order + 3]
        return rows[:, updates - updates[-1] - 1], state._replace(update=int(updates[-1]), rows=rows[:, -1])


def predict(
    config: ModelConfig, codes: NDArray[np.integer], features: NDArray[np.floating] | None, first: int
) -> Prediction:
    """Predictions of the sample after each of the 16-bit codes [B, T]; arguments as of `WaveNet.forward`.

    Before the first code there are zeros, and the first code has no residual. So in a crop from the middle of a
    recording, the first `ModelConfig.prediction_reach` positions have an invalid prediction history, which recurs
    through the pitch taps.
    """
    if features is None:
        return _begun(config, codes).advance(codes / np.float64(FULL_SCALE), None, first)
    mel, samples = cast(MelConfig, config.features), codes / np.float64(FULL_SCALE)
    begin, end = first // mel.hop, (first + codes.shape[1] - 1) // mel.hop + 1  # frames
    frames = features[..., begin:end].swapaxes(1, 2)  # [B, F, bands]
    silent = ((0, 0), (0, end - begin - frames.shape[1]), (0, 0))
    rows = predictor_rows(np.pad(frames, silent, constant_values=mel.silence), mel, config.linear_prediction)
    frame = np.arange(first, first + codes.shape[1]) // mel.hop - begin  # [T]
    return _begun(config, codes).advance(samples, rows[:, frame])


def _begun(config: ModelConfig, codes: NDArray[np.integer]) -> LinearPredictor:
    """A predictor before the first of the codes [B, T], which has no residual."""
    predictor = LinearPredictor(config, len(codes))
    predictor.state = predictor.state._replace(prediction=codes[:, 0] / np.float64(FULL_SCALE))
    return predictor


def levinson(correlation: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Predictor coefficients [..., order] for autocorrelations [..., order + 1], and the power of the residuals, [...].

    The Levinson-Durbin recursion (Makhoul 1975, "Linear prediction: a tutorial review", section III).
    """
    order = correlation.shape[-1] - 1
    a = np.zeros((*correlation.shape[:-1], order))
    error = np.maximum(correlation[..., 0], 1e-30)
    for i in range(order):
        predicted = (a[..., :i] * correlation[..., i:0:-1]).sum(-1)
        reflection = (correlation[..., i + 1] - predicted) / error
        a[..., :i] -= reflection[..., None] * a[..., :i][..., ::-1]
        a[..., i] = reflection
        error = error * (1 - reflection**2)
    return a, error


def _windows(history: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """All windows [B, n - size + 1, size] of history [B, n]; fast if there is only one."""
    return history[:, None] if history.shape[1] == size else sliding_window_view(history, size, axis=1)


def _cepstrum(features: NDArray[np.floating], mel: MelConfig) -> NDArray[np.float64]:
    """Cepstra [..., periods] of the low bands of log-mel frames [..., bands], rounded to hide differences of 1e-16."""
    values = features.reshape(-1, mel.bands).astype(np.float64)
    matrix = _cepstrum_matrix(mel)  # [bands, periods]
    return one_thread_product(values, matrix).round(9).reshape(*features.shape[:-1], matrix.shape[1])


@lru_cache(maxsize=8)
def _band_scale(mel: MelConfig) -> NDArray[np.float64]:
    """Factors [bands] from a band's squared sum to the power of the audio per bin of its spectrum."""
    weight = mel_filters(mel).sum(1)
    return np.where(weight > 0, weight, np.inf) ** (-2 / mel.power) / np.square(hann_window(mel.window)).sum()


@lru_cache(maxsize=8)
def _correlation_matrix(mel: MelConfig, order: int) -> NDArray[np.float64]:
    """[bands, order + 1]: from the power in every band to the autocorrelation of the audio."""
    spectrum, bins, lags = _spectrum_matrix(mel), np.arange(mel.fft // 2 + 1), np.arange(order + 1)
    weight = np.where((bins == 0) | (2 * bins == mel.fft), 1, 2) / mel.fft  # both halves of the spectrum
    matrix = np.cos(2 * np.pi * np.outer(lags, bins) / mel.fft) * weight @ spectrum
    matrix *= np.exp(-0.5 * np.square(2 * np.pi * LAG_HERTZ * lags / mel.sample_rate))[:, None]
    matrix[0] *= 1 + WHITE_NOISE
    return np.ascontiguousarray(matrix.T)


@lru_cache(maxsize=8)
def _cepstrum_matrix(mel: MelConfig) -> NDArray[np.float64]:
    """[bands, periods]: from log-mel features to the cepstrum of their low bands at every pitch period."""
    hertz = np.linspace(0, mel.sample_rate / 2, mel.fft // 2 + 1)
    hertz = hertz[hertz < HARMONICS]
    taper = 0.5 + 0.5 * np.cos(np.pi * hertz / HARMONICS)  # falls to zero
    spectrum = _spectrum_matrix(mel)[: len(hertz)]
    ripples = taper[:, None] * (spectrum - taper @ spectrum / taper.sum())  # without the mean
    shortest, longest = mel.pitch_periods
    angles = 2 * np.pi / mel.sample_rate * np.outer(np.arange(shortest, longest + 1), hertz)  # [periods, bins]
    return np.ascontiguousarray((np.cos(angles) @ ripples / taper.sum()).T)


@lru_cache(maxsize=8)
def _resolution(mel: MelConfig) -> NDArray[np.float64]:
    """The share of a spectrum's ripple at each pitch period that the bands leave, relative to the largest, [periods].

    That is the cepstrum, at its own period, of a log spectrum that is a cosine of that period.
    """
    cepstrum, filters = _cepstrum_matrix(mel), mel_filters(mel)
    used = cepstrum.any(axis=1)  # not the bands beyond the harmonics
    means = filters[used] / np.maximum(filters[used].sum(1), 1e-300)[:, None]  # [used, bins]: from bins to means
    shortest, longest = mel.pitch_periods
    ripples = np.fft.rfft(means, mel.fft).real[:, shortest : longest + 1]  # means of the cosines, [used, periods]
    left = np.einsum("bp,bp->p", cepstrum[used], ripples)
    return np.clip(left / left.max(), LEAST_RESOLUTION, 1)


@lru_cache(maxsize=8)
def _spectrum_matrix(mel: MelConfig) -> NDArray[np.float64]:
    """[fft // 2 + 1, bands]: from bands to the bins of a spectrum.

    Linear interpolation between the centres of the bands, constant beyond the outermost ones. Bands without a bin of
    their own (too narrow, at the low end) are left out.
    """
    filters = mel_filters(mel)
    used = filters.sum(1) > 0
    bins = np.arange(filters.shape[1])
    centres = (filters[used] * bins).sum(1) / filters[used].sum(1)
    spectrum = np.zeros((len(bins), mel.bands))
    for column, band in enumerate(np.flatnonzero(used)):
        spectrum[:, band] = np.interp(bins, centres, np.eye(len(centres))[column])
    return spectrum

"""Log-mel spectrograms: the features of conditioned models; their parameters (`MelConfig`) are stored in the model.

    frame:      0         1         2                 frame n holds the samples n hop ... (n + 1) hop - 1,
    audio:  |---hop---|---hop---|---hop---| ...       and its window is centred on them:
          [----window----]                            audio of T samples has ceil(T / hop) frames
                 [----window----]

Beyond its ends the audio is zero. Per frame: a periodic Hann window, the Fourier transform's magnitudes to the power
`power`, triangular mel filters, and the natural logarithm, limited below by `floor`. With suitable parameters these are
the features of Tacotron 2 (Shen et al. 2018, section 2.1) and HiFi-GAN. NumPy only; to float32 rounding the same as
`torchaudio.transforms.MelSpectrogram(center=False)`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from wavenet.config import MelConfig

Real = TypeVar("Real", bound=np.floating[Any])  # one type of floating-point numbers

CHUNK = 500  # frames transformed at a time: bounds the memory for audio of any length
ONE_THREAD = 2**18  # multiply-adds up to which OpenBLAS computes a product in the calling thread


def mel_spectrogram(audio: ArrayLike, config: MelConfig) -> NDArray[np.float32]:
    """Log-mel features [..., bands, ceil(T / hop)] of audio [..., T] in [-1, 1] at the configuration's sample rate.

    Memory beyond the result is bounded. Raises `ValueError` for audio that is empty, not floating point, or not finite.
    """
    samples = np.asarray(audio)
    if samples.ndim == 0 or samples.shape[-1] == 0:
        raise ValueError("the audio is empty: it has no features")
    if not np.issubdtype(samples.dtype, np.floating):
        raise ValueError(
            f"the audio is {samples.dtype}; it must be floating point in [-1, 1]: divide 16-bit samples by 32,768"
        )
    hop, margin, total = config.hop, frame_margin(config), samples.shape[-1]
    frames = -(-total // hop)
    features = np.empty((*samples.shape[:-1], config.bands, frames), np.float32)
    for first in range(0, frames, CHUNK):
        last = min(first + CHUNK, frames)
        start = first * hop - margin  # of the first transform
        stop = start + (last - first - 1) * hop + config.fft
        inside = samples[..., max(start, 0) : stop]
        if not np.isfinite(inside).all():
            raise ValueError("the audio contains NaN or infinity; replace those samples first")
        padding = [(0, 0)] * (samples.ndim - 1) + [(max(-start, 0), max(stop - total, 0))]
        features[..., first:last] = transform(np.pad(inside, padding), config)
    return features


def frame_margin(config: MelConfig) -> int:
    """Samples before a frame's own hop samples that its Fourier transform covers; after them it covers no more."""
    return (config.fft - config.hop + 1) // 2


def window_margin(config: MelConfig) -> int:
    """Samples before a frame's own hop samples that its window covers."""
    return frame_margin(config) - (config.fft - config.window) // 2


def transform(samples: NDArray[np.floating], config: MelConfig) -> NDArray[np.float32]:
    """Log-mel features [..., bands, (T - fft) // hop + 1] of samples [..., T], without padding."""
    before = (config.fft - config.window) // 2  # the window is centred in the transform; outside it is zero
    count = (samples.shape[-1] - config.fft) // config.hop + 1
    rows = sliding_window_view(samples[..., before:], config.window, axis=-1)[..., :: config.hop, :][..., :count, :]
    # Where the zeros are changes only phases: here they all come after the window.
    spectrum = np.abs(np.fft.rfft(rows * _window(config), config.fft))  # [..., frames, bins]
    if config.power != 1:
        spectrum **= config.power
    bands = one_thread_product(spectrum.reshape(-1, spectrum.shape[-1]), _transposed_filters(config))
    bands = bands.reshape(*spectrum.shape[:-1], config.bands)  # [..., frames, bands]
    return np.log(np.maximum(bands, config.floor)).astype(np.float32).swapaxes(-1, -2)


def mel_filters(config: MelConfig) -> NDArray[np.float64]:
    """Triangular mel filters [bands, fft // 2 + 1], as of `torchaudio.functional.melscale_fbanks`.

    Between neighbouring edges, equally spaced on the mel scale, each filter rises to 1 and falls to 0; with `area`
    ("Slaney normalisation") it is divided by half its width in Hz.
    """
    low, high = (_hertz_to_mel(hertz, config.scale) for hertz in (config.low, config.high))
    edges = _mel_to_hertz(np.linspace(low, high, config.bands + 2), config.scale)
    bins = np.linspace(0, config.sample_rate // 2, config.fft // 2 + 1)  # Hz
    rising = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    triangles = np.maximum(0, np.minimum(rising, falling))  # [bands, bins]
    return triangles * (2 / (edges[2:] - edges[:-2]))[:, None] if config.area else triangles


def hann_window(size: int) -> NDArray[np.float64]:
    """The periodic Hann window [size]."""
    return np.hanning(size + 1)[:-1]


def one_thread_product(rows: NDArray[Real], matrix: NDArray[Real]) -> NDArray[Real]:
    """rows [n, in] @ matrix [in, out], in pieces small enough for OpenBLAS to compute them in the calling thread.

    More threads gain nothing in products this small. If other processes use the cores, more threads take several times
    as long, and BLAS threads spin for a while after their work, beside a training step or an engine's own threads.
    """
    step = max(1, ONE_THREAD // matrix.size)
    product = np.empty((len(rows), matrix.shape[1]), matrix.dtype)
    for first in range(0, len(rows), step):
        np.matmul(rows[first : first + step], matrix, out=product[first : first + step])
    return product


@lru_cache(maxsize=8)
def _window(config: MelConfig) -> NDArray[np.float64]:
    return hann_window(config.window)


@lru_cache(maxsize=8)
def _transposed_filters(config: MelConfig) -> NDArray[np.float64]:
    return np.ascontiguousarray(mel_filters(config).T)  # [bins, bands]


def _hertz_to_mel(hertz: float, scale: str) -> float:
    if scale == "htk":
        return float(2595 * np.log10(1 + hertz / 700))
    return float(3 * hertz / 200 if hertz < 1000 else 15 + 27 * np.log(hertz / 1000) / np.log(6.4))


def _mel_to_hertz(mels: NDArray[np.float64], scale: str) -> NDArray[np.float64]:
    if scale == "htk":
        return 700 * (10 ** (mels / 2595) - 1)
    return np.where(mels < 15, 200 * mels / 3, 1000 * np.exp((mels - 15) * np.log(6.4) / 27))

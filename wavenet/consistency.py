"""Make audio consistent with the log-mel features that it was generated from: `refine` and `StreamingRefiner`.

What a network draws sample by sample drifts away from its features, in level first. Refinement corrects that and keeps
the fine structure of the audio, its phases and harmonics. An iteration computes the short-time Fourier transform of the
audio and, in every frame, the gain of each mel band that makes it equal to the feature; it spreads the logarithms of
these gains over the bins, in proportion to the mel filters, and transforms the scaled spectra back. As in the algorithm
of Griffin and Lim (1984, "Signal estimation from modified short-time Fourier transform") overlapping windows do not
agree with each other after that, so that it takes several iterations; as in its fast version (Perraudin, Balazs and
Søndergaard 2013, "A fast Griffin-Lim algorithm") each one begins beyond the last result, in the direction of the last
change. NumPy only.
"""

from __future__ import annotations

import copy
import math
from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from wavenet.checks import is_integer, shown
from wavenet.config import MelConfig
from wavenet.features import hann_window, mel_filters, one_thread_product, window_margin
from wavenet.mel_config import LOOKAHEAD_SECONDS

CHUNK = 256  # frames transformed at a time: bounds the memory for audio of any length
MOMENTUM = 0.9  # share of the last change that is added before the next iteration
MAX_LOG_GAIN = 20.0  # of a band in one iteration, in natural logarithms

Audio = NDArray[np.float32]  # [T]


def refine(audio: ArrayLike, features: ArrayLike, mel: MelConfig, iterations: int) -> Audio:
    """Audio, float32 [T] in [-1, 1], that agrees better with log-mel features than the given audio [T] does.

    features: [bands, N], N >= ceil(T / hop), as of `wavenet.features.mel_spectrogram`; frame 0 begins with the audio.
    iterations: 0 returns the audio as it is.
    Memory beyond a few copies of the audio is bounded. Raises `ValueError` for shapes that do not fit, values that are
    not finite, audio that is not floating-point, and features whose windows overlap by less than half.
    """
    samples = _checked_audio(audio).copy()
    frames = _checked(features, mel, iterations)  # [N, bands]
    count = -(-samples.size // mel.hop)  # frames with a sample of the audio
    if samples.ndim != 1 or count > len(frames):
        raise ValueError(
            f"audio {list(samples.shape)} and {len(frames):,} frames of {mel.hop} samples: the audio must be [T] and "
            "end with the features at the latest"
        )
    if not samples.size or not iterations:
        return samples
    before = window_margin(mel)
    padded = np.zeros((count - 1) * mel.hop + mel.window, np.float32)
    padded[before : before + len(samples)] = samples
    signal = _Signal(padded)
    for _ in range(iterations):
        changed = np.zeros_like(padded)
        for first in range(0, count, CHUNK):
            chunk = frames[first : min(first + CHUNK, count)]
            _add_change(changed, signal.start, first * mel.hop, chunk, mel)
        signal.update(signal.start + changed)
    return np.clip(signal.result[before : before + len(samples)], -1, 1)


class StreamingRefiner:
    """`refine` for audio that arrives block by block: a sample leaves when the `lookahead` samples after it are there.

    While samples are inside they take part in one or more iterations per frame; they share windows with samples that
    have left and do not change any more (Zhu, Beauregard and Wyse 2007, "Real-time signal estimation from modified
    short-time Fourier transform magnitude spectra"). The result does not depend on the sizes of the blocks.
    """

    def __init__(
        self,
        features: ArrayLike,
        mel: MelConfig,
        iterations: int,
        lookahead: float = LOOKAHEAD_SECONDS,
        more: bool = False,
    ) -> None:
        """features: log-mel [bands, N]; frame 0 begins with the first sample.

        iterations: at least as many as each sample takes part in. lookahead: in seconds, rounded to whole frames, at
            least one. more: whether `extend` will append further features; otherwise these limit the look-ahead.
        Raises `ValueError` as `refine` does.
        """
        self._frames, self._mel = _checked(features, mel, iterations), mel  # those that are still needed, of which
        self._first = 0  # is the first one
        if not 0 <= lookahead < math.inf:
            raise ValueError(f"lookahead = {shown(lookahead)}: must be finite seconds from 0")
        frames = lookahead * mel.sample_rate / mel.hop
        self._depth = max(1, round(frames if more else min(frames, len(self._frames))))  # frames inside
        self._per_frame = -(-iterations // self._depth)  # iterations
        self._context = mel.window  # samples kept that have left
        self._signal = _Signal(np.zeros(self._context, np.float32))
        self._incomplete = np.zeros(0, np.float32)  # the samples of a frame that has not arrived completely
        self._entered = 0  # frames
        self._left = 0  # frames
        self._finished = False

    def copy(self) -> StreamingRefiner:
        """An independent refiner that continues from the same sample."""
        other = copy.copy(self)  # arrays are replaced, never written to
        other._signal = copy.copy(self._signal)
        return other

    @property
    def lookahead(self) -> int:
        """Samples that must follow a sample before it leaves, if the blocks are whole frames."""
        return self._depth * self._mel.hop

    def extend(self, features: ArrayLike) -> None:
        """Append features [bands, n]. Raises `ValueError` as `refine` does."""
        self._frames = np.concatenate([self._frames, _checked(features, self._mel, 0)])

    def push(self, audio: ArrayLike) -> Audio:
        """Add samples [n]; returns those that leave, [m].

        Raises `ValueError` beyond the end of the features, after `finish`, and as `refine` does.
        """
        if self._finished:
            raise ValueError("the refiner is finished: create another one")
        hop = self._mel.hop
        samples = np.concatenate([self._incomplete, _checked_audio(audio)])
        known = self._first + len(self._frames)
        if len(samples) > (known - self._entered) * hop:
            raise ValueError(f"there is more audio than features, which last for {known * hop:,} samples")
        whole = len(samples) // hop * hop
        self._incomplete = samples[whole:]
        return np.concatenate([samples[:0], *(self._enter(frame) for frame in samples[:whole].reshape(-1, hop))])

    def finish(self) -> Audio:
        """The samples that are still inside, [m]. Nothing can be added after that. Raises `ValueError` if repeated."""
        if self._finished:
            raise ValueError("the refiner is finished: create another one")
        self._finished, hop = True, self._mel.hop
        inside = (self._entered - self._left) * hop + len(self._incomplete)
        silence = np.zeros(-len(self._incomplete) % hop + self.lookahead, np.float32)
        rest = np.concatenate([self._incomplete, silence]).reshape(-1, hop)
        self._incomplete = silence[:0]
        return np.concatenate([silence[:0], *(self._enter(frame) for frame in rest)])[:inside]

    def _enter(self, samples: Audio) -> Audio:
        """Add a frame's samples [hop]; returns those of the frame that leaves: [hop], or [0] at the beginning."""
        mel, signal = self._mel, self._signal
        signal.append(samples)
        self._entered += 1
        inside = self._left * mel.hop, self._entered * mel.hop
        first, frames = _windows_inside(*inside, self._frames, mel, self._first)
        _iterate(signal, self._context, first - inside[0] + self._context, frames, mel, self._per_frame)
        if self._entered - self._left <= self._depth:
            return samples[:0]
        leaving = signal.result[self._context : self._context + mel.hop]
        signal.drop(mel.hop)
        signal.hold(self._context)
        self._left += 1
        needed = max(_first_window(self._left * mel.hop, mel), self._first)
        self._frames, self._first = self._frames[needed - self._first :], needed
        return np.clip(leaving, -1, 1)


class BlockRefiner:
    """`refine` for a block of audio after a past that does not change. Windows that end after the block are ignored."""

    def __init__(self, features: ArrayLike, mel: MelConfig, iterations: int) -> None:
        """features: log-mel [bands, N]. Raises `ValueError` as `refine` does."""
        self._frames, self._mel, self._iterations = _checked(features, mel, iterations), mel, iterations

    @property
    def past(self) -> int:
        """Number of samples before a block that it takes."""
        return self._mel.window

    @property
    def tail(self) -> int:
        """Samples after a frame's own ones that its window covers."""
        return max(0, self._mel.window - window_margin(self._mel) - self._mel.hop)

    def __call__(self, past: Audio, block: Audio, position: int) -> tuple[Audio, float]:
        """The refined block, float32 [n] in [-1, 1], and its mean distance to the features, in natural logarithms.

        past: the `past` samples before the block, zeros before frame 0. position: of the block's first sample, from
        that of frame 0 on. Without a complete window the block is returned as it is, at a distance of 0.
        """
        mel, begin = self._mel, position - self.past
        signal = _Signal(np.concatenate([past, block]))
        first, frames = _windows_inside(position, position + len(block), self._frames, mel)
        _iterate(signal, self.past, first - begin, frames, mel, self._iterations)
        refined = np.clip(signal.result, -1, 1)
        distance = 0.0
        if len(frames):
            distance = float(np.abs(_spectra(refined, first - begin, frames, mel)[1]).mean())
        return refined[self.past :], distance


class _Signal:
    """Audio between two iterations: the last `result` [T], and the `start` [T] of the next iteration."""

    def __init__(self, audio: Audio) -> None:
        self.result, self.start = audio, audio

    def update(self, result: Audio) -> None:
        """Take the result of an iteration, and extrapolate the change from the last one."""
        self.start = result + np.float32(MOMENTUM) * (result - self.result)
        self.result = result

    def append(self, audio: Audio) -> None:
        """Append samples [n]."""
        self.result, self.start = np.concatenate([self.result, audio]), np.concatenate([self.start, audio])

    def hold(self, samples: int) -> None:
        """Extrapolate the first samples no further: they stay as the last iteration made them."""
        self.start = np.concatenate([self.result[:samples], self.start[samples:]])

    def drop(self, samples: int) -> None:
        """Remove the first samples."""
        self.result, self.start = self.result[samples:], self.start[samples:]


def _checked(features: ArrayLike, mel: MelConfig, iterations: int) -> NDArray[np.float32]:
    """Features [bands, N] as frames [N, bands]. Raises `ValueError` as `refine` does."""
    array = np.asarray(features, np.float32)
    if array.ndim != 2 or len(array) != mel.bands:
        raise ValueError(f"features must be [{mel.bands}, frames], not {list(array.shape)}")
    if not np.isfinite(array).all():
        raise ValueError("features: contain NaN or infinite values")
    if not is_integer(iterations) or iterations < 0:
        raise ValueError(f"iterations = {shown(iterations)}: must be a whole number from 0")
    if iterations and not mel.can_refine:
        raise ValueError(
            f"refinement needs windows that overlap by half; these have {mel.window} samples and begin every {mel.hop}"
        )
    return np.ascontiguousarray(array.T)


def _checked_audio(audio: ArrayLike) -> Audio:
    """Samples [T] as float32. Raises `ValueError` as `refine` does."""
    samples = np.asarray(audio)
    if samples.size and not np.issubdtype(samples.dtype, np.floating):
        raise ValueError(f"audio: must be floating-point samples in [-1, 1], not {samples.dtype}")
    if not np.isfinite(samples).all():
        raise ValueError("audio: contains NaN or infinite values")
    return samples.astype(np.float32, copy=False)


def _windows_inside(
    begin: int, end: int, frames: NDArray[np.float32], mel: MelConfig, first_frame: int = 0
) -> tuple[int, NDArray[np.float32]]:
    """Of the windows that end by sample `end`, those that contain samples from `begin` on.

    frames [N, bands]: the targets of all windows from `first_frame` on.
    Returns the first sample of the first one, and their targets [n, bands].
    """
    before = window_margin(mel)
    first = _first_window(begin, mel)
    last = (end + before - mel.window) // mel.hop
    return first * mel.hop - before, frames[first - first_frame : max(first, last + 1) - first_frame]


def _first_window(position: int, mel: MelConfig) -> int:
    """The first window that contains the sample at `position` or later ones."""
    return max((position + window_margin(mel) - mel.window) // mel.hop + 1, 0)


def _iterate(
    signal: _Signal, fixed: int, start: int, frames: NDArray[np.float32], mel: MelConfig, iterations: int
) -> None:
    """Change a signal after its first `fixed` samples; frames and start as of `_add_change`."""
    if not len(frames):
        return
    for _ in range(iterations):
        changed = np.zeros_like(signal.start)
        _add_change(changed, signal.start, start, frames, mel)
        changed[:fixed] = 0
        signal.update(signal.start + changed)


def _add_change(total: Audio, samples: Audio, start: int, frames: NDArray[np.float32], mel: MelConfig) -> None:
    """Add what an iteration changes in samples [T] to `total` [T], for windows of which the first begins at `start`.

    frames: the log-mel target [n, bands] of each window. A window that is not among these does not ask for a change.
    """
    spectrum, log_gains = _spectra(samples, start, frames, mel)
    log_gains = np.clip(log_gains, -MAX_LOG_GAIN, MAX_LOG_GAIN)
    spectrum *= np.expm1(one_thread_product(log_gains, _filters(mel)[1]))  # [n, bins]: the change of the spectrum
    change = np.fft.irfft(spectrum, mel.fft)[:, : mel.window] * _synthesis_window(mel)  # [n, window]
    blocks = -(-mel.window // mel.hop)
    padded = np.zeros((len(frames), blocks * mel.hop), np.float32)
    padded[:, : mel.window] = change
    added = np.zeros((len(frames) + blocks - 1, mel.hop), np.float32)
    for block in range(blocks):
        added[block : block + len(frames)] += padded[:, block * mel.hop : (block + 1) * mel.hop]
    length = (len(frames) - 1) * mel.hop + mel.window
    total[start : start + length] += added.ravel()[:length]


def _spectra(
    samples: Audio, start: int, frames: NDArray[np.float32], mel: MelConfig
) -> tuple[NDArray[np.complexfloating], NDArray[np.float32]]:
    """Spectra [n, bins] of the windows, and the logarithms [n, bands] of the gains that their bands need.

    Arguments as of `_add_change`.
    """
    span = samples[start : start + (len(frames) - 1) * mel.hop + mel.window]
    windows = sliding_window_view(span, mel.window)[:: mel.hop] * _window(mel)  # [n, window]
    spectrum = np.fft.rfft(windows, mel.fft)  # [n, bins]
    magnitude = np.abs(spectrum)
    bands = one_thread_product(magnitude**mel.power if mel.power != 1 else magnitude, _filters(mel)[0])  # [n, bands]
    return spectrum, (frames - np.log(np.maximum(bands, mel.floor))) / mel.power


@lru_cache(maxsize=8)
def _window(mel: MelConfig) -> NDArray[np.float32]:
    return hann_window(mel.window).astype(np.float32)


@lru_cache(maxsize=8)
def _synthesis_window(mel: MelConfig) -> NDArray[np.float32]:
    """The analysis window [window], divided by the sum of the squares of all windows that overlap."""
    window = hann_window(mel.window)
    padded = np.zeros(-(-mel.window // mel.hop) * mel.hop)
    padded[: mel.window] = np.square(window)
    total = np.resize(padded.reshape(-1, mel.hop).sum(axis=0), mel.window)  # of period hop
    return (window / total).astype(np.float32)


@lru_cache(maxsize=8)
def _filters(mel: MelConfig) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The mel filters [bins, bands]; and [bands, bins], which spreads values of bands over bins as a weighted mean.

    The weights are the filters with a peak of 1. Bins outside all filters get 0: their spectrum is not changed.
    """
    filters = mel_filters(mel)  # [bands, bins]
    peaks = filters / np.maximum(filters.max(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    spread = peaks / np.maximum(peaks.sum(axis=0), 1e-9)
    return np.ascontiguousarray(filters.T, np.float32), np.ascontiguousarray(spread, np.float32)

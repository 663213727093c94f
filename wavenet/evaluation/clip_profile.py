"""What a picture shows of a recording of any length: waveform, spectrogram, level and pitch, in bounded memory.

Recordings are read at their own sample rate and piece by piece. Waveform and spectrogram are in columns of 2.5 ms at
first; whenever there are `MOST_COLUMNS`, every two become one. Columns of a piece are a power of two, so that all are
of the same duration, up to recordings of a day.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from wavenet.data import audio
from wavenet.data.errors import AnyPath, AudioError
from wavenet.evaluation.signals import Signal
from wavenet.evaluation.voice_figures import PITCH_STEP
from wavenet.sampling_config import SILENT_DBFS

COLUMN_SECONDS = 0.0025  # of waveform and spectrogram, at first
COLUMNS_PER_FRAME = 8  # of level and pitch: 20 ms
PIECE_FRAMES = 512  # read at once: 10.24 s, 4,096 columns
MOST_COLUMNS = 8_192
WINDOW_SECONDS = 0.032
ROWS = 200  # of a spectrogram, at most
LOWEST_PITCH_RATE, HIGHEST_PITCH_RATE = 8_000, 16_000  # Hz; audio is resampled to these for the pitch

Progress = Callable[[int, int], None]  # called with the number of samples done, and of all samples as far as known


@dataclass
class ClipProfile:
    """Waveform, spectrogram, level and pitch of a recording, and figures of all of it."""

    name: str
    sample_rate: int
    samples: int = 0
    low: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))  # of the samples of each column
    high: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))
    power: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), np.float32))  # [columns, rows]
    column: int = 0  # samples in each column
    levels: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))  # mean power of each frame of 20 ms
    pitch: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))  # Hz, of each frame; NaN: unvoiced
    frame: int = 0  # samples in each frame

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.samples / self.sample_rate

    @property
    def decibels(self) -> NDArray[np.float32]:
        """The spectrogram in dB relative to a full-scale sine, [rows, columns]: 0 Hz to half the sample rate."""
        return 10 * np.log10(np.maximum(self.power.T, 1e-20))

    @property
    def frame_levels(self) -> NDArray[np.float64]:
        """RMS of each frame in dBFS; minus infinity for digital silence."""
        with np.errstate(divide="ignore"):
            return 10 * np.log10(self.levels)

    @property
    def text(self) -> str:
        """Length, levels, silent and voiced shares, and median pitch, on one line."""
        peak = max(float(self.high.max()), -float(self.low.min()))
        power = float(self.levels @ self._frame_lengths) / self.samples
        levels = f"peak {_dbfs(peak * peak)}, RMS {_dbfs(power)}" if peak else "digital silence"
        silent = float((self.levels < 10 ** (SILENT_DBFS / 10)).mean())
        voiced = np.isfinite(self.pitch)
        median = f", median pitch {np.median(self.pitch[voiced]):.0f} Hz" if voiced.any() else ""
        shares = f"{silent:.0%} silent, {voiced.mean():.0%} voiced{median}"
        return f"{self.seconds:.1f} s at {self.sample_rate:,} Hz, {levels}, {shares}"

    @property
    def _frame_lengths(self) -> NDArray[np.float64]:
        """Samples in each frame: the last one may be shorter."""
        lengths = np.full(len(self.levels), float(self.frame))
        lengths[-1] = self.samples - self.frame * (len(self.levels) - 1)
        return lengths


def _dbfs(power: float) -> str:
    return f"{10 * math.log10(power):.1f} dBFS"


def profile(path: AnyPath, progress: Progress | None = None) -> ClipProfile:
    """The profile of a recording in any format and of any length. Raises `AudioError` as `wavenet.data.audio.read`."""
    sample_rate, stated = audio.stated_length(path)
    hop = max(1, round(COLUMN_SECONDS * sample_rate))
    clip = ClipProfile(Path(path).name, sample_rate, column=hop, frame=hop * COLUMNS_PER_FRAME)
    window = max(hop, round(WINDOW_SECONDS * sample_rate))
    before = np.zeros((window - hop) // 2, np.float32)  # so that a window is centred on its column
    levels, pitches = [], []
    columns = _Columns(hop)
    pieces = _pieces(path, sample_rate, clip.frame * PIECE_FRAMES)
    piece = next(pieces, None)
    if piece is None:
        raise AudioError(path, "no samples")
    while piece is not None:
        following = next(pieces, None)
        after = np.zeros(window, np.float32) if following is None else following[:window]
        columns.add(piece, _spectra(before, piece, after, window, hop))
        levels.append(_mean_power(piece, clip.frame))
        pitches.append(_pitch(piece, sample_rate, len(levels[-1])))
        clip.samples += len(piece)
        if progress:
            progress(clip.samples, max(stated, clip.samples))
        before, piece = piece[-len(before) :] if len(before) else before, following
    clip.low, clip.high, clip.power, clip.column = columns.low, columns.high, columns.power, columns.size
    clip.levels, clip.pitch = np.concatenate(levels), np.concatenate(pitches)
    return clip


def _pieces(path: AnyPath, sample_rate: int, size: int) -> Iterator[NDArray[np.float32]]:
    """The recording [samples] in pieces of a size; the last one may be shorter."""
    waiting: list[NDArray[np.float32]] = []
    count = 0
    for block in audio.blocks(path, sample_rate):
        waiting.append(block)
        count += len(block)
        if count < size:
            continue
        joined = np.concatenate(waiting)
        for start in range(0, count - size + 1, size):
            yield joined[start : start + size]
        waiting = [joined[count // size * size :]]
        count %= size
    if count:
        yield np.concatenate(waiting)


def _spectra(
    before: NDArray[np.float32], piece: NDArray[np.float32], after: NDArray[np.float32], window: int, hop: int
) -> NDArray[np.float32]:
    """Power spectra [columns, rows] of the columns of a piece, with the samples around it, relative to a sine of 1."""
    columns = -(-len(piece) // hop)
    around = np.concatenate([before, piece, after, np.zeros(window, np.float32)])
    frames = sliding_window_view(around, window)[: columns * hop : hop]  # [columns, window]
    shape = np.hanning(window + 1)[:-1].astype(np.float32) if window > 2 else np.ones(window, np.float32)
    edges = _row_edges(window // 2 + 1)
    spectra = []
    for start in range(0, columns, 256):  # bounds the memory
        bins = np.abs(np.fft.rfft(frames[start : start + 256] * shape)) / (shape.sum() / 2)  # [columns, bins]
        spectra.append(np.square(np.maximum.reduceat(bins, edges, axis=1)))  # of several bins the loudest: a sine stays
    return np.concatenate(spectra).astype(np.float32)


def _row_edges(bins: int) -> NDArray[np.int64]:
    """The first bin of each row."""
    return np.linspace(0, bins, min(ROWS, bins) + 1).astype(np.int64)[:-1]


def _mean_power(piece: NDArray[np.float32], frame: int) -> NDArray[np.float64]:
    """Mean power of each frame; the last one may be shorter."""
    starts = np.arange(0, len(piece), frame)
    lengths = np.diff([*starts, len(piece)])
    return np.add.reduceat(np.square(piece, dtype=np.float64), starts) / lengths


def _pitch(piece: NDArray[np.float32], sample_rate: int, frames: int) -> NDArray[np.float64]:
    """Pitch in Hz of so many frames; NaN: unvoiced."""
    signal = Signal(piece, sample_rate, COLUMN_SECONDS * COLUMNS_PER_FRAME, PITCH_STEP)
    target = min(max(sample_rate, LOWEST_PITCH_RATE), HIGHEST_PITCH_RATE)
    if target != sample_rate and not signal.empty:
        signal = Signal(signal.resampled(target), target, signal.hop_seconds, PITCH_STEP)
    pitch = np.full(frames, np.nan)
    found = signal.pitch[:frames]
    pitch[: len(found)] = found
    return pitch


class _Columns:
    """Columns of waveform and spectrogram, of which there never are more than `MOST_COLUMNS` and those of a piece."""

    def __init__(self, size: int) -> None:
        self.size = self.hop = size  # samples in each column, now and of those that are added
        self.low, self.high = np.empty(0, np.float32), np.empty(0, np.float32)  # [columns]
        self.power = np.empty((0, 0), np.float32)  # [columns, rows]
        self._waiting: list[tuple[NDArray[np.float32], ...]] = []

    def add(self, piece: NDArray[np.float32], power: NDArray[np.float32]) -> None:
        """Add the columns of a piece [samples] with their spectra [columns, rows]."""
        starts = np.arange(0, len(piece), self.hop)
        low, high = np.minimum.reduceat(piece, starts), np.maximum.reduceat(piece, starts)
        factor = self.size // self.hop
        low, high, power = _merged(low, high, power, factor)
        self.low, self.high = np.concatenate([self.low, low]), np.concatenate([self.high, high])
        self.power = np.concatenate([self.power, power]) if len(self.power) else power
        while len(self.low) >= MOST_COLUMNS:
            self.size *= 2
            self.low, self.high, self.power = _merged(self.low, self.high, self.power, 2)


def _merged(
    low: NDArray[np.float32], high: NDArray[np.float32], power: NDArray[np.float32], factor: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Every `factor` columns as one; the last one may be of fewer."""
    if factor == 1:
        return low, high, power
    starts = np.arange(0, len(low), factor)
    counts = np.diff([*starts, len(low)])[:, None]
    return (
        np.minimum.reduceat(low, starts),
        np.maximum.reduceat(high, starts),
        (np.add.reduceat(power, starts, axis=0) / counts).astype(np.float32),
    )

"""Levels of recordings, and the gains that make them equally loud (`data.loudness`).

The level of a recording is the RMS of its active frames in dB relative to full scale: 0 dBFS is a constant 1.0, and a
sine of amplitude 1.0 has -3 dBFS. Similar to the gating of ITU-R BS.1770, but without its frequency weighting, frames
below -70 dBFS are left out first, then those 20 dB below the mean power of the others. So pauses do not count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wavenet.config import RecordedLevels
from wavenet.data.cache import Cache, Level
from wavenet.data.cached_samples import Samples
from wavenet.data.clips import Clips
from wavenet.data.pcm import FULL_SCALE, to_float32
from wavenet.data.table import NOT_MEASURED, RecordingTable
from wavenet.sampling_config import SILENT_DBFS

FRAME_SECONDS = 0.02
SILENCE_POWER = 1e-7  # -70 dBFS
ACTIVE_SHARE = 1e-2  # of the mean power: -20 dB
PIECE_FRAMES = 500  # read at a time: 10 seconds
STORED_TOGETHER = 1_000  # levels
RECORDED_SECONDS, CLIP_SECONDS = 600.0, 60.0  # of recordings whose levels are stored, of each voice and clip, at most


def measure_levels(cache: Cache, samples: Samples, recordings: RecordingTable, sample_rate: int) -> None:
    """Complete the levels in a table: those that the cache lacks are measured, and stored there, too."""
    rows = recordings.rows
    measured: dict[bytes, Level] = {}  # not stored yet
    try:
        for i in np.flatnonzero(rows["peak"] == NOT_MEASURED):
            key = rows["key"][i].tobytes()
            if key not in measured:
                measured[key] = measure(samples, int(rows["offset"][i]), int(rows["length"][i]), sample_rate)
            rows["dbfs"][i], rows["peak"][i] = measured[key]
            if len(measured) == STORED_TOGETHER:
                cache.add_levels(measured)
                measured = {}
    finally:  # after an interruption, too
        cache.add_levels(measured)


def measure(samples: NDArray[np.int16] | Samples, offset: int, length: int, sample_rate: int) -> Level:
    """The level of `length` samples from `offset` on, read twice in pieces: memory does not grow with the length."""
    frame = max(1, round(FRAME_SECONDS * sample_rate))
    power, peak = _mean_power(samples, offset, length, frame, SILENCE_POWER)
    power, _ = _mean_power(samples, offset, length, frame, max(SILENCE_POWER, ACTIVE_SHARE * power))
    return Level(10 * math.log10(power) if power else -math.inf, peak)


def gain(level: Level, loudness: float) -> float:
    """The factor that sets a recording to `loudness` dBFS, or to less if its peak would be clipped; 1 for silence."""
    if level.dbfs == -math.inf:
        return 1.0
    return min(10 ** ((loudness - level.dbfs) / 20), (FULL_SCALE - 1) / level.peak)


def gains_of(rows: NDArray[Any], loudness: float) -> NDArray[np.float64]:
    """`gain` of each row of a table of recordings, float64 [n]."""
    levels = (Level(float(dbfs), int(peak)) for dbfs, peak in zip(rows["dbfs"], rows["peak"], strict=True))
    return np.fromiter((gain(level, loudness) for level in levels), np.float64, len(rows))


def recorded_levels(clips: Clips, speakers: Sequence[str] = (), gain_db: float = 0.0) -> RecordedLevels | None:
    """The levels of recordings, as they are after a gain; None if all are silent. Of many, every n-th is measured.

    speakers: those of the model; one without recordings, or silent ones, has the levels of all. Empty: one voice.
    """
    frame, most = max(1, round(FRAME_SECONDS * clips.sample_rate)), round(CLIP_SECONDS * clips.sample_rate)
    powers: list[NDArray[np.float64]] = []  # of the frames of each voice
    for name in speakers or ("",):
        own = clips.of_speaker(name) if speakers else np.arange(len(clips))
        seconds = float(np.minimum(clips.lengths[own], most).sum()) / clips.sample_rate
        of_voice = [np.zeros(0)]
        for clip in own[:: math.ceil(seconds / RECORDED_SECONDS) or 1].tolist():
            samples = to_float32(clips.clip(clip, 0, most))
            whole = samples[: len(samples) // frame * frame].reshape(-1, frame)
            of_voice.append(np.square(whole, dtype=np.float64).mean(axis=1) * 10 ** (gain_db / 10))
        powers.append(np.concatenate(of_voice))
    loud = [power[power > 10 ** (SILENT_DBFS / 10)] for power in powers]
    if not any(map(len, loud)):
        return None
    everything = np.concatenate(powers), np.concatenate(loud)
    pairs = [(own, own_loud) if len(own_loud) else everything for own, own_loud in zip(powers, loud, strict=True)]
    return RecordedLevels(
        tuple(round(min(10 * math.log10(own_loud.mean()), 0.0), 1) for _, own_loud in pairs),
        tuple(round(1 - len(own_loud) / len(own), 3) for own, own_loud in pairs),
    )


def _mean_power(
    samples: NDArray[np.int16] | Samples, offset: int, length: int, frame: int, gate: float
) -> tuple[float, int]:
    """Mean power of the frames that have more than `gate`, 0 if none has; and the peak of all, in 16-bit steps."""
    energy, active, peak = 0.0, 0, 0  # `active`: number of samples
    for start in range(offset, offset + length, PIECE_FRAMES * frame):
        piece = samples[start : min(start + PIECE_FRAMES * frame, offset + length)]
        peak = max(peak, int(piece.max()), -int(piece.min()))
        starts = np.arange(0, len(piece), frame)
        sizes = np.diff(starts, append=len(piece))  # the last frame may be shorter
        energies = np.add.reduceat(np.square(to_float32(piece), dtype=np.float64), starts)
        loud = energies > gate * sizes
        energy, active = energy + float(energies[loud].sum()), active + int(sizes[loud].sum())
    return (energy / active if active else 0.0), peak

"""What a validation means, in words: what the generated clip sounds like, and whether more training is worthwhile.

The words follow from the figures of the clip and of recordings, and from the validations so far, by fixed rules.
They do not judge meaning: "speaks" says that the clip is like the recordings in level, pauses and pitch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from wavenet.evaluation.voice_figures import VoiceFigures

SHORTEST = 1.0  # seconds of a clip that is judged
VOICED_POINTS, SILENT_POINTS = 15.0, 10.0  # tolerances, in percentage points
LEVEL_DB, PITCH_SEMITONES = 3.0, 1.5
NOISE_SHARE = 1 / 3  # of the recordings' voiced share: with less, a clip is noise
MOSTLY_SILENT = 0.9  # share of silent frames from which a clip counts as silent

SPEAKS, MURMURS, NOISE, SILENT = "speaks", "murmurs", "still noise", "silent"
ALIKE, UNLIKE = "level and pauses as in the recordings", "differs from the recordings"
IMPROVING, FLAT, OVERFITTING = "improving", "flat", "over-fitting"

DOUBLINGS = 2.0  # of the training time, before the last validation, whose validations tell the trend


class Unit(NamedTuple):
    """The unit of a loss, and which differences of it matter."""

    name: str
    worthwhile: float  # saved by as many more minutes as were trained so far; with less, the trend is flat
    overfitting: float  # above the best validation


BITS = Unit("bits", worthwhile=0.01, overfitting=0.02)  # per sample
NATS = Unit("nats per frame", worthwhile=0.1, overfitting=0.2)


@dataclass(frozen=True)
class Sound:
    """What a clip sounds like, in one of the words above; differences: of a clip that is neither noise nor silence."""

    words: str
    differences: tuple[str, ...] = ()


@dataclass(frozen=True)
class Point:
    """A validation: minutes trained so far, the loss of held-out recordings, and that of the training crops before it.

    Both losses are in bits per sample, or those of a frame model in nats per frame.
    """

    minutes: float
    loss: float
    training_loss: float


@dataclass(frozen=True)
class Trend:
    """Whether training helps; words: one of those above, or "" if it cannot be told.

    more_minutes: as many as were trained so far if they are worthwhile, otherwise 0. saved: what they save at most, in
    `unit`: if the loss keeps falling by the same amount with each doubling of the time.
    """

    words: str = ""
    more_minutes: float = 0.0
    saved: float = 0.0
    unit: str = BITS.name


@dataclass(frozen=True)
class Verdict:
    """A validation in words. text: all of it in one line; empty if nothing can be told yet.

    clip, recordings: the figures of the clip and of recordings; None if there are none. note: what went wrong.
    """

    text: str = ""
    clip: VoiceFigures | None = None
    recordings: VoiceFigures | None = None
    sound: Sound | None = None
    trend: Trend = Trend()
    note: str = ""


def sound_of(clip: VoiceFigures, recordings: VoiceFigures) -> Sound | None:
    """Words for a clip, judged by the figures of recordings. None for a clip that is too short to tell."""
    if clip.seconds < SHORTEST:
        return None
    if clip.silent >= MOSTLY_SILENT > recordings.silent:
        return Sound(SILENT)
    if recordings.tonal and clip.voiced < NOISE_SHARE * recordings.voiced:
        return Sound(NOISE)
    differences = differences_of(clip, recordings)
    if recordings.like_speech:
        return Sound(MURMURS if differences else SPEAKS, differences)
    return Sound(UNLIKE if differences else ALIKE, differences)


def differences_of(clip: VoiceFigures, recordings: VoiceFigures) -> tuple[str, ...]:
    """The differences beyond the tolerances, in words. The pitch is compared in speech only: melodies differ."""
    found = []
    level = clip.level - recordings.level
    if math.isfinite(recordings.level) and abs(level) > LEVEL_DB:
        found.append(_difference(level, "dB", "too loud", "too quiet") if math.isfinite(level) else "silent")
    voiced = 100 * (clip.voiced - recordings.voiced)
    if abs(voiced) > VOICED_POINTS:
        found.append(_difference(voiced, "points", "too much voiced", "too little voiced"))
    silent = 100 * (clip.silent - recordings.silent)
    if abs(silent) > SILENT_POINTS:
        found.append(_difference(silent, "points", "too much silence", "too little silence"))
    semitones = 12 * math.log2(clip.pitch / recordings.pitch)  # NaN where one of them has no pitch
    if recordings.like_speech and abs(semitones) > PITCH_SEMITONES:
        found.append(_difference(semitones, "semitones", "too high", "too low"))
    return tuple(found)


def trend_of(history: Sequence[Point], unit: Unit = BITS) -> Trend:
    """The trend at the last of the validations, in their order.

    Over-fitting: held-out recordings cost more than at the best validation, though the training crops cost less. Flat:
    another validation was better. Otherwise the loss is fitted by a - b log2(minutes) over the last two doublings of
    the time, two validations at least: as many minutes again then save b at most. Of b came, in eight runs, all in one,
    a quarter to two thirds in four, and nothing in three: curves bend, and those of small folders rise again.
    """
    points = [point for point in history if math.isfinite(point.loss) and point.minutes > 0]
    if len(points) < 2:
        return Trend()
    last, best = points[-1], min(points, key=lambda point: point.loss)
    if last.loss >= best.loss + unit.overfitting and last.training_loss < best.training_loss:
        return Trend(OVERFITTING, unit=unit.name)
    if last.loss > best.loss:
        return Trend(FLAT, unit=unit.name)
    fitted = [point for point in points if point.minutes >= last.minutes / 2**DOUBLINGS]
    saved = _saved_by_doubling(fitted if len(fitted) > 1 else points[-2:])
    if saved < unit.worthwhile:
        return Trend(FLAT, unit=unit.name)
    return Trend(IMPROVING, last.minutes, saved, unit.name)


def verdict_of(
    clip: VoiceFigures | None,
    recordings: VoiceFigures | None,
    history: Sequence[Point],
    ended: bool = True,
    note: str = "",
    unit: Unit = BITS,
) -> Verdict:
    """The verdict on a clip beside recordings, None if they were not measured, and on the validations so far.

    unit: of their losses.
    ended: whether the budget is spent. Until then the falling learning rate can still help a flat curve.
    """
    sound = sound_of(clip, recordings) if clip and recordings else None
    trend = trend_of(history, unit)
    words = "; ".join(filter(None, (_sound_text(sound), _trend_text(trend, ended))))
    if clip and recordings:
        words = ": ".join(filter(None, (f"clip: {_clip_text(clip, recordings)}", words)))
    return Verdict(words, clip, recordings, sound, trend, note)


def _clip_text(clip: VoiceFigures, recordings: VoiceFigures) -> str:
    """The figures of a clip beside those of the recordings."""
    level, voiced, silent, pitch = _figures(clip)
    beside = ", ".join(_figures(recordings))
    return f"{level} dBFS, {voiced} voiced, {silent} silent, pitch {pitch} (recordings: {beside})"


def _sound_text(sound: Sound | None) -> str:
    return "" if sound is None else ": ".join(filter(None, (sound.words, ", ".join(sound.differences))))


def _trend_text(trend: Trend, ended: bool) -> str:
    if trend.words == FLAT and not ended:
        return f"{FLAT} so far"
    if trend.words != IMPROVING:
        return f"{trend.words}, more minutes are not worthwhile" if trend.words else ""
    minutes = f"{max(1, round(trend.more_minutes)):,}"
    return f"{IMPROVING}, {minutes} more minutes may save up to {trend.saved:.2f} {trend.unit}"


def _figures(figures: VoiceFigures) -> tuple[str, str, str, str]:
    """Level, voiced share, silent share and pitch."""
    pitch = "none" if math.isnan(figures.pitch) else f"{figures.pitch:.0f} Hz"
    return f"{figures.level:.0f}", f"{figures.voiced:.0%}", f"{figures.silent:.0%}", pitch


def _difference(value: float, unit: str, above: str, below: str) -> str:
    shown = f"{abs(value):.1f}" if abs(value) < 10 and unit == "semitones" else f"{abs(value):.0f}"
    return f"{shown} {unit} {above if value > 0 else below}"


def _saved_by_doubling(points: Sequence[Point]) -> float:
    """By how much the least-squares line through the losses falls per doubling of the minutes."""
    doublings = np.log2([point.minutes for point in points])
    if np.ptp(doublings) == 0:
        return 0.0
    return -float(np.polyfit(doublings, [point.loss for point in points], 1)[0])

"""The words of a verdict, by its table of tolerances, and the trend of made-up and of real training curves."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest

from wavenet.evaluation.verdict import Point, Sound, Trend, Verdict, sound_of, trend_of, verdict_of
from wavenet.evaluation.voice_figures import VoiceFigures

MADE = Path(__file__).parents[1] / "samples" / "made"
VOICE = VoiceFigures(seconds=60, level=-20, silent=0.15, voiced=0.75, pitch=200, pitch_change=0.5)
PIANO = dataclasses.replace(VOICE, pitch_change=0.02)
RAIN = dataclasses.replace(VOICE, voiced=0.01, pitch=math.nan, pitch_change=math.nan)


@pytest.mark.parametrize(
    ("changes", "words", "differences"),
    [
        ({}, "speaks", ()),
        ({"level": -22.9, "silent": 0.24, "voiced": 0.61, "pitch": 216.0}, "speaks", ()),
        ({"level": -28.0}, "murmurs", ("8 dB too quiet",)),
        ({"level": -16.0}, "murmurs", ("4 dB too loud",)),
        ({"voiced": 0.59}, "murmurs", ("16 points too little voiced",)),
        ({"voiced": 0.91}, "murmurs", ("16 points too much voiced",)),
        ({"silent": 0.4}, "murmurs", ("25 points too much silence",)),
        ({"silent": 0.0}, "murmurs", ("15 points too little silence",)),
        ({"pitch": 400.0}, "murmurs", ("12 semitones too high",)),  # an octave
        ({"pitch": 200 * 2 ** (-2 / 12)}, "murmurs", ("2.0 semitones too low",)),
        ({"voiced": 0.26}, "murmurs", ("49 points too little voiced",)),
        ({"voiced": 0.24}, "still noise", ()),  # less than a third of the recordings' share
        ({"voiced": 0.0, "pitch": math.nan}, "still noise", ()),
        ({"silent": 0.95, "voiced": 0.0, "level": -60.0}, "silent", ()),
        ({"silent": 1.0, "voiced": 0.0, "level": -math.inf, "pitch": math.nan}, "silent", ()),
    ],
)
def test_clips_of_a_voice(changes: dict[str, float], words: str, differences: tuple[str, ...]) -> None:
    clip = dataclasses.replace(VOICE, seconds=10, **changes)
    assert sound_of(clip, VOICE) == Sound(words, differences)


def test_other_recordings_are_not_said_to_speak() -> None:
    assert sound_of(VOICE, PIANO) == Sound("level and pauses as in the recordings")
    louder = dataclasses.replace(PIANO, level=-10, pitch=400)  # another melody is no difference
    assert sound_of(louder, PIANO) == Sound("differs from the recordings", ("10 dB too loud",))
    assert sound_of(RAIN, PIANO) == Sound("still noise")
    assert sound_of(RAIN, RAIN) == Sound("level and pauses as in the recordings")
    assert sound_of(PIANO, RAIN) == Sound("differs from the recordings", ("74 points too much voiced",))


def test_a_short_clip_is_not_judged() -> None:
    assert sound_of(dataclasses.replace(VOICE, seconds=0.9), VOICE) is None


def curve(*points: tuple[float, float, float]) -> list[Point]:
    return [Point(*point) for point in points]


def test_the_trend_is_a_line_over_the_logarithm_of_the_time() -> None:
    falling = [Point(minutes, 5 - 0.2 * math.log2(minutes), 4.0) for minutes in (1, 5, 10, 15)]
    found = trend_of(falling)
    assert (found.words, found.more_minutes) == ("improving", 15)
    assert found.saved == pytest.approx(0.2)
    early = [Point(1, 9.0, 9.0), *falling[1:]]  # what was before the last two doublings does not count
    assert trend_of(early).saved == pytest.approx(0.2)
    assert trend_of(curve((1, 5.0, 5.0), (20, 4.0, 4.0))).saved == pytest.approx(1 / math.log2(20))


def test_flat_and_over_fitting() -> None:
    flat = curve((5, 3.5, 3.4), (10, 3.5, 3.3), (20, 3.495, 3.2))
    assert trend_of(flat) == Trend("flat")
    rising = curve((5, 3.5, 3.4), (10, 3.4, 3.2), (20, 3.45, 2.9))
    assert trend_of(rising) == Trend("over-fitting")
    barely = curve((5, 3.5, 3.4), (10, 3.4, 3.2), (20, 3.41, 2.9))
    assert trend_of(barely).words != "over-fitting"
    unstable = curve((5, 3.5, 3.4), (10, 3.4, 3.2), (20, 3.45, 3.3))  # training crops cost more, too
    assert trend_of(unstable).words == "flat"
    long_ago = curve((5, 3.8, 3.8), (10, 3.4, 3.3), (15, 3.41, 3.2))  # the line falls, but the best was before
    assert trend_of(long_ago) == Trend("flat")


def test_too_little_to_tell_a_trend() -> None:
    assert trend_of([]) == trend_of(curve((1, 5.0, 5.0))) == Trend()
    assert trend_of(curve((1, math.nan, 5.0), (5, math.nan, 4.0))) == Trend()  # nothing is held out
    assert trend_of(curve((5, 4.0, 4.0), (5, 3.9, 3.9))) == Trend("flat")


def test_the_trend_of_a_real_run() -> None:
    """An hour of the recipe `speech`: what was expected after half an hour, and what came."""
    lines = [json.loads(line) for line in (MADE / "speech.jsonl").read_text().splitlines()]
    points = [Point(line["seconds"] / 60, line["bits"], math.nan) for line in lines if line["event"] == "validation"]
    found = trend_of(points[:3])
    assert found.words == "improving"
    assert points[2].loss - found.saved == pytest.approx(points[5].loss, abs=0.06)  # 30.8 and 60.2 minutes


def test_the_line_that_is_printed() -> None:
    clip = dataclasses.replace(VOICE, level=-22.2, voiced=0.5, silent=0.12, pitch=214)
    falling = [Point(minutes, 5 - 0.08 * math.log2(minutes), 4.0) for minutes in (5, 10, 15.2)]
    figures = "clip: -22 dBFS, 50% voiced, 12% silent, pitch 214 Hz (recordings: -20, 75%, 15%, 200 Hz)"
    assert verdict_of(clip, VOICE, falling).text == (
        f"{figures}: murmurs: 25 points too little voiced; improving, 15 more minutes may save up to 0.08 bits"
    )
    assert verdict_of(VOICE, VOICE, []).text.endswith("(recordings: -20, 75%, 15%, 200 Hz): speaks")
    assert "pitch none (recordings: -20, 1%, 15%, none)" in verdict_of(RAIN, RAIN, []).text
    assert (
        verdict_of(None, None, [Point(5, 4.0, 4.0), Point(50, 4.0, 3.9)]).text
        == "flat, more minutes are not worthwhile"
    )
    assert verdict_of(None, None, []) == Verdict()

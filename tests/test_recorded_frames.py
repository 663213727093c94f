"""Frames of recordings, and their pitch."""

from __future__ import annotations

import numpy as np
import pytest
from recordings import clips_of

from wavenet.config import MelConfig
from wavenet.data.clips import Clips
from wavenet.training.recorded_frames import RecordedFrames, frame_pitch, recorded_frames

RATES = (8_000, 16_000, 44_100)


def mel_of(sample_rate: int) -> MelConfig:
    return MelConfig(sample_rate=sample_rate, hop=sample_rate // 100, window=sample_rate // 25, fft=2_048, high=4_000.0)


def sawtooth(hertz: float, seconds: float, sample_rate: int) -> np.ndarray:
    time = np.arange(int(seconds * sample_rate)) / sample_rate
    return np.sum([0.2 / k * np.sin(2 * np.pi * k * hertz * time) for k in range(1, 12)], axis=0)


@pytest.mark.parametrize("sample_rate", RATES)
def test_the_pitch_of_a_frame_is_that_of_the_audio_at_its_centre(sample_rate: int) -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(sample_rate // 2)
    audio = np.concatenate([sawtooth(110, 0.5, sample_rate), noise, sawtooth(220, 0.5, sample_rate)])
    pitch = frame_pitch(audio, mel_of(sample_rate))
    assert len(pitch) == 150
    np.testing.assert_allclose(pitch[6:44], 110, rtol=0.02)
    assert np.isnan(pitch[56:94]).mean() > 0.9
    np.testing.assert_allclose(pitch[106:144], 220, rtol=0.02)


def test_pitch_changes_are_interpolated() -> None:
    time = np.arange(32_000) / 16_000
    hertz = 120 * 2 ** (time / 2)  # an octave in two seconds
    phase = 2 * np.pi * np.cumsum(hertz) / 16_000
    pitch = frame_pitch(0.2 * sum(np.sin(k * phase) / k for k in range(1, 10)), MelConfig())
    centres = (np.arange(200) + 0.5) / 100
    errors = 12 * np.log2(pitch / (120 * 2 ** (centres / 2)))[10:-10]
    assert np.abs(errors).max() < 0.4


def test_audio_shorter_than_a_window_is_unvoiced() -> None:
    assert np.isnan(frame_pitch(sawtooth(200, 0.03, 16_000), MelConfig())).all()
    assert frame_pitch(np.ones(1), MelConfig()).shape == (1,)


def test_clips_have_their_speakers_and_shares() -> None:
    parts = [(20_000 * sawtooth(hertz, 0.5, 8_000)).astype(np.int16) for hertz in (100, 200)] + [
        np.zeros(4_000, np.int16)
    ]
    joined = clips_of(*map(len, parts), values=np.concatenate(parts))
    clips = Clips(joined.samples, joined.offsets, joined.lengths, 8_000, ["ann", "bob", "bob"])
    recorded = recorded_frames(clips, mel_of(8_000))
    assert recorded.speakers == ["ann", "bob", "bob"] and [len(frames) for frames in recorded.frames] == [50, 50, 50]
    ann, bob, eve = recorded.voiced_shares(("ann", "bob", "eve"))
    assert ann > 0.9 and bob == pytest.approx(0.5, abs=0.1)
    assert (eve,) == recorded.voiced_shares()  # without recordings: the share of all
    assert np.nanmedian(recorded.of_speaker("bob").pitches[0]) == pytest.approx(200, rel=0.02)
    alone = recorded_frames(joined, mel_of(8_000))
    assert alone.speakers == ["", "", ""] and len(alone.of_speaker(None).frames) == 3


def test_of_many_frames_pieces_of_every_speaker_are_kept() -> None:
    frames = [np.full((100, 2), clip, np.float32) for clip in range(8)]
    recorded = RecordedFrames(frames, [part[:, 0] for part in frames], ["ann"] * 7 + ["bob"])
    assert recorded.thinned(800, 50) is recorded
    thinned = recorded.thinned(400, 50)
    assert [len(part) for part in thinned.frames] == [50] * 8
    assert thinned.speakers == ["ann"] * 7 + ["bob"]
    assert [part[0, 0] for part in thinned.frames] == list(range(8))
    assert [part[0] for part in thinned.pitches] == list(range(8))

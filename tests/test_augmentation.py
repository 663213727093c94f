"""Crops at other pitches and levels: as crops of the recordings, resampled and amplified as a whole."""

from __future__ import annotations

import numpy as np
import pytest
import soxr
from numpy.typing import NDArray

from wavenet.config import ConfigError, DataConfig, MelConfig
from wavenet.data.augmentation import Playback, draw_playback
from wavenet.data.clips import Clips
from wavenet.data.crop_features import CropFeatures
from wavenet.data.crops import random_crops
from wavenet.data.quantizers import LINEAR
from wavenet.features import mel_spectrogram

RATE = 8_000


def tones(*lengths: int, hertz: float = 300.0, amplitude: float = 0.3) -> Clips:
    """Clips of a tone and its first overtone."""
    phases = [2 * np.pi * hertz / RATE * np.arange(length) for length in lengths]
    samples = np.concatenate([amplitude * (np.sin(phase) + 0.5 * np.sin(2 * phase)) for phase in phases])
    ends = np.cumsum(lengths)
    return Clips(np.rint(32_768 * samples).astype(np.int16), ends - lengths, np.array(lengths), RATE)


def pitch(samples: NDArray[np.int16]) -> float:
    """Frequency of the strongest partial in Hz."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), 65_536))
    return float(spectrum.argmax() * RATE / 65_536)


@pytest.mark.parametrize("factor", [0.5, 0.613, 1.37, 2.0])
def test_a_piece_is_that_of_the_resampled_clip(factor: float) -> None:
    clips = tones(9_000, 4_000)
    playback = Playback(clips, factor)
    whole = soxr.resample(clips.clip(1).astype(np.float32), factor, 1.0)
    assert playback.length(1) == int(4_000 / factor)
    for start, stop in ((700, 1_300), (1, 400), (1_200, 10**6)):
        piece = playback.read(1, start, stop)
        expected = whole[start : min(stop, playback.length(1))]
        assert len(piece) == len(expected)
        # positions are rounded to samples of the recording: shifted by up to half a sample, which changes the tone's
        # highest partial, 600 Hz of the recording, by at most 2 pi 600 / 8000 of its amplitude
        middle = slice(0, len(piece) - 100)
        correlation = np.corrcoef(piece[middle], expected[middle])[0, 1]
        assert correlation > 0.96
        assert np.abs(piece).max() < 1.2 * np.abs(expected).max()


def test_a_piece_does_not_depend_on_where_it_ends() -> None:
    noise = np.random.default_rng(0).integers(-9_000, 9_000, 20_000).astype(np.int16)
    clips = Clips(noise, np.array([0]), np.array([20_000]), RATE)
    for factor in (0.5, 1.7):
        playback = Playback(clips, factor)
        long, short = playback.read(0, 2_000, 6_000), playback.read(0, 2_000, 2_500)
        np.testing.assert_allclose(short, long[:500], atol=1.0)  # in 16-bit steps


@pytest.mark.parametrize("length", [1, 2, 7, 300])
@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_short_clips(length: int, factor: float) -> None:
    playback = Playback(tones(length), factor)
    assert len(playback.read(0, 0, 10**6)) == playback.length(0) == max(1, int(length / factor))


@pytest.mark.parametrize("join", [False, True])
def test_pitch_and_duration(join: bool) -> None:
    clips = tones(8_000, 6_000, 8_000)
    seen = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        data = DataConfig(join=join, pitch_shift=(0.6, 1.8))
        crops = random_crops(clips, 1, 2_000, rng, data, LINEAR, 400)
        frequency = pitch(crops.targets[0][crops.mask[0]])
        if crops.mask.sum() > 1_000:
            seen.append(frequency / 300)
    assert 0.58 < min(seen) < 0.75
    assert 1.5 < max(seen) < 1.85


@pytest.mark.parametrize("join", [False, True])
@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_margins_masks_and_bounds(join: bool, factor: float) -> None:
    """A recording of constant value: whatever is there is not zero, and whatever is not there is."""
    lengths = (900, 130, 40)
    ends = np.cumsum(lengths)
    clips = Clips(np.full(sum(lengths), 5_000, np.int16), ends - lengths, np.array(lengths), RATE)
    data = DataConfig(join=join, pitch_shift=(factor, factor))
    crop, margin = 100, 60
    crops = random_crops(clips, 400, crop, np.random.default_rng(1), data, LINEAR, margin)
    position = np.arange(crops.samples.shape[1])
    inside = (position >= crops.bounds[:, :1]) & (position < crops.bounds[:, 1:])
    assert not crops.samples[~inside].any()
    inner = (position > crops.bounds[:, :1]) & (position < crops.bounds[:, 1:] - 1)  # the ends of a clip are smoothed
    assert (crops.samples[inner] > 1_500).all()
    assert (crops.samples > 4_500).mean() > 0.8 * inside.mean()
    kept = np.zeros_like(inside)
    kept[:, margin : margin + crop] = crops.mask
    assert not (kept & ~inside).any()
    assert crops.mask.all() == join
    for row, clip in enumerate(crops.clips):
        length = int(lengths[clip] / factor)
        if not join:
            assert crops.mask[row].sum() <= min(crop, length)
            assert crops.bounds[row, 1] - crops.bounds[row, 0] <= length
            if length <= crop:
                assert list(crops.bounds[row]) == [margin, margin + length]
    np.testing.assert_array_equal(crops.targets[:, :-1][crops.mask[:, 1:]], crops.inputs[:, 1:][crops.mask[:, 1:]])


def test_every_part_of_a_clip_is_equally_often_a_target() -> None:
    ramp = np.arange(1, 8_001).astype(np.int16)
    clips = Clips(ramp, np.array([0]), np.array([8_000]), RATE)
    data = DataConfig(pitch_shift=(0.5, 2.0))
    crops = random_crops(clips, 4_000, 50, np.random.default_rng(2), data, LINEAR, 1)
    counts = np.histogram(crops.targets[crops.mask], bins=8, range=(1, 8_001))[0]
    assert abs(counts / counts.mean() - 1).max() < 0.15


def test_features_are_those_of_the_shifted_audio() -> None:
    mel = MelConfig(sample_rate=RATE, window=96, fft=128, hop=32, bands=10, high=4_000.0)
    features = CropFeatures(mel, 1, 320)
    data = DataConfig(pitch_shift=(0.5, 2.0), gain_shift=(-20.0, 6.0))
    crops = random_crops(tones(4_000), 8, 320, np.random.default_rng(3), data, LINEAR, features.margin)
    rows = features(crops.samples, crops.bounds)
    for row, samples in zip(rows, crops.samples, strict=True):
        audio = samples[features.margin - features.first :] / np.float32(32_768)
        whole = mel_spectrogram(audio, mel)[:, 4 : row.shape[1] - 4]
        np.testing.assert_allclose(row[:, 4 : 4 + whole.shape[1]], whole, atol=1e-5)


def test_the_level_is_shifted_and_never_clipped() -> None:
    clips = tones(4_000, amplitude=0.3)
    peak = int(np.abs(clips.clip(0)).max())
    data = DataConfig(gain_shift=(-20.0, 30.0))
    crops = random_crops(clips, 300, 200, np.random.default_rng(4), data, LINEAR, 100)
    peaks = np.abs(crops.samples.astype(np.int64)).max(1)
    assert peaks.max() == 32_767
    assert ((peaks == 32_767).mean()) == pytest.approx((30 - 20 * np.log10(32_767 / peak)) / 50, abs=0.1)
    assert peaks.min() == pytest.approx(0.1 * peak, rel=0.2)
    np.testing.assert_array_equal(crops.inputs[:, 1:][crops.mask[:, 1:]], crops.targets[:, :-1][crops.mask[:, 1:]])


def test_a_share_of_crops_keeps_its_pitch() -> None:
    data = DataConfig(pitch_shift=(0.5, 2.0), pitch_shift_share=0.3)
    rng = np.random.default_rng(5)
    factors = np.array([draw_playback(tones(10), data, rng).factor for _ in range(2_000)])
    assert (factors != 1).mean() == pytest.approx(0.3, abs=0.04)
    shifted = np.log2(factors[factors != 1])
    assert np.histogram(shifted, bins=4, range=(-1, 1))[0] / len(shifted) == pytest.approx(0.25, abs=0.06)


def test_without_shifts_nothing_is_drawn_or_changed() -> None:
    clips = tones(400, amplitude=0.9)
    clips.samples[7] = -32_768
    rng = np.random.default_rng(6)
    playback = draw_playback(clips, DataConfig(), rng)
    assert rng.random() == np.random.default_rng(6).random()
    np.testing.assert_array_equal(playback.level(playback.read(0, 5, 300)), clips.clip(0, 5, 300))


@pytest.mark.parametrize(
    "value", [2.0, [1.0], [2.0, 0.5], ["a", 1.0], [0.0, 1.0], [0.5, float("nan")], [True, 2.0], "x"]
)
def test_impossible_shifts(value: object) -> None:
    with pytest.raises(ConfigError, match="pitch_shift = .*two numbers"):
        DataConfig(pitch_shift=value)  # type: ignore[arg-type]

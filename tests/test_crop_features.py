"""Features of random training crops against those of the whole recording."""

from __future__ import annotations

import numpy as np
import pytest

from wavenet.config import DataConfig, MelConfig
from wavenet.data.clips import Clips
from wavenet.data.crop_features import CropFeatures
from wavenet.data.crops import random_crops
from wavenet.features import mel_spectrogram

SMALL = MelConfig(sample_rate=8_000, window=96, fft=128, hop=32, bands=10, high=4_000.0)
ODD = MelConfig(sample_rate=8_000, window=51, fft=65, hop=15, bands=4, low=100.0, high=3_900.0, scale="htk", area=False)
MIXED = MelConfig(sample_rate=8_000, window=96, fft=128, hop=33, bands=10, high=4_000.0)


def random_clips(*lengths: int) -> Clips:
    samples = np.random.default_rng(8).integers(-9_000, 9_000, sum(lengths)).astype(np.int16)
    return Clips(samples, np.cumsum(lengths) - lengths, np.array(lengths), 8_000)


@pytest.mark.parametrize("config", [SMALL, ODD, MIXED], ids=["even", "odd", "mixed"])
@pytest.mark.parametrize("crop", [64, 77, 200])
@pytest.mark.parametrize("join", [False, True])
def test_features_of_crops_are_those_of_the_recording(config: MelConfig, crop: int, join: bool) -> None:
    context, hop = 2, config.hop
    features = CropFeatures(config, context, crop)
    clips = random_clips(900, 500, 60)
    drawn = random_crops(clips, 60, crop, np.random.default_rng(0), DataConfig(join=join), margin=features.margin)
    rows = features(drawn.samples, drawn.bounds)
    assert rows.dtype == np.float32
    assert features.first % hop == 0
    assert features.first // hop >= context + 1
    assert rows.shape[0] == 60
    assert rows.shape[2] - features.first // hop - -(-crop // hop) >= context + 1
    silent = compared = 0
    for row, samples, (begin, end) in zip(rows, drawn.samples, drawn.bounds, strict=True):
        recording = samples[begin:end] / np.float32(32_768)
        # zeros in front of it, so that a frame of the whole recording begins where the crop does
        position = features.margin - begin  # of the crop's first sample in the recording
        front = -position % hop
        whole = mel_spectrogram(np.concatenate([np.zeros(front, np.float32), recording]), config)
        first = (position + front) // hop - features.first // hop  # of the crop's features in those of the recording
        for frame in range(row.shape[1]):
            if 0 <= first + frame < whole.shape[1]:
                # neither reads samples beyond the margin: the margin is all that this recording has
                np.testing.assert_allclose(row[:, frame], whole[:, first + frame], atol=1e-5)
                compared += 1
            else:
                assert np.all(row[:, frame] == np.float32(config.silence))
                silent += 1
    assert compared > 100
    assert silent > 0


def test_a_crop_on_a_frame_boundary_has_a_slice_of_the_features() -> None:
    clips = random_clips(3_200)
    features = CropFeatures(SMALL, 2, 128)
    position, margin = 20 * 32, features.margin
    around = clips.clip(0)[position - margin : position + 128 + margin]
    rows = features(around[None], np.array([[0, len(around)]]))[0]
    lead = features.first // 32
    whole = mel_spectrogram(clips.clip(0) / np.float32(32_768), SMALL)
    np.testing.assert_allclose(rows, whole[:, 20 - lead : 20 - lead + rows.shape[1]], atol=1e-5)
    assert rows.shape[1] == 4 + 2 * lead

"""The levels and pitches of training data, and the warning for features outside of them."""

from __future__ import annotations

import dataclasses
import math
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from wavenet import WaveNet
from wavenet.checkpoint import read_model, update_config
from wavenet.config import ConfigError, FeatureRange, MelConfig, ModelConfig, from_dict
from wavenet.engine.feature_range import measured_range, quietest_level, warn_outside
from wavenet.features import mel_spectrogram
from wavenet.generate import Generator
from wavenet.training import recipe as recipes

MEL = MelConfig()


def features_of_voice(pitch: float, gain: float = 1.0) -> NDArray[np.float32]:
    """Features [1, bands, N] of a second of a buzz at `pitch` Hz, with a vibrato of 2%."""
    time = np.arange(16_000) / 16_000
    phase = 2 * np.pi * np.cumsum(pitch * (1 + 0.02 * np.sin(2 * np.pi * 5 * time))) / 16_000
    harmonics = range(1, int(7_000 / pitch))
    audio = 0.03 * gain * np.sum([np.cos(k * phase) / np.sqrt(k) for k in harmonics], axis=0)
    noise = 1e-4 * gain * np.random.default_rng(0).standard_normal(len(time))
    return mel_spectrogram((audio + noise).astype(np.float32), MEL)[None]


def trained_on(*pitches: float) -> FeatureRange:
    frames = np.concatenate([features_of_voice(pitch)[0].T for pitch in pitches])
    measured = measured_range(frames, MEL)
    assert measured is not None
    return measured


def test_the_range_of_voices() -> None:
    measured = trained_on(180, 220, 260)
    assert measured.pitch[0] == pytest.approx(180, rel=0.06)
    assert measured.pitch[1] == pytest.approx(260, rel=0.06)
    louder = measured_range(features_of_voice(220, gain=2)[0].T, MEL)
    quieter = measured_range(features_of_voice(220)[0].T, MEL)
    assert louder is not None and quieter is not None
    assert np.subtract(louder.level, quieter.level) == pytest.approx([6, 6], abs=0.3)


def warnings_of(pitch: float, gain: float, trained: FeatureRange) -> list[str]:
    """The warnings for a voice, as text."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        warn_outside(features_of_voice(pitch, gain), MEL, trained)
    return [str(warning.message) for warning in found]


def test_silence_and_noise() -> None:
    assert measured_range(np.full((100, 80), MEL.silence, np.float32), MEL) is None
    noise = 0.1 * np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    measured = measured_range(mel_spectrogram(noise, MEL).T, MEL)
    assert measured is not None and measured.pitch == (0, 0)
    assert warnings_of(120, 1, dataclasses.replace(measured, level=(-500, 500), gains=1_000)) == []


@pytest.mark.parametrize(
    ("pitch", "gain", "message"),
    [
        (115, 1, "below that of the training data, 1.. to 2.. Hz .here down to 11. Hz"),
        (420, 1, "above that of the training data.*here up to 4[23]. Hz"),
        (220, 0.1, "even the loud frames are quieter than the training data .*; amplify the audio by 2. dB"),
        (220, 10, "louder than the training data of this model; attenuate the audio by 1. dB"),
    ],
)
def test_features_outside_of_the_range_give_a_warning(pitch: float, gain: float, message: str) -> None:
    trained = trained_on(180, 220, 260)
    if pitch != 220:  # the level of such a voice differs, too
        trained = dataclasses.replace(trained, level=(-200, 0), gains=200)
    (warning,) = warnings_of(pitch, gain, trained)
    assert re.search(message, warning)


@pytest.mark.parametrize(("pitch", "gain"), [(180, 1), (230, 0.8), (260, 1.2), (275, 1), (170, 1), (220, 0)])
def test_features_within_the_range_and_slightly_beyond_give_none(pitch: float, gain: float) -> None:
    assert warnings_of(pitch, gain, trained_on(180, 220, 260)) == []


def of_levels(*parts: tuple[int, float], quietest: float | None = None) -> list[str]:
    """The warnings for frames whose bands are all equal. parts: number of frames and their level in dB."""
    levels = np.concatenate([np.full(count, level) for count, level in parts]) * math.log(10) / 20
    trained = FeatureRange((-84.0, -28.0), (0.0, 0.0), quietest=quietest)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        warn_outside(np.broadcast_to(levels.astype(np.float32), (1, 80, len(levels))), MEL, trained)
    return [str(warning.message) for warning in found]


def test_the_advice_is_for_the_frames_outside_of_the_range() -> None:
    """Training data from -84 dB, its pauses, to -28 dB."""
    (loud,) = of_levels((70, -60), (30, -10))  # the median is within the range
    assert "30% of the frames are louder" in loud and "attenuate the audio by 18 dB before" in loud
    (quiet,) = of_levels((60, -88), (40, -68))  # pauses below the range, the loud frames 40 dB below its upper limit
    assert "amplify the audio by 40 dB before" in quiet
    assert of_levels((60, -84), (40, -43)) == []
    assert of_levels((60, -90), (40, -30)) == []  # quiet pauses between speech at the level of the training data
    assert len(of_levels((60, -84), (40, -45))) == 1


def test_quiet_is_what_is_quieter_than_the_quietest_recordings() -> None:
    """Without knowing them: 16 dB below the upper limit of -28 dB."""
    for quietest, quiet in [(-40.0, -44.0), (-60.0, -64.0)]:
        (warning,) = of_levels((60, -84), (40, quiet), quietest=quietest)
        assert "even the loud frames are quieter" in warning and f"by {quietest - quiet:.0f} dB" in warning
        assert of_levels((60, -84), (40, quietest - 2.5), quietest=quietest) == []


def test_the_quietest_recordings() -> None:
    """A fiftieth may be quieter; their loud frames count, and silence does not."""
    frames = [np.full((40, 80), level * math.log(10) / 20, np.float32) for level in range(-50, 0)]
    assert quietest_level(frames, MEL) == pytest.approx(-49, abs=0.1)
    speech = np.concatenate([frames[0], np.full((10, 80), -1, np.float32)])  # a fifth at -8.7 dB
    assert quietest_level([speech, np.full((9, 80), MEL.silence, np.float32)], MEL) == pytest.approx(-8.7, abs=0.1)
    assert quietest_level([], MEL) is None


def test_levels_that_gain_shift_gave_are_not_quiet() -> None:
    trained = dataclasses.replace(trained_on(180, 220, 260), gains=26.0)
    assert warnings_of(220, 0.02, trained) == []  # -34 dB
    assert len(warnings_of(220, 0.005, trained)) == 1  # -46 dB


def test_a_session_warns_in_the_caller_s_line() -> None:
    trained = FeatureRange((-200.0, 0.0), (200.0, 300.0), gains=200.0)
    mel = dataclasses.replace(MEL, mean=-3.6, deviation=1.2)  # of these features: otherwise they are unusual, too
    config = ModelConfig(1, 2, 2, 8, skip_channels=8, output="gaussian", features=mel, training_range=trained)
    generator = Generator.from_model(WaveNet(config), engine="torch")
    with pytest.warns(UserWarning, match="the pitch of 100% of the voiced frames is below") as caught:
        generator.session(features=features_of_voice(120)[0])
    assert [Path(warning.filename).name for warning in caught] == [Path(__file__).name]


def test_the_range_is_stored_in_a_model_file(vocoder: Path) -> None:
    config, weights = read_model(vocoder)
    measured = FeatureRange((-60.5, -20.0), (80.0, 300.0))
    update_config(vocoder, training_range=measured)
    after, weights_after = read_model(vocoder)
    assert after == dataclasses.replace(config, training_range=measured)
    assert all(np.array_equal(weights_after[name], weights[name]) for name in config.shapes)


def test_the_range_is_stored_with_the_configuration() -> None:
    config = ModelConfig(features=MEL, training_range=FeatureRange((-60.0, -20.0), (80.0, 300.0)))
    assert from_dict(ModelConfig, config.to_dict()) == config
    recipe = recipes.Recipe(model=config)
    assert "[model.training_range]\nlevel = [-60.0, -20.0]\npitch = [80.0, 300.0]" in recipe.to_toml()
    with pytest.raises(ConfigError, match=r"training_range.pitch = \[2, 1\]"):
        from_dict(ModelConfig, {**config.to_dict(), "training_range": {"level": [0, 1], "pitch": [2, 1]}})
    with pytest.raises(ConfigError, match=r"^training_range.pitch: missing$"):
        from_dict(ModelConfig, {**config.to_dict(), "training_range": {"level": [0, 1]}})

"""Levels of recordings, and recordings that are set to the same level."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from recordings import SAMPLE_RATE, clips_of, write_noise
from training_runs import SMALL, trainer_for

from wavenet.config import ConfigError, DataConfig
from wavenet.data import audio
from wavenet.data.cache import Level
from wavenet.data.crops import random_crops
from wavenet.data.dataset import open_folder
from wavenet.data.levels import gain, measure
from wavenet.data.quantizers import LINEAR
from wavenet.training import run_policy

SECOND = SAMPLE_RATE


def tone(amplitude: float, seconds: float = 2.0) -> NDArray[np.float64]:
    return amplitude * np.sin(2 * np.pi * 400 * np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE)


def level_of(samples: NDArray[np.float64]) -> Level:
    return measure(audio.to_int16(samples), 0, len(samples), SAMPLE_RATE)


def click(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    samples[777] = 1.0
    return samples


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (np.ones(SECOND), 0.0),
        (tone(1.0), -3.01),
        (tone(0.1), -23.01),
        (np.concatenate([np.zeros(6 * SECOND), tone(0.1), np.zeros(2 * SECOND)]), -23.01),
        (np.concatenate([tone(0.002, 8.0), tone(0.1)]), -23.01),  # a quiet background in the pauses
        (np.concatenate([tone(0.05), tone(0.1)]), -25.05),  # both count: half of their powers
        (np.tile(tone(0.1), 1_000 // 20), -23.01),  # longer than the pieces that are read
        (tone(0.1, 0.005), -23.01),  # shorter than a frame
        (click(tone(0.1, 60.0)), -23.01),  # one frame of 3,000
    ],
)
def test_the_level_is_the_rms_of_active_frames(samples: NDArray[np.float64], expected: float) -> None:
    assert level_of(samples).dbfs == pytest.approx(expected, abs=0.1)


def test_silence_has_no_level_and_stays_as_it_is() -> None:
    for amplitude in (0.0, 2e-4):  # -77 dBFS
        silence = level_of(tone(amplitude))
        assert silence.dbfs == -math.inf
        assert gain(silence, -23.0) == 1.0


def test_the_peak_limits_the_gain() -> None:
    loud = level_of(np.concatenate([tone(0.1), [-1.0]]))
    assert loud.peak == 32_768
    assert gain(loud, -10.0) == 32_767 / 32_768
    assert gain(loud, -43.0) == pytest.approx(0.1, rel=0.01)
    assert gain(level_of(tone(0.1)), -3.01) == pytest.approx(10, rel=0.01)


def test_levels_are_measured_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    class Reads:
        """Samples that remember how many were read at a time."""

        def __init__(self, samples: NDArray[np.int16]) -> None:
            self.samples, self.most = samples, 0

        def __getitem__(self, span: slice) -> NDArray[np.int16]:
            self.most = max(self.most, span.stop - span.start)
            return self.samples[span]

    noise = np.random.default_rng(0).integers(-3_000, 3_000, 60 * SECOND).astype(np.int16)
    reads = Reads(noise)
    level = measure(reads, SECOND, 58 * SECOND + 77, SAMPLE_RATE)  # type: ignore[arg-type]
    assert reads.most == 10 * SECOND
    inside = noise[SECOND : 59 * SECOND + 77] / 32_768
    assert level.dbfs == pytest.approx(10 * np.log10(np.square(inside).mean()), abs=1e-3)
    assert level.peak == 3_000


@pytest.fixture
def folder(folder: Path) -> Path:
    """Recordings at -38, -23 and -9 dBFS, one with a peak, and a silent one."""
    for name, amplitude in (("quiet", 0.0178), ("middle", 0.1), ("loud", 0.5)):
        audio.write(folder / f"{name}.wav", tone(amplitude), SAMPLE_RATE)
    audio.write(folder / "peak.wav", click(tone(0.0178, 10.0)), SAMPLE_RATE)
    audio.write(folder / "silent.wav", np.zeros(SECOND), SAMPLE_RATE)
    return folder


@pytest.mark.parametrize("split", ["files", "time"])
def test_recordings_are_read_at_the_same_level(folder: Path, split: str) -> None:
    plain, equal = (
        open_folder(folder, SAMPLE_RATE, DataConfig(validation=0.4, split=split, loudness=loudness))
        for loudness in (0.0, -20.0)
    )
    assert plain.train.gains is None
    for before, after in ((plain.train, equal.train), (plain.validation, equal.validation)):
        assert len(after)
        for i, name in enumerate(after.names):
            samples = after.clip(i).astype(np.float64) / 32_768
            dbfs = 10 * np.log10(np.square(samples).mean() + 1e-12)
            if name == "silent.wav":
                assert not samples.any()
            elif name != "peak.wav":
                assert dbfs == pytest.approx(-20, abs=0.1)
            part = after.clip(i, 100, 300)  # a part has the gain of its recording
            np.testing.assert_array_equal(part, after.clip(i)[100:300])
            if name == "middle.wav":
                np.testing.assert_allclose(after.clip(i), before.clip(i) * 10 ** (3.01 / 20), atol=2)
    assert equal.train.gains is not None
    gains = [
        float(factor) for factor, name in zip(equal.train.gains, equal.train.names, strict=True) if name == "peak.wav"
    ]
    assert gains == pytest.approx([1.0] * len(gains), abs=1e-4)


def test_the_summary_names_the_levels(folder: Path) -> None:
    data = DataConfig(validation=0.0, loudness=-20.0)
    lines = open_folder(folder, SAMPLE_RATE, data).summary.lines()
    expected = "levels: -38 to -9 dBFS; each set to -20, 1 of them lower, so that no peak is clipped"
    assert expected in lines
    lines = open_folder(folder, SAMPLE_RATE, DataConfig(validation=0.0, loudness=-38.0)).summary.lines()
    assert "levels: -38 to -9 dBFS; each set to -38" in lines
    lines = open_folder(folder, SAMPLE_RATE, DataConfig(validation=0.0)).summary.lines()
    assert not any("levels" in line for line in lines)


def test_a_level_is_measured_once_and_nothing_is_decoded_again(
    folder: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    open_folder(folder, SAMPLE_RATE, DataConfig())
    assert len(decoded) == 5
    first = open_folder(folder, SAMPLE_RATE, DataConfig(loudness=-20.0))
    with monkeypatch.context() as patch:
        patch.setattr("wavenet.data.levels.measure", None)
        again = open_folder(folder, SAMPLE_RATE, DataConfig(loudness=-20.0))
        open_folder(folder, SAMPLE_RATE, DataConfig(loudness=-26.0))
    assert first.summary == again.summary
    np.testing.assert_array_equal(first.train.gains, again.train.gains)
    write_noise(folder / "new.wav")
    open_folder(folder, SAMPLE_RATE, DataConfig(loudness=-20.0))
    assert sorted(decoded[5:]) == ["new.wav"]


def test_only_silent_recordings(tmp_path: Path) -> None:
    audio.write(tmp_path / "silent.wav", np.zeros(SECOND), SAMPLE_RATE)
    recordings = open_folder(tmp_path, SAMPLE_RATE, DataConfig(loudness=-20.0))
    assert not recordings.train.clip(0).any()
    assert not any("levels" in line for line in recordings.summary.lines())


def test_crops_and_parts_have_the_gain_of_their_clip() -> None:
    clips = clips_of(300, 300, values=np.full(600, 100, np.int16))
    clips.gains = np.array([0.5, 3.0])
    crops = random_crops(clips, 30, 50, np.random.default_rng(0), DataConfig(), LINEAR, 20)
    for samples, targets, mask, clip in zip(crops.samples, crops.targets, crops.mask, crops.clips, strict=True):
        value = (50, 300)[clip]
        assert set(samples) <= {0, value}
        assert (targets[mask] == value).all()
    clips.sample_rate = 100
    assert list(clips.spread(4.0).codes(1, LINEAR)) == [300] * 200
    crops = random_crops(clips, 30, 50, np.random.default_rng(0), DataConfig(gain_shift=(6.0206, 6.0206)), LINEAR)
    assert {100, 600} == set(crops.targets[crops.mask])


@pytest.mark.parametrize("value", [-61.0, 0.1, math.nan])
def test_impossible_levels_are_refused(value: float) -> None:
    with pytest.raises(ConfigError, match="loudness = .* must be between -60"):
        DataConfig(loudness=value)


def test_a_run_keeps_its_level(folder: Path, tmp_path: Path) -> None:
    trainer = trainer_for(folder, tmp_path / "run", "training.steps=2", "data.loudness=-23")
    trainer.train()
    assert "loudness = -23.0\n" in trainer.run.recipe.read_text()
    assert run_policy.recipe_for(trainer.run, None, [*SMALL, "training.steps=4"]).data.loudness == -23
    with pytest.raises(ConfigError, match="was started with data.loudness = -23"):
        run_policy.recipe_for(trainer.run, None, ["data.loudness=-20"])

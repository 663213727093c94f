"""Recordings of several channels: averaged, counted, and reported where their channels cancel."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from recordings import ALL_TRAINING, SAMPLE_RATE, cache_folder_in, contents, write_noise

from wavenet.config import DataConfig
from wavenet.data import audio
from wavenet.data.dataset import open_folder


def noise(seed: int, samples: int = 20_000) -> NDArray[np.float64]:
    return 0.1 * np.random.default_rng(seed).standard_normal(samples)


def write_channels(path: Path, *channels: NDArray[np.float64]) -> None:
    soundfile.write(path, np.stack(channels, axis=1), SAMPLE_RATE, subtype="FLOAT")


@pytest.mark.parametrize(
    ("channels", "expected"),
    [
        ([noise(1)], 0.0),
        ([noise(1), noise(1)], 0.0),
        ([noise(1), noise(2)], 3.01),
        ([noise(1), 0 * noise(1)], 3.01),  # half the amplitude; the mean of both energies is halved, too
        ([noise(1), -0.9 * noise(1)], 25.58),  # (0.1 / 2)^2 of (1 + 0.81) / 2
        ([noise(1), -noise(1)], 100.0),
        ([0 * noise(1), 0 * noise(1)], 0.0),
        ([noise(1), noise(2), noise(3), noise(4)], 6.02),
    ],
)
def test_the_level_that_averaging_costs(tmp_path: Path, channels: list[NDArray[np.float64]], expected: float) -> None:
    write_channels(tmp_path / "a.wav", *channels)
    downmix = audio.Downmix()
    mono = audio.read(tmp_path / "a.wav", SAMPLE_RATE, downmix=downmix)
    np.testing.assert_allclose(mono, np.mean(channels, axis=0), atol=1e-7)
    assert downmix.channels == len(channels)
    assert downmix.cancelled_db == pytest.approx(expected, abs=0.1)


def test_the_summary_counts_stereo_recordings_and_those_that_cancel(folder: Path) -> None:
    write_noise(folder / "mono.wav")
    write_channels(folder / "wide.wav", noise(1), noise(2))
    one = open_folder(folder, SAMPLE_RATE, ALL_TRAINING).summary
    assert "stereo: 1 of 2 recordings, averaged to one channel" in one.lines()
    assert not any("cancel" in line for line in one.lines())
    write_channels(folder / "opposite.wav", noise(3), 0.01 * noise(4) - noise(3))
    two = open_folder(folder, SAMPLE_RATE, ALL_TRAINING).summary
    assert "stereo: 2 of 3 recordings, averaged to one channel" in two.lines()
    (line,) = [line for line in two.lines() if "cancel" in line]
    assert line.startswith("opposite phase: averaging nearly cancels 1 recording (the first: opposite.wav); ")
    assert two.skipped == []
    assert open_folder(folder, SAMPLE_RATE, ALL_TRAINING).summary == two  # from the cache


def test_mono_recordings_are_not_mentioned(folder: Path) -> None:
    write_noise(folder / "mono.wav")
    summary = open_folder(folder, SAMPLE_RATE, ALL_TRAINING).summary
    assert summary.stereo == 0
    assert not any("stereo" in line or "channel" in line for line in summary.lines())


def test_a_cache_of_an_earlier_version_is_completed(folder: Path, tmp_path: Path, decoded: list[str]) -> None:
    """Its clips are decoded once more, and stay where they are, and on their side of the split."""
    for i in range(2):
        write_channels(folder / f"{i}.wav", noise(i), noise(10 + i))
    (folder / "bad.wav").write_text("text " * 50)
    data = DataConfig(validation=0.001)  # one of the two is held out, which the cache stores
    first = open_folder(folder, SAMPLE_RATE, data)
    with sqlite3.connect(cache_folder_in(tmp_path) / "index.sqlite") as index:
        index.execute("DROP TABLE channels")
    size = (cache_folder_in(tmp_path) / "audio.i16").stat().st_size
    write_noise(folder / "more.wav")
    decoded.clear()
    second = open_folder(folder, SAMPLE_RATE, data)
    assert sorted(decoded) == ["0.wav", "1.wav", "bad.wav", "more.wav"]
    assert second.summary.stereo == 2
    assert contents(first.validation) == contents(second.validation)
    assert contents(first.train) < contents(second.train)
    assert (cache_folder_in(tmp_path) / "audio.i16").stat().st_size == size + 2 * 400
    decoded.clear()
    open_folder(folder, SAMPLE_RATE, data)
    assert decoded == []

"""The split into training and validation clips, and silence at their ends."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from recordings import ALL_TRAINING, SAMPLE_RATE, contents, write_files, write_noise

from wavenet.config import DataConfig
from wavenet.data import audio
from wavenet.data.dataset import Recordings, open_folder


def test_the_split_stays_when_files_are_added_renamed_and_copied(folder: Path) -> None:
    config = DataConfig(validation=0.25)
    write_files(folder, range(60))
    first = open_folder(folder, SAMPLE_RATE, config)
    assert 5 <= len(first.validation) <= 25
    assert len(first.train) + len(first.validation) == 60
    assert not contents(first.train) & contents(first.validation)
    write_files(folder, range(60, 90))
    for i in range(0, 60, 2):
        (folder / f"{i:03}.wav").rename(folder / f"renamed {i}.wav")
        shutil.copy(folder / f"{i + 1:03}.wav", folder / f"copy of {i + 1}.wav")
    second = open_folder(folder, SAMPLE_RATE, config)
    assert contents(first.train) <= contents(second.train)
    assert contents(first.validation) <= contents(second.validation)
    assert not contents(second.train) & contents(second.validation)


def test_the_split_does_not_depend_on_the_cache(folder: Path, tmp_path: Path) -> None:
    write_files(folder, range(30))
    first = open_folder(folder, SAMPLE_RATE, DataConfig(validation=0.2))
    shutil.rmtree(tmp_path / "cache")
    second = open_folder(folder, SAMPLE_RATE, DataConfig(validation=0.2))
    assert contents(first.validation) == contents(second.validation)


def test_two_files_are_split_into_one_each_and_stay_there(folder: Path) -> None:
    config = DataConfig(validation=0.001)
    write_files(folder, range(2))
    first = open_folder(folder, SAMPLE_RATE, config)
    assert len(first.train) == len(first.validation) == 1
    assert not first.summary.validation_is_tail
    write_files(folder, range(2, 30))
    second = open_folder(folder, SAMPLE_RATE, config)
    assert contents(first.validation) == contents(second.validation)
    assert len(second.train) == 29


def test_training_is_never_left_empty(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files(folder, range(64))
    held = contents(open_folder(folder, SAMPLE_RATE, DataConfig(validation=0.5)).validation)
    for path in folder.iterdir():  # leave only files whose hash would hold them out
        if audio.to_int16(audio.read(path, SAMPLE_RATE)).tobytes() not in held:
            path.unlink()
    recordings = open_folder(folder, SAMPLE_RATE, DataConfig(validation=0.5))
    assert len(recordings.train) == 1
    assert len(recordings.validation) == len(held) - 1 >= 1
    again = open_folder(folder, SAMPLE_RATE, DataConfig(validation=0.5))
    assert contents(recordings.train) == contents(again.train)


def test_the_end_of_a_single_file_is_held_out(folder: Path) -> None:
    noise = write_noise(folder / "a.wav", 4_009)
    shutil.copy(folder / "a.wav", folder / "copy.wav")  # its content must not be on both sides
    recordings = open_folder(folder, SAMPLE_RATE, DataConfig(validation=0.05))
    assert len(recordings.validation) == 1
    assert len(recordings.train) == 2
    np.testing.assert_array_equal(recordings.validation.clip(0), noise[-400:])
    for clip in recordings.train:
        np.testing.assert_array_equal(clip, noise[:-400])
    assert recordings.summary.validation_is_tail
    assert any("the last 0.1 seconds of the only recording" in line for line in recordings.summary.lines())


def test_at_most_a_minute_of_a_single_file_is_held_out(folder: Path) -> None:
    write_noise(folder / "a.wav", 700 * SAMPLE_RATE)
    assert open_folder(folder, SAMPLE_RATE, DataConfig(split="files")).validation.seconds == 60


def test_a_single_tiny_file_and_no_validation(folder: Path) -> None:
    write_noise(folder / "a.wav", 3)
    for config in (DataConfig(), ALL_TRAINING):
        recordings = open_folder(folder, SAMPLE_RATE, config)
        assert len(recordings.train.clip(0)) == 3
        assert len(recordings.validation) == 0
        assert recordings.validation.seconds == 0
        assert not recordings.summary.validation_is_tail


def quiet_ends(lead: int, loud: int, trail: int) -> NDArray[np.float32]:
    """Frames of 10 ms: silence, 0.5, silence."""
    return np.repeat(np.array([0.0] * lead + [0.5] * loud + [0.0] * trail, np.float32), SAMPLE_RATE // 100)


def with_edges(folder: Path, **config: Any) -> Recordings:
    audio.write(folder / "a.wav", quiet_ends(10, 100, 30), SAMPLE_RATE)
    audio.write(folder / "silent.wav", np.zeros(5 * SAMPLE_RATE), SAMPLE_RATE)
    return open_folder(folder, SAMPLE_RATE, DataConfig(**{"validation": 0.0, **config}))


def test_edge_silence_shortens_training_clips(folder: Path) -> None:
    whole = with_edges(folder)
    assert list(whole.train.lengths) == [140 * 80, 5 * SAMPLE_RATE]
    assert whole.summary.edge_seconds == 0
    short = with_edges(folder, edge_silence=0.05)  # 5 of 10 and 25 of 30 frames go: 0.3 seconds
    assert list(short.train.lengths) == [110 * 80, 5 * SAMPLE_RATE]
    assert short.train.clip(0)[399] == 0
    assert short.train.clip(0)[400] == 2**14
    assert short.summary.edge_seconds == pytest.approx(0.3)
    assert short.summary.seconds == pytest.approx(1.4 + 5)
    assert any("left out 0.3 seconds" in line for line in short.summary.lines())
    none = with_edges(folder, edge_silence=0.0)
    assert list(none.train.lengths) == [100 * 80, 5 * SAMPLE_RATE]
    assert list(with_edges(folder, edge_silence=1.0).train.lengths) == [140 * 80, 5 * SAMPLE_RATE]


def test_edge_silence_leaves_validation_alone(folder: Path) -> None:
    for i in range(4):
        audio.write(folder / f"{i}.wav", quiet_ends(10, 100 + i, 30), SAMPLE_RATE)
    recordings = open_folder(folder, SAMPLE_RATE, DataConfig(validation=0.4, edge_silence=0.0))
    assert len(recordings.validation) >= 1
    assert min(recordings.validation.lengths) >= 140 * 80
    assert len(recordings.train) >= 1
    assert max(recordings.train.lengths) <= 103 * 80


def test_edge_silence_of_a_single_file(folder: Path) -> None:
    audio.write(folder / "a.wav", quiet_ends(10, 60, 30), SAMPLE_RATE)  # the last 10 frames are held out
    recordings = open_folder(folder, SAMPLE_RATE, DataConfig(edge_silence=0.0))
    assert list(recordings.train.lengths) == [60 * 80]
    assert list(recordings.validation.lengths) == [10 * 80]
    assert recordings.summary.edge_seconds == pytest.approx(0.3)
    audio.write(folder / "a.wav", quiet_ends(95, 5, 0), SAMPLE_RATE)  # nothing but silence is left for training
    assert list(open_folder(folder, SAMPLE_RATE, DataConfig(edge_silence=0.0)).train.lengths) == [90 * 80]


def test_trim_is_counted(folder: Path) -> None:
    recordings = with_edges(folder, trim_db=40.0)
    assert list(recordings.train.lengths) == [100 * 80, 5 * SAMPLE_RATE]
    assert recordings.summary.trimmed_seconds == pytest.approx(0.4)
    assert any("removed 0.4 seconds" in line and "trim_db" in line for line in recordings.summary.lines())

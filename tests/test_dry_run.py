"""A run that is only planned: what is read of a folder, what is checked, and that nothing is written."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from commands import error_of, run
from process_groups import together
from recordings import write_noise
from shard_data import pack_noise, write_recordings
from training_runs import SMALL, trainer_for, write_tones, write_voices

from wavenet.config import DataConfig
from wavenet.data import audio, dataset, folder_sample
from wavenet.data.folder_sample import sample_folder
from wavenet.training import training_memory
from wavenet.training.distributed import Processes
from wavenet.training.dry_run import Measured, measured, run_lines

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Sixteen recordings of half a second."""
    return write_tones(tmp_path / "tones")


def planned(folder: Path, out: Path, *options: object) -> list[object]:
    """The arguments of a small dry run."""
    settings = [part for value in SMALL for part in ("--set", value)]
    return ["train", folder, "--out", out, *settings, "--steps", 50, *options, "--dry-run"]


def test_a_plan_states_data_memory_speed_and_budget(folder: Path, tmp_path: Path, capsys: Capture) -> None:
    assert run(*planned(folder, tmp_path / "run")) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert list(lines) == ["data", "index", "run", "memory", "speed", "budget"]
    assert lines["data"] == "16 recordings; 16 of the 16 that were read are usable: about 8.0 seconds"
    assert "of cache" in lines["index"]
    assert lines["run"].endswith("starts from random weights, 2 x 200 samples a step")
    assert "50 steps: 50 steps" in lines["budget"]
    assert "2.5 seconds of audio, 0.31 passes" in lines["budget"]  # 50 x 2 x 200 samples of 8 x 8,000
    assert not (tmp_path / "run").exists()
    assert not list((tmp_path / "cache").glob("*"))


def test_a_plan_for_several_processes_states_the_memory_of_each(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_memory, "process_bytes", lambda: 0.0)  # it grows while the test runs

    def plan(processes: Processes) -> str:
        trainer = trainer_for(folder, tmp_path / "run", "training.steps=50", processes=processes)
        found = measured(trainer)
        each = training_memory.training_memory(trainer.recipe, "cpu", processes).peak
        assert each != training_memory.training_memory(trainer.recipe, "cpu").peak  # of a single process
        assert found.predicted == each / 1e6
        return run_lines(trainer, found, 8.0)[1]

    for line in together(2, plan):
        assert "MB at the peak of each of 2 processes; " in line


def test_a_run_that_exists_is_planned_and_left_alone(folder: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "run"
    arguments = planned(folder, out)[:-1]
    assert run(*arguments, "--steps", 3) == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert run(*planned(folder, out)) == 0
    plan = capsys.readouterr().out
    assert "continues at step 3" in plan
    assert "all of them are in the cache" in plan
    assert "50 steps: 47 steps" in plan
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_what_would_end_the_run_ends_the_plan(folder: Path, tmp_path: Path, capsys: Capture) -> None:
    assert "does not exist" in error_of(capsys, *planned(tmp_path / "nothing", tmp_path / "run"))
    other = tmp_path / "other"
    other.mkdir()
    assert "has no recordings" in error_of(capsys, *planned(other, tmp_path / "run"))
    (other / "a.wav").write_bytes(b"RIFF")
    message = error_of(capsys, *planned(other, tmp_path / "run"))
    assert "none of the 1 recordings read" in message
    assert "a.wav" in message
    assert "contains other files and no run" in error_of(capsys, *planned(folder, other))
    assert "base" in error_of(capsys, *planned(folder, tmp_path / "run", "--from", tmp_path / "base.safetensors"))


def test_a_full_disk_ends_the_plan(
    folder: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=127_999))
    assert run(*planned(folder, tmp_path / "run")) == 2  # 16 x 4,000 samples of 16 bits are 128,000 bytes
    assert "set WAVENET_CACHE to a writable folder" in capsys.readouterr().err


def test_shards_are_planned_without_a_cache(tmp_path: Path, capsys: Capture) -> None:
    write_recordings(tmp_path / "noise")
    pack_noise(tmp_path / "noise", tmp_path / "shards")
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    assert run(*planned(tmp_path / "shards", tmp_path / "run")) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert list(lines) == ["data", "run", "memory", "speed", "budget"]
    assert "12 of 12 recordings" in lines["data"]
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "cache").exists()


def test_unusable_files_are_counted(folder: Path) -> None:
    (folder / "empty.wav").write_bytes(b"")
    (folder / "text.flac").write_text("no audio")
    sample = sample_folder(folder, 8_000, DataConfig())
    assert len(sample.found) == len(sample.read) == 18
    assert len(sample.usable) == 16
    assert sum(sample.problems.values()) == 2
    assert "empty file" in sample.problems
    assert sample.seconds == pytest.approx(8.0, rel=1e-3)
    assert sample.cache_bytes == pytest.approx(128_000, rel=1e-3)


def test_duration_is_estimated_from_the_files_that_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for index in range(12):
        write_noise(tmp_path / "noise" / f"{index}.wav", samples=800, seed=index)
    monkeypatch.setattr(folder_sample, "MOST_FILES", 3)
    sample = sample_folder(tmp_path / "noise", 8_000, DataConfig())
    assert len(sample.read) == 3
    assert sample.seconds == pytest.approx(1.2)


def test_long_recordings_are_read_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_noise(tmp_path / "noise" / "long.wav", samples=80_000)
    monkeypatch.setattr(folder_sample, "PART_SECONDS", 2.0)
    monkeypatch.setattr(audio, "BLOCK", 8_000)
    sample = sample_folder(tmp_path / "noise", 8_000, DataConfig())
    assert sample.seconds == pytest.approx(10.0)
    assert 16_000 <= len(sample.read[0].samples) < 80_000
    assert sample.recordings().train.seconds == len(sample.read[0].samples) / 8_000


def test_a_search_that_takes_too_long_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_sample, "FIND_SECONDS", -1.0)
    with pytest.raises(dataset.DatasetError, match="no recording was found in -1 seconds"):
        sample_folder(folder, 8_000, DataConfig())


def test_speakers_are_those_of_the_folder(tmp_path: Path) -> None:
    voices = tmp_path / "voices"
    write_voices(voices)
    write_noise(voices / "alone.wav")
    sample = sample_folder(voices, 8_000, DataConfig(speakers="folders"))
    assert set(sample.speakers.values()) == {"low", "high"}
    recordings = sample.recordings()
    assert sorted(recordings.summary.speakers) == ["high", "low"]
    assert recordings.summary.speakers["low"] == pytest.approx(6 * 3_011 / 8_000)
    assert len(recordings.train) == 12


def test_passes_are_samples_of_all_steps_over_those_of_the_recordings() -> None:
    plan = Measured(seconds_per_step=0.5, steps=100, samples=4_000, predicted=1, megabytes=1, available=1)
    assert plan.samples_per_second == 8_000
    assert plan.passes(10, 8_000) == pytest.approx(5.0)


def test_labellers_are_refused(folder: Path, tmp_path: Path, capsys: Capture) -> None:
    message = error_of(capsys, "train", folder, "--out", tmp_path / "run", "--recipe", "labels", "--dry-run")
    assert "--dry-run" in message

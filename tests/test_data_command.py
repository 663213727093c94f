"""`wavenet data pack`, and training and evaluation on shards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from commands import SAMPLE_RATE, Capture, error_of, run, save_model
from recordings import write_noise
from shard_data import write_recordings
from training_runs import SMALL, write_voices

from wavenet import checkpoint

pytest.importorskip("webdataset", reason="the extra shards is not installed")
pytest.importorskip("fsspec", reason="the extra shards is not installed")
AT_8_KHZ = ("--sample-rate", SAMPLE_RATE)


def test_pack_says_what_it_did(folder: Path, tmp_path: Path, capsys: Capture) -> None:
    write_recordings(folder)
    assert run("data", "pack", folder, "-o", tmp_path / "shards", *AT_8_KHZ, "--shard-size", "8kB") == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"packed 12 of 14 recordings in {folder}: 1.6 seconds at 8,000 Hz"
    assert lines[2].startswith("skipped zero.flac: unreadable")
    assert lines[-1] == f"train on it: wavenet train {tmp_path / 'shards'}"
    assert run("data", "pack", folder, "-o", tmp_path / "shards", *AT_8_KHZ) == 0
    assert "of them from before" in capsys.readouterr().err


def test_pack_refuses_in_one_line(folder: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "shards"
    assert "has no recordings: put files there" in error_of(capsys, "data", "pack", folder, "-o", out)
    assert not (out / "index.json").exists()
    (folder / "zero.flac").touch()
    assert f"has no usable recording: see {out}/skipped.csv" in error_of(capsys, "data", "pack", folder, "-o", out)
    write_noise(folder / "a.wav")
    assert "holds other files" in error_of(capsys, "data", "pack", folder, "-o", folder)
    assert "--shard-size big: expected a number with a unit" in error_of(
        capsys, "data", "pack", folder, "-o", out, "--shard-size", "big"
    )
    assert "is not a folder" in error_of(capsys, "data", "pack", folder / "a.wav", "-o", out)
    assert run("data", "pack", folder, "-o", out) == 0
    capsys.readouterr()
    message = error_of(capsys, "data", "pack", folder, "-o", out, *AT_8_KHZ)
    assert "was packed with sample_rate = 16000" in message and "or a new folder" in message


def test_a_full_disk_is_one_line(folder: Path, tmp_path: Path, capsys: Capture, fill_disk: Callable[[], None]) -> None:
    write_recordings(folder)
    command = ("data", "pack", folder, "-o", tmp_path / "shards", *AT_8_KHZ)
    fill_disk()
    assert run(*command) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("index.json: cannot be written (No space left on device)")


def test_training_on_shards_equals_training_on_their_folder(tmp_path: Path, capsys: Capture) -> None:
    voices = write_voices(tmp_path / "voices")
    assert run("data", "pack", voices, "-o", tmp_path / "shards", *AT_8_KHZ, "--shard-size", "20kB") == 0
    options = [word for override in [*SMALL, "data.loudness=-25"] for word in ("--set", override)]
    for name, source in (("voices", voices), ("shards", f"file://{tmp_path / 'shards'}")):
        command = ("train", source, "--out", tmp_path / f"run-{name}", "--speakers", "folders", *options)
        for steps in (2, 4):  # the second run continues the first
            assert run(*command, "--steps", steps, "--set", f"training.workers={0 if name == 'voices' else 2}") == 0
    first, second = (
        checkpoint.read_tensors(tmp_path / f"run-{name}" / "model.safetensors")[0] for name in ("voices", "shards")
    )
    assert set(first) == set(second)
    assert all((first[name] == second[name]).all() for name in first)


def test_a_missing_shard_is_reported_and_the_rest_trained_on(folder: Path, tmp_path: Path, capsys: Capture) -> None:
    write_recordings(folder)
    assert run("data", "pack", folder, "-o", tmp_path / "shards", *AT_8_KHZ, "--shard-size", "8kB") == 0
    (tmp_path / "shards" / "shard-000001.tar").unlink()
    options = [word for override in SMALL for word in ("--set", override)]
    capsys.readouterr()
    assert run("train", tmp_path / "shards", "--out", tmp_path / "run", "--steps", 1, *options) == 0
    assert "skipped shard-000001.tar: missing: " in capsys.readouterr().err
    assert (tmp_path / "run" / "skipped.csv").read_text().startswith("path,reason\nshard-000001.tar,missing: ")


def test_a_model_is_evaluated_on_shards(folder: Path, tmp_path: Path, capsys: Capture) -> None:
    write_recordings(folder, 4)
    assert run("data", "pack", folder, "-o", tmp_path / "shards", *AT_8_KHZ) == 0
    model = save_model(tmp_path / "model.safetensors")
    results = []
    for source in (folder, tmp_path / "shards"):
        capsys.readouterr()
        assert run("evaluate", model, source) == 0
        results.append(capsys.readouterr().out)
    assert results[0] == results[1]

"""A disk that is full, and files that vanish: one line, earlier files stay whole, and the run goes on later."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import run as wavenet
from interrupted_runs import content
from recordings import cache_folder_in
from training_runs import SMALL, at_step, trainer_for, write_tones

from wavenet import checkpoint
from wavenet.checkpoint import CheckpointError, load_model
from wavenet.training.events import Event, Progress, Validation, ValidationProgress
from wavenet.training.run_directory import RunDirectory

BUDGET = ["training.steps=9", "training.validate_steps=3"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tones(tmp_path / "clips")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a small file system cannot be mounted: that takes root")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(disk: Path, left: int = 0) -> None:
    """Leave so many bytes free."""
    with open(disk / "filler", "wb", buffering=0) as file:
        with contextlib.suppress(OSError):
            while file.write(b"x" * 4_096):
                pass
        assert not os.statvfs(disk).f_bavail
        file.truncate(max(0, file.tell() - left))


WRITES = {  # where the disk is full, and the file that cannot be written
    "state": lambda event: isinstance(event, Progress) and event.step == 5,
    "model": lambda event: isinstance(event, ValidationProgress) and event.step == 6 and event.phase == "validating",
    "sample": lambda event: isinstance(event, ValidationProgress) and event.step == 6 and event.phase.endswith("clip"),
    "later": lambda event: isinstance(event, Validation) and event.step == 6,
}
FAILING = {
    "state": "last/state.safetensors",
    "model": "model.safetensors",
    "sample": "samples/step_6.wav",
    "later": "last/state.safetensors",
}


@pytest.mark.parametrize("where", WRITES)
def test_a_full_disk_stops_the_run_which_goes_on_when_there_is_space(
    folder: Path, tmp_path: Path, small_disk: Path, where: str
) -> None:
    whole = trainer_for(folder, tmp_path / "whole", *BUDGET)
    whole.train()
    trainer = trainer_for(folder, small_disk / "run", *BUDGET)

    def report(event: Event) -> None:
        if WRITES[where](event) and not (small_disk / "filler").exists():
            fill(small_disk)

    with pytest.raises(ValueError, match="[Nn]o space left on device") as caught:
        trainer.train(report)
    saved = 3 if where == "state" else 6
    failing = trainer.run.path / FAILING[where]
    assert str(caught.value).startswith(f"{failing}: ")
    assert str(caught.value).endswith(f"the run is saved at step {saved}: the same command continues it there")
    assert "\n" not in str(caught.value)
    assert not list(trainer.run.path.rglob("*.partial"))
    assert load_model(trainer.run.path).config == trainer.recipe.model  # the earlier files are whole
    assert 'src="samples/step_3.wav"' in trainer.run.page.read_text()
    resumed = trainer_for(folder, small_disk / "run", *BUDGET)
    assert resumed.state.step == saved
    with pytest.raises(CheckpointError, match="No space left on device"):  # the disk is still full
        resumed.train()
    (small_disk / "filler").unlink()
    trainer_for(folder, small_disk / "run", *BUDGET).train()
    assert content(resumed.run) == content(whole.run)


def test_a_disk_without_space_for_a_line_of_the_log(folder: Path, small_disk: Path) -> None:
    run = RunDirectory(small_disk / "run")
    run.create()
    run.append_log({"event": "train", "step": 1})
    fill(small_disk)
    with pytest.raises(CheckpointError, match=r"log.jsonl: cannot be written \(No space left on device\)"):
        run.append_log({"event": "train", "step": 2, "text": "x" * 5_000})
    (small_disk / "filler").unlink()
    assert run.read_log() == [{"event": "train", "step": 1}]


def test_a_full_disk_of_the_command_is_one_line_and_exit_code_1(
    folder: Path, small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(small_disk)
    settings = [argument for setting in SMALL for argument in ("--set", setting)]
    assert wavenet("train", folder, "--out", small_disk / "run", "--steps", 2, *settings) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if "No space left" in line] == lines[-1:]


def test_a_run_that_is_removed_while_it_trains_is_not_written_again(folder: Path, tmp_path: Path) -> None:
    trainer = trainer_for(folder, tmp_path / "run", *BUDGET)
    with pytest.raises(CheckpointError, match="was the run removed?") as caught:
        trainer.train(at_step(4, lambda: shutil.rmtree(trainer.run.path)))
    assert "\n" not in str(caught.value)
    assert not trainer.run.path.exists()


def test_recordings_and_a_cache_that_are_deleted_while_a_run_trains(folder: Path, tmp_path: Path) -> None:
    whole = trainer_for(folder, tmp_path / "whole", *BUDGET)
    whole.train()
    trainer = trainer_for(folder, tmp_path / "run", *BUDGET)
    away = tmp_path / "away"

    def remove() -> None:
        folder.rename(away)
        shutil.rmtree(cache_folder_in(tmp_path))

    trainer.train(at_step(4, remove))
    assert content(trainer.run) == content(whole.run)


def test_recordings_that_are_deleted_between_sessions(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [argument for setting in SMALL for argument in ("--set", setting)]
    command = ["train", folder, "--out", tmp_path / "run", *settings, "--set", "training.validate_steps=3"]
    assert wavenet(*command, "--steps", 3) == 0
    state = checkpoint.read_tensors(tmp_path / "run" / "last" / "state.safetensors")[0]
    for file in list(folder.iterdir())[1:]:
        os.truncate(file, 30)
    next(folder.iterdir()).unlink()
    capsys.readouterr()
    assert wavenet(*command, "--steps", 6) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    kept = checkpoint.read_tensors(tmp_path / "run" / "last" / "state.safetensors")[0]
    assert all((kept[name] == state[name]).all() for name in state)

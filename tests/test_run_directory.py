"""Run directories: what they hold, how far a run is, and one line for every write that fails."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from wavenet import checkpoint
from wavenet.checkpoint import CheckpointError
from wavenet.training import recipe
from wavenet.training.run_directory import RunDirectory, RunSummary


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """A run of 40 steps, validated twice."""
    run = RunDirectory(tmp_path / "run")
    run.create()
    run.recipe.write_text(recipe.load("tiny", ["training.steps=40"]).to_toml())
    run.append_log({"event": "validation", "step": 20, "bits": 3.5, "best": 3.5, "seconds": 60.0})
    run.append_log({"event": "train", "step": 25, "bits": 3.0, "seconds": 75.0})
    run.append_log({"event": "validation", "step": 30, "bits": 3.75, "best": 3.5, "seconds": 90.5})
    counters = {"step": 33, "seconds": 99.5, "begun_with": "/data/voices", "base": "/models/base.safetensors"}
    checkpoint.write_tensors(run.state, {"a": np.zeros(2, np.float32)}, {"wavenet.state": json.dumps(counters)})
    return run


def test_the_summary_says_how_far_a_run_is(run: RunDirectory) -> None:
    expected = RunSummary(
        step=33,
        seconds=99.5,
        steps=40,
        minutes=3.0,
        bits=3.75,
        best=3.5,
        best_step=20,
        folder="/data/voices",
        base="/models/base.safetensors",
    )
    assert run.summary() == expected


def test_the_summary_of_a_run_without_state_or_validation(run: RunDirectory) -> None:
    run.state.write_bytes(b"damaged")
    found = run.summary()
    assert (found.step, found.seconds, found.best, found.folder) == (30, 90.5, 3.5, None)
    run.log.write_text('{"event": "validation", "step": 9, "bits": null}\n{"event": "valid\n[1]\n"x"\n{"step": 3}\n')
    assert (run.summary().step, run.summary().bits) == (9, None)
    run.log.unlink()
    assert (run.summary().step, run.summary().seconds) == (0, 0.0)


@pytest.mark.parametrize("name", ["run", "not/there/yet"])
def test_an_unwritable_disk_is_refused_before_recordings_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def read_only(*_: object) -> NoReturn:
        raise OSError(errno.EROFS, "Read-only file system")

    (tmp_path / "run").mkdir()
    RunDirectory(tmp_path / name).check()
    assert not any((tmp_path / "run").iterdir())
    monkeypatch.setattr("wavenet.data.files.open", read_only, raising=False)
    with pytest.raises(CheckpointError, match=f"{name}: cannot be written .Read-only file system"):
        RunDirectory(tmp_path / name).check()


def test_it_does_not_use_a_folder_of_other_files(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear reader")
    with pytest.raises(CheckpointError, match="other files"):
        RunDirectory(tmp_path).create()
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_clearing_leaves_other_files(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.create()
    for file in (run.sample(3), run.picture(3), run.page, run.model, run.skipped, run.path / "notes.txt"):
        file.touch()
    run.clear()
    assert {path.name for path in run.path.rglob("*") if path.is_file()} == {"notes.txt"}


def test_partial_files_of_a_killed_training_are_removed(run: RunDirectory) -> None:
    partial = [
        run.path / ".model.safetensors.0123456789abcdef.partial",
        run.state.with_name(".state.safetensors.0123456789abcdef.partial"),
        run.sample(0).with_name(".0123456789abcdef.partial"),
    ]
    other = run.path / ".new.wav.0123456789abcdef.partial"  # audio that is being generated into this folder
    for file in (*partial, other):
        file.touch()
    run.remove_partial_files()
    assert other.exists()
    assert not any(file.exists() for file in partial)


def test_temporary_names_are_those_that_are_removed(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(old: Path, new: Path) -> NoReturn:
        Path(str(old) + ".seen.partial").touch()  # the `finally` block, which a kill would not run, removes the other
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("os.replace", killed)
    for file in (run.model, run.recipe, run.log, run.state, run.skipped, run.page, run.picture(3)):
        with pytest.raises(CheckpointError, match="cannot be written"):
            checkpoint.write_bytes(file, b"new")
    assert len(list(run.path.rglob("*.seen.partial"))) == 7
    run.remove_partial_files()
    assert not list(run.path.rglob("*.partial"))


def actions(run: RunDirectory) -> dict[str, Any]:
    return {
        "create": run.create,
        "lock": lambda: run.lock().__enter__(),
        "clear": run.clear,
        "append_log": lambda: run.append_log({}),
        "rewrite_log": lambda: run.rewrite_log([]),
    }


@pytest.mark.parametrize("action", ["create", "lock", "clear", "append_log", "rewrite_log"])
def test_every_write_that_fails_is_one_line_that_names_the_path(
    run: RunDirectory, action: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*arguments: object, **options: object) -> NoReturn:
        raise OSError(errno.EROFS, "Read-only file system")

    for name in ("builtins.open", "pathlib.Path.mkdir", "pathlib.Path.unlink", "os.replace"):
        monkeypatch.setattr(name, read_only)
    with pytest.raises(CheckpointError, match="Read-only file system") as caught:
        actions(run)[action]()
    monkeypatch.undo()
    assert str(caught.value).startswith(str(run.path))
    assert "Errno" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value.__cause__, OSError)

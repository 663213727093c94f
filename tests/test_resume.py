"""Continued runs: exactly where they were saved, whatever ended them, and never from a damaged state."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from interrupted_runs import Kill, Killed, content, interrupt
from recordings import cache_folder_in
from training_runs import CONDITIONED, at_step, trainer_for, write_tones, write_voices

from wavenet import checkpoint
from wavenet.checkpoint import CheckpointError, load_model
from wavenet.data.dataset import DatasetError
from wavenet.data.tensor_file import Tensors
from wavenet.training import schedule
from wavenet.training.events import Event, Progress, Validation, ValidationProgress
from wavenet.training.run_directory import RunDirectory
from wavenet.training.trainer import Trainer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tones(tmp_path / "clips")


def assert_same_weights(one: Trainer, other: Trainer) -> None:
    for left, right in zip(one.state.model.parameters(), other.state.model.parameters(), strict=True):
        assert torch.equal(left, right)


def test_an_interrupted_run_ends_exactly_like_an_uninterrupted_one(folder: Path, tmp_path: Path) -> None:
    budget = ["training.steps=20", "training.validate_steps=7"]
    whole = trainer_for(folder, tmp_path / "whole", *budget)
    whole.train()
    with pytest.raises(KeyboardInterrupt):
        trainer_for(folder, tmp_path / "cut", *budget).train(at_step(11, interrupt))
    resumed = trainer_for(folder, tmp_path / "cut", *budget)
    assert resumed.state.step == 11
    assert load_model(resumed.run.path).config == resumed.recipe.model  # there is a model already
    resumed.train()
    assert_same_weights(whole, resumed)
    best = [load_model(tmp_path / name).state_dict() for name in ("whole", "cut")]
    assert all(torch.equal(best[0][name], best[1][name]) for name in best[0])


def test_a_cache_that_is_truncated_costs_no_step(folder: Path, tmp_path: Path) -> None:
    budget = ["training.steps=20", "training.validate_steps=7", "training.batch=16"]
    whole = trainer_for(folder, tmp_path / "whole", *budget)
    whole.train()
    cached = cache_folder_in(tmp_path) / "audio.i16"
    with pytest.raises(DatasetError, match="truncated while it was in use"):
        trainer_for(folder, tmp_path / "cut", *budget).train(at_step(11, lambda: os.truncate(cached, 1_000)))
    resumed = trainer_for(folder, tmp_path / "cut", *budget)
    assert resumed.state.step == 11
    resumed.train()
    assert_same_weights(whole, resumed)


@pytest.mark.parametrize("name", CONDITIONED)
def test_a_conditioned_run_is_continued_exactly(tmp_path: Path, name: str) -> None:
    folder = write_voices(tmp_path / "voices")
    budget = [*CONDITIONED[name], "training.steps=12", "training.validate_steps=6", "training.batch=4"]
    budget += ["data.validation=0.3", "training.ema=0.9"]
    whole = trainer_for(folder, tmp_path / "whole", *budget)
    whole.train()
    with pytest.raises(KeyboardInterrupt):
        trainer_for(folder, tmp_path / "cut", *budget).train(at_step(5, interrupt))
    resumed = trainer_for(folder, tmp_path / "cut", *budget)
    assert resumed.state.step == 5
    resumed.train()
    assert_same_weights(whole, resumed)
    assert whole.run.sample(12).read_bytes() == resumed.run.sample(12).read_bytes()


@pytest.mark.parametrize(
    ("when", "from_a_model"), [("before", False), ("within", False), ("after", False), ("before", True)]
)
def test_a_kill_at_any_write_changes_nothing_of_the_result(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str, from_a_model: bool
) -> None:
    budget = ["training.steps=4", "training.validate_steps=2", "training.crop=50"]
    base = None
    if from_a_model:
        base = tmp_path / "base.safetensors"
        checkpoint.save_model(base, trainer_for(folder, tmp_path / "base", "training.seed=1").state.model)
    with monkeypatch.context() as patch:
        kill = Kill(patch, 0, when)
        trainer_for(folder, tmp_path / "whole", *budget, start=base).train()
    expected = content(RunDirectory(tmp_path / "whole"))
    assert {"samples/step_2.wav", "samples/step_2.svg", "samples/step_4.wav", "skipped.csv"} <= expected.keys()
    assert [Path(name).name for name in expected["index.html"]] == [
        f"step_{n}.{k}" for n in (4, 2) for k in ("wav", "svg")
    ]
    assert [line["step"] for line in expected["log.jsonl"]] == [2, 4]
    assert kill.writes > 10
    for at in range(1, kill.writes + 1):
        out = tmp_path / f"killed at {at}"
        with monkeypatch.context() as patch:
            Kill(patch, at, when)
            with pytest.raises(Killed):
                trainer_for(folder, out, *budget, start=base).train()
        with monkeypatch.context() as patch:
            if RunDirectory(out).state.exists():  # the base is not needed any more
                patch.setattr("wavenet.training.base_model.load", lambda path: pytest.fail(f"{path} is read"))
            resumed = trainer_for(folder, out, *budget, start=base)
        if not resumed.finished:
            resumed.train()
        assert content(resumed.run) == expected, at


@pytest.mark.parametrize("step", [1, 7])  # in the first validation, and after it
def test_an_early_validation_changes_nothing_of_the_result(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    late = trainer_for(folder, tmp_path / "late", "training.steps=12")
    late.train()
    monkeypatch.setattr(schedule, "FIRST_VALIDATION_MINUTES", 0.0)  # a minute later the test would be slow
    whole = trainer_for(folder, tmp_path / "whole", "training.steps=12")
    whole.train()
    assert [line["step"] for line in whole.run.read_log()] == [1, 12]
    assert_same_weights(late, whole)

    def die(event: Event) -> None:
        if event.step == step and isinstance(event, ValidationProgress if step == 1 else Progress):
            raise Killed

    with pytest.raises(Killed):
        trainer_for(folder, tmp_path / "cut", "training.steps=12").train(die)
    resumed = trainer_for(folder, tmp_path / "cut", "training.steps=12")
    assert resumed.state.step == 1
    resumed.train()
    assert content(resumed.run) == content(whole.run)


def test_a_kill_between_saves_continues_from_the_last_save(folder: Path, tmp_path: Path) -> None:
    budget = ["training.steps=20", "training.validate_steps=5"]
    trainer = trainer_for(folder, tmp_path / "run", *budget)

    def power_cut() -> None:
        trainer.run.append_log({"event": "train", "step": 8})
        raise Killed

    with pytest.raises(Killed):
        trainer.train(at_step(8, power_cut))
    resumed = trainer_for(folder, tmp_path / "run", *budget)
    assert resumed.state.step == 5
    resumed.train()
    assert [line["step"] for line in resumed.run.read_log()] == [5, 10, 15, 20]


def test_ctrl_c_ends_a_validation_which_the_continued_run_repeats(folder: Path, tmp_path: Path) -> None:
    budget = ["training.steps=6", "training.validate_steps=3"]
    events: list[Event] = []

    def stop_at_the_first_clip(event: Event) -> None:
        events.append(event)
        if isinstance(event, ValidationProgress) and event.phase == "validating":
            interrupt()

    trainer = trainer_for(folder, tmp_path / "run", *budget)
    with pytest.raises(KeyboardInterrupt):
        trainer.train(stop_at_the_first_clip)
    assert trainer.saved_step == 3
    assert not any(isinstance(event, Validation) for event in events)
    assert load_model(trainer.run.path).config == trainer.recipe.model
    resumed = trainer_for(folder, tmp_path / "run", *budget)
    events.clear()
    resumed.train(events.append)
    assert isinstance(events[0], ValidationProgress)
    whole = trainer_for(folder, tmp_path / "whole", *budget)
    whole.train()
    assert content(resumed.run) == content(whole.run)


def test_a_run_killed_in_its_last_validation_is_not_finished(folder: Path, tmp_path: Path) -> None:
    trainer = trainer_for(folder, tmp_path / "run", "training.steps=3")

    def die(event: Event) -> None:
        if isinstance(event, ValidationProgress):
            raise Killed

    with pytest.raises(Killed):
        trainer.train(die)
    resumed = trainer_for(folder, tmp_path / "run", "training.steps=3")
    assert resumed.state.step == 3
    assert not resumed.finished
    result = resumed.train()
    assert result is not None
    assert result.step == 3
    again = trainer_for(folder, tmp_path / "run", "training.steps=3")
    assert again.finished
    assert again.train() is None
    assert len(again.run.read_log()) == 1


def test_repeated_ctrl_c_loses_nothing(folder: Path, tmp_path: Path) -> None:
    def twice() -> None:
        interrupt()
        interrupt()

    trainer = trainer_for(folder, tmp_path / "run", "training.steps=20")
    with pytest.raises(KeyboardInterrupt):
        trainer.train(at_step(7, twice))
    assert trainer.saved_step == 7
    assert trainer_for(folder, tmp_path / "run", "training.steps=20").state.step == 7


def test_a_clip_that_cannot_be_written_does_not_lose_the_steps(folder: Path, tmp_path: Path) -> None:
    trainer = trainer_for(folder, tmp_path / "run", "training.steps=4", "training.validate_steps=2")
    with pytest.raises(ValueError, match="no such folder"):
        trainer.train(at_step(1, lambda: trainer.run.sample(0).parent.rmdir()))
    resumed = trainer_for(folder, tmp_path / "run", "training.steps=4", "training.validate_steps=2")
    assert resumed.state.step == 2
    resumed.train()
    assert resumed.run.sample(2).exists()


def test_a_full_disk_is_one_line_that_names_the_file(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    trainer = trainer_for(folder, tmp_path / "run", "training.steps=4")
    with pytest.raises(CheckpointError, match="cannot be written .No space left on device") as caught:
        trainer.train(at_step(1, lambda: monkeypatch.setattr("os.fsync", full)))
    assert str(caught.value).startswith(str(trainer.run.state))
    assert isinstance(caught.value.__cause__, OSError)


def test_an_unreadable_state_is_refused_in_one_line(folder: Path, tmp_path: Path) -> None:
    trainer = trainer_for(folder, tmp_path / "run", "training.steps=2")
    trainer.train()
    trainer.run.state.write_bytes(trainer.run.state.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="perhaps truncated"):
        trainer_for(folder, tmp_path / "run", "training.steps=4")


def counters(change: Callable[[dict[str, Any]], object]) -> Callable[[Tensors, dict[str, str]], None]:
    def damage(tensors: Tensors, metadata: dict[str, str]) -> None:
        values = json.loads(metadata["wavenet.state"])
        change(values)
        metadata["wavenet.state"] = json.dumps(values)

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        lambda tensors, metadata: metadata.update({"wavenet.state": "[]"}),
        lambda tensors, metadata: metadata.update({"wavenet.state": "{}"}),
        lambda tensors, metadata: metadata.clear(),
        counters(lambda values: values.update(step="x")),
        counters(lambda values: values.update(step=-1)),
        counters(lambda values: values.update(step=10**400)),
        counters(lambda values: values.update(seconds=float("nan"))),
        counters(lambda values: values.update(validated=[1])),
        counters(lambda values: values.update(validated=["x", None])),
        lambda tensors, metadata: tensors.update({"optimizer.skip.bias.exp_avg": np.zeros(3, np.float32)}),
        lambda tensors, metadata: tensors.pop("optimizer.skip.bias.exp_avg"),
        lambda tensors, metadata: tensors["model.skip.bias"].fill(np.nan),
        lambda tensors, metadata: tensors.update({"average.skip.bias": np.zeros(16)}),
    ],
)
def test_a_damaged_state_is_refused_and_kept(
    folder: Path, tmp_path: Path, damage: Callable[[Tensors, dict[str, str]], object]
) -> None:
    trainer = trainer_for(folder, tmp_path / "run", "training.steps=2")
    trainer.train()
    tensors, metadata = checkpoint.read_tensors(trainer.run.state)
    damage(tensors, metadata)
    checkpoint.write_tensors(trainer.run.state, tensors, metadata)
    damaged = trainer.run.state.read_bytes()
    with pytest.raises(CheckpointError, match="--fresh starts the run again") as caught:
        trainer_for(folder, tmp_path / "run", "training.steps=4")
    assert "\n" not in str(caught.value)
    assert trainer.run.state.read_bytes() == damaged


def test_a_model_without_its_state_is_not_overwritten(folder: Path, tmp_path: Path) -> None:
    trainer = trainer_for(folder, tmp_path / "run", "training.steps=2")
    trainer.train()
    trainer.run.state.unlink()
    with pytest.raises(CheckpointError, match="has a model but no"):
        trainer_for(folder, tmp_path / "run", "training.steps=4")


def test_fresh_starts_again_but_not_among_other_files(folder: Path, tmp_path: Path) -> None:
    trainer = trainer_for(folder, tmp_path / "run", "training.steps=4")
    trainer.train()
    again = trainer_for(folder, tmp_path / "run", "training.steps=4", fresh=True)
    assert again.state.step == 0
    assert trainer.run.model.exists()  # until training starts
    again.train()
    assert len(trainer.run.read_log()) == 1
    trainer.run.recipe.unlink()  # now it is no run directory
    before = trainer.run.model.read_bytes()
    with pytest.raises(CheckpointError, match="other files"):
        trainer_for(folder, tmp_path / "run", "training.steps=4", fresh=True).train()
    assert trainer.run.model.read_bytes() == before


def test_one_training_at_a_time(folder: Path, tmp_path: Path) -> None:
    trainer = trainer_for(folder, tmp_path / "run", "training.steps=2")
    trainer.run.create()
    with (
        trainer.run.lock(),
        pytest.raises(
            CheckpointError, match=rf"a training is running here .process {os.getpid()} on .*; give another --out"
        ),
    ):
        trainer.train()


def test_events_come_in_order(folder: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    trainer_for(folder, tmp_path / "run", "training.steps=2", "training.validate_steps=1").train(events.append)
    kinds = [type(event) for event in events]
    one_step = [Progress, *[ValidationProgress] * kinds[: len(kinds) // 2].count(ValidationProgress), Validation]
    assert kinds == one_step * 2
    fractions = [event.fraction for event in events if isinstance(event, ValidationProgress)]
    assert all(0 <= fraction <= 1 for fraction in fractions)
    assert 1.0 in fractions
